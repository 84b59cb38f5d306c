"""Jobs while their cluster, database or runner is gone for a while: each ends once, with the right bytes."""

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from service.jobs.database import JobDatabase
from service.jobs.job import NewJob, StoredJob
from service.jobs.records import JobRecords
from service.jobs.runner_process import read_start_time
from service.jobs.tables import JOBS
from tests.dask_processes import DaskProcesses, run_dask
from tests.external_programs import POSTGRESQL
from tests.integration.conftest import ROOT
from tests.integration.job_trial import (
    LARGE_SIZE,
    EndCounter,
    Killer,
    build_large_check,
    check_jobs,
    make_service_kills,
    run_service,
    run_trial,
    write_bodies,
)
from tests.integration.raw_http import wait_until
from tests.measured_cases import PROCESS_VARIABLE
from tests.postgresql_server import PostgresqlServer, run_postgresql

SEED = 21


@pytest.mark.long
@POSTGRESQL.required_mark
def test_jobs_on_a_cluster_survive_every_kill(tmp_path: Path, example: dict[str, Any]) -> None:
    (tmp_path / "postgresql").mkdir()
    (tmp_path / "dask").mkdir()
    with run_postgresql(tmp_path / "postgresql") as server, run_dask(tmp_path / "dask", 2) as cluster:
        counter, bodies = EndCounter(server.url), write_bodies(200, 8, LARGE_SIZE, example)
        with run_service(server.url, tmp_path, GRADCHECKD_SCHEDULER=cluster.address) as service:
            kills = make_service_kills(service) | make_cluster_kills(cluster, server)
            counts = {"worker": 2, "runner": 2, "master": 1, "scheduler": 2, "dask worker": 3, "database": 2}
            killer = Killer(SEED, kills, counts, [service.keep_alive, cluster.replace_ended], 2.0)
            with run_trial(service, server.url, bodies, killer) as (jobs, _):
                check_jobs(jobs, bodies, counter)
            assert killer.killed["scheduler"] > 0
            assert killer.killed["dask worker"] > 0
        counter.close()


def make_cluster_kills(cluster: DaskProcesses, server: PostgresqlServer) -> dict[str, Any]:
    def restart_database(_: random.Random) -> None:
        server.stop()
        server.start()

    return {
        "scheduler": lambda _: cluster.restart_scheduler(),
        "dask worker": lambda generator: cluster.restart_worker(generator.randrange(2)),
        "database": restart_database,
    }


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
