"""Reading of a body: at most so many bytes, within a deadline, and within the memory of all requests."""

import socket
import time
from collections.abc import Generator
from contextlib import closing
from functools import partial
from io import BytesIO
from typing import NamedTuple

from flask import Request
from gunicorn.http.body import LengthReader
from gunicorn.http.errors import ParseException
from werkzeug.exceptions import BadRequest, ClientDisconnected, RequestEntityTooLarge, RequestTimeout

from service.http.io_deadlines import MIN_BYTES_PER_SECOND, limit_reading
from service.http.middleware.concurrency import acquire_read
from service.http.middleware.memory_quota import Reservation
from service.http.middleware.request_log import get_current_record

_CHUNK_BYTES = 2**16
_ARRIVAL_SECONDS = 0.04
"""Longest wait for a small body without a place: a thread is held for no longer."""


class BodyDeadline(NamedTuple):
    """The deadline of a body.

    Attributes
    ----------
    seconds
        Seconds from now on, beside a second for each `MIN_BYTES_PER_SECOND` that came.
    latest
        Moment by `time.monotonic` at which the body must be whole, whatever its size.
    request_seconds
        Seconds from the head of the request to the latest moment.
    """

    seconds: float
    latest: float
    request_seconds: float


def read_body(request: Request, reservation: Reservation, limit: int, deadline: BodyDeadline) -> bytes:
    """Read a whole body.

    Parameters
    ----------
    request
        Request with the body.
    reservation
        Reservation that grows with the bytes.
    limit
        Most bytes of the body.
    deadline
        Deadline of the body.

    Raises
    ------
    RequestEntityTooLarge
        The body is over the limit, whether its length was announced or not.
    RequestTimeout
        The body did not arrive in time.
    BadRequest
        The body broke off.
    CapacityError
        Too many bodies are being read, or too many bytes are held.
    """
    # Read in a loop: werkzeug's own limit silently cuts a chunked body off instead of refusing it.
    if (request.content_length or 0) > limit:
        raise _make_size_error(request, limit)
    # `getvalue` hands out the buffer itself, not a copy.
    body = BytesIO()
    with acquire_read(partial(_comes_at_once, request)), closing(_read_until_deadline(request, deadline)) as pieces:
        for piece in pieces:
            get_current_record().body_bytes += len(piece)
            if get_current_record().body_bytes > limit:
                raise _make_size_error(request, limit)
            reservation.grow(len(piece))
            body.write(piece)
    return body.getvalue()


def _comes_at_once(request: Request) -> bool:
    """Return whether a small body is at hand, or is within a moment, since clients often send it after the head."""
    deadline = time.monotonic() + _ARRIVAL_SECONDS
    while not _has_come(request):
        if time.monotonic() > deadline:
            return False
        time.sleep(_ARRIVAL_SECONDS / 8)
    return True


def _has_come(request: Request) -> bool:
    """Return whether the whole of a small body is in the buffers of gunicorn and of the socket."""
    reader, connection = getattr(request.environ["wsgi.input"], "reader", None), request.environ.get("gunicorn.socket")
    if connection is None or not isinstance(reader, LengthReader) or reader.length > _CHUNK_BYTES:
        return False
    missing_count = reader.length - reader.unreader.buf.getbuffer().nbytes
    try:
        return (
            missing_count <= 0
            or len(connection.recv(missing_count, socket.MSG_PEEK | socket.MSG_DONTWAIT)) >= missing_count
        )
    except OSError:
        return False


def _read_until_deadline(request: Request, deadline: BodyDeadline) -> Generator[bytes]:
    """Yield the pieces of a body until its end or its deadline; each piece extends the time."""
    connection, extended_deadline = request.environ.get("gunicorn.socket"), time.monotonic() + deadline.seconds
    while True:
        next_deadline = min(extended_deadline, deadline.latest)
        with limit_reading(connection, next_deadline):
            piece = _read_piece(request, next_deadline, deadline)
        if not piece:
            return
        yield piece
        extended_deadline += len(piece) / MIN_BYTES_PER_SECOND
        if time.monotonic() > min(extended_deadline, deadline.latest):
            raise _make_timeout_error(deadline)


def _read_piece(request: Request, moment: float, deadline: BodyDeadline) -> bytes:
    try:
        return request.stream.read(_CHUNK_BYTES)
    except (OSError, ClientDisconnected, ParseException) as error:
        if time.monotonic() > moment:
            raise _make_timeout_error(deadline) from error
        # The socket has waited for as long as it may.
        if isinstance(error, BlockingIOError) or isinstance(error.__context__, BlockingIOError):
            raise RequestTimeout("The body stopped coming before it was whole.") from error
        raise BadRequest("The body broke off, or is not cut into chunks as HTTP wants it.") from error


def _make_timeout_error(deadline: BodyDeadline) -> RequestTimeout:
    return RequestTimeout(
        f"The body was not whole within the {deadline.seconds:g} s that it may take, and a second more for each "
        f"{MIN_BYTES_PER_SECOND // 1024} KiB that came, or within the {deadline.request_seconds:g} s that all of the "
        "request may take."
    )


def _make_size_error(request: Request, limit: int) -> RequestEntityTooLarge:
    return RequestEntityTooLarge(f"The body is larger than the {limit} bytes that are taken as {request.mimetype}.")
