"""Clients that ask for much and take it in drops: they hold nobody else up, and are cut off in time."""

import contextlib
import json
import re
import socket
import threading
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import numpy as np
import pytest

from tests.integration import raw_http
from tests.integration.bystanders import expect_undisturbed
from tests.integration.conftest import PATIENCE, Server
from tests.integration.test_memory import read_memory_field

MANY = 80
"""More than a worker has threads."""
AT_ONCE = 60
LAST = b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
ASKED = LAST.replace(b"Connection: close\r\n", b"") * AT_ONCE
"""So many are more, one behind the other, than the buffers between service and client hold."""


@pytest.fixture(scope="module")
def impatient_server(start_server: Callable[..., Server]) -> Server:
    return start_server(GRADCHECKD_SEND_TIMEOUT_SECONDS="3", GRADCHECKD_MAX_SENDING="4")


def open_slow_reader(server: Server) -> socket.socket:
    """A connection on which much was asked for, and that takes little at a time."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(PATIENCE)
    connection.connect(("127.0.0.1", server.port))
    connection.sendall(ASKED)
    return connection


@contextlib.contextmanager
def open_sipping_readers(server: Server, count: int) -> Iterator[list[socket.socket]]:
    """Clients that take a drop now and then, so that none of them ever takes nothing for long."""
    done = threading.Event()

    def read_drops() -> None:
        while not done.wait(0.2):
            for connection in connections:
                with contextlib.suppress(OSError):
                    connection.recv(16, socket.MSG_DONTWAIT)

    with contextlib.ExitStack() as opened:
        connections = [opened.enter_context(open_slow_reader(server)) for _ in range(count)]
        thread = threading.Thread(target=read_drops)
        thread.start()
        try:
            yield connections
        finally:
            done.set()
            thread.join()


def count_unfinished_answers(server: Server) -> int:
    metrics = httpx.get(f"{server.url}/metrics", timeout=PATIENCE).text
    (count,) = re.findall(r"^gradcheckd_unfinished_answers_total (\d+)", metrics, re.MULTILINE)
    return int(count)


def wait_for(server: Server, count: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while count_unfinished_answers(server) < count:
        assert time.monotonic() < deadline, f"{count_unfinished_answers(server)} of {count} were cut off"
        time.sleep(0.1)


def test_slow_readers_delay_no_other(impatient_server: Server) -> None:
    before = count_unfinished_answers(impatient_server)
    with open_sipping_readers(impatient_server, MANY), expect_undisturbed(impatient_server):
        wait_for(impatient_server, before + MANY - 4)
    raw_http.send_example(impatient_server)


def test_a_few_slow_readers_have_until_their_deadline(impatient_server: Server) -> None:
    before = count_unfinished_answers(impatient_server)
    with open_sipping_readers(impatient_server, 3):
        time.sleep(2)
        assert count_unfinished_answers(impatient_server) == before, "as many may be slow"
        wait_for(impatient_server, before + 3)
    raw_http.send_example(impatient_server)


def test_fast_reader_gets_the_whole_answer(impatient_server: Server) -> None:
    with open_slow_reader(impatient_server) as connection:
        connection.sendall(LAST)
        whole = b"".join(iter(lambda: connection.recv(2**20), b""))
    assert whole.count(b"HTTP/1.1 200 OK") == AT_ONCE + 1
    assert whole.endswith(b"}")


LARGE, READERS = 100_000, 24
"""Elements of a tensor of which an answer has some megabytes, and clients that ask for one."""


def make_large_request(**fields: Any) -> bytes:
    """A request whose answer is large."""
    numbers = np.random.default_rng(0).normal(size=LARGE)
    tensor = {"datatype": "FP64", "shape": [LARGE], "b64": b64encode(numbers.tobytes()).decode()}
    nodes = [{"name": "square", "op": "mul", "inputs": ["w", "w"]}, {"name": "loss", "op": "sum", "inputs": ["square"]}]
    body = json.dumps({"tensors": {}, "weights": {"w": tensor}, "model": {"nodes": nodes}, **fields}).encode()
    return raw_http.make_head(f"Content-Length: {len(body)}") + body


def begin_answer(server: Server, request: bytes) -> tuple[socket.socket, bytes]:
    """A connection that has sent a request and taken no more than the head of its answer."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(PATIENCE)
    connection.connect(("127.0.0.1", server.port))
    connection.sendall(request)
    head = b""
    while b"\r\n\r\n" not in head and (more := connection.recv(64)):
        head += more
    return connection, head


def measure_memory_growth(server: Server, statuses: list[int]) -> int:
    """Bytes by which a worker's memory grew while clients asked for large answers and did not take them."""
    for _ in range(3):
        finished, _ = begin_answer(server, make_large_request(include=[]))
        finished.close()
    before = read_memory_field(server, "VmRSS")
    with contextlib.ExitStack() as opened:
        for _ in range(READERS):
            connection, head = begin_answer(server, make_large_request(encoding="nested"))
            opened.enter_context(connection)
            statuses.append(int(head.split()[1]))
            if statuses[-1] == 503:
                assert b"\r\nRetry-After: 1\r\n" in head
        raw_http.send_example(server)
        return read_memory_field(server, "VmRSS") - before


ANSWER = 2**23
"""Bytes of such an answer, about."""


def test_answers_that_nobody_takes_are_held_in_a_budget(start_server: Callable[..., Server]) -> None:
    growth_by_budget: dict[int, int] = {}
    for budget in (4 * ANSWER, 2**30):
        server = start_server(
            GRADCHECKD_MAX_ANSWER_BYTES=str(budget),
            GRADCHECKD_MAX_SECONDS="600",
            GRADCHECKD_MAX_SENDING="64",
            MALLOC_ARENA_MAX="2",
            MALLOC_MMAP_THRESHOLD_="8388608",
        )
        statuses: list[int] = []
        growth_by_budget[budget] = measure_memory_growth(server, statuses)
        held = httpx.get(f"{server.url}/metrics", timeout=PATIENCE).text
        assert "gradcheckd_held_answer_bytes 0.0" in held, "they have gone"
        assert set(statuses) == ({200, 503} if budget < 2**30 else {200})
    assert growth_by_budget[4 * ANSWER] < 12 * ANSWER, "the budget, and what a check takes"
    assert growth_by_budget[2**30] > READERS * ANSWER / 2, "the negative control"


def test_an_answer_that_no_budget_would_hold_is_refused_before_anything_is_computed(
    start_server: Callable[..., Server],
) -> None:
    server = start_server(GRADCHECKD_MAX_ANSWER_BYTES=str(ANSWER // 4))
    with raw_http.open_connection(server) as connection:
        connection.sendall(make_large_request())
        status, body = raw_http.read_answer(connection)
        assert (status, json.loads(body)["errors"][0]["pointer"]) == (422, "/include")
        assert "safetensors" in json.loads(body)["detail"]
        connection.sendall(make_large_request(include=[]))
        assert raw_http.read_answer(connection)[0] == 200
