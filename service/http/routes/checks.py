"""The routes of the kinds of check, each made from its record."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from flask import Blueprint, Response, request

from schemas.job import JobAnswer
from schemas.safetensors_body import SAFETENSORS
from service.checks.common.background_job import CancelledError
from service.checks.common.check_kind import CheckKind, RunOptions
from service.checks.common.deadline import SMALLER_MODEL_REMEDY, current_clock
from service.checks.common.limits import Limits
from service.http.accepted_jobs import JOB_PARAMETERS, accept_job, asks_for_job
from service.http.answers import choose_renderer, list_answer_formats, write_answer
from service.http.body.request_body import JSON, RequestBody, negotiate_media_type, receive_body
from service.http.middleware.compute_deadline import limit_compute_time
from service.http.middleware.concurrency import acquire_compute
from service.http.middleware.memory_quota import AnswerReservation, reserve_answer
from service.http.middleware.request_limits import get_current_limits
from service.http.middleware.request_log import RequestRecord, get_current_record
from service.http.operations import COMPUTE_PROBLEMS, AcceptedAnswer, BodyFormat, Operation, describe_operation
from service.http.response.ndjson_stream import NDJSON, stream_report
from service.http.response.responses import RENDERERS, ReportRenderer, add_vary_header, make_reserved_response
from service.numerics.core.difference import DifferenceProgress


def build_blueprint(kind: CheckKind[Any]) -> Blueprint:
    """Build the route of a kind of check, with its description."""
    blueprint = Blueprint(kind.name, __name__)
    answer_formats = list_answer_formats(kind, has_stream=kind.streams_progress)
    if answer_formats:
        blueprint.after_request(add_vary_header)
    can_be_job = kind.encode_job_result is not None
    operation = Operation(
        kind.summary,
        answer_type=kind.answer_type,
        load_body_type=kind.load_request_type,
        problems=COMPUTE_PROBLEMS,
        examples=kind.build_examples,
        body_formats={SAFETENSORS: BodyFormat(kind.binary_body.description, is_binary=True)},
        answer_formats=answer_formats,
        identifier=kind.operation_id or f"post_{kind.name}",
        accepted=AcceptedAnswer("The request has become a job.", JobAnswer) if can_be_job else None,
        header_parameters=JOB_PARAMETERS if can_be_job else (),
    )

    def answer_request() -> Response:
        if can_be_job and asks_for_job(request):
            return accept_job(kind)
        return _answer_request(kind, negotiate_media_type(request, JSON, *answer_formats))

    blueprint.add_url_rule(kind.path, kind.name, describe_operation(operation)(answer_request), methods=["POST"])
    return blueprint


def _answer_request(kind: CheckKind[Any], media_type: str) -> Response:
    render, limits = choose_renderer(kind, media_type), get_current_limits()
    sections = kind.binary_body.tensor_fields
    with reserve_answer() as reservation, receive_body(request, JSON, SAFETENSORS, sections=sections) as body:
        is_small = partial(_is_small_body, kind.is_small, body, limits) if kind.is_small else None
        run = partial(
            _run_kind, kind, get_current_record(), body, _choose_options(limits, media_type, reservation), render
        )
        if media_type == NDJSON:
            with limit_compute_time(cancel_if_disconnected=False):
                return stream_report(run, acquire_compute(is_small), reservation, render)
        # Writing is a part of a check: it ends before another one begins.
        with limit_compute_time(), acquire_compute(is_small):
            return make_reserved_response(write_answer(kind, run(), media_type, render), media_type, reservation)


def _is_small_body(is_small: Callable[[object | None, Limits], bool], body: RequestBody, limits: Limits) -> bool:
    return is_small(body.parse_if_small(), limits)


def _choose_options(limits: Limits, media_type: str, reservation: AnswerReservation) -> RunOptions:
    if media_type in RENDERERS:
        return RunOptions(limits, form="text")
    form = "binary" if media_type == SAFETENSORS else "json"
    return RunOptions(limits, form=form, reserve_answer_bytes=reservation.resize)


def _run_kind(
    kind: CheckKind[Any],
    record: RequestRecord,
    body: RequestBody,
    options: RunOptions,
    render: ReportRenderer | None,
    progress: DifferenceProgress | None = None,
) -> Any:
    options = replace(options, progress=record.track_progress(progress))
    try:
        with current_clock(options.limits.seconds).refuse_on_timeout(SMALLER_MODEL_REMEDY, *kind.timeout_path):
            document = body.parse()
            if render is not None:
                render.add_included_details(document)
            result = kind.run(document, options)
    except CancelledError:
        record.record_cancellation(is_counted=kind.is_counted)
        raise
    record.record_answer(kind.collect_facts(result), is_counted=kind.is_counted)
    return result
