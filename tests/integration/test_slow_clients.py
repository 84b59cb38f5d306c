"""Clients that begin a request and never come to its end: they hold nobody else up, and are cut off in time."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.integration import raw_http
from tests.integration.bystanders import expect_undisturbed
from tests.integration.conftest import PATIENCE, Server

MANY = 30
"""More than the threads that a worker would have without care for slow clients, and no more than it reads at once."""


@pytest.fixture(scope="module")
def hurried_server(start_server: Callable[..., Server]) -> Server:
    """A service that soon loses patience."""
    return start_server(WEB_CONCURRENCY="2", GRADCHECKD_MAX_HEAD_SECONDS="4", GRADCHECKD_MAX_BODY_SECONDS="4")


@contextlib.contextmanager
def drip_slowly(connections: list[socket.socket], drop: bytes) -> Iterator[None]:
    """Send a drop on each connection, again and again, until all are closed or the block ends."""
    done = threading.Event()

    def send_drop() -> None:
        for connection in connections:
            with contextlib.suppress(OSError):
                connection.sendall(drop)

    def send_drops() -> None:
        while not done.wait(0.2):
            send_drop()

    thread = threading.Thread(target=send_drops)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def is_cut_off(connection: socket.socket) -> bool:
    """Whether the connection comes to its end, with word that it took too long or that there is no room, or without."""
    try:
        status, _ = raw_http.read_answer(connection)
    except (ConnectionError, raw_http.IncompleteAnswerError):
        return True
    return status in {408, 503}


@pytest.mark.long
@pytest.mark.parametrize(
    ("beginning", "drop"),
    [
        (raw_http.WHOLE_REQUEST[:40], b""),
        (raw_http.make_head(f"Content-Length: {len(raw_http.EXAMPLE_BODY)}")[:-2], b"X-Slow: 1\r\n"),
        (raw_http.WHOLE_REQUEST[:-200], b""),
        (raw_http.WHOLE_REQUEST[:-200], b" "),
    ],
    ids=["half a head", "a head by drops", "half a body", "a body by drops"],
)
def test_slow_clients_are_cut_off_and_others_served(hurried_server: Server, beginning: bytes, drop: bytes) -> None:
    with (
        raw_http.open_many(hurried_server, MANY, beginning) as slow,
        drip_slowly(slow, drop),
        expect_undisturbed(hurried_server),
    ):
        assert httpx.get(f"{hurried_server.url}/health/live", timeout=PATIENCE).status_code == 200
        assert all(map(is_cut_off, slow))
    raw_http.send_example(hurried_server)


def test_client_that_hesitates_after_connecting_is_served(server: Server) -> None:
    with raw_http.open_connection(server) as connection:
        time.sleep(4)  # more than a connection is kept between two requests
        connection.sendall(raw_http.WHOLE_REQUEST)
        assert raw_http.read_answer(connection)[0] == 200


def test_client_that_leaves_within_a_head_is_not_awaited(server: Server) -> None:
    with raw_http.open_connection(server) as connection:
        connection.sendall(raw_http.WHOLE_REQUEST[:40])
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(8)  # less than a head may take
        assert connection.recv(1) == b""
