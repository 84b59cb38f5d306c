"""The bytes of a body as they come: so many, within a time, and counted with those of the other requests."""

import time
from collections.abc import Generator
from contextlib import closing
from io import BytesIO
from typing import NamedTuple

from flask import Request
from gunicorn.http.errors import ParseException
from werkzeug.exceptions import BadRequest, ClientDisconnected, RequestEntityTooLarge, RequestTimeout

from service.http.io_deadlines import MIN_BYTES_PER_SECOND, limit_reading
from service.http.middleware.concurrency import acquire_read
from service.http.middleware.memory_quota import Reservation
from service.http.middleware.request_log import current_record

_CHUNK_BYTES = 2**16


class BodyDeadline(NamedTuple):
    """How long a body may take.

    Attributes
    ----------
    seconds
        From now on, beside a second for each `LEAST_RATE` of bytes.
    ends
        By `time.monotonic`, when it has to be there however many bytes came.
    whole
        Seconds that this is from the head of the request on.
    """

    seconds: float
    latest: float
    request_seconds: float


def read_body(request: Request, reservation: Reservation, limit: int, patience: BodyDeadline) -> bytes:
    """Receive a body whole.

    Parameters
    ----------
    request
        What is read.
    held
        Holds the bytes from when they come.
    limit
        Most of them.
    patience
        How long it may take.

    Raises
    ------
    RequestEntityTooLarge
        Over the limit, whether its length was announced or not.
    RequestTimeout
        It did not come in time.
    BadRequest
        It broke off.
    FullError
        Too many are being read, or held.
    """
    # Read in a loop: werkzeug's own limit silently cuts a chunked body off instead of refusing it.
    if (request.content_length or 0) > limit:
        raise _make_size_error(request, limit)
    # What it hands out in the end is what it has written to, not a copy.
    body = BytesIO()
    with acquire_read(), closing(_read_until_deadline(request, patience)) as pieces:
        for piece in pieces:
            current_record().body_bytes += len(piece)
            if current_record().body_bytes > limit:
                raise _make_size_error(request, limit)
            reservation.grow(len(piece))
            body.write(piece)
    return body.getvalue()


def _read_until_deadline(request: Request, patience: BodyDeadline) -> Generator[bytes]:
    """Read what there is, piece by piece, until it ends or the time is over; what has come gives it more."""
    connection, own = request.environ.get("gunicorn.socket"), time.monotonic() + patience.seconds
    while True:
        deadline = min(own, patience.latest)
        with limit_reading(connection, deadline):
            piece = _read_piece(request, deadline, patience)
        if not piece:
            return
        yield piece
        own += len(piece) / MIN_BYTES_PER_SECOND
        if time.monotonic() > min(own, patience.latest):
            raise _make_timeout_error(patience)


def _read_piece(request: Request, deadline: float, patience: BodyDeadline) -> bytes:
    try:
        return request.stream.read(_CHUNK_BYTES)
    except (OSError, ClientDisconnected, ParseException) as error:
        if time.monotonic() > deadline:
            raise _make_timeout_error(patience) from error
        # The socket had waited for as long as it may.
        if isinstance(error, BlockingIOError) or isinstance(error.__context__, BlockingIOError):
            raise RequestTimeout("The body stopped coming before it was whole.") from error
        raise BadRequest("The body broke off, or is not cut into chunks as HTTP wants it.") from error


def _make_timeout_error(patience: BodyDeadline) -> RequestTimeout:
    return RequestTimeout(
        f"The body was not whole within the {patience.seconds:g} s that it may take, and a second more for each "
        f"{MIN_BYTES_PER_SECOND // 1024} KiB that came, or within the {patience.request_seconds:g} s that all of the request may take."
    )


def _make_size_error(request: Request, limit: int) -> RequestEntityTooLarge:
    return RequestEntityTooLarge(f"The body is larger than the {limit} bytes that are taken as {request.mimetype}.")
