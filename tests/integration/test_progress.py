"""Progress from a real gunicorn: lines while a check runs, and a client that goes away stops it."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration import raw_http
from tests.integration.conftest import PATIENCE, Server
from tests.integration.long_check import build_long_check
from tests.integration.raw_http import wait_until

NDJSON = {"Accept": "application/x-ndjson"}


@pytest.fixture(scope="module")
def long_check() -> dict[str, Any]:
    return build_long_check()


@pytest.fixture(scope="module")
def patient_server(start_server: Callable[..., Server]) -> Server:
    """One worker that lets a check take long."""
    return start_server(GRADCHECKD_MAX_WORK=str(10**13))


def find_worker(server: Server) -> Path:
    (child,) = Path(f"/proc/{server.process.pid}/task/{server.process.pid}/children").read_text().split()
    return Path(f"/proc/{child}")


def read_processor_time(worker: Path) -> int:
    """Return the processor time of a process, in hundredths of a second."""
    return sum(map(int, (worker / "stat").read_text().rsplit(")", 1)[1].split()[11:13]))


def is_computing(worker: Path) -> bool:
    """Whether a process computes for a good part of half a second, in which an idle one takes next to no time."""
    before = read_processor_time(worker)
    time.sleep(0.5)
    return read_processor_time(worker) - before > 10


def count_threads(worker: Path) -> int:
    return len(list((worker / "task").iterdir()))


def read_log_lines(status: int, server: Server) -> list[dict[str, Any]]:
    """Lines of its log about requests that came to a status."""
    # The last may not be whole yet.
    lines = [json.loads(line) for line in server.log.read_text().rpartition("\n")[0].splitlines()]
    return [line for line in lines if line.get("status") == status]


def test_progress_is_streamed_and_a_disconnect_stops_the_check(
    patient_server: Server, long_check: dict[str, Any], example: dict[str, Any]
) -> None:
    worker = find_worker(patient_server)
    httpx.post(f"{patient_server.url}/v1/check", json=example, headers=NDJSON, timeout=PATIENCE)
    wait_until(lambda: not is_computing(worker))  # the thread of that check has ended
    before = count_threads(worker)
    with httpx.stream(
        "POST", f"{patient_server.url}/v1/check", json=long_check, headers=NDJSON, timeout=PATIENCE
    ) as response:
        assert response.headers["Content-Type"] == "application/x-ndjson"
        assert response.headers["Transfer-Encoding"] == "chunked"
        lines = response.iter_lines()
        first, second = json.loads(next(lines)), json.loads(next(lines))
        assert (first["event"], first["done"], first["tensor"]) == ("progress", 0, "w")
        assert 0 < second["done"] < second["total"]
        assert count_threads(worker) > before
        # It computes while it is asked to, or the end of this test says nothing.
        wait_until(lambda: is_computing(worker))
    wait_until(lambda: count_threads(worker) <= before)
    wait_until(lambda: not is_computing(worker))
    assert httpx.post(f"{patient_server.url}/v1/check", json=example, timeout=PATIENCE).json()["outcome"] == "pass"


def test_a_client_that_does_not_wait_for_a_plain_answer_stops_its_check(
    patient_server: Server, long_check: dict[str, Any], example: dict[str, Any]
) -> None:
    worker = find_worker(patient_server)
    body = json.dumps(long_check).encode()
    with raw_http.open_connection(patient_server) as connection:
        connection.sendall(raw_http.make_head(f"Content-Length: {len(body)}") + body)
        wait_until(lambda: is_computing(worker))
    wait_until(lambda: bool(read_log_lines(499, patient_server)))
    (line,) = read_log_lines(499, patient_server)
    assert line["outcome"] == "cancelled"
    wait_until(lambda: not is_computing(worker))
    assert httpx.post(f"{patient_server.url}/v1/check", json=example, timeout=PATIENCE).json()["outcome"] == "pass"


def test_the_last_line_is_the_report(client: httpx.Client, example: dict[str, Any]) -> None:
    response = client.post("/v1/check", json=example, headers=NDJSON)
    *steps, last = map(json.loads, response.text.splitlines())
    assert [event["event"] for event in (*steps, last)] == ["progress"] * len(steps) + ["report"]
    assert steps[-1]["done"] == steps[-1]["total"] == last["report"]["cost"]["loss_evaluations"]
    report = client.post("/v1/check", json=example).json()
    assert last["report"] | {"cost": 0} == report | {"cost": 0}


def test_timeout_of_a_begun_stream_is_its_last_line(
    start_server: Callable[..., Server], long_check: dict[str, Any]
) -> None:
    server = start_server(GRADCHECKD_MAX_WORK=str(10**13), GRADCHECKD_MAX_SECONDS="0.5")
    response = httpx.post(f"{server.url}/v1/check", json=long_check, headers=NDJSON, timeout=PATIENCE)
    assert response.status_code == 200
    last = json.loads(response.text.splitlines()[-1])
    assert (last["event"], last["problem"]["status"]) == ("problem", 422)
    assert "out of time" in last["problem"]["detail"]


@pytest.mark.parametrize(("body", "status"), [(b"{", 400), (b"{}", 422)])
def test_an_invalid_request_is_no_stream(client: httpx.Client, body: bytes, status: int) -> None:
    response = client.post("/v1/check", content=body, headers=NDJSON | {"Content-Type": "application/json"})
    assert (response.status_code, response.headers["Content-Type"]) == (status, "application/problem+json")
