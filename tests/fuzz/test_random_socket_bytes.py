"""Raw bytes over a socket, to a real gunicorn: what no test client sends, and its parser alone ever sees."""

import re
import socket
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.fuzz import RAW_REQUEST_COUNT
from tests.integration import raw_http
from tests.integration.conftest import Server, start_server

__all__ = ["start_server"]

SOCKETS = RAW_REQUEST_COUNT // 4
"""A request over a socket takes as long as several of a test client."""
CHUNKED = raw_http.make_head("Transfer-Encoding: chunked") + b"%x\r\n%b\r\n0\r\n\r\n" % (
    len(raw_http.EXAMPLE_BODY),
    raw_http.EXAMPLE_BODY,
)
GET = b"GET /v1/ops HTTP/1.1\r\nHost: localhost\r\nAccept: application/json\r\n\r\n"
STREAMED = (
    raw_http.make_head(f"Content-Length: {len(raw_http.EXAMPLE_BODY)}", "Accept: application/x-ndjson")
    + raw_http.EXAMPLE_BODY
)
WHOLE = [
    raw_http.WHOLE_REQUEST,
    CHUNKED,
    GET,
    STREAMED,
    raw_http.WHOLE_REQUEST + GET,
    GET + CHUNKED,
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
]
PIECES = [
    b"\r\n", b"\r\n\r\n", b"\n", b"\r", b"\0", b" ", b":", b",", b"0\r\n\r\n", b"ffffffffffffffff\r\n", b"-1\r\n",
    b";a=b",
    b"Content-Length: 5\r\n", b"Content-Length: -5\r\n", b"Transfer-Encoding: chunked\r\n", b"Expect: 100-continue\r\n",
    b"Transfer-Encoding: identity\r\n",
    b"Upgrade: h2c\r\nConnection: Upgrade, HTTP2-Settings\r\nHTTP2-Settings: AAMAAABk\r\n",
    b"Connection: close\r\n", b"SCRIPT_NAME: /a\r\n", b"X-Forwarded-Proto: https\r\n", b"HTTP/1.0", b"HTTP/2.0",
    b"TRACE",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"%00", b"\xff\xfe", b"http://elsewhere/", b"//", b"?a=b#c", b"HEAD",
]  # fmt: skip
ANSWER = re.compile(rb"HTTP/1\.1 (\d{3}) [^\r\n]*\r\n((?:[^\r\n]+\r\n)*)\r\n")


@st.composite
def draw_mutated_request(draw: st.DrawFn) -> bytes:
    """A request with up to three places of it cut out, repeated or replaced."""
    sent = draw(st.sampled_from(WHOLE))
    for _ in range(draw(st.integers(0, 3))):
        first = draw(st.integers(0, len(sent)))
        last = min(len(sent), first + draw(st.integers(0, 40)))
        piece = draw(st.sampled_from(PIECES) | st.binary(max_size=6) | st.just(sent[first:last] * 2))
        sent = sent[:first] + piece + sent[last:]
    return sent


def collect_answers(server: Server, sent: bytes) -> bytes:
    """All that comes, when no more is sent."""
    with raw_http.open_connection(server) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        received = b""
        try:
            while piece := connection.recv(2**16):
                received += piece
        except ConnectionResetError:
            pass  # of what is behind an answer nothing was read
        return received


def expect_valid_answers(received: bytes) -> None:
    """Nothing, or answers: of those that refuse each a problem, and none that is ours to be sorry for."""
    assert not received or ANSWER.match(received), received[:200]
    assert b"Traceback" not in received
    for status, head in ANSWER.findall(received):
        # 501 is for another coding of the body.
        assert int(status) < 500 or status in {b"501", b"503"}, received[:500]
        assert b"text/html" not in head.lower(), head
        if status >= b"400":
            assert b"application/problem+json" in head.lower(), head


@pytest.fixture(scope="module")
def impatient_server(start_server: Callable[..., Server]) -> Server:
    return start_server(GRADCHECKD_MAX_SECONDS="0.5", GRADCHECKD_MAX_STALL_SECONDS="1")


def test_any_bytes_on_a_socket_get_a_valid_answer(impatient_server: Server) -> None:
    before = raw_http.list_workers(impatient_server)

    @settings(max_examples=SOCKETS, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(draw_mutated_request() | st.binary(max_size=300))
    def send_bytes(sent: bytes) -> None:
        expect_valid_answers(collect_answers(impatient_server, sent))

    send_bytes()
    raw_http.send_example(impatient_server)
    assert raw_http.list_workers(impatient_server) == before, "no worker ended"
    assert "Traceback" not in impatient_server.log.read_text()


@pytest.mark.parametrize(
    "answer",
    [
        b"<html>",
        b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/problem+json\r\n\r\n{}",
        b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\n\r\n",
        b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nTraceback (most recent call last)",
    ],
)
def test_socket_checks_find_wrong_answers(answer: bytes) -> None:
    """A negative control of what is held."""
    with pytest.raises(AssertionError):
        expect_valid_answers(answer)
