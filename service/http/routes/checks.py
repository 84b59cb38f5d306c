"""The routes of the kinds of check, each made from its record."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from flask import Blueprint, Response, request
from werkzeug.exceptions import NotAcceptable

from schemas.json_writer import write_json
from schemas.problem_details import quote_name
from schemas.progress import Event
from schemas.safetensors_body import SAFETENSORS
from service.checks.common.background_job import CancelledError
from service.checks.common.check_kind import CheckKind, RunOptions
from service.checks.common.deadline import SMALLER_MODEL_REMEDY, current_clock
from service.checks.common.limits import Limits
from service.http.body.request_body import (
    JSON,
    RequestBody,
    get_accept_parameter,
    get_accepted_range,
    negotiate_media_type,
    receive_body,
)
from service.http.middleware.compute_deadline import limit_compute_time
from service.http.middleware.concurrency import acquire_compute
from service.http.middleware.memory_quota import AnswerReservation, reserve_answer
from service.http.middleware.request_limits import get_current_limits
from service.http.middleware.request_log import RequestRecord, get_current_record
from service.http.operations import COMPUTE_PROBLEMS, BodyFormat, Operation, describe_operation
from service.http.response.ndjson_stream import NDJSON, stream_report
from service.http.response.responses import RENDERERS, ReportRenderer, add_vary_header, make_reserved_response
from service.numerics.core.difference import DifferenceProgress

_TEXT_FORMATS = {
    "text/plain": BodyFormat("The report for reading, 100 columns wide; `columns` sets another width, 40 to 120."),
    "text/markdown": BodyFormat("The report for reading."),
}
_STREAM_FORMATS = {
    NDJSON: BodyFormat(
        "The progress, a JSON object each line, and on the last the report or a problem. With "
        f'`{NDJSON}; report="text/plain"`, or "text/markdown", that line has the report for reading too, as `text`.',
        line_type=Event,
    ),
}


def build_blueprint(kind: CheckKind[Any]) -> Blueprint:
    """Build the route of a kind of check, with its description."""
    blueprint = Blueprint(kind.name, __name__)
    answer_formats = _list_answer_formats(kind)
    if answer_formats:
        blueprint.after_request(add_vary_header)
    operation = Operation(
        kind.summary,
        answer_type=kind.answer_type,
        load_body_type=kind.load_request_type,
        problems=COMPUTE_PROBLEMS,
        examples=kind.build_examples,
        body_formats={SAFETENSORS: BodyFormat(kind.binary_body.description, is_binary=True)},
        answer_formats=answer_formats,
        identifier=kind.operation_id or f"post_{kind.name}",
    )

    def answer_request() -> Response:
        return _answer_request(kind, negotiate_media_type(request, JSON, *answer_formats))

    blueprint.add_url_rule(kind.path, kind.name, describe_operation(operation)(answer_request), methods=["POST"])
    return blueprint


def _list_answer_formats(kind: CheckKind[Any]) -> dict[str, BodyFormat]:
    """Return the forms of an answer beside JSON, in order of preference."""
    return {
        **(_TEXT_FORMATS if kind.build_sections else {}),
        **(_STREAM_FORMATS if kind.streams_progress else {}),
        **({SAFETENSORS: BodyFormat(kind.binary_answer.description, is_binary=True)} if kind.binary_answer else {}),
    }


def _answer_request(kind: CheckKind[Any], media_type: str) -> Response:
    render, limits = _choose_renderer(kind, media_type), get_current_limits()
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


def _choose_renderer(kind: CheckKind[Any], media_type: str) -> ReportRenderer | None:
    """Choose the writer of the text, which is the answer or an addition to it.

    The parameter `report` of the `Accept` header asks for an addition.

    Raises
    ------
    NotAcceptable
        There is no text of the media type.
    """
    if kind.build_sections is None:
        return None
    if media_type in RENDERERS:
        return ReportRenderer.from_media_type(get_accepted_range(request, media_type), kind.build_sections)
    text_media_type = (
        get_accept_parameter(request, media_type, "report") if media_type in (NDJSON, SAFETENSORS) else None
    )
    if text_media_type is None:
        return None
    renderer = ReportRenderer.from_media_type(text_media_type, kind.build_sections)
    if renderer is None:
        raise NotAcceptable(
            f"A report for reading is {' or '.join(RENDERERS)}; you asked for {quote_name(text_media_type)}."
        )
    return renderer


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


def write_answer(kind: CheckKind[Any], result: Any, media_type: str, render: ReportRenderer | None = None) -> bytes:
    """Write the result of a kind as the body of an answer, with a report for reading if there is a renderer."""
    text = None if render is None else render(result)
    if media_type == SAFETENSORS and kind.binary_answer is not None:
        return kind.binary_answer.write(result, text)
    return write_json(kind.to_document(result)) if text is None else text.encode()
