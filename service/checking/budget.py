"""Whether a check is affordable, and what would be, estimated before anything is computed."""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

from schemas.problem import InvalidRequestError, placed, shown
from service.checking import language
from service.checking.question import Limits, Problem, Request, sampled
from service.numerics.gradients import finite_difference
from service.numerics.gradients.finite_difference import Plan
from service.numerics.graph import InvalidModelError, ModelError
from service.numerics.rounding import SWEEPS
from service.numerics.tiles import size

_NUMBER = 8
_SWEPT = 2 * (SWEEPS + 1)
"""Arrays for each value while the rounding of a correct gradient is found: a pass there and a pass back."""
_ROUTES = 4
"""Arrays for each value that the two other routes hold: values and gradients."""
_JUDGED = 30
"""Numbers for each element of one tensor while it is judged and measured."""
_WRITTEN = 12
"""Numbers' worth of memory for each element while the answer is written: its gradients, and their text twice."""
_ANYWAY = 2**24
"""Bytes that a check of the smallest model takes."""
_QUICK = 10**9
"""Operations that planning may take for other plans to be made, only to say what would fit: about a second."""
_ROOM = 10
"""Rungs for which what is proposed leaves room: a first one may not be all, nor are operations the same as time."""
_SAMPLES = tuple(10**exponent for exponent in range(6, -1, -1))
_PROJECTIONS = (100, 30, 10, 3, 1)


class Estimate(NamedTuple):
    """What a check would take: evaluations of the loss and operations at least, bytes at most.

    Of the operations `rung` are those of the first rung of differences, which is all that is sure to be taken.
    Evaluations are None where there is no plan: it alone would take too much, or directions too many to be held.
    """

    evaluations: int | None
    work: int
    bytes: int
    rung: int = 0

    def over(self, limits: Limits) -> str | None:
        """What of it is over a limit, with the limit; None if nothing is."""
        counted = "" if self.evaluations is None else f" ({self.evaluations} evaluations of the loss)"
        if self.work > limits.work:
            return f"{_figure(self.work)} operations{counted}; the limit is {_figure(limits.work)}"
        if self.bytes > limits.bytes:
            return f"{_figure(self.bytes)} bytes of memory{counted}; the limit is {_figure(limits.bytes)}"
        return None


def planned(problem: Problem, limits: Limits) -> Plan:
    """Plan the differences of a check, and refuse one that would take too much, before anything is computed."""
    check_size(problem, limits)
    plan, estimate = estimated(problem, limits)
    over = estimate.over(limits)
    if over is not None or plan is None:
        detail = f"the check would take about {over}. {_what_would_fit(problem, limits)}"
        raise InvalidRequestError([placed(detail, *_place(problem))], "over-budget")
    return plan


def estimated(problem: Problem, limits: Limits) -> tuple[Plan | None, Estimate]:
    """Estimate a check, and return the plan that the estimate is of, if there is one."""
    before = _needs_of_planning(problem)
    foreseen = Estimate(None, _work_aside(problem) + before.work, _bytes(problem, before.bytes))
    many = problem.projections is not None and foreseen.bytes > limits.bytes
    if many or before.work > limits.work or before.bytes > limits.bytes:
        return None, foreseen
    plan = _plan(problem)
    needs = finite_difference.needs_of(plan)
    most = max(foreseen.bytes, _bytes(problem, needs.bytes))
    return plan, Estimate(plan.evaluations, foreseen.work + needs.work, most, needs.work)


def check_tensors(request: Request, limits: Limits) -> None:
    """Refuse tensors, or a candidate, that hold too much by themselves, before they are widened to float64.

    Or that have too many dimensions.
    """
    tensors, candidate = (
        sum(each.array.size for each in given.values())
        for given in (request.tensors | request.weights, request.candidate or {})
    )
    for elements, place in ((tensors, "model"), (candidate, "candidate")):
        if elements > limits.elements:
            detail = f"the {place} would hold {elements} elements or more at once; the limit is {limits.elements}"
            raise InvalidRequestError([placed(detail, place)], "over-budget")
    _check_dimensions(request, limits)


def _check_dimensions(request: Request, limits: Limits) -> None:
    given = {"tensors": request.tensors, "weights": request.weights, "candidate": request.candidate or {}}
    if errors := [
        placed(f"{each.array.ndim} dimensions; at most {limits.dimensions} are taken", section, name)
        for section, tensors in given.items()
        for name, each in tensors.items()
        if each.array.ndim > limits.dimensions
    ]:
        raise InvalidRequestError(errors, "over-budget")


def check_size(problem: Problem, limits: Limits) -> None:
    """Refuse a model that would hold too much at once, or a node of too many dimensions."""
    shapes = problem.graph.shapes
    if errors := [
        ModelError(
            f"its result would have {len(shapes[node.name])} dimensions; at most {limits.dimensions} are taken", at
        )
        for at, node in enumerate(problem.graph.listed)
        if len(shapes[node.name]) > limits.dimensions
    ]:
        raise language.refused(InvalidModelError(errors), problem.request)
    elements = _elements(problem)
    if elements > limits.elements:
        detail = f"the model would hold {elements} elements at once; the limit is {limits.elements}"
        raise InvalidRequestError([placed(detail, "model")], "over-budget")


def check_work(problem: Problem, limits: Limits, differences: int, what: str, remedy: str, *place: str) -> None:
    """Refuse what would take too many operations: those of the differences, and those of all else."""
    work = _work_aside(problem) + differences
    if work > limits.work:
        detail = (
            f"the {what} would take about {_figure(work)} operations; the limit is {_figure(limits.work)}. {remedy}"
        )
        raise InvalidRequestError([placed(detail, *place)], "over-budget")


def _elements(problem: Problem) -> int:
    return problem.graph.cost().elements + sum(leaf.size for leaf in problem.leaves.values())


def _work_aside(problem: Problem) -> int:
    """Operations of all but the finite differences: the passes of the rounding model, and the routes beside them."""
    return 8 * (SWEEPS + 1) * problem.graph.cost().work


def _bytes(problem: Problem, differences: int) -> int:
    """Bytes at most, given those that the differences take, which are free again when the verdicts are found."""
    shapes, elements = problem.graph.shapes, _elements(problem)
    asked = [size(shapes[name]) for name in problem.names]
    written = sum(asked) + (3 * elements if "intermediates" in problem.request.include else 0)
    # Directions are drawn before all else.
    held = _ROUTES * elements + _WRITTEN * written + (problem.projections or 0) * sum(asked)
    return _ANYWAY + _NUMBER * held + max(differences, _NUMBER * (_SWEPT * elements + _JUDGED * max(asked)))


def _needs_of_planning(problem: Problem) -> finite_difference.Needs:
    return finite_difference.needs_of_planning(problem.graph, problem.names, direct=problem.projections is not None)


def _plan(problem: Problem) -> Plan:
    graph, leaves, names = problem.graph, problem.wide, problem.names
    if problem.projections is not None:
        return finite_difference.planned_along(graph, leaves, names, problem.projections, problem.method)
    return finite_difference.planned(graph, leaves, names, problem.method, problem.sampled)


def _figure(number: float) -> str:
    return f"{number:.1e}"


def _place(problem: Problem) -> tuple[str, ...]:
    """What of the request says how much is asked for."""
    spec = problem.request.finite_difference
    part = "sample" if spec.sample is not None else "projections" if spec.projections is not None else None
    return ("with_respect_to",) if part is None else ("finite_difference", part)


def _what_would_fit(problem: Problem, limits: Limits) -> str:
    """Ways to ask for less that fit, each of which has been estimated as the request itself was."""
    found = list(_alternatives(problem, limits))
    return f"What would fit: {'; or '.join(found)}" if found else "Take a smaller model"


def _alternatives(problem: Problem, limits: Limits) -> Iterator[str]:
    if _needs_of_planning(problem).work <= _QUICK:
        yield from _fewer_names(problem, limits)
        yield from _a_part(problem, limits, "sample", _SAMPLES)
    yield from _a_part(problem, limits, "projections", _PROJECTIONS)


def _fewer_names(problem: Problem, limits: Limits) -> Iterator[str]:
    """As many of the smallest tensors as fit; those that have a candidate cannot be left out."""
    shapes = problem.graph.shapes
    kept = [name for name in problem.names if name in problem.candidate]
    others = sorted((name for name in problem.names if name not in kept), key=lambda name: size(shapes[name]))
    low, high, fitting = 0 if kept else 1, len(others) - 1, None
    while low <= high:
        middle = (low + high) // 2
        names = tuple(name for name in problem.names if name in {*kept, *others[:middle]})
        estimate = _fitting(dataclasses.replace(problem, names=names), limits)
        low, high = (middle + 1, high) if estimate else (low, middle - 1)
        fitting = (names, estimate) if estimate else fitting
    if fitting is not None:
        names, estimate = fitting
        listed = ", ".join(map(shown, names[:5])) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
        yield f"fewer tensors: {listed} alone would take about {_taking(estimate)}"


def _a_part(problem: Problem, limits: Limits, part: str, counts: tuple[int, ...]) -> Iterator[str]:
    """The first of some numbers of elements, or of directions, that fits."""
    spec = problem.request.finite_difference
    largest = max(size(problem.graph.shapes[name]) for name in problem.names)
    given = {"sample": spec.sample or largest, "projections": spec.projections or counts[0] + 1}[part]
    for count in counts:
        if count < given and (estimate := _fitting(_taking_part(problem, part, count), limits)):
            yield f'"finite_difference": {{"{part}": {count}}} would take about {_taking(estimate)}'
            return


def _taking_part(problem: Problem, part: str, count: int) -> Problem:
    spec = problem.request.finite_difference.model_copy(update={"sample": None, "projections": None, part: count})
    request = problem.request.model_copy(update={"finite_difference": spec})
    elements = sampled(spec.sample, request.seed, problem.graph, problem.names)
    return dataclasses.replace(problem, request=request, sampled=elements)


def _fitting(problem: Problem, limits: Limits) -> Estimate | None:
    """Estimate what is to be proposed; None where it does not fit with room for further rungs."""
    plan, estimate = estimated(problem, limits)
    with_room = estimate._replace(work=estimate.work + (_ROOM - 1) * estimate.rung)
    return None if plan is None or with_room.over(limits) else estimate


def _taking(estimate: Estimate | None) -> str:
    assert estimate is not None
    return f"{_figure(estimate.work)} operations and {_figure(estimate.bytes)} bytes"
