"""Lines of a streamed answer: one JSON object each."""

from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import NotRequired, TypedDict

from schemas.problem_details import ProblemDetails
from schemas.report import CheckReport


class ProgressEvent(TypedDict):
    """The progress of the finite differences; `done` never decreases, and reaches `total`, which may grow."""

    event: Literal["progress"]
    done: Annotated[int, Field(description="Evaluations of the loss so far.")]
    total: Annotated[int, Field(description="Planned evaluations of the loss.")]
    tensor: Annotated[str, Field(description="Tensor, weight or node whose elements are moved.")]


class ReportEvent(TypedDict):
    """The last line: the report."""

    event: Literal["report"]
    report: CheckReport
    text: NotRequired[Annotated[str, Field(description="The report for reading, if the request accepts it.")]]


class ProblemEvent(TypedDict):
    """The last line after an error on the way: the problem document."""

    event: Literal["problem"]
    problem: ProblemDetails


Event = Annotated[ProgressEvent | ReportEvent | ProblemEvent, Field(discriminator="event")]
