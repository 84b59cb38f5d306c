"""What bystanders must not notice they would notice."""

import socket
from collections.abc import Iterator

import pytest

from tests.integration import raw_http
from tests.integration.bystanders import Bystander

WRONG = b'{"outcome": "pass", "loss": {"analytic": 2.5, "autograd": 2.5}}'


@pytest.fixture
def socket_ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def make_answer(body: bytes, status: str = "200 OK", length: int | None = None) -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {length or len(body)}\r\n\r\n".encode() + body


@pytest.mark.parametrize(
    ("sent", "noticed"),
    [
        (make_answer(WRONG), AssertionError),
        (make_answer(b"{}", "500 Internal Server Error"), AssertionError),
        (make_answer(WRONG, length=1000), raw_http.IncompleteAnswerError),
        (b"", ConnectionError),
        (b"HTTP/1.1 200", raw_http.IncompleteAnswerError),
    ],
)
def test_bystander_reports_a_wrong_answer(
    socket_ends: tuple[socket.socket, socket.socket], sent: bytes, noticed: type[Exception]
) -> None:
    ours, theirs = socket_ends
    theirs.sendall(sent)
    theirs.shutdown(socket.SHUT_WR)
    bystander = Bystander(ours, None)
    bystander.run()
    assert isinstance(bystander.error, noticed)
    assert bystander.answers == 0
