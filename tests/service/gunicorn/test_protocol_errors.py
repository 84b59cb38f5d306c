"""What comes in place of a request; tests/integration/test_unreadable_requests.py sends it."""

import json
import re
from http import HTTPStatus
from ssl import SSLError

import pytest
from gunicorn.http import errors

from service.gunicorn import protocol_errors
from service.http.metrics import REGISTRY
from service.http.response.security_headers import ANSWER_HEADERS


def read_problem(connection):
    head, _, body = connection.recv(2**16).partition(b"\r\n\r\n")
    assert b"Connection: close" in head
    assert b"Content-Type: application/problem+json" in head
    assert f"Content-Length: {len(body)}".encode() in head
    assert re.search(rb"^X-Request-ID: [0-9a-f]{32}\r$", head, re.MULTILINE)
    for name, value in ANSWER_HEADERS:
        assert f"{name}: {value}".encode() in head
    return head.decode().splitlines()[0], json.loads(body)


def count_refusals(reason):
    return REGISTRY.get_sample_value("gradcheckd_refusals_total", {"reason": reason}) or 0


def test_protocol_error_is_a_problem_and_is_counted(socket_pair):
    ours, theirs = socket_pair
    before = count_refusals("request-timeout")
    protocol_errors.send_problem(ours, HTTPStatus.REQUEST_TIMEOUT, "too late")
    line, document = read_problem(theirs)
    assert line == "HTTP/1.1 408 Request Timeout"
    assert (document["status"], document["title"], document["detail"]) == (408, "Request Timeout", "too late")
    assert count_refusals("request-timeout") == before + 1
    ours.close()
    protocol_errors.send_problem(ours, HTTPStatus.REQUEST_TIMEOUT, "nobody there")


ERRORS = [
    (errors.InvalidRequestLine("secret"), 400, "invalid request line"),
    (errors.InvalidHeader("secret"), 400, "invalid header"),
    (errors.LimitRequestLine(9, 8), 414, "limit request line"),
    (errors.LimitRequestHeaders("secret"), 431, "limit request headers"),
    (errors.UnsupportedTransferCoding("secret"), 501, "unsupported transfer coding"),
    (errors.ExpectationFailed("secret"), 417, "expectation failed"),
    (errors.ForbiddenProxyRequest("secret"), 403, "forbidden proxy request"),
    (errors.ConfigurationProblem("secret"), 400, "configuration problem"),
    (SSLError(1, "secret"), 403, "sslerror"),
]


@pytest.mark.parametrize(("error", "status", "words"), ERRORS, ids=[type(case[0]).__name__ for case in ERRORS])
def test_an_error_of_the_client_is_named_without_what_it_sent(socket_pair, error, status, words):
    ours, theirs = socket_pair
    protocol_errors.answer_protocol_error(ours, error)
    line, document = read_problem(theirs)
    assert line.startswith(f"HTTP/1.1 {status} ")
    assert document["status"] == status
    assert words in document["detail"]
    assert "secret" not in document["detail"]


def test_internal_error_is_in_the_log_alone(socket_pair, caplog):
    ours, theirs = socket_pair
    protocol_errors.answer_protocol_error(ours, RuntimeError("the secret of line 17"))
    line, document = read_problem(theirs)
    assert line == "HTTP/1.1 500 Internal Server Error"
    assert "secret" not in json.dumps(document)
    assert "the secret of line 17" in caplog.text
    assert document["detail"].split()[-1].rstrip(".") in caplog.text
