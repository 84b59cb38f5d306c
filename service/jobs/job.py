"""A job as clients see it, and the errors of the store."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from schemas.tensor import Encoding


class JobStatus(StrEnum):
    """States of a job, with the words of OGC API - Processes."""

    ACCEPTED = "accepted"
    RUNNING = "running"
    SUCCESSFUL = "successful"
    FAILED = "failed"
    DISMISSED = "dismissed"


UNFINISHED = (JobStatus.ACCEPTED, JobStatus.RUNNING)


@dataclass(frozen=True)
class StoredProgress:
    """Evaluations of the loss that a job has made and foresees, and the tensor whose elements move; None before it."""

    done: int = 0
    total: int = 0
    tensor: str | None = None


@dataclass(frozen=True)
class StoredJob:
    """A job without its request and its result.

    Attributes
    ----------
    id
        Name of the job, which cannot be guessed.
    kind
        Name of the kind of check.
    status
        State.
    created, started, finished
        Times in seconds since 1970; None before the event.
    progress
        Progress of the finite differences.
    stored_bytes
        Bytes of its request, and from its end of its result or problem.
    """

    id: str
    kind: str
    status: JobStatus
    created: float
    started: float | None
    finished: float | None
    progress: StoredProgress
    stored_bytes: int


@dataclass(frozen=True)
class NewJob:
    """A request that becomes a job.

    Attributes
    ----------
    owner
        Digest of the caller's key; empty in a service without keys.
    kind
        Name of the kind of check.
    media_type, body
        Content type and bytes of the request.
    idempotency_key
        Name that the caller gave the request, so that a repetition makes no second job; None without one.
    work
        Multiply-adds, by estimate; None, the default, for a request that has not been read yet.
    """

    owner: str
    kind: str
    media_type: str
    body: bytes
    idempotency_key: str | None = None
    work: int | None = None


@dataclass(frozen=True)
class ClaimedJob:
    """A job that a runner has taken: its request, the number of this run, and the estimate of its work, or None."""

    id: str
    kind: str
    media_type: str
    body: bytes
    attempt: int
    work: int | None = None


@dataclass(frozen=True)
class ClaimRules:
    """Rules by which a runner takes jobs.

    Attributes
    ----------
    short_work
        Most multiply-adds of a short job, by estimate. Others are long.
    long_jobs_per_owner
        Most long jobs of one caller that a runner computes at once.
    takes_long
        True, the default, if it takes long jobs too.
    """

    short_work: int
    long_jobs_per_owner: int
    takes_long: bool = True

    def is_long(self, job: ClaimedJob) -> bool:
        """Tell whether a job is long; one without an estimate is."""
        return job.work is None or job.work > self.short_work


ANY_JOB = ClaimRules(short_work=0, long_jobs_per_owner=2**31 - 1)
"""Rules of a runner that takes every job."""


@dataclass(frozen=True)
class JobResult:
    """The result of a job.

    Attributes
    ----------
    content
        Packed result.
    encoding
        Encoding of the tensors of an answer in JSON, as the request has it.
    has_details
        True if a text report has all gradients, as the request has it.
    """

    content: bytes
    encoding: Encoding
    has_details: bool


@dataclass(frozen=True)
class JobOutcome:
    """A job with its result, or its problem document as JSON text; with neither before its end."""

    job: StoredJob
    result: JobResult | None
    problem: str | None


@dataclass(frozen=True)
class JobCounts:
    """Numbers of jobs by state, and the age in seconds of the oldest one that waits, 0 without one."""

    by_status: Mapping[JobStatus, int]
    oldest_seconds: float

    @property
    def open_count(self) -> int:
        """Number of jobs that have not ended."""
        return sum(self.by_status[status] for status in UNFINISHED)


class JobQueueFullError(Exception):
    """No further job is taken; the message says which bound is reached."""


class IdempotencyConflictError(Exception):
    """The caller has given another request the same idempotency key."""
