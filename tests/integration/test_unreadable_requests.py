"""Bytes that are no request, or none that is taken: a problem too, never HTML, and the next request is answered."""

import json
import time
from typing import Any

import pytest

from tests.integration import raw_http
from tests.integration.conftest import PATIENCE, Server

BYTES = {
    "another protocol": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", 400),
    "no request line": (b"HELO\r\n\r\n", 400),
    "another version": (b"GET / HTTP/9.9\r\n\r\n", 400),
    "no header": (b"GET / HTTP/1.1\r\nno header\r\n\r\n", 400),
    "two lengths": (raw_http.make_head("Content-Length: 1", "Content-Length: 2"), 400),
    "a negative length": (raw_http.make_head("Content-Length: -1"), 400),
    "a long address": (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
    "many headers": (b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: 1\r\n" % n for n in range(200)) + b"\r\n", 431),
    "another coding": (raw_http.make_head("Transfer-Encoding: gzip, foo"), 501),
    "an expectation": (raw_http.make_head("Expect: foo", "Content-Length: 2") + b"{}", 417),
}


@pytest.mark.parametrize(("sent", "status"), BYTES.values(), ids=BYTES)
def test_unreadable_request_gets_a_problem(server: Server, sent: bytes, status: int) -> None:
    with raw_http.open_connection(server) as connection:
        connection.sendall(sent)
        answered, body = raw_http.read_answer(connection)
    document: dict[str, Any] = json.loads(body)
    assert (answered, document["status"]) == (status, status)
    assert document["detail"].startswith("The request is not valid HTTP/1.1")
    raw_http.send_example(server)


def test_headers_that_only_a_proxy_may_send_are_not_obeyed(server: Server) -> None:
    """That the service is somewhere else, as gunicorn would take it from this machine."""
    for name in ("SCRIPT_NAME", "SCRIPT-NAME", "PATH_INFO"):
        with raw_http.open_connection(server) as connection:
            connection.sendall(
                raw_http.make_head(f"Content-Length: {len(raw_http.EXAMPLE_BODY)}", f"{name}: /elsewhere")
                + raw_http.EXAMPLE_BODY
            )
            status, body = raw_http.read_answer(connection)
        assert status in {200, 400}, body
    raw_http.send_example(server)


CHUNKS = {
    "no size": b"ZZ\r\n{}\r\n",
    "a negative size": b"-1\r\n{}\r\n",
    "another base": b"0x2\r\n{}\r\n",
    "an empty size": b"\r\n{}\r\n",
    "no end of a chunk": b"2\r\n{}0\r\n\r\n",
}


@pytest.mark.parametrize("sent", CHUNKS.values(), ids=CHUNKS)
def test_a_body_that_is_not_cut_into_chunks_as_it_should_is_a_problem(server: Server, sent: bytes) -> None:
    with raw_http.open_connection(server) as connection:
        connection.sendall(raw_http.make_head("Transfer-Encoding: chunked") + sent)
        status, body = raw_http.read_answer(connection)
    assert (status, json.loads(body)["status"]) == (400, 400)
    raw_http.send_example(server)


def test_a_request_that_is_refused_before_its_body_is_read_has_one_answer_and_waits_for_nothing(server: Server) -> None:
    """However its body goes on: wrongly, or not at all."""
    for rest in (b"ZZ\r\n{}\r\n", b""):
        with raw_http.open_connection(server) as connection:
            connection.sendall(raw_http.make_head("Transfer-Encoding: chunked", path="/nowhere") + rest)
            status, _ = raw_http.read_answer(connection)
            assert status == 404
            connection.settimeout(8)  # less than it would linger
            assert connection.recv(2**16) == b"", "the connection ends, without a second answer"
    with raw_http.open_connection(server) as connection:
        for _ in range(2):
            connection.sendall(raw_http.make_head("Content-Length: 2", path="/nowhere") + b"{}")
            assert raw_http.read_answer(connection)[0] == 404, "where the body has come the connection is kept"


def count_unreadable_requests(server: Server) -> int:
    """How many lines of the log say that no request could be read."""
    lines = map(json.loads, server.log.read_text().splitlines())
    return sum({"route": "none", "method": "other", "reason": "bad-request"}.items() <= line.items() for line in lines)


def test_log_names_an_unreadable_request_without_its_bytes(server: Server) -> None:
    before = count_unreadable_requests(server)
    with raw_http.open_connection(server) as connection:
        connection.sendall(b"the-secret-of-line-17\r\n\r\n")
        assert raw_http.read_answer(connection)[0] == 400
    deadline = time.monotonic() + PATIENCE
    while count_unreadable_requests(server) == before and time.monotonic() < deadline:
        time.sleep(0.05)
    assert count_unreadable_requests(server) == before + 1
    assert "the-secret-of-line-17" not in server.log.read_text()
