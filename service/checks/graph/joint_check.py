"""The check of all tensors together, along joint random directions."""

import math
from collections.abc import Sequence

import numpy as np

from service.checks.graph.gradient_sources import GradientSources, JointResults
from service.checks.graph.problem import Problem
from service.checks.graph.tie_choices import CANDIDATE_ROUTE
from service.numerics.core.batching import add_batch_axis, count_elements
from service.numerics.core.interrupts import iterate_interruptibly
from service.numerics.gradients import finite_difference
from service.numerics.gradients.finite_difference import DifferenceProgress, JointDifference, LinePoint
from service.numerics.verdict.joint import DECIDED_PRECISION, JudgedGradients, LineJudge
from service.numerics.verdict.projection import sample_joint_direction


def judge_jointly(
    problem: Problem, sources: GradientSources, expected_evaluations: int, progress: DifferenceProgress
) -> JointResults:
    """Judge the tensors that joint directions decide.

    Parameters
    ----------
    problem
        The problem, with directions.
    sources
        Gradients by every source.
    expected_evaluations
        Evaluations of the loss that the directions take at least.
    progress
        Callback after each direction.
    """
    names = tuple(name for name in problem.names if count_elements(problem.graph.shapes[name]))
    point, seed = _find_base_point(problem, sources), problem.request.seed
    is_any_decided = any(problem.get_precision(name).name == DECIDED_PRECISION for name in names)
    if not is_any_decided or not finite_difference.can_move_jointly(problem.graph, point, seed):
        return JointResults(names, (), {}, 0)
    lines: list[JointDifference] = []
    evaluations = 0
    for position in iterate_interruptibly(range(problem.projection_count or 0)):
        directions = {name: sample_joint_direction(position, problem.graph.shapes[name], seed, name) for name in names}
        lines.append(finite_difference.differentiate_jointly(problem.graph, point, directions, seed))
        evaluations += lines[-1].evaluations
        progress(names[0], evaluations, max(evaluations, expected_evaluations))
        if not math.isfinite(lines[-1].error_bound):
            return JointResults(names, (), {}, evaluations)
    return _judge_lines(problem, sources, point, lines, JointResults(names, (), {}, evaluations))


def _find_base_point(problem: Problem, sources: GradientSources) -> LinePoint:
    """Return values and gradients in float64; the analytic source has them if that is the dtype."""
    if problem.dtype.name == "float64":
        values, gradients = (
            {name: add_batch_axis(array) for name, array in arrays.items()}
            for arrays in (sources.analytic.values, sources.analytic.gradients)
        )
        return LinePoint(values, gradients)
    values = problem.graph.forward(problem.float64_leaves)
    return LinePoint(values, problem.graph.backward(values))


def _judge_lines(
    problem: Problem, sources: GradientSources, point: LinePoint, lines: Sequence[JointDifference], moved: JointResults
) -> JointResults:
    """Return the results of some directions, given those without any verdict."""
    # In float64 the base gradients are the analytic ones themselves, of which no product is needed twice.
    is_analytic = problem.dtype.name == "float64"
    base_gradients = {
        name: sources.analytic.gradients[name] if is_analytic else point.gradients[name][0] for name in moved.names
    }
    judge = LineJudge(
        lines, base_gradients, {name: _collect_judged_gradients(problem, sources, name) for name in moved.names}
    )
    misshapen = {name for name, tensor in problem.candidate.items() if tensor.array.shape != problem.graph.shapes[name]}
    # Lines of all tensors say nothing of a shape, and nothing of what differs from run to run.
    judged_alone = misshapen | (problem.request.repeats or {}).keys()
    verdicts = {name: verdict for name, verdict in judge.find_passing().items() if name not in judged_alone}
    return JointResults(moved.names, judge.list_results(), verdicts, moved.evaluations)


def _collect_judged_gradients(problem: Problem, sources: GradientSources, name: str) -> JudgedGradients:
    """Return what is judged of one tensor; a candidate of another shape is judged elsewhere."""
    tensor = problem.candidate.get(name)
    has_shape = tensor is not None and tensor.array.shape == problem.graph.shapes[name]
    return JudgedGradients(
        sources.compute_own_gradients(name),
        {CANDIDATE_ROUTE: tensor.array.astype(np.float64, copy=False)} if tensor is not None and has_shape else {},
        problem.get_precision(name),
    )
