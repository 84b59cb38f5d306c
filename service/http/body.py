"""The body of a request, and the form of the answer that it asks for."""

import codecs
import json
import re
import time
from collections.abc import Generator
from contextlib import closing

import orjson
from flask import Request, current_app
from werkzeug.datastructures import MIMEAccept
from werkzeug.exceptions import (
    BadRequest,
    ClientDisconnected,
    NotAcceptable,
    RequestEntityTooLarge,
    RequestTimeout,
    UnsupportedMediaType,
)

from service.http.overdue import due
from service.http.slots import reading
from service.settings import Settings

JSON = "application/json"
_CHUNK = 2**16


def json_body(request: Request) -> object:
    """Read and parse the body.

    Raises
    ------
    UnsupportedMediaType
        Another content type, or a content encoding.
    RequestEntityTooLarge
        Over the limit, whether its length was announced or not.
    RequestTimeout
        It did not come in time.
    BadRequest
        Not JSON.
    """
    if request.mimetype != JSON:
        given = f"; this one is {request.mimetype!r}" if request.mimetype else "; this one says nothing"
        raise UnsupportedMediaType(f"The body must have the content type {JSON}{given}.")
    encoding = request.headers.get("Content-Encoding", "").strip()
    if encoding.lower() not in ("", "identity"):
        raise UnsupportedMediaType(f"Content-Encoding {encoding!r} is not taken: send the body as it is.")
    # RFC 8259 lets a parser ignore a byte order mark, and some editors and shells put one.
    raw = _read(request).removeprefix(codecs.BOM_UTF8)
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        try:
            return _with_infinities(raw)
        except _BareNumberError as bare:
            raise BadRequest(f"{_not_json(raw, error)} {_spelling(str(bare))}") from None
        except (ValueError, RecursionError):
            raise BadRequest(f"{_not_json(raw, error)}{_hint(raw, error.pos)}") from None


def _read(request: Request) -> bytes:
    # Read in a loop: werkzeug's own limit silently cuts a chunked body off instead of refusing it.
    settings: Settings = current_app.extensions["gradcheckd"]
    limit = settings.max_body_bytes
    if (request.content_length or 0) > limit:
        raise _too_large(limit)
    body = bytearray()
    with reading(), closing(_in_time(request, settings.max_body_seconds)) as pieces:
        for chunk in pieces:
            body += chunk
            if len(body) > limit:
                raise _too_large(limit)
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
    except (OSError, ClientDisconnected) as error:
        if time.monotonic() > deadline:
            raise _too_slow(seconds) from error
        # The socket had waited for as long as it may.
        if isinstance(error, BlockingIOError) or isinstance(error.__context__, BlockingIOError):
            raise RequestTimeout("The body stopped coming before it was whole.") from error
        raise BadRequest("The body broke off, or is not cut into chunks as HTTP wants it.") from error


def _too_slow(seconds: float) -> RequestTimeout:
    return RequestTimeout(f"The body was not whole within the {seconds:g} s that it may take.")


def _too_large(limit: int) -> RequestEntityTooLarge:
    return RequestEntityTooLarge(f"The body is larger than the {limit} bytes that are taken.")


def _with_infinities(raw: bytes) -> object:
    """Parse JSON with numbers too large for a float64, which orjson refuses though JSON allows them, as infinities."""
    # As UTF-8, and nothing else: of bytes Python would guess the encoding.
    return json.loads(raw.decode(), parse_constant=_refused, parse_int=_integer)


class _BareNumberError(ValueError):
    """A NaN or an infinity written as a number, which other languages print so."""


def _refused(token: str) -> object:
    raise _BareNumberError(token)


def _integer(text: str) -> float:
    return int(text) if len(text) < _LONGEST_INTEGER else float(text)


_LONGEST_INTEGER = 300


def _not_json(raw: bytes, error: orjson.JSONDecodeError) -> str:
    if not raw.strip():
        return "The body is empty; it must be a JSON object."
    return f"The body is not JSON: {error.msg} at line {error.lineno} column {error.colno}."


_OTHER_SPELLING = re.compile(r"[-+]?(?:nan|inf(?:inity)?)\b", re.IGNORECASE)


def _hint(raw: bytes, position: int) -> str:
    """Say how to spell what stands at the position, counted in characters, if it is a NaN or an infinity."""
    text = raw.decode("utf-8", "replace")
    # The parser stands on the number, or behind its sign.
    start = position - 1 if text[position - 1 : position] in ("-", "+") else position
    found = _OTHER_SPELLING.match(text, start)
    return f" {_spelling(found.group())}" if found else ""


def _spelling(token: str) -> str:
    sign = "-" if token.startswith("-") else ""
    spelling = "NaN" if "nan" in token.lower() else f"{sign}Infinity"
    return (
        f'JSON has no {token}; in a candidate it is spelled as the string "{spelling}", '
        "and tensors and weights must be finite."
    )


def negotiate(request: Request, *served: str) -> str:
    """Choose the media type of the answer.

    Raises
    ------
    NotAcceptable
        If none that is served is accepted.
    """
    header = request.headers.get("Accept", "").strip()
    # None of the media types served here has parameters: a charset after one, as some clients add it, changes nothing.
    ranges = MIMEAccept([(value.partition(";")[0].strip(), quality) for value, quality in request.accept_mimetypes])
    chosen = ranges.best_match(served, default="") if header else served[0]
    if not chosen:
        raise NotAcceptable(f"Served here: {', '.join(served)}; the request accepts {header!r}.")
    return chosen
