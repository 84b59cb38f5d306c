"""A client that goes away before its answer: nothing more is computed for it.

What it leaves by is the end of what it sends (a FIN, or a reset); one that only closes its own side, and would still
read, cannot be told from it, as with the servers of Go and with nginx.
"""

import socket
import time
from collections.abc import Callable

from flask import Flask, Response

from service.http.observed import observed
from service.http.running import CancelledError

_PAUSE = 0.1
"""Seconds between two looks at the connection."""
_LEFT = 499
"""Status for the log and the metrics alone, as nginx has it: nobody is there to read it."""


def until_left(connection: socket.socket | None) -> Callable[[], None] | None:
    """Make what is called now and then, and ends what is computed for a client that has left.

    Parameters
    ----------
    connection
        Over which the request came, if it is known.
    """
    if connection is None:
        return None
    looked = time.monotonic()

    def look() -> None:
        nonlocal looked
        now = time.monotonic()
        if now - looked < _PAUSE:
            return
        looked = now
        if _left(connection):
            raise CancelledError

    return look


def _left(connection: socket.socket) -> bool:
    try:
        # What has come of a next request is left where it is.
        return not connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True


def register(app: Flask) -> None:
    """Give those who have left an answer for the log."""
    app.register_error_handler(CancelledError, _noted)


def _noted(error: CancelledError) -> Response:
    observed().left()
    return Response(status=_LEFT)
