"""The body of a request, and the media type of its answer."""

import codecs
from collections.abc import Callable
from functools import lru_cache, partial
from types import TracebackType
from typing import NamedTuple

from flask import Request, current_app
from werkzeug.datastructures import MIMEAccept
from werkzeug.exceptions import BadRequest, NotAcceptable, RequestEntityTooLarge, UnsupportedMediaType
from werkzeug.http import parse_accept_header, parse_options_header

from schemas.problem_details import quote_name
from schemas.safetensors_body import FIELDS_ENTRY, SAFETENSORS, SECTIONS, NotSafetensorsError, decode_request
from service.checks.common.limits import MAX_SMALL_BODY_BYTES, MAX_SMALL_BYTES
from service.http.arrival import compute_body_deadline
from service.http.body.body_reader import BodyDeadline, read_body
from service.http.body.json_parser import parse_json
from service.http.middleware.memory_quota import Reservation, reserve_body
from service.settings import Settings

JSON = "application/json"
_MAX_KEPT_CHARACTERS = 200
"""Characters of a header from which on its choice is not kept for the next request."""
_PARSED_JSON_DIVISOR = 4
"""Divisor of the memory of a check for parsed JSON: tensors that are small enough need no more than a quarter."""


class BodyForm(NamedTuple):
    """The form of a body by its content type.

    Attributes
    ----------
    parse
        Function of the bytes and of the memory that may be taken; returns what JSON would have parsed to.
    max_bytes
        Most bytes of the body.
    max_parsed_bytes
        Memory that the parsed body may take.
    """

    parse: Callable[[bytes, int], object]
    max_bytes: int
    max_parsed_bytes: int


def choose_body_form(settings: Settings, media_type: str, sections: tuple[str, ...]) -> BodyForm:
    """Choose the form of a body of a content type, JSON or safetensors, whose sections hold tensors."""
    is_binary = media_type == SAFETENSORS
    return BodyForm(
        partial(_parse_safetensors_body, sections, settings) if is_binary else partial(_parse_json_body, settings),
        settings.max_binary_bytes if is_binary else settings.max_body_bytes,
        settings.max_bytes // _PARSED_JSON_DIVISOR,
    )


class RequestBody:
    """A body that has arrived. Its bytes are held until it is parsed, or until the context ends."""

    def __init__(
        self, raw: bytes, reservation: Reservation, parse: Callable[[bytes, int], object], max_bytes: int
    ) -> None:
        self._raw: bytes | None = raw
        self._reservation, self._parse, self._max_bytes = reservation, parse, max_bytes

    def __enter__(self) -> "RequestBody":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._raw = None
        self._reservation.close()

    def parse(self) -> object:
        """Parse the body once, and release its bytes; call it with a permit to compute, as it takes memory.

        Raises
        ------
        BadRequest
            The body is not of the form that its content type says.
        RequestEntityTooLarge
            The parsed body would take too much memory.
        InvalidRequestError
            The body has tensors that no field of the request takes.
        """
        assert self._raw is not None
        with self:
            return self._parse(self._raw, self._max_bytes)

    def parse_and_keep(self) -> object:
        """Parse the body, and keep its bytes; call it with a permit to compute, as it takes memory.

        Raises
        ------
        BadRequest, RequestEntityTooLarge, InvalidRequestError
            As for `parse`.
        """
        assert self._raw is not None
        return self._parse(self._raw, self._max_bytes)

    def parse_bytes(self) -> bytes:
        """Return the bytes of a file once, and release them; call it with a permit to compute."""
        assert self._raw is not None
        with self:
            return self._raw

    def parse_if_small(self) -> object | None:
        """Parse a body that may be a small check, and keep its bytes; call it with a permit for small checks.

        Return None if the body has more bytes than a small check, or would take more memory.

        Raises
        ------
        BadRequest, InvalidRequestError
            As for `parse`.
        """
        assert self._raw is not None
        if len(self._raw) > MAX_SMALL_BODY_BYTES:
            return None
        try:
            return self._parse(self._raw, min(self._max_bytes, MAX_SMALL_BYTES // _PARSED_JSON_DIVISOR))
        except RequestEntityTooLarge:
            return None


def receive_body(request: Request, *media_types: str, sections: tuple[str, ...] = SECTIONS) -> RequestBody:
    """Receive a body of one of several content types, which all parse to the same as JSON.

    Parameters
    ----------
    request
        Request with the body.
    media_types
        Content types of the body.
    sections
        Fields that hold tensors in the safetensors format; those of a check by default.

    Raises
    ------
    UnsupportedMediaType
        The body has another content type, or a content encoding.
    RequestEntityTooLarge, RequestTimeout, BadRequest, CapacityError
        As for `read_body`.
    """
    _check_content_type(request, media_types)
    settings = _get_settings()
    return _receive(request, settings, choose_body_form(settings, request.mimetype, sections))


def receive_file(request: Request, media_type: str) -> RequestBody:
    """Receive a file of a content type of its own, of as many bytes as a binary body; errors as for `receive_body`."""
    _check_content_type(request, (media_type,))
    settings = _get_settings()
    form = BodyForm(_return_bytes, settings.max_binary_bytes, settings.max_bytes // _PARSED_JSON_DIVISOR)
    return _receive(request, settings, form)


def _return_bytes(raw: bytes, max_bytes: int) -> object:
    return raw


def _receive(request: Request, settings: Settings, form: BodyForm) -> RequestBody:
    reservation = reserve_body()
    try:
        seconds = settings.max_seconds
        deadline = BodyDeadline(settings.max_body_seconds, compute_body_deadline(request.environ, seconds), seconds)
        raw = read_body(request, reservation, form.max_bytes, deadline)
        return RequestBody(raw, reservation, form.parse, form.max_parsed_bytes)
    except BaseException:
        reservation.close()
        raise


def _check_content_type(request: Request, media_types: tuple[str, ...]) -> None:
    if request.mimetype not in media_types:
        actual = f"; this one is {quote_name(request.mimetype)}" if request.mimetype else "; this one says nothing"
        raise UnsupportedMediaType(f"The body must have the content type {' or '.join(media_types)}{actual}.")
    encoding = request.headers.get("Content-Encoding", "").strip()
    if encoding.lower() not in ("", "identity"):
        raise UnsupportedMediaType(f"Content-Encoding {quote_name(encoding)} is not taken: send the body as it is.")


def _parse_json_body(settings: Settings, raw: bytes, max_bytes: int) -> object:
    # RFC 8259 lets a parser ignore a byte order mark, and some editors and shells write one.
    return parse_json(raw.removeprefix(codecs.BOM_UTF8), "The body", settings.max_depth, max_bytes)


_SAFETENSORS_HELP = (
    "It is the length of the header in 8 bytes, little-endian; the header, a JSON object of dtype, shape and "
    "data_offsets by name; and the data of the tensors without gaps, to the last byte."
)


def _parse_safetensors_body(sections: tuple[str, ...], settings: Settings, raw: bytes, max_bytes: int) -> object:
    try:
        parts = decode_request(raw, sections)
    except NotSafetensorsError as error:
        raise BadRequest(f"The body is not in the safetensors format: {error}. {_SAFETENSORS_HELP}") from None
    fields = parts.fields_text.encode()
    return parts.merge_fields(parse_json(fields, f"The metadata entry `{FIELDS_ENTRY}`", settings.max_depth, max_bytes))


def _get_settings() -> Settings:
    return current_app.extensions["gradcheckd"]


def negotiate_media_type(request: Request, *served: str) -> str:
    """Choose the media type of the answer.

    Parameters
    ----------
    request
        Request with an `Accept` header, or without one.
    served
        Media types that are served, in order of preference.

    Raises
    ------
    NotAcceptable
        The request accepts none of them.
    """
    header = request.headers.get("Accept", "").strip()
    choose = _choose_media_type if len(header) < _MAX_KEPT_CHARACTERS else _choose_media_type.__wrapped__
    media_type = choose(header, served) if header else served[0]
    if not media_type:
        raise NotAcceptable(f"Served here: {', '.join(served)}; the request accepts {quote_name(header)}.")
    return media_type


@lru_cache(maxsize=256)
def _choose_media_type(header: str, served: tuple[str, ...]) -> str:
    """Choose the media type that a header accepts; empty if there is none."""
    # A parameter chooses no media type: a charset after one, as some clients add it, changes nothing.
    accepted = parse_accept_header(header, MIMEAccept)
    ranges = MIMEAccept([(value.partition(";")[0].strip(), quality) for value, quality in accepted])
    return ranges.best_match(served, default="") or ""


def get_accepted_range(request: Request, media_type: str) -> str:
    """Return the media range of the request that names a media type, with its parameters; else the type alone."""
    for value in request.accept_mimetypes.values():
        if value.partition(";")[0].strip().lower() == media_type:
            return value
    return media_type


def get_accept_parameter(request: Request, media_type: str, name: str) -> str | None:
    """Return a parameter of an accepted media type; None if it is missing."""
    for value in request.accept_mimetypes.values():
        kind, parameters = parse_options_header(value)
        if kind == media_type and name in parameters:
            return parameters[name]
    return None
