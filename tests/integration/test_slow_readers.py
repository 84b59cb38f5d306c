"""Clients that ask for much and take it in drops: they hold nobody else up, and are cut off in time."""

import contextlib
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.integration import raw
from tests.integration.bystanders import untouched
from tests.integration.conftest import Server

MANY = 80
"""More than a worker has threads."""
AT_ONCE = 60
LAST = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
ASKED = LAST.replace(b"Connection: close\r\n", b"") * AT_ONCE
"""So many are more, one behind the other, than the buffers between service and client hold."""


@pytest.fixture(scope="module")
def served(start: Callable[..., Server]) -> Server:
    return start(GRADCHECKD_MAX_UNREAD_SECONDS="3", GRADCHECKD_MAX_SENDING="4")


def asking(server: Server) -> socket.socket:
    """A connection on which much was asked for, and that takes little at a time."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(60)
    connection.connect(("127.0.0.1", server.port))
    connection.sendall(ASKED)
    return connection


@contextlib.contextmanager
def sipping(server: Server, count: int) -> Iterator[list[socket.socket]]:
    """Clients that take a drop now and then, so that none of them ever takes nothing for long."""
    done = threading.Event()

    def sip() -> None:
        while not done.wait(0.2):
            for each in connections:
                with contextlib.suppress(OSError):
                    each.recv(16, socket.MSG_DONTWAIT)

    with contextlib.ExitStack() as opened:
        connections = [opened.enter_context(asking(server)) for _ in range(count)]
        thread = threading.Thread(target=sip)
        thread.start()
        try:
            yield connections
        finally:
            done.set()
            thread.join()


def unfinished(server: Server) -> int:
    metrics = httpx.get(f"{server.url}/metrics", timeout=30).text
    (count,) = re.findall(r"^gradcheckd_unfinished_answers_total (\d+)", metrics, re.MULTILINE)
    return int(count)


def wait_for(server: Server, count: int) -> None:
    deadline = time.monotonic() + 30
    while unfinished(server) < count:
        assert time.monotonic() < deadline, f"{unfinished(server)} of {count} were cut off"
        time.sleep(0.1)


def test_others_are_served_while_many_are_slow(served: Server) -> None:
    before = unfinished(served)
    with sipping(served, MANY), untouched(served):
        wait_for(served, before + MANY - 4)
    raw.ask(served)


def test_a_few_have_their_time_and_no_more(served: Server) -> None:
    before = unfinished(served)
    with sipping(served, 3):
        time.sleep(2)
        assert unfinished(served) == before, "as many may be slow"
        wait_for(served, before + 3)
    raw.ask(served)


def test_who_takes_all_gets_all(served: Server) -> None:
    with asking(served) as connection:
        connection.sendall(LAST)
        whole = b"".join(iter(lambda: connection.recv(2**20), b""))
    assert whole.count(b"HTTP/1.1 200 OK") == AT_ONCE + 1
    assert whole.endswith(b"}")
