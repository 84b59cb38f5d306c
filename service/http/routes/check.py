"""`POST /v1/check`."""

from functools import partial

from flask import Blueprint, Request, Response, request
from werkzeug.exceptions import NotAcceptable

from schemas.problem_details import quote_name
from schemas.progress import Event
from schemas.report import CheckReport
from schemas.safetensors_body import SAFETENSORS, encode_report
from schemas.tensor import Encoding
from service.checks.common.background_job import CancelledError
from service.checks.common.deadline import current_clock
from service.checks.graph import model_language
from service.checks.graph.check import Limits, check
from service.checks.graph.small_checks import is_small_check
from service.checks.graph.suggestions import SMALLER_MODEL_REMEDY
from service.http.body.request_body import JSON, RequestBody, get_accept_parameter, negotiate_media_type, receive_body
from service.http.middleware.compute_deadline import limit_compute_time
from service.http.middleware.concurrency import acquire_compute
from service.http.middleware.memory_quota import AnswerReservation, reserve_answer
from service.http.middleware.request_limits import current_limits
from service.http.middleware.request_log import RequestRecord, current_record
from service.http.operations import (
    COMPUTE_PROBLEMS,
    REPORT_TEXT_FORMATS,
    TENSOR_BODY_FORMATS,
    BodyFormat,
    Operation,
    describe_operation,
)
from service.http.response.ndjson_stream import NDJSON, ReportRenderer, stream_report
from service.http.response.responses import RENDERERS, add_vary_header, make_reserved_response, serialize_report
from service.http.routes.catalogue import build_examples
from service.numerics.gradients.finite_difference import DifferenceProgress

blueprint = Blueprint("check", __name__)
blueprint.after_request(add_vary_header)

_ANSWER_FORMATS = {
    **REPORT_TEXT_FORMATS,
    NDJSON: BodyFormat(
        "The progress, a JSON object each line, and on the last the report or a problem. With "
        f'`{NDJSON}; report="text/plain"`, or "text/markdown", that line has the report for reading too, as `text`.',
        line_type=Event,
    ),
    SAFETENSORS: BodyFormat(
        "Tensors gradients/w1/analytic, ..., and in the metadata entry `report` the rest of the report as JSON text. "
        f'With `{SAFETENSORS}; report="text/plain"`, or "text/markdown", the entry `text` has it for reading too.',
        is_binary=True,
    ),
}


@blueprint.post("/v1/check")
@describe_operation(
    Operation(
        "Check a gradient by three independent routes",
        answer_type=CheckReport,
        body_type=model_language.CheckRequestSchema,
        problems=COMPUTE_PROBLEMS,
        examples=build_examples,
        body_formats=TENSOR_BODY_FORMATS,
        answer_formats=_ANSWER_FORMATS,
    )
)
def post_check() -> Response:
    """Answer with a report; a failed gradient is a successful check."""
    form = negotiate_media_type(request, JSON, *_ANSWER_FORMATS)
    rendering = _choose_renderer(request, form)
    with reserve_answer() as held, receive_body(request, JSON, *TENSOR_BODY_FORMATS) as body:
        small = partial(_is_small_body, body, current_limits())
        run = partial(_run_check, current_record(), body, current_limits(), None if form in RENDERERS else held)
        if form == NDJSON:
            with limit_compute_time(cancel_if_disconnected=False):
                return stream_report(run, acquire_compute(small), held, rendering)
        # What writing takes is a part of what a check may take: it ends before another one begins.
        with limit_compute_time(), acquire_compute(small):
            return make_reserved_response(
                _write_report(run(encoding=_choose_encoding(form)), form, rendering), form, held
            )


def _is_small_body(body: RequestBody, limits: Limits) -> bool:
    return is_small_check(body.parse_if_small(), limits)


def _choose_encoding(media_type: str) -> Encoding | None:
    # What is for reading tells of large tensors the shape alone.
    return "binary" if media_type == SAFETENSORS or media_type in RENDERERS else None


def _write_report(report: CheckReport, media_type: str, renderer: ReportRenderer | None) -> bytes:
    if media_type == SAFETENSORS:
        return encode_report(report, renderer(report) if renderer else None)
    return serialize_report(report, media_type)


def _choose_renderer(request: Request, media_type: str) -> ReportRenderer | None:
    """How the report is to be written for reading beside the form that it is asked for in, where that is asked too.

    Raises
    ------
    NotAcceptable
        In a way in which it is not.
    """
    wanted = get_accept_parameter(request, media_type, "report") if media_type in (NDJSON, SAFETENSORS) else None
    if wanted is None:
        return None
    if wanted not in RENDERERS:
        raise NotAcceptable(f"A report for reading is {' or '.join(RENDERERS)}; {quote_name(wanted)} is asked for.")
    return RENDERERS[wanted]


def _run_check(
    record: RequestRecord,
    body: RequestBody,
    limits: Limits,
    reservation: AnswerReservation | None,
    progress: DifferenceProgress | None = None,
    encoding: Encoding | None = None,
) -> CheckReport:
    try:
        with current_clock(limits.seconds).refuse_on_timeout(SMALLER_MODEL_REMEDY, "with_respect_to"):
            report = check(
                body.parse(), limits, record.track_progress(progress), encoding, reservation and reservation.resize
            )
    except CancelledError:
        record.record_cancellation()
        raise
    record.record_check(report)
    return report
