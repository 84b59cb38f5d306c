"""A real dask cluster: a process for the scheduler, and one for each worker, as an operator starts them."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
_START_SECONDS = 120


class DaskProcesses:
    """A scheduler and workers on loopback, each of which can be killed and started again.

    Parameters
    ----------
    directory
        Directory for the files of the workers.
    worker_count
        Number of workers, each of one thread.
    """

    def __init__(self, directory: Path, worker_count: int) -> None:
        self._directory = directory
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self._port = probe.getsockname()[1]
        self.scheduler = self._start_scheduler()
        self.workers = [self._start_worker(number) for number in range(worker_count)]

    @property
    def address(self) -> str:
        """Address of the scheduler."""
        return f"tcp://127.0.0.1:{self._port}"

    def restart_scheduler(self) -> None:
        """Kill the scheduler, and start another one at its address; workers come back to it."""
        _kill(self.scheduler)
        self.scheduler = self._start_scheduler()

    def restart_worker(self, number: int) -> None:
        """Kill a worker, and start another one."""
        _kill(self.workers[number])
        self.workers[number] = self._start_worker(number)

    def replace_ended(self) -> None:
        """Start workers in place of those that have ended by themselves, as a supervisor does."""
        for number, worker in enumerate(self.workers):
            if worker.poll() is not None:
                self.workers[number] = self._start_worker(number)

    def await_workers(self) -> None:
        """Wait until the scheduler has all workers."""
        from distributed import Client

        with Client(self.address, timeout=_START_SECONDS, set_as_default=False) as client:
            client.wait_for_workers(len(self.workers), timeout=_START_SECONDS)

    def close(self) -> None:
        """End all processes."""
        for process in (*self.workers, self.scheduler):
            _kill(process)

    def _start_scheduler(self) -> "subprocess.Popen[bytes]":
        return self._start("scheduler", "--host", "127.0.0.1", "--port", str(self._port), "--no-dashboard")

    def _start_worker(self, number: int) -> "subprocess.Popen[bytes]":
        options = ("--nthreads", "1", "--no-nanny", "--no-dashboard", "--host", "127.0.0.1", "--death-timeout", "60")
        directory = self._directory / f"worker{number}-{time.monotonic_ns()}"
        return self._start("worker", self.address, *options, "--local-directory", str(directory))

    def _start(self, *arguments: str) -> "subprocess.Popen[bytes]":
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "dask", *arguments]
        quiet = subprocess.DEVNULL
        return subprocess.Popen(command, cwd=ROOT, env=environment, stdin=quiet, stdout=quiet, stderr=quiet)


def _kill(process: "subprocess.Popen[bytes]") -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()


@contextmanager
def run_dask(directory: Path, worker_count: int) -> Iterator[DaskProcesses]:
    """Run a cluster within the block, once all workers are there."""
    cluster = DaskProcesses(directory, worker_count)
    try:
        cluster.await_workers()
        yield cluster
    finally:
        cluster.close()
