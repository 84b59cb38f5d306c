"""Many clients, slow clients, and the end: a real gunicorn under what a network does to it."""

import base64
import json
import os
import re
import signal
import socket
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from tests.integration.conftest import PATIENCE, Server
from tests.integration.raw_http import wait_until

JSON = {"Content-Type": "application/json"}
HEAD = b"POST /v1/check HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"


def encode_tensor(array: Any) -> dict[str, Any]:
    return {"datatype": "FP64", "shape": list(array.shape), "b64": base64.b64encode(array.tobytes()).decode()}


def make_long_check(size: int) -> bytes:
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
    request = {"tensors": {"x": encode_tensor(x)}, "weights": {"w": encode_tensor(w / size)}, "model": {"nodes": nodes}}
    return json.dumps(request | {"include": []}).encode()


def post(server: Server, body: bytes) -> httpx.Response:
    return httpx.post(f"{server.url}/v1/check", content=body, headers=JSON, timeout=PATIENCE)


def read_metric(server: Server, name: str) -> float:
    match = re.search(
        rf"^{re.escape(name)} (\S+)$", httpx.get(f"{server.url}/metrics", timeout=PATIENCE).text, re.MULTILINE
    )
    return float(match.group(1)) if match else 0.0


def count_busy_places(server: Server) -> float:
    return read_metric(server, 'gradcheckd_busy_places{of="checks"}')


def list_workers(server: Server) -> set[int]:
    pid = server.process.pid
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


def open_connection(server: Server, content: bytes) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE)
    connection.sendall(content)
    return connection


def read_to_end(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(2**16), b""))


@pytest.fixture(scope="module")
def patient_server(start_server: Callable[..., Server]) -> Server:
    """A service that gives up nobody while a test runs, however busy the machine is."""
    limits = ("MAX_SECONDS", "MAX_STALL_SECONDS", "MAX_HEAD_SECONDS", "MAX_BODY_SECONDS", "SEND_TIMEOUT_SECONDS")
    return start_server(**{f"GRADCHECKD_{limit}": "600" for limit in limits})


@pytest.fixture(scope="module")
def small_server(start_server: Callable[..., Server]) -> Server:
    """A service with a place for two checks and one that waits, and little patience."""
    return start_server(
        GRADCHECKD_MAX_SMALL_CHECKS="0",
        GRADCHECKD_MAX_QUEUED="1",
        GRADCHECKD_MAX_WAIT_SECONDS="0.2",
        GRADCHECKD_MAX_STALL_SECONDS="1",
        GRADCHECKD_MAX_HEAD_SECONDS="1.5",
        GRADCHECKD_MAX_BODY_SECONDS="2",
        GRADCHECKD_SEND_TIMEOUT_SECONDS="1",
    )


def test_while_all_places_are_taken_health_answers_at_once_and_further_checks_are_refused(
    small_server: Server, example: dict[str, Any]
) -> None:
    body, enough = make_long_check(200), threading.Event()

    def keep_busy() -> set[int]:
        statuses = set()
        while not enough.is_set():
            statuses.add(post(small_server, body).status_code)
        return statuses

    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(keep_busy) for _ in range(2)]
        try:
            wait_until(lambda: count_busy_places(small_server) == 2)
            for path in ("/health/ready", "/health/live", "/metrics"):
                wait_until(lambda path=path: _is_answered_during_checks(small_server, path))
            wait_until(
                lambda: (
                    (refused := post(small_server, json.dumps(example).encode())).status_code == 503
                    and _is_full(refused)
                )
            )
        finally:
            enough.set()
    # One of them may have lost its place to the check that was to be refused.
    assert all({200} <= future.result() <= {200, 503} for future in running)
    assert count_busy_places(small_server) == 0
    assert read_metric(small_server, 'gradcheckd_refusals_total{reason="full"}') >= 1


def _is_answered_during_checks(server: Server, path: str) -> bool:
    """Whether a path is answered while both places are taken, and none of the checks in them comes to its end."""

    def read_state() -> tuple[float, float]:
        return count_busy_places(server), read_metric(server, 'gradcheckd_checks_total{outcome="pass"}')

    before = read_state()
    assert httpx.get(f"{server.url}{path}", timeout=PATIENCE).status_code == 200
    return before[0] == 2 and read_state() == before


def _is_full(refused: httpx.Response) -> bool:
    assert refused.headers["Content-Type"] == "application/problem+json"
    assert refused.headers["Retry-After"] == "1"
    return "All 2 places for checks are taken" in refused.json()["detail"]


def _open_half_requests(server: Server) -> list[socket.socket]:
    """More connections than there are threads, on each of which half a request was sent, or nothing."""
    halves = [open_connection(server, content) for content in (b"", b"POST /v1/ch", HEAD) for _ in range(40)]
    return halves + [open_connection(server, HEAD + b'Content-Length: 100\r\n\r\n{"tens') for _ in range(8)]


def test_incomplete_requests_delay_no_other(patient_server: Server) -> None:
    with ExitStack() as opened:
        halves = [opened.enter_context(connection) for connection in _open_half_requests(patient_server)]
        wait_until(lambda: read_metric(patient_server, 'gradcheckd_busy_places{of="bodies"}') == 8)
        assert httpx.get(f"{patient_server.url}/health/ready", timeout=PATIENCE).status_code == 200
        halves[-1].setblocking(False)
        with pytest.raises(BlockingIOError):
            halves[-1].recv(1)


def test_incomplete_requests_are_given_up(small_server: Server) -> None:
    with ExitStack() as opened:
        halves = [opened.enter_context(connection) for connection in _open_half_requests(small_server)]
        answers = [read_to_end(half) for half in halves]
    assert {answer[:12] for answer in answers[:40]} == {b""}
    assert {answer[:12] for answer in answers[40:]} == {b"HTTP/1.1 408"}
    assert all(b"application/problem+json" in answer for answer in answers[40:])
    assert all(b"stopped coming" in answer for answer in answers[-8:])


def test_excess_slow_bodies_are_refused_and_small_ones_that_came_are_not(
    start_server: Callable[..., Server], example: dict[str, Any]
) -> None:
    server = start_server(GRADCHECKD_MAX_CONCURRENT_READS="1")
    body = json.dumps(example).encode()
    begun = HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode() + body[:5]
    with open_connection(server, begun) as half:
        wait_until(lambda: read_metric(server, 'gradcheckd_busy_places{of="bodies"}') == 1)
        with open_connection(server, begun) as excess:
            refused = read_to_end(excess)
        assert refused.startswith(b"HTTP/1.1 503")
        assert b"retry-after: 1\r\n" in refused.lower()
        assert post(server, body).status_code == 200, "that one is here, and holds no thread up"
        large = post(server, body + b" " * 2**17)
        assert (large.status_code, large.headers["Retry-After"]) == (503, "1")
        half.sendall(body[5:])
        assert half.recv(12) == b"HTTP/1.1 200"
    assert post(server, body + b" " * 2**17).status_code == 200


@pytest.mark.parametrize(
    "begun", [b"", HEAD, HEAD + b"Content-Length: 1000\r\n\r\n", HEAD + b"Transfer-Encoding: chunked\r\n\r\n"]
)
def test_request_sent_byte_by_byte_has_a_deadline(small_server: Server, begun: bytes) -> None:
    with open_connection(small_server, begun or b"POST /") as connection:
        connection.settimeout(0.2)
        answer = b""
        for _ in range(100):
            try:
                answer = connection.recv(2**16)
                break
            except TimeoutError:
                connection.sendall(b"1\r\n \r\n" if b"chunked" in begun else b"a")
        assert answer.startswith(b"HTTP/1.1 408"), answer
        assert b"application/problem+json" in answer


@pytest.mark.long
def test_a_client_that_takes_nothing_of_its_answers_is_cut_off(small_server: Server) -> None:
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(("127.0.0.1", small_server.port))
        size, asked = len(httpx.get(f"{small_server.url}/openapi.json", timeout=PATIENCE).content), 100
        assert asked * size > 16 * 2**20, "more than the kernel keeps"
        connection.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: localhost\r\n\r\n" * asked)
        wait_until(lambda: "was cut off" in small_server.log.read_text())
    assert "Traceback" not in small_server.log.read_text()


def test_requests_in_one_go_are_answered_in_their_order(small_server: Server) -> None:
    ask = b"GET %s HTTP/1.1\r\nHost: localhost\r\nConnection: %s\r\n\r\n"
    paths = [(b"/health/live", b"keep-alive"), (b"/nowhere", b"keep-alive"), (b"/health/ready", b"close")]
    with open_connection(small_server, b"".join(ask % path for path in paths)) as connection:
        answers = read_to_end(connection)
    assert re.findall(rb"HTTP/1.1 (\d+)", answers) == [b"200", b"404", b"200"]


@pytest.mark.long
def test_a_client_that_takes_its_time_within_the_limits_is_served(
    patient_server: Server, example: dict[str, Any]
) -> None:
    body = json.dumps(example).encode()
    content = HEAD + f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body
    with open_connection(patient_server, content[:7]) as connection:
        for begin in range(7, len(content), 60):
            time.sleep(0.1)
            connection.sendall(content[begin : begin + 60])
        assert read_to_end(connection).startswith(b"HTTP/1.1 200")


def test_counts_are_those_of_all_workers_and_survive_them(
    start_server: Callable[..., Server], example: dict[str, Any]
) -> None:
    server = start_server(WEB_CONCURRENCY="2")
    body = json.dumps(example).encode()
    count = 'gradcheckd_checks_total{outcome="pass"}'
    with ThreadPoolExecutor(8) as pool:
        assert {response.status_code for response in pool.map(lambda _: post(server, body), range(40))} == {200}
        assert read_metric(server, count) == 40
        before = list_workers(server)
        os.kill(min(before), signal.SIGKILL)
        wait_until(lambda: len(list_workers(server) - {min(before)}) == 2)
        # Those who are in the other worker do not notice.
        assert {response.status_code for response in pool.map(lambda _: post(server, body), range(40))} == {200}
    assert read_metric(server, count) == 80
    assert list_workers(server) & before == {max(before)}
    (place,) = _list_metrics_directories(server)
    assert (place / "counter_dead.db").exists()
    assert server.stop() == 0
    assert not place.exists()


def _list_metrics_directories(server: Server) -> set[Path]:
    """Directories in which workers of a server count."""
    return {
        file.parent for pid in list_workers(server) for file in Path("/dev/shm").glob(f"gradcheckd-*/counter_{pid}.db")
    }


def _act_while_stopping(server: Server, act: Callable[[], Any]) -> Any:
    """What an act comes to when the service has been told to stop, and knows."""
    wait_until(lambda: httpx.get(f"{server.url}/health/ready", timeout=PATIENCE).status_code == 503)
    return act()


def test_sigterm_finishes_what_runs_and_refuses_what_is_new(
    start_server: Callable[..., Server], example: dict[str, Any]
) -> None:
    server = start_server(WEB_CONCURRENCY="2")
    with ThreadPoolExecutor(1) as pool:
        running: Future[httpx.Response] = pool.submit(post, server, make_long_check(200))
        wait_until(lambda: count_busy_places(server) == 1)
        server.process.terminate()
        refused = _act_while_stopping(server, lambda: post(server, json.dumps(example).encode()))
        alive = httpx.get(f"{server.url}/health/live", timeout=PATIENCE).status_code
        assert not running.done()
        assert running.result().json()["outcome"] == "pass"
    assert (refused.status_code, refused.headers["Retry-After"], alive) == (503, "1", 200)
    assert "is stopping" in refused.json()["detail"]
    assert server.process.wait(timeout=PATIENCE) == 0
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{server.url}/health/live")


def test_service_survives_the_end_of_a_worker(start_server: Callable[..., Server], example: dict[str, Any]) -> None:
    server = start_server(WEB_CONCURRENCY="2")
    body, before = json.dumps(example).encode(), list_workers(server)
    os.kill(min(before), signal.SIGTERM)
    for _ in range(20):
        assert httpx.get(f"{server.url}/health/ready", timeout=PATIENCE).status_code == 200
        assert post(server, body).status_code == 200
    wait_until(lambda: len(list_workers(server)) == 2 and min(before) not in list_workers(server))


def test_every_line_of_the_log_is_json_and_a_request_has_one(
    start_server: Callable[..., Server], example: dict[str, Any]
) -> None:
    server = start_server(GRADCHECKD_KEYS="sesame")
    forged = "/nowhere%0a%7B%22event%22:%22forged%22%7D"
    keyed = {"Authorization": "Bearer sesame", "X-Request-ID": "run-7"}
    assert httpx.post(f"{server.url}/v1/check", json=example, headers=keyed, timeout=PATIENCE).status_code == 200
    assert httpx.get(f"{server.url}{forged}").status_code == 401
    open_connection(server, b"NONSENSE\r\n\r\n").close()
    assert server.stop() == 0
    text = server.log.read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["outcome"] for line in lines if line.get("request_id") == "run-7"] == ["pass"]
    assert [line["reason"] for line in lines if line.get("status") == 401] == ["unauthorized"]
    assert any(line["event"].startswith("Booting worker") for line in lines)
    assert "forged" not in text
    assert "sesame" not in text
