"""A client that goes away before its answer: nothing more is computed for it.

What it leaves by is the end of what it sends (a FIN, or a reset); one that only closes its own side, and would still
read, cannot be told from it, as with the servers of Go and with nginx.
"""

import socket
import time
from collections.abc import Callable

from flask import Flask, Response

from service.checks.common.background_job import CancelledError
from service.http.middleware.request_log import current_record

_POLL_SECONDS = 0.1
"""Seconds between two looks at the connection."""
_CLIENT_CLOSED_REQUEST = 499
"""Status for the log and the metrics alone, as nginx has it: nobody is there to read it."""


def cancel_on_disconnect(connection: socket.socket | None) -> Callable[[], None] | None:
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
        if now - looked < _POLL_SECONDS:
            return
        looked = now
        if _has_disconnected(connection):
            raise CancelledError

    return look


def _has_disconnected(connection: socket.socket) -> bool:
    try:
        # What has come of a next request is left where it is.
        return not connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True


def register(app: Flask) -> None:
    """Give those who have left an answer for the log."""
    app.register_error_handler(CancelledError, _answer_cancelled)


def _answer_cancelled(error: CancelledError) -> Response:
    current_record().record_disconnect()
    return Response(status=_CLIENT_CLOSED_REQUEST)
