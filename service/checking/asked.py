"""How every way in begins: what a body asks for, once it has been looked at whether it is valid and not too large."""

from collections.abc import Callable
from typing import TypeVar

from schemas.problem import PlacedError
from service.checking.budget import check_tensors
from service.checking.question import Limits, Problem, Request, check_counts, posed
from service.numerics.graph import Graph

Asked = TypeVar("Asked", bound=Request)


def asked(
    body: object,
    limits: Limits,
    read: Callable[[object], Asked],
    choose: Callable[[Asked, Graph, list[PlacedError]], tuple[str, ...]] | None = None,
) -> tuple[Asked, Problem]:
    """Make of a body its request, and the problem that this poses.

    Parameters
    ----------
    body
        The request, as parsed from JSON.
    limits
        What it may take.
    read
        Validates the form of the request.
    choose
        What to differentiate by, as `posed` has it, of a request of this form.

    Raises
    ------
    InvalidRequestError
        With all that is wrong with it.
    """
    check_counts(body, limits)
    request = read(body)
    check_tensors(request, limits)
    if choose is None:
        return request, posed(request, most=limits.elements)
    return request, posed(request, lambda _, graph, errors: choose(request, graph, errors), limits.elements)
