"""Whether a request is affordable, before anything is computed."""

from schemas.problem import InvalidRequestError, placed
from service.checking import language
from service.checking.estimate import bytes_of, elements_of, estimated, figure, work_aside
from service.checking.fitting import SMALLER, place_of, what_would_fit
from service.checking.question import Limits, Problem, Request
from service.numerics.gradients.finite_difference import Plan
from service.numerics.graph import InvalidModelError, ModelError


def planned(problem: Problem, limits: Limits) -> Plan:
    """Plan the differences of a check, and refuse one that would take too much, before anything is computed."""
    check_size(problem, limits)
    check_longest_call(problem, limits)
    plan, estimate = estimated(problem, limits)
    over = estimate.over(limits)
    if over is not None or plan is None:
        detail = f"the check would take about {over}. {what_would_fit(problem, limits)}"
        raise InvalidRequestError([placed(detail, *place_of(problem))], "over-budget")
    return plan


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
    elements = elements_of(problem)
    if elements > limits.elements:
        detail = f"the model would hold {elements} elements at once; the limit is {limits.elements}"
        raise InvalidRequestError([placed(detail, "model")], "over-budget")


_AT_ONCE = 5 * 10**8
"""Multiply-adds of one call that are taken however short the time is: some tenths of a second."""
_AT_ONCE_PER_SECOND = 25 * 10**7
"""Multiply-adds of one call for each second of the limit: about a quarter of the time on a machine of its own."""


def check_longest_call(problem: Problem, limits: Limits) -> None:
    """Refuse a model in which PyTorch would not come to a pause in time: nothing interrupts one call."""
    longest, node = problem.graph.longest_call()
    most = max(_AT_ONCE, int(_AT_ONCE_PER_SECOND * limits.seconds))
    if longest > most:
        detail = (
            f"PyTorch would take about {figure(longest)} operations for it in one call, which nothing can interrupt; "
            f"the limit is {figure(most)}. {SMALLER}"
        )
        place = next(at for at, each in enumerate(problem.graph.listed) if each.name == node.name)
        errors = language.refused(InvalidModelError([ModelError(detail, place)]), problem.request).errors
        raise InvalidRequestError(errors, "over-budget")


def check_bytes(problem: Problem, limits: Limits, differences: int, what: str, remedy: str, *place: str) -> None:
    """Refuse what would take too much memory: that of the differences, and that of all else."""
    count = bytes_of(problem, differences)
    if count > limits.bytes:
        detail = f"the {what} would take about {figure(count)} bytes; the limit is {figure(limits.bytes)}. {remedy}"
        raise InvalidRequestError([placed(detail, *place)], "over-budget")


def check_work(problem: Problem, limits: Limits, differences: int, what: str, remedy: str, *place: str) -> None:
    """Refuse what would take too many operations: those of the differences, and those of all else."""
    work = work_aside(problem) + differences
    if work > limits.work:
        detail = f"the {what} would take about {figure(work)} operations; the limit is {figure(limits.work)}. {remedy}"
        raise InvalidRequestError([placed(detail, *place)], "over-budget")
