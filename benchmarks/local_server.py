"""A real gunicorn on loopback, as the image starts it, and what its workers hold of the memory."""

import http.client
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent


@dataclass(frozen=True)
class RunningService:
    """Where it listens, and the process id of the master."""

    port: int
    master_pid: int

    def read_resident_bytes(self) -> dict[int, int]:
        """Resident bytes of each worker, by its process id."""
        return {worker: _read_process_bytes(worker) for worker in self.workers()}

    def workers(self) -> list[int]:
        """Process ids of the workers."""
        return list_children(self.master_pid)


def list_children(process: int) -> list[int]:
    """Process ids of those that a process has begun."""
    return [int(pid) for pid in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def _read_process_bytes(process: int) -> int:
    (kibibytes,) = re.findall(r"^VmRSS:\s+(\d+) kB$", Path(f"/proc/{process}/status").read_text(), re.MULTILINE)
    return 1024 * int(kibibytes)


@contextmanager
def run_server(workers: int = 1, settings: Mapping[str, str] | None = None) -> Iterator[RunningService]:
    """Serve until the block ends, with these variables beside those that there are."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    environment = os.environ | {"PORT": str(port), "WEB_CONCURRENCY": str(workers)} | dict(settings or {})
    command = [sys.executable, "-m", "gunicorn", "-c", "python:service.gunicorn.config", "service.app:create_app()"]
    # What it logs would stand between the figures.
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=quiet, stderr=quiet) as process:
        try:
            _wait_for_port(port)
            yield RunningService(port, process.pid)
        finally:
            process.terminate()


def _wait_for_port(port: int) -> None:
    for _ in range(300):
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
            connection.request("GET", "/health/ready")
            if connection.getresponse().status == 200:
                return
        except OSError:
            time.sleep(0.1)
    raise TimeoutError("the server did not become ready")
