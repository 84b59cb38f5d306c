"""Lines of an answer that tells its progress: one JSON object each."""

from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import NotRequired, TypedDict

from schemas.problem_details import ProblemDetails
from schemas.report import CheckReport


class ProgressEvent(TypedDict):
    """How far the finite differences are; `done` never decreases, and comes to be `total`, which may grow."""

    event: Literal["progress"]
    done: Annotated[int, Field(description="Evaluations of the loss so far.")]
    total: Annotated[int, Field(description="Those that are foreseen.")]
    tensor: Annotated[str, Field(description="Tensor, weight or node that is being moved.")]


class ReportEvent(TypedDict):
    """The last line: the report."""

    event: Literal["report"]
    report: CheckReport
    text: NotRequired[Annotated[str, Field(description="The report for reading, where that was asked for.")]]


class ProblemEvent(TypedDict):
    """The last line where something went wrong on the way: the problem document."""

    event: Literal["problem"]
    problem: ProblemDetails


Event = Annotated[ProgressEvent | ReportEvent | ProblemEvent, Field(discriminator="event")]
