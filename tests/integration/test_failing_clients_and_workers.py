"""What goes wrong with clients and workers: the next request is answered as it should be, and others never notice."""

import contextlib
import os
import signal
import socket
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.integration import raw_http
from tests.integration.bystanders import Bystander, expect_undisturbed, make_bystanders_per_worker, run_bystanders
from tests.integration.conftest import PATIENCE, Server

MEBIBYTE = 2**20


@pytest.fixture(scope="module")
def two_workers(start_server: Callable[..., Server]) -> Server:
    """A service of two workers."""
    return start_server(WEB_CONCURRENCY="2")


@pytest.fixture
def two_busy_workers(two_workers: Server) -> Iterator[Server]:
    """The same, while others are served; and the next request is answered."""
    with expect_undisturbed(two_workers):
        yield two_workers
    raw_http.send_example(two_workers)


def read_peak_memory(worker: int) -> int:
    """Most memory that a worker ever had, in bytes."""
    status = Path(f"/proc/{worker}/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def test_a_body_of_a_gibibyte_is_refused_before_it_is_there(two_busy_workers: Server) -> None:
    before = {worker: read_peak_memory(worker) for worker in raw_http.list_workers(two_busy_workers)}
    piece = f"{MEBIBYTE:x}\r\n".encode() + b" " * MEBIBYTE + b"\r\n"
    with raw_http.open_connection(two_busy_workers) as connection:
        connection.sendall(raw_http.make_head("Transfer-Encoding: chunked"))
        sent = 0
        # It may be closed while a piece is on its way, and the answer is there all the same.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while sent < 1024 and not raw_http.has_input(connection):
                connection.sendall(piece)
                sent += 1
        assert raw_http.read_answer(connection)[0] == 413
    assert sent < 1024
    # Some limits of a body, and never the whole.
    assert all(read_peak_memory(worker) - size < 100 * MEBIBYTE for worker, size in before.items())


@pytest.mark.parametrize("body", [b"[" * 10_000 + b"]" * 10_000, b'{"tensors":' * 10_000], ids=["lists", "objects"])
def test_nested_brackets_are_refused(two_busy_workers: Server, body: bytes) -> None:
    with raw_http.open_connection(two_busy_workers) as connection:
        connection.sendall(raw_http.make_head(f"Content-Length: {len(body)}") + body)
        assert raw_http.read_answer(connection)[0] in {400, 422}


def test_half_bodies_disturb_no_other_client(two_busy_workers: Server) -> None:
    for _ in range(40):
        with raw_http.open_connection(two_busy_workers) as connection:
            connection.sendall(raw_http.WHOLE_REQUEST[: -len(raw_http.EXAMPLE_BODY) // 2])


def test_half_closed_connection_with_half_a_body_is_a_bad_request(two_busy_workers: Server) -> None:
    with raw_http.open_connection(two_busy_workers) as connection:
        connection.sendall(raw_http.WHOLE_REQUEST[: -len(raw_http.EXAMPLE_BODY) // 2])
        connection.shutdown(socket.SHUT_WR)
        assert raw_http.read_answer(connection)[0] == 400


def test_clients_that_leave_before_the_answer(two_busy_workers: Server) -> None:
    for _ in range(40):
        with raw_http.open_connection(two_busy_workers) as connection:
            connection.sendall(raw_http.WHOLE_REQUEST)
            # Closed as by a process that was killed: the answer meets a reset.
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@pytest.mark.long
@pytest.mark.parametrize(
    "bytes_", [b"\0" * 100, b"GET\r\n\r\n", b"POST /v1/check HTTP/1.1\r\nContent-Length: x\r\n\r\n"]
)
def test_bytes_that_are_no_http_are_refused(two_busy_workers: Server, bytes_: bytes) -> None:
    with raw_http.open_connection(two_busy_workers) as connection:
        connection.sendall(bytes_ + b"\r\n\r\n")
        assert raw_http.read_answer(connection)[0] == 400


def test_a_killed_worker_takes_no_other_along(two_workers: Server) -> None:
    bystanders = make_bystanders_per_worker(two_workers)
    killed, left = raw_http.list_workers(two_workers)
    with run_bystanders(bystanders):
        wait_until_answered(bystanders)
        os.kill(killed, signal.SIGKILL)
        for _ in range(20):
            raw_http.send_example(two_workers)
        wait_until(lambda: len(set(raw_http.list_workers(two_workers)) - {killed}) == 2)
    for bystander in bystanders:
        assert (bystander.error is None) == (bystander.worker == left), bystander.error
        assert not isinstance(bystander.error, AssertionError), "no wrong answer, of the killed one neither"


def test_sigterm_under_load_cuts_no_answer_short(start_server: Callable[..., Server]) -> None:
    server = start_server(WEB_CONCURRENCY="2")
    bystanders = make_bystanders_per_worker(server)
    begun, rest = raw_http.WHOLE_REQUEST[:-10], raw_http.WHOLE_REQUEST[-10:]
    with run_bystanders(bystanders), raw_http.open_many(server, 4, begun) as unfinished:
        wait_until_answered(bystanders)
        wait_until(lambda: all(raw_http.find_worker(server, connection) for connection in unfinished))
        time.sleep(0.5)
        server.process.terminate()
        for connection in unfinished:
            connection.sendall(rest)
            raw_http.check_reference_answer(*raw_http.read_answer(connection))
        wait_until(lambda: all(bystander.error for bystander in bystanders))
    # Between answers connections are closed, which tells a client to ask again elsewhere.
    assert all(isinstance(bystander.error, ConnectionError) for bystander in bystanders), [
        bystander.error for bystander in bystanders
    ]
    assert server.process.wait(timeout=PATIENCE) == 0


def wait_until_answered(bystanders: list[Bystander]) -> None:
    wait_until(lambda: all(bystander.answers for bystander in bystanders))


def wait_until(holds: Callable[[], bool]) -> None:
    """Wait for what must come, however long that takes here."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.02)
