"""The computation of a problem's gradients by every source."""

from dataclasses import replace

from service.checks.common.deadline import current_clock
from service.checks.common.limits import Limits
from service.checks.common.stage_timer import StageTimer
from service.checks.graph import model_language
from service.checks.graph.budget import plan_within_limits
from service.checks.graph.cost_estimate import CheckPlan, JointPlan
from service.checks.graph.gradient_sources import DirectionalDifference, GradientSources
from service.checks.graph.helpers import share_differences
from service.checks.graph.joint_check import judge_jointly
from service.checks.graph.problem import Problem
from service.numerics.gradients import finite_difference
from service.numerics.gradients.finite_difference import Difference, DifferencePlan, DifferenceProgress
from service.numerics.gradients.sources import GRADIENT_SOURCES, ComputedGradients, GradientSource
from service.numerics.model.graph import InvalidModelError
from service.numerics.verdict import projection


def compute_gradients(
    problem: Problem,
    plan: CheckPlan,
    stage_timer: StageTimer,
    limits: Limits,
    on_progress: DifferenceProgress | None = None,
) -> GradientSources:
    """Differentiate by every source, one after the other.

    Parameters
    ----------
    problem, plan, limits
        The problem, the plan of its differences, and its limits. Tensors that joint directions leave open are planned
        afterwards, within the same limits.
    stage_timer
        Timer of the stages.
    on_progress
        Callback for the progress of the finite differences, called a last time at their end; None by default.

    Raises
    ------
    OutOfTimeError
        At a pause after the deadline.
    """
    clock = current_clock(limits.seconds)
    with clock.enforce_deadline():
        return _compute_by_each_route(problem, plan, stage_timer, limits, on_progress)


def _compute_by_each_route(
    problem: Problem,
    plan: CheckPlan,
    stage_timer: StageTimer,
    limits: Limits,
    on_progress: DifferenceProgress | None,
) -> GradientSources:
    clock = current_clock(limits.seconds)
    by_source: dict[str, ComputedGradients] = {}
    for name, source in GRADIENT_SOURCES.items():
        with stage_timer.time_stage(name), clock.name_stage(source.activity):
            by_source[name] = _compute_by_source(problem, source)
    with stage_timer.time_stage("finite_difference"):
        progress = clock.track_progress(on_progress)
        progress(problem.names[0], 0, plan.first_level_evaluations)
        if isinstance(plan, JointPlan):
            routes = _compute_joint_differences(problem, plan, GradientSources(by_source, {}), limits, progress)
        else:
            routes = GradientSources(by_source, *_compute_differences(problem, plan, limits, progress))
    if on_progress is not None:
        on_progress(problem.names[-1], routes.evaluations, routes.evaluations)
    return routes


def _compute_by_source(problem: Problem, source: GradientSource) -> ComputedGradients:
    try:
        return source.differentiate(problem.graph, problem.leaves, problem.reported_names, problem.dtype)
    except InvalidModelError as errors:
        raise model_language.to_request_error(errors, problem.request) from errors


def _compute_differences(
    problem: Problem, plan: DifferencePlan, limits: Limits, progress: DifferenceProgress
) -> tuple[dict[str, Difference], dict[str, DirectionalDifference]]:
    """Return differences by element, and those along directions if requested."""
    if problem.projection_count is not None:
        return _compute_directional_differences(problem, problem.projection_count, plan, progress)
    graph, leaves, seed = problem.graph, problem.float64_leaves, problem.request.seed
    with share_differences(problem, plan, limits) as executor:
        by_element = finite_difference.differentiate_numerically(
            graph, leaves, problem.names, seed=seed, progress=progress, executor=executor, plan=plan
        )
    return by_element, {}


def _compute_joint_differences(
    problem: Problem, plan: JointPlan, sources: GradientSources, limits: Limits, progress: DifferenceProgress
) -> GradientSources:
    """Return the gradients with joint directions, and with directions of each tensor that these leave open."""
    joint = judge_jointly(problem, sources, plan.first_level_evaluations, progress)
    differences = {
        name: finite_difference.make_unexamined_difference(problem.graph.shapes[name], 0) for name in problem.names
    }
    sources = replace(sources, differences=differences, joint=joint)
    undecided = sources.list_undecided(problem.names)
    if not undecided:
        return sources

    def continue_progress(name: str, done: int, total: int) -> None:
        progress(name, joint.evaluations + done, joint.evaluations + total)

    remainder = problem.without_joint_directions(undecided)
    own_plan = plan_within_limits(remainder, limits)
    assert not isinstance(own_plan, JointPlan)
    own_differences, directional = _compute_differences(remainder, own_plan, limits, continue_progress)
    return replace(sources, differences=differences | own_differences, directional_differences=directional)


def _compute_directional_differences(
    problem: Problem, count: int, plan: DifferencePlan, progress: DifferenceProgress
) -> tuple[dict[str, Difference], dict[str, DirectionalDifference]]:
    """Return the differences along random directions, and none by element."""
    shapes, seed = problem.graph.shapes, problem.request.seed
    directions = {name: projection.sample_directions(count, shapes[name], seed, name) for name in problem.names}
    differences = finite_difference.differentiate_along_directions(
        problem.graph, problem.float64_leaves, directions, problem.method, seed, progress, plan
    )
    return (
        {
            name: finite_difference.make_unexamined_difference(shapes[name], differences[name].evaluations)
            for name in problem.names
        },
        {name: DirectionalDifference(directions[name], differences[name]) for name in problem.names},
    )
