"""What `/openapi.json` says of a route, declared where the route is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

View = TypeVar("View", bound=Callable[..., Any])

_ATTRIBUTE = "openapi_operation"

PROBLEMS_OF_WORK = (
    (400, "The body is not JSON."),
    (406, "No media type that is served is accepted."),
    (408, "The body did not come in time."),
    (413, "The body is too large."),
    (415, "The body has another content type or a content encoding."),
    (422, "The body is JSON, but not a valid request."),
    (503, "All places are taken, or the service is stopping; Retry-After says when to try again."),
)
"""Problems of an operation that takes a body, and computes."""
KEYLESS = (401, "Keys are asked for, and the request bears none that is known.")
"""Problem of every operation that is not open."""


@dataclass(frozen=True)
class Operation:
    """One operation of the interface.

    Attributes
    ----------
    summary
        One line.
    answer
        Type of the answer with status 200.
    body
        Type of the request's body, if it has one.
    problems
        Statuses of the problems it may answer with, with what each means.
    examples
        Bodies that can be posted as they are, by name.
    renderings
        Other forms of the answer, which are text, by media type.
    media_type
        Media type of the answer.
    open
        Whether it is answered without a key too.
    """

    summary: str
    answer: Any
    body: Any = None
    problems: tuple[tuple[int, str], ...] = ()
    examples: Callable[[], dict[str, Any]] | None = None
    renderings: Mapping[str, Callable[[Any], str]] = field(default_factory=dict[str, Callable[[Any], str]])
    media_type: str = "application/json"
    open: bool = False


def documented(operation: Operation) -> Callable[[View], View]:
    """Attach an operation to its view."""

    def attach(view: View) -> View:
        setattr(view, _ATTRIBUTE, operation)
        return view

    return attach


def operation_of(view: Callable[..., Any]) -> Operation | None:
    """Return the operation of a view."""
    return getattr(view, _ATTRIBUTE, None)
