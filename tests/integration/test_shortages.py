"""A service that runs out of descriptors, or of room for its metrics: it goes on, with the workers that it has."""

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from tests.integration import raw_http
from tests.integration.conftest import PATIENCE, Server
from tests.integration.test_failing_clients_and_workers import wait_until

DESCRIPTORS = 256
MANY = 600
"""More connections than the descriptors of both workers."""
LIMITED = ("sh", "-c", f'ulimit -n {DESCRIPTORS}; exec "$@"', "sh")
SHM_OF_OURS = 'mount -t tmpfs -o size=1m tmpfs /dev/shm; {first} exec "$@"'


@contextlib.contextmanager
def open_idle_connections(server: Server, count: int) -> Iterator[list[socket.socket]]:
    """Connections that are made and say nothing, as far as the kernel takes them."""
    with contextlib.ExitStack() as opened:
        yield [opened.enter_context(raw_http.open_connection(server)) for _ in range(count)]


def count_descriptors(worker: int) -> int:
    return len(list(Path(f"/proc/{worker}/fd").iterdir()))


@pytest.mark.parametrize("more", ["", "--worker-connections 1000"], ids=["bounded", "accepting fails"])
def test_excess_connections_lock_out_no_client_and_end_no_worker(
    start_server: Callable[..., Server], more: str
) -> None:
    server = start_server(*LIMITED, WEB_CONCURRENCY="2", GUNICORN_CMD_ARGS=more)
    before = raw_http.list_workers(server)

    def is_short() -> bool:
        return "no connection is accepted" in server.log.read_text()

    with open_idle_connections(server, MANY):
        wait_until(lambda: max(map(count_descriptors, raw_http.list_workers(server))) > DESCRIPTORS // 4)
        if more:
            wait_until(is_short)
        for _ in range(10):
            raw_http.send_example(server)
        assert max(map(count_descriptors, before)) <= DESCRIPTORS
        assert raw_http.list_workers(server) == before
    raw_http.send_example(server)
    assert is_short() == bool(more), "that accepting fails is not made up, and the bound holds without it"


def test_the_soft_limit_is_raised(start_server: Callable[..., Server]) -> None:
    server = start_server("sh", "-c", 'ulimit -S -n 128; exec "$@"', "sh")
    for process in (server.process.pid, *raw_http.list_workers(server)):
        (line,) = [
            row for row in Path(f"/proc/{process}/limits").read_text().splitlines() if row.startswith("Max open")
        ]
        assert int(line.split()[3]) > 128


def make_shm_command(first: str = "") -> tuple[str, ...]:
    """A command that runs another where /dev/shm is small and its own."""
    within = ("unshare", "-m") if os.geteuid() == 0 else ("unshare", "-Urm")
    if subprocess.run([*within, "true"], check=False, capture_output=True).returncode:
        pytest.skip("no namespace can be made here")
    return (*within, "sh", "-c", SHM_OF_OURS.format(first=first), "sh")


def fill(place: Path) -> None:
    with (place / "filling").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


@pytest.fixture
def server_with_full_shm(start_server: Callable[..., Server]) -> Server:
    """A service whose /dev/shm has become full since it was started."""
    server = start_server(*make_shm_command(), WEB_CONCURRENCY="2")
    place = Path(f"/proc/{server.process.pid}/root/dev/shm")
    assert list(place.glob("gradcheckd-*/*.db")), "the metrics are there"
    fill(place)
    return server


def test_a_full_shm_ends_neither_worker_nor_master(server_with_full_shm: Server) -> None:
    before = raw_http.list_workers(server_with_full_shm)
    for _ in range(20):
        raw_http.send_example(server_with_full_shm)
        # Each is another row of the metrics.
        for method, path in (("PUT", "/v1/check"), ("DELETE", "/"), ("PATCH", "/v1/ops"), ("GET", "/none")):
            assert httpx.request(method, f"{server_with_full_shm.url}{path}", timeout=PATIENCE).status_code in {
                404,
                405,
            }
    assert "gradcheckd_requests_total" in httpx.get(f"{server_with_full_shm.url}/metrics", timeout=PATIENCE).text
    assert raw_http.list_workers(server_with_full_shm) == before
    assert server_with_full_shm.process.poll() is None


def test_with_a_full_shm_a_worker_that_ends_is_followed_by_another(server_with_full_shm: Server) -> None:
    killed, left = raw_http.list_workers(server_with_full_shm)
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: len(set(raw_http.list_workers(server_with_full_shm)) - {killed}) == 2)
    time.sleep(0.5)
    for _ in range(20):
        raw_http.send_example(server_with_full_shm)
    assert left in raw_http.list_workers(server_with_full_shm)
    assert httpx.get(f"{server_with_full_shm.url}/metrics", timeout=PATIENCE).status_code == 200


def test_a_shm_that_is_full_from_the_beginning_is_not_used(start_server: Callable[..., Server]) -> None:
    server = start_server(*make_shm_command("cat /dev/zero > /dev/shm/filling 2> /dev/null;"), WEB_CONCURRENCY="1")
    raw_http.send_example(server)
    assert not list(Path(f"/proc/{server.process.pid}/root/dev/shm").glob("gradcheckd-*"))
    assert 'gradcheckd_checks_total{outcome="pass"}' in httpx.get(f"{server.url}/metrics", timeout=PATIENCE).text
