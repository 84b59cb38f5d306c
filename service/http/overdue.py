"""Bodies that have to have come by a time.

Waiting for the next byte has a limit of its own, but who sends one byte in each second is never late for the next one,
and a thread that reads cannot look at a clock. Another one looks, the loop of the worker, and ends the reading.
"""

import contextlib
import socket
import time
from collections.abc import Generator
from contextlib import contextmanager

_DUE: dict[socket.socket, float] = {}


@contextmanager
def due(connection: socket.socket | None, deadline: float) -> Generator[None]:
    """Read inside; the connection ends for the reader when the deadline, by `time.monotonic`, is over."""
    if connection is None:
        yield
        return
    _DUE[connection] = deadline
    try:
        yield
    finally:
        _DUE.pop(connection, None)


def end_overdue() -> None:
    """End the reading of what is late; the answer can still be written. To be called again and again."""
    now = time.monotonic()
    for connection, deadline in list(_DUE.items()):
        if deadline < now and _DUE.pop(connection, None) is not None:
            with contextlib.suppress(OSError):  # closed meanwhile
                connection.shutdown(socket.SHUT_RD)
