"""A real gunicorn, started once for the session, and clients that speak HTTP to it."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from tests.measured_cases import PROCESS_VARIABLE

ROOT = Path(__file__).parents[2]
PATIENCE = 240
"""Seconds to wait for an event that must come, however busy the machine is; no test needs as many."""


@dataclass
class Server:
    """A running service."""

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> int:
        """Ask it to stop, as a container engine does, and return its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=PATIENCE)


SERVER = pytest.StashKey[Server]()


def wait_until_ready(server: Server) -> None:
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        assert server.process.poll() is None, "the server ended"
        try:
            if httpx.get(f"{server.url}/health/ready", timeout=PATIENCE).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise TimeoutError("the server did not become ready")


@pytest.fixture(scope="session")
def start_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """Start servers, by the command of the image, with settings of one's own, within a command that executes it."""
    running: list[Server] = []

    def start(*within: str, is_measured: bool = True, **settings: str) -> Server:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        environment = (
            os.environ
            | {
                "PORT": str(port),
                "WEB_CONCURRENCY": "1",
                "GRADCHECKD_MAX_PROCESSES": "1",
            }
            | settings
        )
        if not is_measured:
            environment.pop(PROCESS_VARIABLE, None)
        command = ["gunicorn", "--config", "python:service.gunicorn.config", "service.app:create_app()"]
        path = tmp_path_factory.mktemp("server") / "log"
        with path.open("w") as log:
            process = subprocess.Popen([*within, sys.executable, "-m", *command], cwd=ROOT, env=environment, stderr=log)
        server = Server(process, port, path)
        running.append(server)
        wait_until_ready(server)
        return server

    yield start
    for server in running:
        if server.process.poll() is None:
            server.stop()


@pytest.fixture(scope="session")
def server(start_server: Callable[..., Server], request: pytest.FixtureRequest) -> Server:
    """One server for all folders that import this fixture: pytest sets it up in each of them.

    Coverage of it is not measured, which doubles the time of its answers: what it runs, tests in process run too.
    """
    stash = request.session.stash
    if SERVER not in stash:
        stash[SERVER] = start_server(is_measured=False)
    return stash[SERVER]


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=PATIENCE) as client:
        yield client
