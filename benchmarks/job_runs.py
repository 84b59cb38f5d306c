"""A transformer block as a job: by one process, by two, and by clusters of one and of two workers.

Each way has a service of its own, with a real runner and a real dask cluster, and all ways take turns. Seconds are
those from the begin of a job to its end by the clock, since several processes work on it. Every answer is compared with
the first one, to the byte.
"""

import json
import re
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.fast_mode_problems import make_block
from benchmarks.local_server import run_server
from benchmarks.timing import round_significant
from tests.dask_processes import run_dask

ONE_PROCESS, TWO_PROCESSES = "one process", "two processes"
ONE_WORKER, TWO_WORKERS = "one dask worker", "two dask workers"
WAYS: Mapping[str, tuple[int, int]] = {
    ONE_PROCESS: (1, 0),
    TWO_PROCESSES: (2, 0),
    ONE_WORKER: (1, 1),
    TWO_WORKERS: (1, 2),
}
"""Local processes and dask workers of each way."""
_WARM_UP_WIDTH = 32
_POLL_SECONDS = 0.02
_LONG_POLL_SECONDS = 0.5
"""Seconds between looks at a job whose time is measured: each look takes milliseconds of a core that the job wants."""
_TIMES = re.compile(rb'"cost":\{.*?stages":\{[^}]*\}[^}]*\}')


class JobClient:
    """A client of the jobs of a service.

    Parameters
    ----------
    port
        Port of the service on loopback.
    """

    def __init__(self, port: int) -> None:
        self._address = f"http://127.0.0.1:{port}"

    def call(self, path: str, method: str = "GET", body: bytes | None = None) -> bytes:
        """Return the body of an answer."""
        headers = {"Content-Type": "application/json", "Prefer": "respond-async"}
        request = urllib.request.Request(self._address + path, body, headers, method=method)
        with urllib.request.urlopen(request, timeout=600) as response:
            return response.read()

    def submit(self, body: bytes) -> str:
        """Return the path of a new job."""
        return json.loads(self.call("/v1/check", "POST", body))["links"]["self"]

    def wait_until(
        self, path: str, condition: Callable[[Mapping[str, Any]], Any], pause: float = _POLL_SECONDS
    ) -> dict[str, Any]:
        """Return a job once a condition holds; look again after a pause in seconds."""
        while not condition(job := json.loads(self.call(path))):
            time.sleep(pause)
        return job


def write_body(width: int) -> bytes:
    """The request of a block of a width."""
    return json.dumps({**make_block(width).request, "include": ["gradients"]}).encode()


def read_moment(text: str) -> float:
    """Seconds since 1970 of a time of a job."""
    return float(np.datetime64(text.removesuffix("Z"), "ms").astype(np.int64)) / 1e3


@contextmanager
def run_way(directory: Path, way: str, **settings: str) -> Iterator[JobClient]:
    """Serve jobs in one of the ways, with a runner that is warm."""
    processes, workers = WAYS[way]
    directory.mkdir(parents=True)
    variables = {
        "GRADCHECKD_JOBS_URL": f"sqlite:///{directory}/jobs.db",
        "GRADCHECKD_JOB_PROCESSES": str(processes),
        "GRADCHECKD_JOB_IDLE_SECONDS": "600",
        "OMP_NUM_THREADS": "1",
    }
    with ExitStack() as stack:
        if workers:
            variables["GRADCHECKD_SCHEDULER"] = stack.enter_context(run_dask(directory, workers)).address
        client = JobClient(stack.enter_context(run_server(1, variables | settings)).port)
        run_job(client, write_body(_WARM_UP_WIDTH))
        yield client


def run_job(client: JobClient, body: bytes) -> tuple[float, bytes]:
    """Seconds of a job, and its answer without the times of its stages."""
    path = client.submit(body)
    job = client.wait_until(path, lambda job: job["finished"], _LONG_POLL_SECONDS)
    if job["status"] != "successful":
        raise AssertionError(client.call(f"{path}/result"))
    answer = _TIMES.sub(b"", client.call(f"{path}/result"))
    client.call(path, "DELETE")
    return read_moment(job["finished"]) - read_moment(job["started"]), answer


def measure_runs(directory: Path, width: int, turns: int) -> dict[str, Any]:
    """Seconds of each way, medians of turns."""
    body, answers, seconds = write_body(width), set[bytes](), {way: list[float]() for way in WAYS}
    with ExitStack() as stack:
        clients = {way: stack.enter_context(run_way(directory / str(number), way)) for number, way in enumerate(WAYS)}
        for _ in range(turns):
            for way, client in clients.items():
                taken, answer = run_job(client, body)
                seconds[way].append(taken)
                answers.add(answer)
    if len(answers) != 1:
        raise AssertionError("the answers differ")
    return {way: summarize(samples) for way, samples in seconds.items()}


def summarize(samples: Sequence[float]) -> dict[str, Any]:
    """Median, and the lowest and highest of samples."""
    low, median, high = (round_significant(float(np.quantile(samples, part))) for part in (0, 0.5, 1))
    return {"seconds": median, "range": [low, high], "turns": len(samples)}
