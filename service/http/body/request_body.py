"""The body of a request, and the form of the answer that it asks for."""

import codecs
from collections.abc import Callable
from functools import partial
from types import TracebackType

from flask import Request, current_app
from werkzeug.datastructures import MIMEAccept
from werkzeug.exceptions import BadRequest, NotAcceptable, RequestEntityTooLarge, UnsupportedMediaType
from werkzeug.http import parse_options_header

from schemas.problem_details import quote_name
from schemas.safetensors_body import FIELDS_ENTRY, SAFETENSORS, SECTIONS, NotSafetensorsError, decode_request
from service.checks.graph.small_checks import MAX_BODY_BYTES, MAX_ESTIMATED_BYTES
from service.http.arrival import compute_body_deadline
from service.http.body.body_reader import BodyDeadline, read_body
from service.http.body.json_parser import parse_json
from service.http.middleware.memory_quota import Reservation
from service.http.middleware.memory_quota import reserve_body as begun
from service.settings import Settings

JSON = "application/json"
_PARSED_JSON_DIVISOR = 4
"""What is built of JSON may take a quarter of what a check may: tensors that are small enough need no more."""


class RequestBody:
    """A body that has come, and is held until it is parsed; to be left as a context in any case."""

    def __init__(self, raw: bytes, reservation: Reservation, parse: Callable[[bytes, int], object], most: int) -> None:
        self._raw: bytes | None = raw
        self._reservation, self._parse, self._most = reservation, parse, most

    def __enter__(self) -> "RequestBody":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._raw = None
        self._reservation.close()

    def parse(self) -> object:
        """Parse it, once, and hold its bytes no longer; in a place for checks, since memory is needed for it.

        Raises
        ------
        BadRequest
            Not of the form that it is said to have.
        RequestEntityTooLarge
            It would take too much memory.
        InvalidRequestError
            Of the form, but with tensors where none belong.
        """
        assert self._raw is not None
        with self:
            return self._parse(self._raw, self._most)

    def parse_if_small(self) -> object | None:
        """Parse what may be a small check, and go on holding its bytes; in a place for small checks.

        None where there are more bytes than such a check has, or parsed they would take more memory than it may.

        Raises
        ------
        BadRequest, InvalidRequestError
            As of `parsed`.
        """
        assert self._raw is not None
        if len(self._raw) > MAX_BODY_BYTES:
            return None
        try:
            return self._parse(self._raw, min(self._most, MAX_ESTIMATED_BYTES // _PARSED_JSON_DIVISOR))
        except RequestEntityTooLarge:
            return None


def receive_body(request: Request, *media_types: str, sections: tuple[str, ...] = SECTIONS) -> RequestBody:
    """Receive a body that has one of some forms, and that parses to what it would be as JSON.

    Parameters
    ----------
    request, forms
        What is read, and content types.
    sections
        Fields that are tensors of their own in the safetensors format.

    Raises
    ------
    UnsupportedMediaType
        Another content type, or a content encoding.
    RequestEntityTooLarge, RequestTimeout, BadRequest, FullError
        As of `received`.
    """
    _check_content_type(request, media_types)
    binary, settings = request.mimetype == SAFETENSORS, _get_settings()
    parse = partial(_parse_safetensors_body, sections, settings) if binary else partial(_parse_json_body, settings)
    held = begun()
    try:
        limit = settings.max_binary_bytes if binary else settings.max_body_bytes
        whole = settings.max_seconds
        patience = BodyDeadline(settings.max_body_seconds, compute_body_deadline(request.environ, whole), whole)
        raw = read_body(request, held, limit, patience)
        return RequestBody(raw, held, parse, settings.max_bytes // _PARSED_JSON_DIVISOR)
    except BaseException:
        held.close()
        raise


def _check_content_type(request: Request, media_types: tuple[str, ...]) -> None:
    if request.mimetype not in media_types:
        given = f"; this one is {quote_name(request.mimetype)}" if request.mimetype else "; this one says nothing"
        raise UnsupportedMediaType(f"The body must have the content type {' or '.join(media_types)}{given}.")
    encoding = request.headers.get("Content-Encoding", "").strip()
    if encoding.lower() not in ("", "identity"):
        raise UnsupportedMediaType(f"Content-Encoding {quote_name(encoding)} is not taken: send the body as it is.")


def _parse_json_body(settings: Settings, raw: bytes, most: int) -> object:
    # RFC 8259 lets a parser ignore a byte order mark, and some editors and shells put one.
    return parse_json(raw.removeprefix(codecs.BOM_UTF8), "The body", settings.max_depth, most)


_SAFETENSORS_HELP = (
    "It is the length of the header in 8 bytes, little-endian; the header, a JSON object of dtype, shape and "
    "data_offsets by name; and the data of the tensors without gaps, to the last byte."
)


def _parse_safetensors_body(sections: tuple[str, ...], settings: Settings, raw: bytes, most: int) -> object:
    try:
        parts = decode_request(raw, sections)
    except NotSafetensorsError as error:
        raise BadRequest(f"The body is not in the safetensors format: {error}. {_SAFETENSORS_HELP}") from None
    fields = parts.fields_text.encode()
    return parts.merge_fields(parse_json(fields, f"The metadata entry `{FIELDS_ENTRY}`", settings.max_depth, most))


def _get_settings() -> Settings:
    return current_app.extensions["gradcheckd"]


def negotiate_media_type(request: Request, *served: str) -> str:
    """Choose the media type of the answer.

    Raises
    ------
    NotAcceptable
        If none that is served is accepted.
    """
    header = request.headers.get("Accept", "").strip()
    # A parameter chooses no media type: a charset after one, as some clients add it, changes nothing.
    ranges = MIMEAccept([(value.partition(";")[0].strip(), quality) for value, quality in request.accept_mimetypes])
    chosen = ranges.best_match(served, default="") if header else served[0]
    if not chosen:
        raise NotAcceptable(f"Served here: {', '.join(served)}; the request accepts {quote_name(header)}.")
    return chosen


def get_accept_parameter(request: Request, media_type: str, name: str) -> str | None:
    """Parameter of a media type that is accepted, or None."""
    for value in request.accept_mimetypes.values():
        kind, parameters = parse_options_header(value)
        if kind == media_type and name in parameters:
            return parameters[name]
    return None
