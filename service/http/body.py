"""The body of a request, and the form of the answer that it asks for."""

import json
import re

import orjson
from flask import Request, current_app
from werkzeug.exceptions import BadRequest, NotAcceptable, RequestEntityTooLarge, UnsupportedMediaType

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
    BadRequest
        Not JSON.
    """
    if request.mimetype != JSON:
        given = f"; this one is {request.mimetype!r}" if request.mimetype else "; this one says nothing"
        raise UnsupportedMediaType(f"The body must have the content type {JSON}{given}.")
    encoding = request.headers.get("Content-Encoding", "identity")
    if encoding.lower() != "identity":
        raise UnsupportedMediaType(f"Content-Encoding {encoding!r} is not taken: send the body as it is.")
    raw = _read(request)
    try:
        return orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        try:
            return _with_infinities(raw)
        except (ValueError, RecursionError):
            raise BadRequest(_not_json(raw, error)) from None


def _read(request: Request) -> bytes:
    # Read in a loop: werkzeug's own limit silently cuts a chunked body off instead of refusing it.
    settings: Settings = current_app.extensions["gradcheckd"]
    limit = settings.max_body_bytes
    if (request.content_length or 0) > limit:
        raise _too_large(limit)
    body = bytearray()
    while chunk := request.stream.read(_CHUNK):
        body += chunk
        if len(body) > limit:
            raise _too_large(limit)
    return bytes(body)


def _too_large(limit: int) -> RequestEntityTooLarge:
    return RequestEntityTooLarge(f"The body is larger than the {limit} bytes that are taken.")


def _with_infinities(raw: bytes) -> object:
    """Parse JSON with numbers too large for a float64, which orjson refuses though JSON allows them, as infinities."""
    return json.loads(raw, parse_constant=_refused, parse_int=_integer)


def _refused(token: str) -> object:
    raise ValueError(f"JSON has no {token}")


def _integer(text: str) -> float:
    return int(text) if len(text) < _LONGEST_INTEGER else float(text)


_LONGEST_INTEGER = 300


_BARE_NUMBER = re.compile(rb"(-?)(NaN|Infinity)\b")


def _not_json(raw: bytes, error: orjson.JSONDecodeError) -> str:
    if not raw.strip():
        return "The body is empty; it must be a JSON object."
    text = f"The body is not JSON: {error.msg} at line {error.lineno} column {error.colno}."
    # The parser counts characters, and may stand on the sign, the letter or just behind.
    near = raw.decode("utf-8", "replace")[max(0, error.pos - 10) : error.pos + 10].encode()
    if found := _BARE_NUMBER.search(near):
        token = found.group().decode()
        return f'{text} JSON has no {token}; in a candidate it is spelled as the string "{token}".'
    return text


def negotiate(request: Request, *served: str) -> str:
    """Choose the media type of the answer.

    Raises
    ------
    NotAcceptable
        If none that is served is accepted.
    """
    chosen = request.accept_mimetypes.best_match(served, default="") if "Accept" in request.headers else served[0]
    if not chosen:
        raise NotAcceptable(f"Served here: {', '.join(served)}; the request accepts {request.headers['Accept']!r}.")
    return chosen
