"""Jobs on the wire."""

from typing import Annotated, Literal

from pydantic import Field
from typing_extensions import TypedDict

JobState = Literal["accepted", "running", "successful", "failed", "dismissed"]


class JobProgressAnswer(TypedDict):
    """The progress of the finite differences of a job."""

    done: Annotated[int, Field(description="Evaluations of the loss so far.")]
    total: Annotated[int, Field(description="Planned evaluations of the loss, 0 before the plan; it may grow.")]
    tensor: Annotated[str | None, Field(description="Tensor, weight or node whose elements are moved; null before it.")]


class JobLinks(TypedDict):
    """Addresses of a job."""

    self: Annotated[str, Field(description="Address of the job.")]
    result: Annotated[str, Field(description="Address of its result.")]


class JobAnswer(TypedDict):
    """A job: a check that goes on without its client."""

    id: str
    status: Annotated[JobState, Field(description="State; `dismissed` for a cancelled or deleted job.")]
    created: Annotated[str, Field(description="Time of the request, RFC 3339.")]
    started: Annotated[str | None, Field(description="Time of the first run; null before it.")]
    finished: Annotated[str | None, Field(description="Time of the end; null before it.")]
    progress: JobProgressAnswer
    links: JobLinks


class JobList(TypedDict):
    """The latest jobs of the caller, the last one first."""

    jobs: list[JobAnswer]
