"""Bodies made to take memory: what a worker takes stays below what deployments are told to give it."""

import contextlib
import json
import re
import socket
import struct
import time
from base64 import b64encode
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.deployment.test_memory import LOADED, OF_IMAGE, estimate_needed_bytes
from tests.integration import raw_http
from tests.integration.conftest import PATIENCE, Server

AT_ONCE = 12
JSON, SAFETENSORS = "application/json", "application/vnd.safetensors"
_JSON_BYTES = 2**24 - 16
_BINARY_BYTES = int(OF_IMAGE["GRADCHECKD_MAX_BINARY_BYTES"]) - 2**16


def repeat_unit(unit: bytes, count: int) -> bytes:
    return b"[" + unit * count + b"0]"


def make_binary_body(size: int) -> bytes:
    header = json.dumps({"tensors/x": {"dtype": "F64", "shape": [size // 8], "data_offsets": [0, size]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(size)


BODIES: dict[str, tuple[Callable[[], bytes], str, set[int]]] = {
    "lists": (lambda: repeat_unit(b"[],", _JSON_BYTES // 3), JSON, {413}),
    "as many lists as are taken": (lambda: repeat_unit(b"[],", 150_000), JSON, {422}),
    "objects": (lambda: repeat_unit(b"{},", _JSON_BYTES // 3), JSON, {413}),
    "blanks and no JSON": (lambda: b"[1" + b" " * _JSON_BYTES, JSON, {400}),
    "a string": (lambda: b'["' + b"a" * _JSON_BYTES + b'"]', JSON, {422}),
    "a large tensor": (lambda: make_binary_body(_BINARY_BYTES), SAFETENSORS, {422}),
}


@pytest.fixture(scope="module")
def small_server(start_server: Callable[..., Server]) -> Server:
    """One worker with the limits of the image."""
    return start_server(**OF_IMAGE | {"WEB_CONCURRENCY": "1"})


def read_memory_field(server: Server, what: str) -> int:
    (worker,) = raw_http.list_workers(server)
    (kilobytes,) = re.findall(rf"^{what}:\s+(\d+) kB$", Path(f"/proc/{worker}/status").read_text(), re.MULTILINE)
    return 1024 * int(kilobytes)


@pytest.mark.parametrize(("make", "content_type", "statuses"), BODIES.values(), ids=BODIES)
def test_no_body_takes_more_than_is_given(
    small_server: Server, make: Callable[[], bytes], content_type: str, statuses: set[int]
) -> None:
    body = make()

    def post(_: int) -> int:
        """Send the body until there is room for it, as a client should."""
        headers, deadline = {"Content-Type": content_type}, time.monotonic() + PATIENCE
        while True:
            status = httpx.post(
                f"{small_server.url}/v1/check", content=body, headers=headers, timeout=PATIENCE
            ).status_code
            if status != 503 or time.monotonic() > deadline:
                return status
            time.sleep(0.2)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        responses = list(pool.map(post, range(AT_ONCE)))
    assert set(responses) == statuses
    most = read_memory_field(small_server, "VmHWM")
    assert len(body) < most < estimate_needed_bytes(OF_IMAGE | {"WEB_CONCURRENCY": "1"})
    raw_http.send_example(small_server)


def test_loaded_worker_has_at_most_the_documented_memory(start_server: Callable[..., Server]) -> None:
    assert read_memory_field(start_server(), "VmRSS") < LOADED


def make_tensor(*shape: int) -> dict[str, Any]:
    raw_bytes = np.random.default_rng(0).normal(size=shape).tobytes()
    return {"datatype": "FP64", "shape": list(shape), "b64": b64encode(raw_bytes).decode()}


def make_request(weights: dict[str, Any], *nodes: dict[str, Any], **fields: Any) -> bytes:
    body = json.dumps({"tensors": {}, "weights": weights, "model": {"nodes": nodes}, **fields}).encode()
    return raw_http.make_head(f"Content-Length: {len(body)}") + body


def make_loss_nodes(name: str) -> tuple[dict[str, Any], ...]:
    return {"name": "square", "op": "mul", "inputs": [name, name]}, {"name": "l", "op": "sum", "inputs": ["square"]}


def make_large_kernel_request(side: int) -> bytes:
    """A convolution of which PyTorch, of itself, would copy side^4 / 16 numbers, twice."""
    weights = {"x": make_tensor(1, 1, side, side), "k": make_tensor(1, 1, side // 2, side // 2)}
    convolution = {"name": "y", "op": "conv2d", "inputs": ["x", "k"]}
    along = {"finite_difference": {"projections": 1}}
    return make_request(weights, convolution, *make_loss_nodes("y"), **along)


def test_large_answers_that_nobody_takes_and_large_kernels_fit_beside_each_other(
    start_server: Callable[..., Server],
) -> None:
    server = start_server(**OF_IMAGE | {"WEB_CONCURRENCY": "1", "GRADCHECKD_MAX_SENDING": "64"})
    large = make_request({"w": make_tensor(60_000)}, *make_loss_nodes("w"))
    statuses: list[int] = []
    with contextlib.ExitStack() as opened:
        for _ in range(36):
            connection = opened.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.settimeout(PATIENCE)
            connection.connect(("127.0.0.1", server.port))
            connection.sendall(large)
            statuses.append(int(connection.recv(16).split()[1]))
        with raw_http.open_connection(server) as connection:
            connection.settimeout(PATIENCE)
            connection.sendall(make_large_kernel_request(100))
            assert raw_http.read_answer(connection)[0] == 200
        raw_http.send_example(server)
        assert set(statuses) == {200, 503}
        most = read_memory_field(server, "VmHWM")
    assert most < estimate_needed_bytes(OF_IMAGE | {"WEB_CONCURRENCY": "1"})
