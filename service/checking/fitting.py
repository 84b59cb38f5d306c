"""What would fit, where a check does not: fewer tensors, a sample, or directions, each estimated as the request was."""

import dataclasses
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from schemas.problem import shown
from service.checking.estimate import Estimate, estimated, figure, needs_of_planning, work_aside
from service.checking.question import Limits, Problem, sampled
from service.numerics.gradients import finite_difference
from service.numerics.gradients.finite_difference import Plan
from service.numerics.pausing import OutOfTimeError
from service.numerics.tiles import size

SMALLER = "Take a smaller model"
_QUICK = 10**9
"""Operations that planning may take for other plans of a kind, only to say what would fit: about a second."""
_ROOM = 10
"""Rungs for which what is proposed leaves room: a first one may not be all, nor are operations the same as time."""
_SAMPLES = tuple(10**exponent for exponent in range(6, -1, -1))
_PROJECTIONS = (100, 30, 10, 3, 1)


def place_of(problem: Problem) -> tuple[str, ...]:
    """What of the request says how much is asked for."""
    spec = problem.request.finite_difference
    part = "sample" if spec.sample is not None else "projections" if spec.projections is not None else None
    return ("with_respect_to",) if part is None else ("finite_difference", part)


def what_would_fit(problem: Problem, limits: Limits) -> str:
    """Ways to ask for less that fit, each of which has been estimated as the request itself was."""
    found = list(_while_in_time(_alternatives(problem, limits)))
    return f"What would fit: {'; or '.join(found)}" if found else SMALLER


def fitting_the_time(problem: Problem, plan: Plan, limits: Limits, done: int) -> str:
    """Ways to ask for less that fit, where the time was enough for so many evaluations of a plan and no more."""
    differences = finite_difference.needs_of(plan).work * done // plan.evaluations
    # All else has had its time already, and will have it again.
    work = work_aside(problem) + needs_of_planning(problem).work + differences
    return what_would_fit(problem, dataclasses.replace(limits, work=work))


@dataclass
class _Budget:
    """What a proposal may take, and how many operations may still be spent on planning to find one."""

    limits: Limits
    planning: int

    def covers(self, problem: Problem) -> bool:
        """Whether a problem may be planned too; then that is spent."""
        work = needs_of_planning(problem).work
        covered = work <= self.planning
        self.planning -= work if covered else 0
        return covered


def _while_in_time(found: Iterable[str]) -> Iterator[str]:
    """What is found while there is time."""
    with suppress(OutOfTimeError):
        yield from found


def _alternatives(problem: Problem, limits: Limits) -> Iterator[str]:
    if work_aside(problem) > limits.work:
        return  # whatever of it is differenced
    yield from _fewer_names(problem, _Budget(limits, _QUICK))
    yield from _a_part(problem, _Budget(limits, _QUICK), "sample", _SAMPLES)
    yield from _a_part(problem, _Budget(limits, _QUICK), "projections", _PROJECTIONS)


def _fewer_names(problem: Problem, budget: _Budget) -> Iterator[str]:
    """As many of the smallest tensors as fit; those that have a candidate cannot be left out."""
    shapes = problem.graph.shapes
    kept = [name for name in problem.names if name in problem.candidate]
    others = sorted((name for name in problem.names if name not in kept), key=lambda name: size(shapes[name]))
    low, high, fitting = 0 if kept else 1, len(others) - 1, None
    while low <= high:
        middle = (low + high) // 2
        names = tuple(name for name in problem.names if name in {*kept, *others[:middle]})
        estimate = _fitting(dataclasses.replace(problem, names=names), budget)
        low, high = (middle + 1, high) if estimate else (low, middle - 1)
        fitting = (names, estimate) if estimate else fitting
    if fitting is not None:
        names, estimate = fitting
        listed = ", ".join(map(shown, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        yield f"fewer tensors: {listed} alone would take about {_taking(estimate)}"


def _a_part(problem: Problem, budget: _Budget, part: str, counts: tuple[int, ...]) -> Iterator[str]:
    """The first of some numbers of elements, or of directions, that fits."""
    spec = problem.request.finite_difference
    largest = max(size(problem.graph.shapes[name]) for name in problem.names)
    given = {"sample": spec.sample or largest, "projections": spec.projections or counts[0] + 1}[part]
    for count in counts:
        if count < given and (estimate := _fitting(_taking_part(problem, part, count), budget)):
            yield f'"finite_difference": {{"{part}": {count}}} would take about {_taking(estimate)}'
            return


def _taking_part(problem: Problem, part: str, count: int) -> Problem:
    spec = problem.request.finite_difference.model_copy(update={"sample": None, "projections": None, part: count})
    request = problem.request.model_copy(update={"finite_difference": spec})
    elements = sampled(spec.sample, request.seed, problem.graph, problem.names)
    return dataclasses.replace(problem, request=request, sampled=elements)


def _fitting(problem: Problem, budget: _Budget) -> Estimate | None:
    """Estimate what is to be proposed; None where it does not fit with room for further rungs, or is not planned."""
    if not budget.covers(problem):
        return None
    plan, estimate = estimated(problem, budget.limits)
    with_room = estimate._replace(work=estimate.work + (_ROOM - 1) * estimate.rung)
    return None if plan is None or with_room.over(budget.limits) else estimate


def _taking(estimate: Estimate | None) -> str:
    assert estimate is not None
    return f"{figure(estimate.work)} operations and {figure(estimate.bytes)} bytes"
