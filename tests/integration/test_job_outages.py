"""Jobs while their runner is gone for a while: each ends once, with the right bytes."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from sqlalchemy import select

from service.jobs.database import JobDatabase
from service.jobs.job import NewJob, StoredJob
from service.jobs.records import JobRecords
from service.jobs.runner_process import read_start_time
from service.jobs.tables import JOBS
from tests.integration.conftest import ROOT
from tests.integration.job_trial import (
    LARGE_SIZE,
    EndCounter,
    build_large_check,
)
from tests.integration.raw_http import wait_until
from tests.measured_cases import PROCESS_VARIABLE

LEASE_SECONDS = 4.0
RUNNER = (
    "import sys; from service.job_runner import main, runner; "
    f"runner.LEASE_SECONDS = {LEASE_SECONDS}; main.run_runner(*sys.argv[1:3], int(sys.argv[3]), sys.argv[4], 2**30)"
)


@contextmanager
def run_runner_process(url: str, lock: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a runner of another machine, which has a lock and a name of its own."""
    pid = os.getpid()
    arguments = [url, str(lock), str(pid), read_start_time(pid)]
    environment = os.environ | {"GRADCHECKD_JOB_PROCESSES": "1", "OMP_NUM_THREADS": "1"}
    environment.pop(PROCESS_VARIABLE, None)
    runner = subprocess.Popen([sys.executable, "-c", RUNNER, *arguments], cwd=ROOT, env=environment)
    try:
        yield runner
    finally:
        runner.send_signal(signal.SIGCONT)
        runner.terminate()
        runner.wait()


@pytest.mark.long
def test_runner_that_was_stopped_past_its_lease_ends_no_job(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/jobs.db"
    counter, database = EndCounter(url), JobDatabase(url, 3600.0)
    records, body = JobRecords(database), json.dumps(build_large_check(LARGE_SIZE, 0)).encode()

    def submit() -> str:
        return records.submit(NewJob("", "check", "application/json", body))[0].id

    def get_job(identifier: str) -> StoredJob:
        job = records.get(identifier, "")
        assert job is not None
        return job

    taken = submit()
    with run_runner_process(url, tmp_path / "first") as first:
        wait_until(lambda: get_job(taken).progress.done)
        first.send_signal(signal.SIGSTOP)
        with run_runner_process(url, tmp_path / "second"):
            wait_until(lambda: get_job(taken).finished)
            first.send_signal(signal.SIGCONT)
            later = [submit() for _ in range(4)]
            wait_until(lambda: all(get_job(identifier).finished for identifier in later))
    assert counter.count() == dict.fromkeys([taken, *later], 1)
    with database.reader.connect() as connection:
        assert connection.execute(select(JOBS.c.attempt).where(JOBS.c.id == taken)).scalar_one() > 1
    database.close()
    counter.close()
