"""Problem documents for input that never reaches the application."""

import contextlib
import re
import socket
from http import HTTPStatus
from ssl import SSLError

import orjson
import structlog
from gunicorn.http import errors

from schemas.problem_details import MEDIA_TYPE, ProblemDetails, make_problem
from service.http import metrics
from service.http.middleware.request_log import REQUEST_ID_HEADER, make_request_id
from service.http.response.problem_details import log_unexpected_error, status_to_reason
from service.http.response.security_headers import ANSWER_HEADERS

_log: structlog.typing.FilteringBoundLogger = structlog.get_logger("gradcheckd")

_STATUS_BY_ERROR: tuple[tuple[type[Exception], HTTPStatus], ...] = (
    (errors.LimitRequestLine, HTTPStatus.REQUEST_URI_TOO_LONG),
    (errors.LimitRequestHeaders, HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE),
    (errors.UnsupportedTransferCoding, HTTPStatus.NOT_IMPLEMENTED),
    (errors.ExpectationFailed, HTTPStatus.EXPECTATION_FAILED),
    (errors.ForbiddenProxyRequest, HTTPStatus.FORBIDDEN),
    # A header that only a proxy may send, from a client that is none.
    (errors.ConfigurationProblem, HTTPStatus.BAD_REQUEST),
    (SSLError, HTTPStatus.FORBIDDEN),
    (errors.ParseException, HTTPStatus.BAD_REQUEST),
)
"""Status of each kind of error; the first that fits counts."""
_MAX_DRAINED_BYTES = 2**16
"""Unread bytes that are dropped, so that the kernel does not reset the connection."""


def answer_protocol_error(connection: socket.socket, error: Exception) -> None:
    """Answer input that gunicorn cannot parse, or a failure, which is logged."""
    status = next(
        (status for kind, status in _STATUS_BY_ERROR if isinstance(error, kind)), HTTPStatus.INTERNAL_SERVER_ERROR
    )
    if status == HTTPStatus.INTERNAL_SERVER_ERROR:
        _send_document(connection, status, log_unexpected_error(error))
        return
    # In the words of the kind of error, so that the client's input stays out of the answer and the log.
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(error).__name__).lower()
    send_problem(connection, status, f"The request is not valid HTTP/1.1, or this service does not accept it: {words}.")


def send_problem(connection: socket.socket, status: HTTPStatus, detail: str) -> None:
    """Send a problem document without waiting, count it and log it."""
    _send_document(connection, status, make_problem(status, status.phrase, detail))


def _send_document(connection: socket.socket, status: HTTPStatus, document: ProblemDetails) -> None:
    body = orjson.dumps(document)
    identifier = make_request_id()
    headers = {
        REQUEST_ID_HEADER: identifier,
        "Connection": "close",
        "Content-Type": MEDIA_TYPE,
        "Content-Length": len(body),
    }
    lines = (f"{name}: {value}\r\n" for name, value in (*headers.items(), *ANSWER_HEADERS))
    head = f"HTTP/1.1 {status} {status.phrase}\r\n{''.join(lines)}\r\n"
    with contextlib.suppress(OSError):  # the client is gone
        connection.setblocking(False)
        connection.send(head.encode() + body)
        connection.recv(_MAX_DRAINED_BYTES)
    reason = status_to_reason(status)
    metrics.REQUESTS.labels("other", "none", str(status.value)).inc()
    metrics.REFUSALS.labels(reason).inc()
    facts = {"request_id": identifier, "method": "other", "route": "none", "status": status.value, "reason": reason}
    _log.info("request", **facts, logger="gradcheckd")
