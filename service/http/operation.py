"""What `/openapi.json` says of a route, declared where the route is."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from schemas.binary import SAFETENSORS

View = TypeVar("View", bound=Callable[..., Any])

_ATTRIBUTE = "openapi_operation"

PROBLEMS_OF_WORK = (
    (400, "The body is not of the form that its content type says."),
    (406, "No media type that is served is accepted."),
    (408, "The body did not come in time."),
    (413, "The body is too large."),
    (415, "The body has another content type or a content encoding."),
    (422, "The body is of that form, but not a valid request."),
    (503, "All places are taken, or the service is stopping; Retry-After says when to try again."),
)
"""Problems of an operation that takes a body, and computes."""
KEYLESS = (401, "Keys are asked for, and the request bears none that is known.")
"""Problem of every operation that is not open."""
HEADLESS = (400, "The head of the request is not one that HTTP allows.")
"""Problem of every operation."""


@dataclass(frozen=True)
class Form:
    """A form beside JSON: what it holds; whether it is bytes, not text; the type of its lines where each is JSON."""

    description: str
    binary: bool = False
    lines: Any = None


BODY_FORMS = {
    SAFETENSORS: Form(
        "Tensors named tensors/x, weights/w1, candidate/w1 (F64, F32, F16, BF16, I64, I32, BOOL), and in the metadata "
        "entry `request` the other fields as JSON text; it may be left out.",
        binary=True,
    )
}
"""Forms beside JSON of a body that has tensors."""
TEXT_FORMS = {
    "text/plain": Form("The report for reading, below 120 columns."),
    "text/markdown": Form("The report for reading."),
}
"""Forms beside JSON of a report."""


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
    body_forms, answer_forms
        Other forms of either, by media type.
    media_type
        Media type of the answer.
    open
        Whether it is answered without a key too.
    listed
        Whether it is described: files that the pages are made of are no part of the interface.
    """

    summary: str
    answer: Any
    body: Any = None
    problems: tuple[tuple[int, str], ...] = ()
    examples: Callable[[], dict[str, Any]] | None = None
    body_forms: Mapping[str, Form] = field(default_factory=dict[str, Form])
    answer_forms: Mapping[str, Form] = field(default_factory=dict[str, Form])
    media_type: str = "application/json"
    open: bool = False
    listed: bool = True

    @property
    def answers(self) -> tuple[Any, ...]:
        """Types of all that it may answer with."""
        return self.answer, *(form.lines for form in self.answer_forms.values() if form.lines is not None)


def documented(operation: Operation) -> Callable[[View], View]:
    """Attach an operation to its view."""

    def attach(view: View) -> View:
        setattr(view, _ATTRIBUTE, operation)
        return view

    return attach


def operation_of(view: Callable[..., Any]) -> Operation | None:
    """Return the operation of a view."""
    return getattr(view, _ATTRIBUTE, None)
