"""The forms of an answer to a check: which there are, and how a result is written in one of them."""

from typing import Any

from flask import request
from werkzeug.exceptions import NotAcceptable

from schemas.json_writer import write_json
from schemas.problem_details import quote_name
from schemas.progress import Event
from schemas.safetensors_body import SAFETENSORS
from service.checks.common.check_kind import CheckKind
from service.http.body.request_body import get_accept_parameter, get_accepted_range
from service.http.operations import BodyFormat
from service.http.response.ndjson_stream import NDJSON
from service.http.response.responses import RENDERERS, ReportRenderer

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


def list_answer_formats(kind: CheckKind[Any], *, has_stream: bool = False) -> dict[str, BodyFormat]:
    """Return the forms of an answer beside JSON, in order of preference; a stream of progress among them if it has."""
    return {
        **(_TEXT_FORMATS if kind.build_sections else {}),
        **(_STREAM_FORMATS if has_stream else {}),
        **({SAFETENSORS: BodyFormat(kind.binary_answer.description, is_binary=True)} if kind.binary_answer else {}),
    }


def choose_renderer(kind: CheckKind[Any], media_type: str) -> ReportRenderer | None:
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


def write_answer(kind: CheckKind[Any], result: Any, media_type: str, render: ReportRenderer | None = None) -> bytes:
    """Write the result of a kind as the body of an answer, with a report for reading if there is a renderer."""
    text = None if render is None else render(result)
    if media_type == SAFETENSORS and kind.binary_answer is not None:
        return kind.binary_answer.write(result, text)
    return write_json(kind.to_document(result)) if text is None else text.encode()
