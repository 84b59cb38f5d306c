"""Costs of dask for a task and for a byte of its result: `python -m benchmarks.job_costs`.

A scheduler and a worker run as the deployments start them, on loopback. Figures are processor time of each process,
without the time that it takes while nothing is to be done.
"""

import argparse
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from distributed import Client

from benchmarks import saved_results
from benchmarks.machine_info import describe_machine, list_versions
from benchmarks.timing import round_significant

TASKS, LARGE_RESULTS = 500, 300
RESULT_BYTES = 10**6
_IDLE_SECONDS = 5.0
_READY_SECONDS = 120.0
_PROCESSES = ("scheduler", "worker", "runner")


class DaskCluster:
    """A scheduler and a worker, and the connection of this process to them.

    Parameters
    ----------
    client
        Connection.
    pids
        Process ids of the scheduler, of the worker, and of this process as their runner.
    """

    def __init__(self, client: Client, pids: Sequence[int]) -> None:
        self._client, self._pids = client, pids

    def measure_seconds(self, work: Callable[[], object]) -> tuple[float, list[float]]:
        """Return the seconds of some work by the clock, and those of each process's processor."""
        before, started = [_read_cpu_seconds(pid) for pid in self._pids], time.perf_counter()
        work()
        seconds = time.perf_counter() - started
        after = [_read_cpu_seconds(pid) for pid in self._pids]
        return seconds, [end - start for start, end in zip(before, after, strict=True)]

    def make_calls(self, count: int, result_bytes: int) -> None:
        """Have the worker make results of so many bytes, each a task, and take them."""
        self._client.gather(self._client.map(os.urandom, [result_bytes] * count, pure=False))


@contextmanager
def run_cluster() -> Iterator[DaskCluster]:
    """Run a cluster of one worker until the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    address = f"tcp://127.0.0.1:{port}"
    options = ["--host=127.0.0.1", "--no-dashboard"]
    with ExitStack() as stack:
        scheduler = _start(stack, "dask_scheduler", f"--port={port}", "--dashboard-address=127.0.0.1:0", *options)
        worker = _start(stack, "dask_worker", address, "--nthreads=1", "--no-nanny", *options)
        client = stack.enter_context(Client(address, timeout=_READY_SECONDS, set_as_default=False))
        client.wait_for_workers(1, timeout=_READY_SECONDS)
        yield DaskCluster(client, (scheduler.pid, worker.pid, os.getpid()))


def _start(stack: ExitStack, module: str, *options: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", f"distributed.cli.{module}", *options]
    process = stack.enter_context(subprocess.Popen(command, stderr=subprocess.DEVNULL))
    stack.callback(process.terminate)
    return process


def measure_costs(cluster: DaskCluster, tasks: int, large_results: int) -> dict[str, Any]:
    """Return the seconds of each process for a task, and for a megabyte of results."""
    cluster.make_calls(20, 0)
    clock, idle = cluster.measure_seconds(lambda: time.sleep(_IDLE_SECONDS))
    rates = [seconds / clock for seconds in idle]
    figures = {"idle_share": _by_process(rates)}
    small = _subtract_idle(rates, *cluster.measure_seconds(lambda: cluster.make_calls(tasks, 0)))
    a_task = [seconds / tasks for seconds in small]
    figures["seconds_a_task"] = _by_process(a_task)
    large = _subtract_idle(rates, *cluster.measure_seconds(lambda: cluster.make_calls(large_results, RESULT_BYTES)))
    megabytes = large_results * RESULT_BYTES / 1e6
    figures["seconds_a_megabyte"] = _by_process(
        [max(0.0, seconds - large_results * each) / megabytes for seconds, each in zip(large, a_task, strict=True)]
    )
    return figures


def _subtract_idle(rates: Sequence[float], clock: float, seconds: Sequence[float]) -> list[float]:
    return [max(0.0, spent - rate * clock) for rate, spent in zip(rates, seconds, strict=True)]


def _by_process(figures: Sequence[float]) -> dict[str, float]:
    return {name: round_significant(figure) for name, figure in zip(_PROCESSES, figures, strict=True)}


def _read_cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Print the figures, and keep those of a full run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.job_costs", description=__doc__)
    parser.add_argument("--tasks", type=int, default=TASKS, help="without work")
    parser.add_argument("--results", type=int, default=LARGE_RESULTS, help="of a megabyte")
    options = parser.parse_args()
    load = round(os.getloadavg()[0], 1)
    with run_cluster() as cluster:
        costs = measure_costs(cluster, options.tasks, options.results)
    origin = {"machine": describe_machine(), "versions": list_versions(("distributed", "numpy"))}
    document = {"tasks": options.tasks, "load": load, **costs, **origin}
    text = json.dumps(document, indent=2) + "\n"
    print(text)
    if options.tasks == TASKS:
        (saved_results.RESULTS / "job_costs.json").write_text(text)


if __name__ == "__main__":
    main()
