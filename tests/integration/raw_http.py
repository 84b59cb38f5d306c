"""HTTP spoken by hand over a socket, for what no client library would do."""

import contextlib
import json
import re
import select
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.integration.conftest import PATIENCE, ROOT, Server

EXAMPLE_BODY = (ROOT / "examples" / "reference.json").read_bytes()
EXPECTED_LOSS = {"analytic": 2.3767862745225306, "autograd": 2.3767862745225306}


def make_head(*lines: str, path: str = "/v1/check") -> bytes:
    sent = [f"POST {path} HTTP/1.1", "Host: localhost", "Content-Type: application/json", *lines, "", ""]
    return "\r\n".join(sent).encode()


WHOLE_REQUEST = make_head(f"Content-Length: {len(EXAMPLE_BODY)}") + EXAMPLE_BODY


def open_connection(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)


def read_answer(connection: socket.socket) -> tuple[int, bytes]:
    """Status and body of the next answer of known length; a ConnectionError if none comes, or half of one."""
    received = b""
    while b"\r\n\r\n" not in received:
        received += _receive_more(connection, received)
    top, _, body = received.partition(b"\r\n\r\n")
    (length,) = re.findall(rb"(?i)^content-length: (\d+)\r?$", top, re.MULTILINE)
    while len(body) < int(length):
        body += _receive_more(connection, received)
    return int(top.split()[1]), body


def _receive_more(connection: socket.socket, received: bytes) -> bytes:
    if piece := connection.recv(2**16):
        return piece
    raise IncompleteAnswerError if received else ConnectionResetError


class IncompleteAnswerError(Exception):
    """An answer that begins and does not end."""


def check_reference_answer(status: int, body: bytes) -> None:
    """The answer to the reference example is the right one."""
    assert status == 200, body
    report: dict[str, Any] = json.loads(body)
    assert (report["outcome"], report["loss"]) == ("pass", EXPECTED_LOSS)


def send_example_on(connection: socket.socket) -> None:
    """Send the reference example until there is room for it, and look at the answer."""
    while True:
        connection.sendall(WHOLE_REQUEST)
        status, body = read_answer(connection)
        if status != 503:
            return check_reference_answer(status, body)
        time.sleep(0.05)


def send_example(server: Server) -> None:
    """The next request, on a connection of its own, is answered as it should be."""
    with open_connection(server) as connection:
        send_example_on(connection)


def has_input(connection: socket.socket) -> bool:
    return bool(select.select([connection], [], [], 0)[0])


@contextlib.contextmanager
def open_many(server: Server, count: int, beginning: bytes) -> Iterator[list[socket.socket]]:
    """Connections on each of which something was begun."""
    with contextlib.ExitStack() as opened:
        connections = [opened.enter_context(open_connection(server)) for _ in range(count)]
        for connection in connections:
            connection.sendall(beginning)
        yield connections


def list_workers(server: Server) -> list[int]:
    """Process ids of the workers."""
    task = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children")
    return [int(pid) for pid in task.read_text().split()]


def find_worker(server: Server, connection: socket.socket) -> int | None:
    """The worker that accepted a connection: that which holds the socket at its other end."""
    ours, theirs = connection.getsockname()[1], server.port
    table = Path("/proc/net/tcp").read_text()
    inodes = re.findall(rf"^ *\d+: \w+:{theirs:04X} \w+:{ours:04X} 01 (?:\S+ +){{5}} *(\d+)", table, re.MULTILINE)
    for worker in list_workers(server):
        held = list_open_files(worker)
        if any(f"socket:[{inode}]" in held for inode in inodes):
            return worker
    return None


def list_open_files(process: int) -> set[str]:
    """List what a process holds open; what it closes during the reading is left out."""
    held = set[str]()
    for descriptor in Path(f"/proc/{process}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            held.add(descriptor.readlink().name)
    return held


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for what must come, however long that takes on this machine."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.02)
