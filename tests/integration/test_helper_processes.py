"""Helpers of a real worker: they serve large checks, and end with the check and with the service."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration import raw_http
from tests.integration.conftest import PATIENCE, Server
from tests.integration.long_check import build_long_check
from tests.integration.raw_http import wait_until
from tests.integration.test_progress import find_worker, is_computing


def list_helpers(worker: Path) -> set[int]:
    """Process ids of what the threads of a worker have started."""
    return {int(pid) for thread in (worker / "task").iterdir() for pid in (thread / "children").read_text().split()}


def find_computing_helper(worker: Path) -> Path:
    """The helper, once it computes."""
    wait_until(lambda: any(is_computing(Path(f"/proc/{pid}")) for pid in list_helpers(worker)))
    (pid,) = list_helpers(worker)
    return Path(f"/proc/{pid}")


@pytest.mark.long
def test_helpers_end_with_the_check_and_with_the_service(
    start_server: Callable[..., Server], example: dict[str, Any]
) -> None:
    server = start_server(GRADCHECKD_MAX_WORK=str(10**13), GRADCHECKD_MAX_PROCESSES="2")
    worker = find_worker(server)
    assert httpx.post(f"{server.url}/v1/check", json=example, timeout=PATIENCE).json()["outcome"] == "pass"
    assert list_helpers(worker) == set(), "a small check has none"
    body = json.dumps(build_long_check()).encode()
    with raw_http.open_connection(server) as connection:
        connection.sendall(raw_http.make_head(f"Content-Length: {len(body)}") + body)
        helper = find_computing_helper(worker)
    # Its client has left.
    wait_until(lambda: not helper.exists())
    with raw_http.open_connection(server) as connection:
        connection.sendall(raw_http.make_head(f"Content-Length: {len(body)}") + body)
        helper = find_computing_helper(worker)
        httpx.get(f"{server.url}/health/live", timeout=PATIENCE).raise_for_status()
        # Even a worker that is killed in the middle leaves none.
        os.kill(int(worker.name), signal.SIGKILL)
        wait_until(lambda: not helper.exists())
    assert server.stop() == 0
