"""The body of a request, and the form of the answer that it asks for."""

import codecs
from collections.abc import Callable
from functools import partial
from types import TracebackType

from flask import Request, current_app
from werkzeug.datastructures import MIMEAccept
from werkzeug.exceptions import BadRequest, NotAcceptable, RequestEntityTooLarge, UnsupportedMediaType
from werkzeug.http import parse_options_header

from schemas.binary import FIELDS, SAFETENSORS, SECTIONS, NotSafetensorsError, decode
from schemas.problem import shown
from service.checking.small import SMALL_BODY, SMALL_BYTES
from service.http.arriving import last_byte_in
from service.http.held import Held
from service.http.held import held as begun
from service.http.parsing import parsed
from service.http.receiving import Patience, received
from service.settings import Settings

JSON = "application/json"
_SHARE = 4
"""What is built of JSON may take a quarter of what a check may: tensors that are small enough need no more."""


class Body:
    """A body that has come, and is held until it is parsed; to be left as a context in any case."""

    def __init__(self, raw: bytes, held: Held, parse: Callable[[bytes, int], object], most: int) -> None:
        self._raw: bytes | None = raw
        self._held, self._parse, self._most = held, parse, most

    def __enter__(self) -> "Body":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._raw = None
        self._held.close()

    def parsed(self) -> object:
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

    def looked_at(self) -> object | None:
        """Parse what may be a small check, and go on holding its bytes; in a place for small checks.

        None where there are more bytes than such a check has, or parsed they would take more memory than it may.

        Raises
        ------
        BadRequest, InvalidRequestError
            As of `parsed`.
        """
        assert self._raw is not None
        if len(self._raw) > SMALL_BODY:
            return None
        try:
            return self._parse(self._raw, min(self._most, SMALL_BYTES // _SHARE))
        except RequestEntityTooLarge:
            return None


def body_of(request: Request, *forms: str, sections: tuple[str, ...] = SECTIONS) -> Body:
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
    _check_type(request, forms)
    binary, settings = request.mimetype == SAFETENSORS, _settings()
    parse = partial(_binary, sections, settings) if binary else partial(_json, settings)
    held = begun()
    try:
        limit = settings.max_binary_bytes if binary else settings.max_body_bytes
        whole = settings.max_seconds
        patience = Patience(settings.max_body_seconds, last_byte_in(request.environ, whole), whole)
        raw = received(request, held, limit, patience)
        return Body(raw, held, parse, settings.max_bytes // _SHARE)
    except BaseException:
        held.close()
        raise


def _check_type(request: Request, forms: tuple[str, ...]) -> None:
    if request.mimetype not in forms:
        given = f"; this one is {shown(request.mimetype)}" if request.mimetype else "; this one says nothing"
        raise UnsupportedMediaType(f"The body must have the content type {' or '.join(forms)}{given}.")
    encoding = request.headers.get("Content-Encoding", "").strip()
    if encoding.lower() not in ("", "identity"):
        raise UnsupportedMediaType(f"Content-Encoding {shown(encoding)} is not taken: send the body as it is.")


def _json(settings: Settings, raw: bytes, most: int) -> object:
    # RFC 8259 lets a parser ignore a byte order mark, and some editors and shells put one.
    return parsed(raw.removeprefix(codecs.BOM_UTF8), "The body", settings.max_depth, most)


_FORMAT = (
    "It is the length of the header in 8 bytes, little-endian; the header, a JSON object of dtype, shape and "
    "data_offsets by name; and the data of the tensors without gaps, to the last byte."
)


def _binary(sections: tuple[str, ...], settings: Settings, raw: bytes, most: int) -> object:
    try:
        parts = decode(raw, sections)
    except NotSafetensorsError as error:
        raise BadRequest(f"The body is not in the safetensors format: {error}. {_FORMAT}") from None
    fields = parts.fields.encode()
    return parts.joined(parsed(fields, f"The metadata entry `{FIELDS}`", settings.max_depth, most))


def _settings() -> Settings:
    return current_app.extensions["gradcheckd"]


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
        raise NotAcceptable(f"Served here: {', '.join(served)}; the request accepts {shown(header)}.")
    return chosen


def parameter_of(request: Request, media_type: str, name: str) -> str | None:
    """Parameter of a media type that is accepted, or None."""
    for value in request.accept_mimetypes.values():
        kind, parameters = parse_options_header(value)
        if kind == media_type and name in parameters:
            return parameters[name]
    return None
