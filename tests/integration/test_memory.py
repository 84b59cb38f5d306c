"""Bodies made to take memory: what a worker takes stays below what deployments are told to give it."""

import json
import re
import struct
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.deployment.test_memory import LOADED, OF_IMAGE, needed
from tests.integration import raw
from tests.integration.conftest import Server

AT_ONCE = 12
JSON, SAFETENSORS = "application/json", "application/vnd.safetensors"
_JSON_BYTES = 2**24 - 16


def of_units(unit: bytes, count: int) -> bytes:
    return b"[" + unit * count + b"0]"


def binary(size: int) -> bytes:
    header = json.dumps({"tensors/x": {"dtype": "F64", "shape": [size // 8], "data_offsets": [0, size]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(size)


BODIES: dict[str, tuple[Callable[[], bytes], str, set[int]]] = {
    "lists": (lambda: of_units(b"[],", _JSON_BYTES // 3), JSON, {413}),
    "as many lists as are taken": (lambda: of_units(b"[],", 200_000), JSON, {422}),
    "objects": (lambda: of_units(b"{},", _JSON_BYTES // 3), JSON, {413}),
    "blanks and no JSON": (lambda: b"[1" + b" " * _JSON_BYTES, JSON, {400}),
    "a string": (lambda: b'["' + b"a" * _JSON_BYTES + b'"]', JSON, {422}),
    "a large tensor": (lambda: binary(60 * 2**20), SAFETENSORS, {422}),
}


@pytest.fixture(scope="module")
def small(start: Callable[..., Server]) -> Server:
    """One worker with the limits of the image."""
    return start(**OF_IMAGE | {"WEB_CONCURRENCY": "1"})


def bytes_of(server: Server, what: str) -> int:
    (worker,) = raw.workers(server)
    (kilobytes,) = re.findall(rf"^{what}:\s+(\d+) kB$", Path(f"/proc/{worker}/status").read_text(), re.MULTILINE)
    return 1024 * int(kilobytes)


@pytest.mark.parametrize(("make", "content_type", "statuses"), BODIES.values(), ids=BODIES)
def test_no_body_takes_more_than_is_given(
    small: Server, make: Callable[[], bytes], content_type: str, statuses: set[int]
) -> None:
    body = make()

    def post(_: int) -> int:
        """Send the body until there is room for it, as a client should."""
        headers, deadline = {"Content-Type": content_type}, time.monotonic() + 240
        while True:
            status = httpx.post(f"{small.url}/v1/check", content=body, headers=headers, timeout=120).status_code
            if status != 503 or time.monotonic() > deadline:
                return status
            time.sleep(0.2)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = list(pool.map(post, range(AT_ONCE)))
    assert set(found) == statuses
    most = bytes_of(small, "VmHWM")
    assert len(body) < most < needed(OF_IMAGE | {"WEB_CONCURRENCY": "1"})
    raw.ask(small)


def test_a_worker_has_no_more_than_is_said_when_it_is_loaded(start: Callable[..., Server]) -> None:
    assert bytes_of(start(), "VmRSS") < LOADED
