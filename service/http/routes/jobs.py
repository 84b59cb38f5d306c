"""`/v1/jobs`: the jobs of a caller, and their results."""

import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

import orjson
from flask import Blueprint, Response, current_app, request
from werkzeug.exceptions import BadRequest, Conflict, Gone, NotFound

from schemas.job import JobAnswer, JobList
from schemas.json_writer import write_json
from schemas.problem_details import MEDIA_TYPE
from schemas.report import CheckReport
from schemas.safetensors_body import SAFETENSORS
from schemas.stored_result import unpack_result
from service.checks.common.check_kind import CheckKind
from service.checks.kinds import CHECK_KINDS
from service.http.accepted_jobs import POLL_SECONDS, describe_job, make_job_response
from service.http.answers import choose_renderer, list_answer_formats, write_answer
from service.http.body.request_body import JSON, negotiate_media_type
from service.http.middleware.auth import get_caller
from service.http.middleware.job_access import has_jobs, use_jobs
from service.http.middleware.memory_quota import reserve_answer
from service.http.middleware.request_log import get_current_record
from service.http.operations import Operation, QueryParameter, describe_operation
from service.http.response.responses import RENDERERS, add_vary_header, make_json_response, make_reserved_response

if TYPE_CHECKING:
    from service.jobs.job import JobOutcome, JobResult
    from service.jobs.records import JobRecords

FoundT = TypeVar("FoundT")

blueprint = Blueprint("jobs", __name__)

_KINDS: Mapping[str, CheckKind[Any]] = {kind.name: kind for kind in CHECK_KINDS if kind.encode_job_result is not None}
_RESULT_FORMATS = list_answer_formats(next(kind for kind in _KINDS.values() if kind.build_sections))
_DEFAULT_COUNT, _MAX_COUNT = 100, 1000
_ID_PATTERN = re.compile(r"[0-9a-f]{32}")
_UNKNOWN = "There is no such job of yours. It may have expired, or been deleted."
_PATH_PARAMETERS = {"job_id": "The `id` of a job."}
_NO_JOB = (404, "The caller has no such job, or it has expired.")
_NO_DATABASE = (503, "The database of the jobs does not answer; Retry-After says when to try again.")


@blueprint.get("/v1/jobs")
@describe_operation(
    Operation(
        "List your latest jobs",
        answer_type=JobList,
        problems=(_NO_DATABASE,),
        query_parameters=(QueryParameter("limit", f"Most jobs, {_DEFAULT_COUNT} by default.", "integer"),),
    )
)
def list_jobs() -> Response:
    """Answer with the jobs of the caller's key, or in a service without keys with all jobs."""
    limit = _read_limit(request.args.get("limit", str(_DEFAULT_COUNT)))
    if not has_jobs(current_app):
        return make_json_response({"jobs": []})
    with use_jobs() as jobs:
        found = jobs.records.list_jobs(get_caller(), limit)
    return make_json_response({"jobs": [describe_job(job) for job in found]})


@blueprint.get("/v1/jobs/<job_id>")
@describe_operation(
    Operation(
        "Tell how far a job is",
        answer_type=JobAnswer,
        problems=(_NO_JOB, _NO_DATABASE),
        path_parameters=_PATH_PARAMETERS,
    )
)
def get_job(job_id: str) -> Response:
    """Answer with a job."""
    return make_job_response(_find_own(job_id, lambda records: records.get))


@blueprint.delete("/v1/jobs/<job_id>")
@describe_operation(
    Operation(
        "Cancel a job, or forget an ended one",
        answer_type=JobAnswer,
        problems=(_NO_JOB, _NO_DATABASE),
        path_parameters=_PATH_PARAMETERS,
    )
)
def delete_job(job_id: str) -> Response:
    """Answer with the job as it is then; its computation stops within a second."""
    return make_job_response(_find_own(job_id, lambda records: records.dismiss))


@blueprint.get("/v1/jobs/<job_id>/result")
@describe_operation(
    Operation(
        "Get the result of a job: the answer that its request would have had",
        answer_type=CheckReport,
        answer_formats=_RESULT_FORMATS,
        problems=(
            _NO_JOB,
            (406, "The request accepts no media type that is served."),
            (409, "The job has not ended; Retry-After says when to try again."),
            (410, "The job was cancelled."),
            (422, "The job failed: its request was no valid one. Other statuses stand for other problems of it."),
            _NO_DATABASE,
        ),
        path_parameters=_PATH_PARAMETERS,
    )
)
def get_result(job_id: str) -> Response:
    """Answer with the result of a job in the accepted form, or with the problem of a failed one."""
    media_type = negotiate_media_type(request, JSON, *_RESULT_FORMATS)
    with reserve_answer() as reservation:
        # Before it is loaded: answers have a quota, and a result takes as much on the way.
        reservation.resize(_find_own(job_id, lambda records: records.get).stored_bytes)
        outcome = _find_own(job_id, lambda records: records.get_outcome)
        if outcome.problem is not None:
            reservation.close()
            return _answer_problem(outcome.problem)
        if outcome.result is None:
            raise _refuse_without_result(outcome)
        content = _write_result(_KINDS[outcome.job.kind], outcome.result, media_type)
        return add_vary_header(make_reserved_response(content, media_type, reservation))


def _find_own(job_id: str, choose_method: "Callable[[JobRecords], Callable[[str, str], FoundT | None]]") -> FoundT:
    """Return what a method of the records finds for a job of the caller.

    Raises
    ------
    NotFound
        There is no such job of the caller.
    """
    if not has_jobs(current_app):
        raise NotFound(_UNKNOWN)
    with use_jobs() as jobs:
        # PostgreSQL takes no character 0.
        found = choose_method(jobs.records)(job_id, get_caller()) if _ID_PATTERN.fullmatch(job_id) else None
    if found is None:
        raise NotFound(_UNKNOWN)
    return found


def _read_limit(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= _MAX_COUNT):
        raise BadRequest(f"The parameter limit must be a number from 1 to {_MAX_COUNT}.")
    return int(text)


def _refuse_without_result(outcome: "JobOutcome") -> Conflict | Gone:
    status = outcome.job.status.value
    if outcome.job.finished is not None:
        return Gone(f"The job is {status}: it was cancelled, and has no result.")
    detail = f"The job is {status}, and has no result yet. Try again in {POLL_SECONDS} s."
    return _NotYetError(detail)


class _NotYetError(Conflict):
    """A result before its time."""

    def get_headers(self, environ: Any = None, scope: Any = None) -> list[tuple[str, str]]:
        """Return the headers of the error, with the time of the next attempt."""
        return [*super().get_headers(environ, scope), ("Retry-After", str(POLL_SECONDS))]


def _answer_problem(text: str) -> Response:
    status = orjson.loads(text)["status"]
    get_current_record().refusal_reason = "failed-job"
    return Response(text, status, mimetype=MEDIA_TYPE)


def _write_result(kind: CheckKind[Any], result: "JobResult", media_type: str) -> bytes:
    render = choose_renderer(kind, media_type)
    if render is not None:
        render.has_details |= result.has_details
    document = unpack_result(result.content)
    if media_type == SAFETENSORS or media_type in RENDERERS:
        return write_answer(kind, document, media_type, render)
    assert kind.encode_job_result is not None
    return write_json(kind.encode_job_result(document, result.encoding))
