"""Cancellation of computations whose clients disconnect before their answer.

A client disconnects by a FIN or a reset. A client that closes only its sending side, and would still read, looks the
same, as it does to nginx and to the servers of Go.
"""

import socket
import time
from collections.abc import Callable

import orjson
from flask import Flask, Response

from schemas.problem_details import MEDIA_TYPE, make_problem
from service.checks.common.background_job import CancelledError
from service.http.middleware.request_log import get_current_record

_POLL_SECONDS = 0.1
"""Seconds between two looks at the connection."""
_CLIENT_CLOSED_REQUEST = 499
"""Status as in nginx: mostly for the log and the metrics alone, but a client may have closed its sending side only."""


def cancel_on_disconnect(connection: socket.socket | None) -> Callable[[], None] | None:
    """Make a check that cancels the computation once the client has disconnected.

    Parameters
    ----------
    connection
        Connection of the request; None if it is unknown, which gives None.
    """
    if connection is None:
        return None
    last_poll = time.monotonic()

    def poll_connection() -> None:
        nonlocal last_poll
        now = time.monotonic()
        if now - last_poll < _POLL_SECONDS:
            return
        last_poll = now
        if _has_disconnected(connection):
            raise CancelledError

    return poll_connection


def _has_disconnected(connection: socket.socket) -> bool:
    try:
        # MSG_PEEK leaves the bytes of a next request in place.
        return not connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except OSError:
        return True


def register(app: Flask) -> None:
    """Answer cancelled requests."""
    app.register_error_handler(CancelledError, _answer_cancelled)


def _answer_cancelled(error: CancelledError) -> Response:
    get_current_record().record_disconnect()
    detail = "The client closed its side of the connection before the answer, which cancels the request. Keep it open."
    problem = make_problem(_CLIENT_CLOSED_REQUEST, "Client Closed Request", detail)
    return Response(orjson.dumps(problem), _CLIENT_CLOSED_REQUEST, mimetype=MEDIA_TYPE)
