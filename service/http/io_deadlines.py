"""Deadlines for reading bodies and sending answers.

The wait for the next byte has a limit of its own. A client that sends or takes one byte a second never exceeds it, and
a thread that reads or writes cannot look at a clock. The loop of the worker looks instead, and ends overdue
connections.
"""

import contextlib
import socket
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import NamedTuple

MIN_BYTES_PER_SECOND = 2**16
"""Least bytes a second of a body, and of an answer, after the time that any of them has."""


class _Pending(NamedTuple):
    """A pending transfer.

    Its start, its deadline, and the directions to shut down then.
    """

    started: float
    deadline: float
    shutdown_mode: int


_PENDING_BY_CONNECTION: dict[socket.socket, _Pending] = {}
_SLOW_AFTER_SECONDS = 1.0
"""Seconds after which an untaken answer counts as slow."""


@contextmanager
def limit_reading(connection: socket.socket | None, deadline: float) -> Generator[None]:
    """Read inside the block; the body ends at the deadline by `time.monotonic`."""
    with _limit_connection(connection, deadline, socket.SHUT_RD):
        yield


@contextmanager
def limit_sending(connection: socket.socket, deadline: float) -> Generator[None]:
    """Write inside the block.

    The connection ends at the deadline by `time.monotonic`.
    """
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


def end_overdue_connections(max_slow_answers: int) -> None:
    """End overdue connections, and the slowest answers beyond a number.

    The loop of the worker calls it at each turn. An answer can still be written after an overdue body.

    Parameters
    ----------
    max_slow_answers
        Number of slow answers that may go on.
    """
    now = time.monotonic()
    pending = list(_PENDING_BY_CONNECTION.items())
    slow_connections = [
        (state.started, connection)
        for connection, state in pending
        if state.shutdown_mode == socket.SHUT_RDWR and now - state.started > _SLOW_AFTER_SECONDS
    ]
    overdue_connections = [connection for connection, state in pending if state.deadline < now]
    excess = sorted(slow_connections, key=lambda item: item[0])[: max(0, len(slow_connections) - max_slow_answers)]
    for connection in {*overdue_connections, *(connection for _, connection in excess)}:
        _end_connection(connection)


def _end_connection(connection: socket.socket) -> None:
    state = _PENDING_BY_CONNECTION.pop(connection, None)
    if state is None:
        return  # done meanwhile
    with contextlib.suppress(OSError):  # closed meanwhile
        connection.shutdown(state.shutdown_mode)
