"""Requests that become jobs, and jobs as documents."""

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from flask import Request, Response, current_app, request
from werkzeug.exceptions import BadRequest

from schemas.job import JobAnswer
from schemas.problem_details import InvalidRequestError, error_at
from schemas.safetensors_body import SAFETENSORS
from service.checks.common.check_kind import AnswerFacts, CheckKind
from service.checks.common.deadline import Clock
from service.http.body.request_body import JSON, RequestBody, receive_body
from service.http.middleware.auth import get_caller
from service.http.middleware.concurrency import CapacityError, try_acquire_compute
from service.http.middleware.job_access import has_jobs, use_jobs
from service.http.middleware.request_limits import read_job_limits
from service.http.middleware.request_log import get_current_record
from service.http.operations import HeaderParameter
from service.http.response.responses import make_json_response
from service.numerics.core.interrupts import OutOfTimeError

if TYPE_CHECKING:
    from service.jobs.job import StoredJob

JOBS_PATH = "/v1/jobs"
POLL_SECONDS = 1
"""Seconds between two looks at a job that its client is advised to take."""
_FULL_SECONDS = 10
_READING_SECONDS = 1.0
"""Longest time for which the client of a job waits until its request has been read."""
_IDEMPOTENCY_KEY, _PREFERENCE = "Idempotency-Key", "respond-async"
JOB_PARAMETERS = (
    HeaderParameter(
        "Prefer", f"`{_PREFERENCE}` (RFC 7240): answer at once, with status 202 and a job that computes the answer."
    ),
    HeaderParameter(
        _IDEMPOTENCY_KEY, "Name of the request, of 1 to 255 characters: with the same body it makes no second job."
    ),
)
_KEY_PATTERN = re.compile(r"[\x21-\x7e]{1,255}")


def asks_for_job(request: Request) -> bool:
    """Tell whether a request prefers a job to an answer, and this application has jobs."""
    preferences = [part.partition(";")[0].strip().lower() for part in request.headers.get("Prefer", "").split(",")]
    return _PREFERENCE in preferences and has_jobs(current_app)


def accept_job(kind: CheckKind[Any]) -> Response:
    """Answer the current request with a job.

    Raises
    ------
    CapacityError
        Too many jobs wait, or there is no room for this one.
    InvalidRequestError, BadRequest, RequestEntityTooLarge
        The request is invalid, or its idempotency key belongs to another one.
    JobsUnavailableError
        The database of the jobs does not answer.
    """
    from service.jobs.job import IdempotencyConflictError, JobQueueFullError, NewJob

    key = _read_idempotency_key()
    with receive_body(request, JSON, SAFETENSORS, sections=kind.binary_body.tensor_fields) as body:
        work = _estimate_work(kind, body)
        new = NewJob(get_caller(), kind.name, request.mimetype, body.parse_bytes(), key, work)
    try:
        with use_jobs() as jobs:
            job, is_new = jobs.submit(new)
    except JobQueueFullError as error:
        raise CapacityError(f"{error}. Try again in {_FULL_SECONDS} s.", retry_after=_FULL_SECONDS) from None
    except IdempotencyConflictError:
        detail = f"the {_IDEMPOTENCY_KEY} {key} belongs to a request with another body; take a new one for this request"
        raise InvalidRequestError([error_at(detail)]) from None
    get_current_record().record_answer(AnswerFacts({"job": job.id, "is_new": is_new}))
    response = make_job_response(job, status=202)
    response.headers["Location"] = get_job_path(job)
    response.headers["Preference-Applied"] = _PREFERENCE
    response.vary.add("Prefer")
    return response


def _estimate_work(kind: CheckKind[Any], body: RequestBody) -> int | None:
    """Validate the request, and return its multiply-adds, by estimate.

    Return None if no place is free for that, or it would take long: the request is then read when its job begins.
    """
    limits = read_job_limits(current_app.extensions["gradcheckd"])
    clock = Clock(_READING_SECONDS)
    permit = try_acquire_compute(lambda: kind.is_small is not None and kind.is_small(body.parse_if_small(), limits))
    if permit is None:
        return None
    assert kind.estimate_job_work is not None
    try:
        with permit, clock.enforce_deadline():
            return kind.estimate_job_work(body.parse_and_keep(), limits)
    except OutOfTimeError:
        return None
    except InvalidRequestError as error:
        if error.reason == "out-of-time":
            return None
        raise


def make_job_response(job: "StoredJob", status: int = 200) -> Response:
    """Answer with a job, and with the time of the next look at one that has not ended."""
    response = make_json_response(describe_job(job), status)
    if job.finished is None:
        response.headers["Retry-After"] = str(POLL_SECONDS)
    return response


def describe_job(job: "StoredJob") -> JobAnswer:
    """Return the document of a job."""
    path = get_job_path(job)
    return {
        "id": job.id,
        "status": job.status.value,
        "created": _write_time(job.created),
        "started": None if job.started is None else _write_time(job.started),
        "finished": None if job.finished is None else _write_time(job.finished),
        "progress": {"done": job.progress.done, "total": job.progress.total, "tensor": job.progress.tensor},
        "links": {"self": path, "result": f"{path}/result"},
    }


def get_job_path(job: "StoredJob") -> str:
    """Return the address of a job."""
    return f"{JOBS_PATH}/{job.id}"


def _write_time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _read_idempotency_key() -> str | None:
    key = request.headers.get(_IDEMPOTENCY_KEY)
    if key is not None and not _KEY_PATTERN.fullmatch(key):
        raise BadRequest(f"{_IDEMPOTENCY_KEY} must have 1 to 255 visible characters of ASCII.")
    return key
