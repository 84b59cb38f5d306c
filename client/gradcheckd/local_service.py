"""A service on this machine, if it is installed: its command, and a context that runs one."""

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

import httpx

from gradcheckd.errors import GradcheckdError

_GUNICORN_CONFIG = "service.gunicorn.config"
_START_TIMEOUT_SECONDS = 120.0
"""Some machines of continuous integration load torch from a cold disk."""
_STOP_TIMEOUT_SECONDS = 15.0
_POLL_SECONDS = 0.05


def is_installed() -> bool:
    """Tell whether the service can be started: its package, not another of that name, and gunicorn."""
    try:
        return all(importlib.util.find_spec(name) is not None for name in (_GUNICORN_CONFIG, "service.app", "gunicorn"))
    except ModuleNotFoundError:
        return False


def build_command() -> list[str]:
    """Build the command that serves, in this Python and with the service's own configuration."""
    return [sys.executable, "-m", "gunicorn", "--config", f"python:{_GUNICORN_CONFIG}", "service.app:create_app()"]


def build_environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Build the environment of a process that finds the service at its place here."""
    spec = importlib.util.find_spec(_GUNICORN_CONFIG)
    assert spec is not None
    assert spec.origin is not None
    path = [str(Path(spec.origin).parents[2]), os.environ.get("PYTHONPATH", "")]
    return os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, path))} | dict(settings)


@contextmanager
def run_service(**settings: str) -> Generator[str]:
    """Serve on a free port for the length of a block, and yield the address.

    Raises
    ------
    GradcheckdError
        The service does not start; the error has the end of its log.
    """
    with socket.create_server(("127.0.0.1", 0)) as free_socket:
        port = free_socket.getsockname()[1]
    environment = build_environment({"HOST": "127.0.0.1", "PORT": str(port), "WEB_CONCURRENCY": "1"} | settings)
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(build_command(), env=environment, stdout=log, stderr=log)
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_until_ready(process, url, log)
            yield url
        finally:
            _stop_process(process)


def _wait_until_ready(process: subprocess.Popen[bytes], url: str, log: IO[str]) -> None:
    deadline = time.monotonic() + _START_TIMEOUT_SECONDS
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if httpx.get(f"{url}/health/ready", timeout=_START_TIMEOUT_SECONDS, trust_env=False).status_code == 200:
                return
        except httpx.TransportError:
            time.sleep(_POLL_SECONDS)
    failure = "did not become ready" if process.poll() is None else f"ended with status {process.returncode}"
    log.seek(0)
    raise GradcheckdError(f"The service was started, and {failure}. The end of its log:\n{log.read()[-4000:]}")


def _stop_process(process: subprocess.Popen[bytes]) -> None:
    # At SIGQUIT gunicorn stops its workers at once; SIGKILL, which no process can ignore, would leave them.
    for signal_number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGKILL):
        process.send_signal(signal_number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_TIMEOUT_SECONDS)
            return
