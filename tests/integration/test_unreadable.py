"""Bytes that are no request, or none that is taken: a problem too, never HTML, and the next request is answered."""

import json
from typing import Any

import pytest

from tests.integration import raw
from tests.integration.conftest import Server

BYTES = {
    "another protocol": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    "no request line": (b"HELO\r\n\r\n", 400),
    "another version": (b"GET / HTTP/9.9\r\n\r\n", 400),
    "no header": (b"GET / HTTP/1.1\r\nno header\r\n\r\n", 400),
    "two lengths": (raw.head("Content-Length: 1", "Content-Length: 2"), 400),
    "a negative length": (raw.head("Content-Length: -1"), 400),
    "a long address": (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    "many headers": (b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: 1\r\n" % n for n in range(200)) + b"\r\n", 431),
    "another coding": (raw.head("Transfer-Encoding: gzip, foo"), 501),
    "an expectation": (raw.head("Expect: foo", "Content-Length: 2") + b"{}", 417),
}


@pytest.mark.parametrize(("sent", "status"), BYTES.values(), ids=BYTES)
def test_what_is_no_request_gets_a_problem(server: Server, sent: bytes, status: int) -> None:
    with raw.connected(server) as connection:
        connection.sendall(sent)
        answered, body = raw.answer(connection)
    document: dict[str, Any] = json.loads(body)
    assert (answered, document["status"]) == (status, status)
    assert document["detail"].startswith("What came is not a request")
    raw.ask(server)


def test_it_is_in_the_log_and_the_metrics_and_what_was_sent_is_not(server: Server) -> None:
    with raw.connected(server) as connection:
        connection.sendall(b"the-secret-of-line-17\r\n\r\n")
        assert raw.answer(connection)[0] == 400
    log = server.log.read_text()
    assert "the-secret-of-line-17" not in log
    lines = [json.loads(line) for line in log.splitlines()]
    assert {"route": "none", "status": 400, "reason": "bad-request"}.items() <= lines[-1].items()
