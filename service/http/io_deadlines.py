"""Bodies that have to have come by a time, and answers that have to be taken by one.

Waiting for the next byte has a limit of its own, but who sends one byte in each second is never late for the next one,
nor is who takes one, and a thread that reads or writes cannot look at a clock. Another one looks, the loop of the
worker, and ends it.
"""

import contextlib
import socket
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import NamedTuple

MIN_BYTES_PER_SECOND = 2**16
"""Bytes a second at which a body has to come, and an answer to be taken, once the time that any has is over."""


class _Pending(NamedTuple):
    """Since when, until when, and the directions in which the connection ends then."""

    started: float
    deadline: float
    shutdown_mode: int


_PENDING_BY_CONNECTION: dict[socket.socket, _Pending] = {}
_SLOW_AFTER_SECONDS = 1.0
"""Seconds after which an answer that is not taken counts as taken slowly."""


@contextmanager
def limit_reading(connection: socket.socket | None, deadline: float) -> Generator[None]:
    """Read inside; the body ends for the reader when the deadline, by `time.monotonic`, is over."""
    with _limit_connection(connection, deadline, socket.SHUT_RD):
        yield


@contextmanager
def limit_sending(connection: socket.socket, deadline: float) -> Generator[None]:
    """Write inside; the connection ends when the deadline, by `time.monotonic`, is over."""
    with _limit_connection(connection, deadline, socket.SHUT_RDWR):
        yield


@contextmanager
def _limit_connection(connection: socket.socket | None, deadline: float, shutdown_mode: int) -> Generator[None]:
    if connection is None:
        yield
        return
    _PENDING_BY_CONNECTION[connection] = _Pending(time.monotonic(), deadline, shutdown_mode)
    try:
        yield
    finally:
        _PENDING_BY_CONNECTION.pop(connection, None)


def end_overdue_connections(most_sending: int) -> None:
    """End what is late, and of more answers that are taken slowly than may be, the slowest.

    After a late body the answer can still be written. To be called again and again.
    """
    now = time.monotonic()
    pending = list(_PENDING_BY_CONNECTION.items())
    slow = [
        (state.started, connection)
        for connection, state in pending
        if state.shutdown_mode == socket.SHUT_RDWR and now - state.started > _SLOW_AFTER_SECONDS
    ]
    late = [connection for connection, state in pending if state.deadline < now]
    excess = sorted(slow, key=lambda each: each[0])[: max(0, len(slow) - most_sending)]
    for connection in {*late, *(connection for _, connection in excess)}:
        _end_connection(connection)


def _end_connection(connection: socket.socket) -> None:
    state = _PENDING_BY_CONNECTION.pop(connection, None)
    if state is None:
        return  # done meanwhile
    with contextlib.suppress(OSError):  # closed meanwhile
        connection.shutdown(state.shutdown_mode)
