"""The body of a request, and the form of the answer that it asks for."""

import codecs
import time
from collections.abc import Generator
from contextlib import closing

from flask import Request, current_app
from gunicorn.http.errors import ParseException
from werkzeug.datastructures import MIMEAccept
from werkzeug.exceptions import (
    BadRequest,
    ClientDisconnected,
    NotAcceptable,
    RequestEntityTooLarge,
    RequestTimeout,
    UnsupportedMediaType,
)
from werkzeug.http import parse_options_header

from schemas.binary import FIELDS, SAFETENSORS, SECTIONS, NotSafetensorsError, decode
from service.http.overdue import due
from service.http.parsing import parsed
from service.http.slots import reading
from service.settings import Settings

JSON = "application/json"
_CHUNK = 2**16


def body_of(request: Request, *forms: str, sections: tuple[str, ...] = SECTIONS) -> object:
    """Read a body that has one of some forms, and take it for what it would be as JSON.

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
    RequestEntityTooLarge
        Over the limit of its form, whether its length was announced or not.
    RequestTimeout
        It did not come in time.
    BadRequest
        Not of the form that it is said to have.
    InvalidRequestError
        Of the form, but with tensors where none belong.
    """
    if request.mimetype not in forms:
        given = f"; this one is {request.mimetype!r}" if request.mimetype else "; this one says nothing"
        raise UnsupportedMediaType(f"The body must have the content type {' or '.join(forms)}{given}.")
    encoding = request.headers.get("Content-Encoding", "").strip()
    if encoding.lower() not in ("", "identity"):
        raise UnsupportedMediaType(f"Content-Encoding {encoding!r} is not taken: send the body as it is.")
    return _binary(request, sections) if request.mimetype == SAFETENSORS else _json(request)


def _json(request: Request) -> object:
    settings = _settings()
    # RFC 8259 lets a parser ignore a byte order mark, and some editors and shells put one.
    raw = _read(request, settings.max_body_bytes).removeprefix(codecs.BOM_UTF8)
    return parsed(raw, "The body", settings.max_depth)


_FORMAT = (
    "It is the length of the header in 8 bytes, little-endian; the header, a JSON object of dtype, shape and "
    "data_offsets by name; and the data of the tensors without gaps, to the last byte."
)


def _binary(request: Request, sections: tuple[str, ...]) -> object:
    settings = _settings()
    try:
        parts = decode(_read(request, settings.max_binary_bytes), sections)
    except NotSafetensorsError as error:
        raise BadRequest(f"The body is not in the safetensors format: {error}. {_FORMAT}") from None
    fields = parsed(parts.fields.encode(), f"The metadata entry `{FIELDS}`", settings.max_depth)
    return parts.joined(fields)


def _settings() -> Settings:
    return current_app.extensions["gradcheckd"]


def _read(request: Request, limit: int) -> bytes:
    # Read in a loop: werkzeug's own limit silently cuts a chunked body off instead of refusing it.
    if (request.content_length or 0) > limit:
        raise _too_large(request, limit)
    body = bytearray()
    with reading(), closing(_in_time(request, _settings().max_body_seconds)) as pieces:
        for chunk in pieces:
            body += chunk
            if len(body) > limit:
                raise _too_large(request, limit)
    return bytes(body)


def _in_time(request: Request, seconds: float) -> Generator[bytes]:
    """Read what there is, piece by piece, until it ends or the time is over."""
    deadline = time.monotonic() + seconds
    with due(request.environ.get("gunicorn.socket"), deadline):
        while chunk := _piece(request, deadline, seconds):
            yield chunk
            if time.monotonic() > deadline:
                raise _too_slow(seconds)


def _piece(request: Request, deadline: float, seconds: float) -> bytes:
    try:
        return request.stream.read(_CHUNK)
    except (OSError, ClientDisconnected, ParseException) as error:
        if time.monotonic() > deadline:
            raise _too_slow(seconds) from error
        # The socket had waited for as long as it may.
        if isinstance(error, BlockingIOError) or isinstance(error.__context__, BlockingIOError):
            raise RequestTimeout("The body stopped coming before it was whole.") from error
        raise BadRequest("The body broke off, or is not cut into chunks as HTTP wants it.") from error


def _too_slow(seconds: float) -> RequestTimeout:
    return RequestTimeout(f"The body was not whole within the {seconds:g} s that it may take.")


def _too_large(request: Request, limit: int) -> RequestEntityTooLarge:
    return RequestEntityTooLarge(f"The body is larger than the {limit} bytes that are taken as {request.mimetype}.")


def negotiate(request: Request, *served: str) -> str:
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
        raise NotAcceptable(f"Served here: {', '.join(served)}; the request accepts {header!r}.")
    return chosen


def parameter_of(request: Request, media_type: str, name: str) -> str | None:
    """Parameter of a media type that is accepted, or None."""
    for value in request.accept_mimetypes.values():
        kind, parameters = parse_options_header(value)
        if kind == media_type and name in parameters:
            return parameters[name]
    return None
