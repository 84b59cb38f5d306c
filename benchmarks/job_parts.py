"""The parts of a job on a cluster: its blocks, the bytes of their transfer, and the scheduler's own work."""

import json
import os
import pickle
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contenders import make_unlimited
from benchmarks.fast_mode_problems import make_block
from benchmarks.timing import round_significant
from service.checks.graph import helpers
from service.checks.graph.check import check
from service.job_runner.cluster import Cluster
from service.numerics.gradients.finite_difference.inline_executor import InlineExecutor
from tests.dask_processes import run_dask


class RecordingExecutor(InlineExecutor):
    """An executor that computes here, and records what a cluster would be sent.

    Attributes
    ----------
    function_bytes
        Bytes of the function of each map, sent once to each worker that computes for it.
    argument_bytes, result_bytes
        Bytes of the arguments and of the results of each task.
    task_seconds
        Seconds of each task, of processor time.
    block_count
        Number of blocks.
    """

    runs_ahead = True

    def __init__(self) -> None:
        self.function_bytes: list[int] = []
        self.argument_bytes: list[int] = []
        self.result_bytes: list[int] = []
        self.task_seconds: list[float] = []
        self.block_count = 0

    def map(
        self, fn: Callable[..., Any], *iterables: Iterable[Any], timeout: float | None = None, chunksize: int = 1
    ) -> Iterator[Any]:
        """Record a map, and make its calls on request."""
        arguments = list(zip(*iterables, strict=False))
        if len(arguments) < 2:
            return (fn(*values) for values in arguments)
        self.function_bytes.append(_count_bytes(fn))
        return self._iterate_results(fn, arguments, chunksize)

    def _iterate_results(self, fn: Callable[..., Any], arguments: list[Any], length: int) -> Iterator[Any]:
        for start in range(0, len(arguments), length):
            chunk = arguments[start : start + length]
            started = time.process_time()
            results = [fn(*values) for values in chunk]
            self.task_seconds.append(time.process_time() - started)
            self.argument_bytes.append(_count_bytes(chunk))
            self.result_bytes.append(_count_bytes(results))
            self.block_count += len(chunk)
            yield from results


def _count_bytes(value: Any) -> int:
    return len(pickle.dumps(value, pickle.HIGHEST_PROTOCOL))


@contextmanager
def _use_executor(executor: InlineExecutor) -> Iterator[None]:
    @contextmanager
    def share_work() -> Iterator[InlineExecutor]:
        yield executor

    token = helpers.CLUSTER.set(share_work)
    try:
        yield
    finally:
        helpers.CLUSTER.reset(token)


def measure_parts(width: int) -> dict[str, Any]:
    """Blocks and tasks of a job, and its serial part, in processor time of one process."""
    request = {**make_block(width).request, "include": ["gradients"]}
    executor = RecordingExecutor()
    check(make_block(16).request, make_unlimited())
    started = time.process_time()
    with _use_executor(executor):
        check(json.loads(json.dumps(request)), make_unlimited())
    whole = time.process_time() - started
    parallel = sum(executor.task_seconds)
    return {
        "seconds": round_significant(whole),
        "serial_seconds": round_significant(whole - parallel),
        "blocks": executor.block_count,
        "block_seconds": round_significant(parallel / executor.block_count),
        "tasks": len(executor.task_seconds),
        "task_seconds": round_significant(float(np.median(executor.task_seconds))),
        "longest_task_seconds": round_significant(max(executor.task_seconds)),
        "maps": len(executor.function_bytes),
        "bytes_of_functions": sum(executor.function_bytes),
        "bytes_sent_a_task": round(float(np.mean(executor.argument_bytes))),
        "bytes_back_a_task": round(float(np.mean(executor.result_bytes))),
    }


def measure_scheduler(directory: Path, count: int) -> dict[str, Any]:
    """Time of a task without work, on a cluster of one worker: by the clock, and of the scheduler's processor."""
    directory.mkdir(parents=True)
    with run_dask(directory, 1) as processes:
        cluster = Cluster(processes.address)
        assert cluster.describe_absence() is None
        with cluster.share_work() as executor:
            list(executor.map(_return_number, range(100)))
            before, started = _read_cpu_seconds(processes.scheduler.pid), time.perf_counter()
            assert list(executor.map(_return_number, range(count))) == list(range(count))
            seconds, after = time.perf_counter() - started, _read_cpu_seconds(processes.scheduler.pid)
        cluster.close()
    return {
        "tasks": count,
        "seconds_a_task": round_significant(seconds / count),
        "scheduler_seconds_a_task": round_significant((after - before) / count),
    }


def _return_number(number: int) -> int:
    return number


def _read_cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
