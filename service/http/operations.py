"""The description of an operation for `/openapi.json`, declared at its route."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

View = TypeVar("View", bound=Callable[..., Any])

_OPERATION_ATTRIBUTE = "openapi_operation"

COMPUTE_PROBLEMS = (
    (400, "The body is not of the form of its content type."),
    (406, "The request accepts no media type that is served."),
    (408, "The body did not arrive in time."),
    (413, "The body is too large."),
    (415, "The body has an unsupported content type, or a content encoding."),
    (422, "The body is no valid request."),
    (503, "The service is at capacity, or stopping; Retry-After says when to try again."),
)
"""Problems of an operation that computes from a body."""
AUTHENTICATION_PROBLEM = (401, "Missing or invalid API key.")
"""Problem of every operation that is not open."""
MALFORMED_HEAD_PROBLEM = (400, "The head of the request breaks the rules of HTTP.")
"""Problem of every operation."""


@dataclass(frozen=True)
class BodyFormat:
    """A form beside JSON.

    Attributes
    ----------
    description
        Content of the form.
    is_binary
        True for bytes, False for text, the default.
    line_type
        Type of its lines, if each is JSON; none by default.
    """

    description: str
    is_binary: bool = False
    line_type: Any = None


@dataclass(frozen=True)
class QueryParameter:
    """An optional parameter of the address.

    Attributes
    ----------
    name, description
        Name and meaning.
    kind
        Type in JSON Schema; "string" by default.
    """

    name: str
    description: str
    kind: str = "string"


@dataclass(frozen=True)
class HeaderParameter:
    """An optional header of a request with a meaning of its own."""

    name: str
    description: str


@dataclass(frozen=True)
class AcceptedAnswer:
    """The answer with status 202 to a request that goes on: its description, and the type of its document."""

    description: str
    answer_type: Any


@dataclass(frozen=True)
class Operation:
    """One operation of the interface.

    Attributes
    ----------
    summary
        One line.
    answer_type
        Type of the answer with status 200.
    load_body_type
        Function that returns the type of the request's body, always the same one; None for an operation without a
        body.
    problems
        Statuses of the possible problems, each with its meaning.
    examples
        Function that makes bodies to post as they are, by name.
    body_formats, answer_formats
        Forms beside JSON, by media type.
    query_parameters
        Parameters of the address; none by default.
    header_parameters
        Headers of the request with a meaning of their own; none by default.
    path_parameters
        Descriptions of the variable parts of the address, by name; none by default.
    accepted
        Answer to a request that goes on; none by default.
    media_type
        Media type of the answer.
    identifier
        The `operationId`; made of method and route by default.
    is_open
        True if requests need no key; False by default.
    is_listed
        True if the description lists it, the default. The files of the pages are no part of the interface.
    """

    summary: str
    answer_type: Any
    load_body_type: Callable[[], Any] | None = None
    problems: tuple[tuple[int, str], ...] = ()
    examples: Callable[[], dict[str, Any]] | None = None
    body_formats: Mapping[str, BodyFormat] = field(default_factory=dict[str, BodyFormat])
    answer_formats: Mapping[str, BodyFormat] = field(default_factory=dict[str, BodyFormat])
    query_parameters: tuple[QueryParameter, ...] = ()
    header_parameters: tuple[HeaderParameter, ...] = ()
    path_parameters: Mapping[str, str] = field(default_factory=dict[str, str])
    accepted: AcceptedAnswer | None = None
    media_type: str = "application/json"
    identifier: str | None = None
    is_open: bool = False
    is_listed: bool = True

    @property
    def answer_types(self) -> tuple[Any, ...]:
        """Return the types of all its answers."""
        line_types = (form.line_type for form in self.answer_formats.values() if form.line_type is not None)
        return self.answer_type, *line_types, *(() if self.accepted is None else (self.accepted.answer_type,))


def describe_operation(operation: Operation) -> Callable[[View], View]:
    """Attach an operation to its view."""

    def attach(view: View) -> View:
        setattr(view, _OPERATION_ATTRIBUTE, operation)
        return view

    return attach


def get_operation(view: Callable[..., Any]) -> Operation | None:
    """Return the operation of a view."""
    return getattr(view, _OPERATION_ATTRIBUTE, None)
