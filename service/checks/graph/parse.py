"""The first step of every request: validate it, and refuse one that is too large."""

from collections.abc import Callable
from typing import TypeVar

from schemas.problem_details import PlacedError
from service.checks.graph.budget import check_tensor_sizes
from service.checks.graph.problem import Limits, ParsedCheckRequest, Problem, build_problem, check_entry_counts
from service.numerics.model.graph import Graph

RequestT = TypeVar("RequestT", bound=ParsedCheckRequest)


def parse_problem(
    body: object,
    limits: Limits,
    parse: Callable[[object], RequestT],
    choose_names: Callable[[RequestT, Graph, list[PlacedError]], tuple[str, ...]] | None = None,
) -> tuple[RequestT, Problem]:
    """Parse a body to its request and its problem.

    Parameters
    ----------
    body
        The request, as parsed from JSON.
    limits
        Limits of the request.
    parse
        Function that validates the form of the request.
    choose_names
        Function that chooses the names to differentiate by, as in `build_problem`; that of a check by default.

    Raises
    ------
    InvalidRequestError
        With every error of the request.
    """
    check_entry_counts(body, limits)
    request = parse(body)
    check_tensor_sizes(request, limits)
    if choose_names is None:
        return request, build_problem(request, most=limits.elements)
    return request, build_problem(
        request, lambda _, graph, errors: choose_names(request, graph, errors), limits.elements
    )
