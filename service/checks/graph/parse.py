"""The first step of every request: validate it, and refuse one that is too large."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

from schemas.check import TENSOR_FIELDS
from schemas.problem_details import InvalidRequestError, PlacedError, error_at
from service.checks.common.limits import Limits
from service.checks.common.request_validation import check_counts, count_nested_entries
from service.checks.graph.budget import check_tensor_sizes
from service.checks.graph.problem import ParsedCheckRequest, Problem, build_problem
from service.checks.graph.text_form import count_text_lines, expand_model_text
from service.numerics.model.graph import Graph

_MAX_ENTRIES_PER_NODE = 40

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
    _check_line_count(body, limits)
    body = expand_model_text(body)
    check_entry_counts(body, limits)
    request = parse(body)
    check_tensor_sizes(request, limits)
    if choose_names is None:
        return request, build_problem(request, most=limits.elements)
    return request, build_problem(
        request, lambda _, graph, errors: choose_names(request, graph, errors), limits.elements
    )


def check_entry_counts(body: object, limits: Limits) -> None:
    """Refuse a request with too many entries, before each is validated and each may be wrong.

    Raises
    ------
    InvalidRequestError
        The counts and the limits.
    """
    if not isinstance(body, dict):
        return
    fields = cast("dict[str, Any]", body)
    by_path: dict[tuple[str, ...], int] = {(name,): limits.names for name in (*TENSOR_FIELDS, "with_respect_to")}
    model = ("model",) if isinstance(fields.get("model"), list) else ("model", "nodes")
    check_counts(fields, by_path | {model: limits.nodes})
    entries = count_nested_entries({name: value for name, value in fields.items() if name not in TENSOR_FIELDS})
    max_entries = _MAX_ENTRIES_PER_NODE * limits.nodes
    if entries > max_entries:
        detail = f"tensors aside, the request has {entries} entries; at most {max_entries} are taken"
        raise InvalidRequestError([error_at(detail)])


_MAX_LINES_PER_NODE = 10


def _check_line_count(body: object, limits: Limits) -> None:
    """Refuse a text of far more lines than nodes may be: each takes time, comments too."""
    lines, max_lines = count_text_lines(body), _MAX_LINES_PER_NODE * limits.nodes
    if lines > max_lines:
        raise InvalidRequestError([error_at(f"the text has {lines} lines; at most {max_lines} are taken", "model")])
