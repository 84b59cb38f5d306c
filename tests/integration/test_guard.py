"""Many clients at once, and workers that end: a real gunicorn under them."""

import base64
import json
import os
import re
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.integration.conftest import Server

JSON = {"Content-Type": "application/json"}


def tensor(array: Any) -> dict[str, Any]:
    return {"datatype": "FP64", "shape": list(array.shape), "b64": base64.b64encode(array.tobytes()).decode()}


def long_check(size: int) -> bytes:
    """A request that takes a while, seconds at size 200."""
    generator = np.random.default_rng(0)
    nodes = [
        {"name": "h", "op": "matmul", "inputs": ["x", "w"]},
        {"name": "s", "op": "softmax", "inputs": ["h"], "dim": 1},
        {"name": "k", "op": "matmul", "inputs": ["s", "w"]},
        {"name": "t", "op": "tanh", "inputs": ["k"]},
        {"name": "loss", "op": "sum", "inputs": ["t"]},
    ]
    x, w = generator.normal(size=(2, size, size))
    request = {"tensors": {"x": tensor(x)}, "weights": {"w": tensor(w / size)}, "model": {"nodes": nodes}}
    return json.dumps(request | {"include": []}).encode()


def post(server: Server, body: bytes) -> httpx.Response:
    return httpx.post(f"{server.url}/v1/check", content=body, headers=JSON, timeout=120)


def metric(server: Server, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", httpx.get(f"{server.url}/metrics", timeout=30).text, re.MULTILINE)
    return float(found.group(1)) if found else 0.0


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.02)


def busy(server: Server) -> float:
    return metric(server, 'gradcheckd_busy_places{of="checks"}')


def children(server: Server) -> set[int]:
    pid = server.process.pid
    return {int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


@pytest.fixture(scope="module")
def small(start: Callable[..., Server]) -> Server:
    """A service with a place for two checks and one that waits."""
    return start(
        GRADCHECKD_MAX_WAITING="1",
        GRADCHECKD_MAX_WAIT_SECONDS="0.2",
    )


def test_while_all_places_are_taken_health_answers_at_once_and_further_checks_are_refused(
    small: Server, example: dict[str, Any]
) -> None:
    body, enough = long_check(200), threading.Event()

    def keep_busy() -> set[int]:
        statuses = set()
        while not enough.is_set():
            statuses.add(post(small, body).status_code)
        return statuses

    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(keep_busy) for _ in range(2)]
        try:
            wait_until(lambda: busy(small) == 2)
            for path in ("/health/ready", "/health/live", "/metrics"):
                # Again and again, for a machine that is busy with other things.
                wait_until(lambda path=path: _seconds(small, path) < 0.1 and busy(small) == 2)
            wait_until(
                lambda: (refused := post(small, json.dumps(example).encode())).status_code == 503 and _is_full(refused)
            )
        finally:
            enough.set()
    assert [each.result() for each in running] == [{200}, {200}]
    assert busy(small) == 0
    assert metric(small, 'gradcheckd_refusals_total{reason="full"}') >= 1


def _seconds(server: Server, path: str) -> float:
    """Time of a request, over a connection of its own."""
    before = time.perf_counter()
    assert httpx.get(f"{server.url}{path}", timeout=30).status_code == 200
    return time.perf_counter() - before


def _is_full(refused: httpx.Response) -> bool:
    assert refused.headers["Content-Type"] == "application/problem+json"
    assert refused.headers["Retry-After"] == "1"
    return "All 2 places for checks are taken" in refused.json()["detail"]


def test_counts_are_those_of_all_workers_and_survive_them(
    start: Callable[..., Server], example: dict[str, Any]
) -> None:
    server = start(WEB_CONCURRENCY="2")
    body = json.dumps(example).encode()
    count = 'gradcheckd_checks_total{outcome="pass"}'
    with ThreadPoolExecutor(8) as pool:
        assert {each.status_code for each in pool.map(lambda _: post(server, body), range(40))} == {200}
        assert metric(server, count) == 40
        before = children(server)
        os.kill(min(before), signal.SIGKILL)
        wait_until(lambda: len(children(server) - {min(before)}) == 2)
        # Those who are in the other worker do not notice.
        assert {each.status_code for each in pool.map(lambda _: post(server, body), range(40))} == {200}
    assert metric(server, count) == 80
    assert children(server) & before == {max(before)}
    (place,) = _written_by(server)
    assert (place / "counter_dead.db").exists()
    assert server.stop() == 0
    assert not place.exists()


def _written_by(server: Server) -> set[Path]:
    """Directories in which workers of a server count."""
    return {file.parent for pid in children(server) for file in Path("/dev/shm").glob(f"gradcheckd-*/counter_{pid}.db")}


def test_every_line_of_the_log_is_json_and_a_request_has_one(
    start: Callable[..., Server], example: dict[str, Any]
) -> None:
    server = start()
    forged = "/nowhere%0a%7B%22event%22:%22forged%22%7D"
    named = {"X-Request-ID": "run-7"}
    assert httpx.post(f"{server.url}/v1/check", json=example, headers=named, timeout=60).status_code == 200
    assert httpx.get(f"{server.url}{forged}").status_code == 404
    assert server.stop() == 0
    text = server.log.read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["outcome"] for line in lines if line.get("request_id") == "run-7"] == ["pass"]
    assert [line["reason"] for line in lines if line.get("status") == 404] == ["not-found"]
    assert any(line["event"].startswith("Booting worker") for line in lines)
    assert "forged" not in text
