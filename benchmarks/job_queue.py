"""The queue of jobs: submissions while a thousand wait, and the time until a cancelled job has freed its runner."""

import http.client
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.job_runs import JobClient, read_moment, run_way, summarize, write_body
from benchmarks.load import EXAMPLE_BODY
from benchmarks.local_server import run_server
from benchmarks.timing import round_significant
from service.jobs.database import JobDatabase
from service.jobs.job import NewJob
from service.jobs.job_service import choose_lock
from service.jobs.records import JobRecords
from service.jobs.runner_process import hold_lock
from tests.postgresql_server import run_postgresql

QUEUED_JOBS = 1000


@contextmanager
def run_database(directory: Path, name: str) -> Iterator[str]:
    """Address of an empty database, which writes to the disk as in production."""
    directory.mkdir(parents=True)
    if name == "SQLite":
        yield f"sqlite:///{directory}/jobs.db"
        return
    with run_postgresql(directory, is_durable=True) as server:
        yield server.url


def measure_submissions(directory: Path, database_name: str, count: int) -> dict[str, Any]:
    """Seconds of submissions by one client over one connection, while a thousand jobs wait and none runs."""
    with run_database(directory, database_name) as url, hold_lock(choose_lock(url)):
        database = JobDatabase(url, 3600.0)
        records = JobRecords(database)
        for _ in range(QUEUED_JOBS - 1):
            records.submit(NewJob("", "check", "application/json", EXAMPLE_BODY))
        settings = {"GRADCHECKD_JOBS_URL": url, "GRADCHECKD_MAX_QUEUED_JOBS": str(2 * QUEUED_JOBS + count)}
        with run_server(1, settings) as serving:
            samples = _submit(serving.port, count)
        database.close()
    return {
        "count": count,
        "p50": round_significant(float(np.quantile(samples, 0.5))),
        "p99": round_significant(float(np.quantile(samples, 0.99))),
    }


def _submit(port: int, count: int) -> list[float]:
    headers = {"Content-Type": "application/json", "Prefer": "respond-async"}
    connection, samples = http.client.HTTPConnection("127.0.0.1", port, timeout=60), []
    for _ in range(count + 1):
        started = time.perf_counter()
        connection.request("POST", "/v1/check", EXAMPLE_BODY, headers)
        response = connection.getresponse()
        response.read()
        samples.append(time.perf_counter() - started)
        if response.status != 202:
            raise AssertionError(f"status {response.status}")
    connection.close()
    # The first one opens the database.
    return samples[1:]


def measure_cancelling(directory: Path, way: str, width: int, turns: int) -> dict[str, Any]:
    """Seconds from the cancellation of a running job to the begin of the next one, which waits for its place."""
    body = write_body(width)
    # No job is a short one, which would have a place of its own.
    with run_way(directory, way, GRADCHECKD_MAX_RUNNING_JOBS="1", GRADCHECKD_MAX_WORK="1") as client:
        return summarize([_cancel(client, body) for _ in range(turns)])


def _cancel(client: JobClient, body: bytes) -> float:
    running = client.submit(body)
    client.wait_until(running, lambda job: job["progress"]["done"])
    waiting = client.submit(body)
    started = time.time()
    client.call(running, "DELETE")
    begun = client.wait_until(waiting, lambda job: job["started"])
    client.call(waiting, "DELETE")
    time.sleep(1.0)
    assert json.loads(client.call(waiting))["status"] == "dismissed"
    return read_moment(begun["started"]) - started
