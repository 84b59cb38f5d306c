"""A client that goes away before its answer: nothing more is computed for it.

What it leaves by is the end of what it sends (a FIN, or a reset); one that only closes its own side, and would still
read, cannot be told from it, as with the servers of Go and with nginx.
"""

import socket
import time

from service.http.running import CancelledError
from service.numerics.gradients.finite_difference import Progress

_PAUSE = 0.1
"""Seconds between two looks at the connection."""


def until_left(connection: socket.socket | None) -> Progress | None:
    """Make what is told of the progress of a check, and stops it when its client has left.

    Parameters
    ----------
    connection
        Over which the request came, if it is known.
    """
    if connection is None:
        return None
    looked = time.monotonic()

    def progress(name: str, done: int, total: int) -> None:
        nonlocal looked
        now = time.monotonic()
        if now - looked < _PAUSE:
            return
        looked = now
        if _left(connection):
            raise CancelledError

    return progress


def _left(connection: socket.socket) -> bool:
    try:
        # What has come of a next request is left where it is.
        return not connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True
