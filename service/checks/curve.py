"""`POST /v1/curve`: from a request by the numerics to an answer, without Flask."""

import numpy as np

from schemas.curve import CurveReport, EngineDifference
from schemas.datatype import Array
from schemas.report import Number
from schemas.tensor import encode_number
from service.checks.common.deadline import SMALLER_MODEL_REMEDY, current_clock
from service.checks.common.limits import Limits
from service.checks.graph import element, model_language
from service.checks.graph.budget import check_memory, check_model_size, check_work
from service.checks.graph.parse import parse_problem
from service.checks.graph.problem import Problem
from service.numerics.gradients import analytic, finite_difference
from service.numerics.gradients import step_curve as numerics
from service.numerics.gradients.finite_difference import DifferenceProgress

_REMEDY = "Take a smaller model, or a tensor nearer to the loss"


def compute_curve(
    body: object, limits: Limits | None = None, progress: DifferenceProgress | None = None
) -> CurveReport:
    """Compute the differences of one element against the step.

    Parameters
    ----------
    body
        Request, as parsed from JSON.
    limits
        Limits of the request; the default limits if left out.
    progress
        Receiver of the evaluations of the curve, and then of those of the engine; may raise to stop them. None by
        default.

    Raises
    ------
    InvalidRequestError
        All errors of the request.
    """
    limits = limits or Limits()
    clock = current_clock(limits.seconds)
    with clock.enforce_deadline():
        with clock.refuse_on_timeout(SMALLER_MODEL_REMEDY, "element"):
            request, problem = parse_problem(
                body, limits, model_language.parse_curve_request, element.choose_element_name
            )
        flat = element.compute_flat_index(request.element, problem.graph)
        with clock.refuse_on_timeout(_REMEDY, "model"):
            with clock.name_stage("the curve was being planned"):
                _check_budget(problem, flat, limits)
            # Overflow and NaN are findings here.
            with np.errstate(all="ignore"):
                return _build_report(problem, flat, clock.track_progress(progress))


def _check_budget(problem: Problem, flat_index: int, limits: Limits) -> None:
    """Refuse a curve that would take too much, before anything is allocated."""
    check_model_size(problem, limits)
    (name,), graph = problem.names, problem.graph
    planning_cost = finite_difference.estimate_planning_cost(graph, problem.names)
    differences = max(planning_cost.memory_bytes, numerics.estimate_curve_bytes(graph, name))
    check_memory(problem, limits, differences, "curve", _REMEDY, "model")
    check_work(
        problem, limits, numerics.estimate_curve_work(graph, name) + planning_cost.work, "curve", _REMEDY, "model"
    )
    plan = finite_difference.plan_differences(
        graph, problem.float64_leaves, problem.names, problem.method, {name: np.array([flat_index])}
    )
    differences = numerics.estimate_curve_bytes(graph, name) + finite_difference.estimate_cost(plan).memory_bytes
    check_memory(problem, limits, differences, "curve", _REMEDY, "model")
    check_work(
        problem, limits, numerics.estimate_curve_work(graph, name) + plan.first_level_work, "curve", _REMEDY, "model"
    )


def _build_report(problem: Problem, flat_index: int, progress: DifferenceProgress) -> CurveReport:
    (name,) = problem.names
    gradient = analytic.differentiate_analytically(problem.graph, problem.leaves, dtype=problem.dtype).gradients[name]
    curve = numerics.compute_step_curve(problem.graph, problem.float64_leaves, name, flat_index, progress)
    progress(name, curve.evaluations, curve.evaluations)
    report: CurveReport = {
        "analytic": encode_number(float(gradient.flat[flat_index])),
        "steps": curve.steps.tolist(),
        "forward": _encode_numbers(curve.forward),
        "central": _encode_numbers(curve.central),
        "engine": _difference_element(problem, flat_index, progress),
    }
    if curve.complex_step is not None:
        report["complex_step"] = _encode_numbers(curve.complex_step)
    return report


def _difference_element(problem: Problem, flat_index: int, progress: DifferenceProgress) -> EngineDifference:
    """Compute the difference of the element by the engine."""
    (name,) = problem.names
    elements = {name: np.array([flat_index])}
    difference = finite_difference.differentiate_numerically(
        problem.graph, problem.float64_leaves, problem.names, problem.method, problem.request.seed, progress, elements
    )[name]
    return {
        "value": encode_number(float(difference.value.flat[flat_index])),
        "error_bound": encode_number(float(difference.error_bound.flat[flat_index])),
        "step": encode_number(float(difference.steps.flat[flat_index])),
    }


def _encode_numbers(numbers: Array) -> list[Number]:
    return [encode_number(number) for number in numbers.tolist()]
