"""The process of the runner, as the processes of the service see it: a lock that it holds, and its start.

A process of the service that finds the lock free starts a runner. So the runner begins with the first job, comes again
when it is killed, and none runs beside it.
"""

import fcntl
import json
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

_log = logging.getLogger("gradcheckd")
_PROGRAM = (
    "import json, sys; path, *arguments = json.loads(sys.argv[1]); sys.path[:] = path; "
    "from service.job_runner.start import start_runner; start_runner(*arguments)"
)


@contextmanager
def hold_lock(path: Path) -> Generator[bool]:
    """Hold the lock of the runner within the block; yield False if another process holds it."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
    finally:
        os.close(descriptor)


def read_start_time(pid: int) -> str:
    """Return the start time of a process, which tells it from a later one of the same number; empty without one."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    # The name of the program, in parentheses, may hold anything.
    fields = text.rpartition(")")[2].split()
    return "" if fields[0] == "Z" else fields[19]


class RunnerStarter:
    """Starts the runner of a machine where there is none.

    Parameters
    ----------
    url
        Database of the jobs.
    lock
        Lock of the runner.
    service_pid
        Process that the runner serves: it ends with it.
    max_bytes
        Most bytes of all requests and results.
    """

    def __init__(self, url: str, lock: Path, service_pid: int, max_bytes: int) -> None:
        self._url, self._lock, self._service_pid, self._max_bytes = url, lock, service_pid, max_bytes
        self._guard = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def ensure_runner(self) -> None:
        """Start a runner if none runs and this process has not just started one."""
        with self._guard:
            if self._process is not None and self._process.poll() is None:
                return
            with hold_lock(self._lock) as is_free:
                pass
            if is_free:
                self._process = self._start()

    def close(self) -> None:
        """End the runner that this process has started, if there is one; its jobs wait again."""
        with self._guard:
            if self._process is not None:
                self._process.terminate()
                self._process.wait()
                self._process = None

    def _start(self) -> "subprocess.Popen[bytes]":
        start_time = read_start_time(self._service_pid)
        arguments = json.dumps([sys.path, self._url, str(self._lock), self._service_pid, start_time, self._max_bytes])
        _log.info("the runner of the jobs starts")
        return subprocess.Popen(
            [sys.executable, "-c", _PROGRAM, arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            # Ctrl-C at a terminal reaches the service, which ends the runner.
            start_new_session=True,
        )
