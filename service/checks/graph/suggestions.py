"""Reduced requests that fit the limits, each estimated as the request itself was."""

import dataclasses
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from schemas.problem_details import quote_name
from service.checks.common.deadline import SMALLER_MODEL_REMEDY
from service.checks.common.limits import Limits
from service.checks.graph.cost_estimate import (
    CheckPlan,
    CostEstimate,
    estimate_check,
    estimate_other_work,
    estimate_planning_cost,
    format_estimate,
)
from service.checks.graph.problem import Problem, sample_elements
from service.numerics.core.batching import count_elements
from service.numerics.core.interrupts import OutOfTimeError

_MAX_PLANNING_WORK = 10**9
"""Operations that planning the suggestions of a kind may take: about a second."""
_SAMPLE_SIZES = tuple(10**exponent for exponent in range(6, -1, -1))
_PROJECTION_COUNTS = (100, 30, 10, 3, 1)


def locate_size_field(problem: Problem) -> tuple[str, ...]:
    """Return the field of the request that sets its size."""
    spec = problem.request.finite_difference
    part = "sample" if spec.sample is not None else "projections" if spec.projections is not None else None
    return ("with_respect_to",) if part is None else ("finite_difference", part)


def suggest_reductions(problem: Problem, limits: Limits) -> str:
    """Return reduced requests that fit, each estimated as the request was."""
    suggestions = list(_iterate_until_deadline(_suggest_alternatives(problem, limits)))
    return f"What would fit: {'; or '.join(suggestions)}" if suggestions else SMALLER_MODEL_REMEDY


def suggest_within_time(problem: Problem, plan: CheckPlan, limits: Limits, evaluations_done: int) -> str:
    """Return reduced requests that fit the time, given the evaluations done."""
    differences = plan.first_level_work * evaluations_done // plan.first_level_evaluations
    # The other stages took their time already, and will take it again.
    work = estimate_other_work(problem) + estimate_planning_cost(problem).work + differences
    return suggest_reductions(problem, dataclasses.replace(limits, work=work))


@dataclass
class _SuggestionBudget:
    """The limits of a suggestion, and the operations left for planning one."""

    limits: Limits
    planning_work: int

    def spend_planning(self, problem: Problem) -> bool:
        """Return whether the budget allows planning a problem, and spend it if so."""
        work = estimate_planning_cost(problem).work
        is_covered = work <= self.planning_work
        self.planning_work -= work if is_covered else 0
        return is_covered


def _iterate_until_deadline(suggestions: Iterable[str]) -> Iterator[str]:
    """Yield suggestions while there is time."""
    with suppress(OutOfTimeError):
        yield from suggestions


def _suggest_alternatives(problem: Problem, limits: Limits) -> Iterator[str]:
    if estimate_other_work(problem) > limits.work:
        return  # whatever of it is differenced
    yield from _suggest_fewer_names(problem, _SuggestionBudget(limits, _MAX_PLANNING_WORK))
    yield from _suggest_part(problem, _SuggestionBudget(limits, _MAX_PLANNING_WORK), "sample", _SAMPLE_SIZES)
    yield from _suggest_part(problem, _SuggestionBudget(limits, _MAX_PLANNING_WORK), "projections", _PROJECTION_COUNTS)


def _suggest_fewer_names(problem: Problem, budget: _SuggestionBudget) -> Iterator[str]:
    """Suggest as many of the smallest tensors as fit; keep those with a candidate."""
    shapes = problem.graph.shapes
    judged_names = [name for name in problem.names if name in problem.candidate]
    other_names = sorted(
        (name for name in problem.names if name not in judged_names), key=lambda name: count_elements(shapes[name])
    )
    low, high, fitting_names = 0 if judged_names else 1, len(other_names) - 1, None
    while low <= high:
        middle = (low + high) // 2
        names = tuple(name for name in problem.names if name in {*judged_names, *other_names[:middle]})
        estimate = _estimate_if_fitting(dataclasses.replace(problem, names=names), budget)
        low, high = (middle + 1, high) if estimate else (low, middle - 1)
        fitting_names = (names, estimate) if estimate else fitting_names
    if fitting_names is not None:
        names, estimate = fitting_names
        names_text = ", ".join(map(quote_name, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        yield f"fewer tensors: {names_text} alone would take about {_describe_cost(estimate)}"


def _suggest_part(problem: Problem, budget: _SuggestionBudget, part: str, counts: tuple[int, ...]) -> Iterator[str]:
    """Return the first of some numbers of elements, or of directions, that fits."""
    spec = problem.request.finite_difference
    largest = max(count_elements(problem.graph.shapes[name]) for name in problem.names)
    requested_count = {"sample": spec.sample or largest, "projections": spec.projections or counts[0] + 1}[part]
    for count in counts:
        if count < requested_count and (estimate := _estimate_if_fitting(_select_part(problem, part, count), budget)):
            yield f'"finite_difference": {{"{part}": {count}}} would take about {_describe_cost(estimate)}'
            return


def _select_part(problem: Problem, part: str, count: int) -> Problem:
    """Return the problem of a part of each tensor, which a request for it has in place of the method auto."""
    method = problem.request.finite_difference.method
    settings = {"method": "adaptive" if method == "auto" else method, "sample": None, "projections": None, part: count}
    selected = problem.with_difference_settings(**settings)
    sample, seed = selected.request.finite_difference.sample, selected.request.seed
    return dataclasses.replace(selected, sampled_elements=sample_elements(sample, seed, problem.graph, problem.names))


def _estimate_if_fitting(problem: Problem, budget: _SuggestionBudget) -> CostEstimate | None:
    """Estimate a suggestion; return None if it does not fit or cannot be planned.

    Joint directions may leave every tensor to directions of its own, which have to fit, too.
    """
    if problem.is_joint and _estimate_if_fitting(problem.without_joint_directions(), budget) is None:
        return None
    if not budget.spend_planning(problem):
        return None
    plan, estimate = estimate_check(problem, budget.limits)
    return estimate if plan is not None and estimate.fits_with_room(problem, budget.limits) else None


def _describe_cost(estimate: CostEstimate | None) -> str:
    assert estimate is not None
    return f"{format_estimate(estimate.work)} operations and {format_estimate(estimate.bytes)} bytes"
