"""The loop of the runner, in this process, on a database of its own."""

import json
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from sqlalchemy import event

from service.checks.common.limits import Limits
from service.job_runner import runner as runner_module
from service.job_runner.cluster import ClusterLostError
from service.job_runner.runner import Runner
from service.jobs.database import JobDatabase
from service.jobs.job import JobStatus, NewJob
from service.jobs.queue import JobQueue
from service.jobs.records import JobRecords
from service.settings import Settings
from tests.integration.long_check import build_long_check

PATIENCE = 120.0
NAME = "machine/lock"


class FakeCluster:
    """A cluster that is there or not."""

    def __init__(self) -> None:
        self.obstacle: str | None = None

    def describe_absence(self) -> str | None:
        return self.obstacle

    def share_work(self) -> Any:
        raise ClusterLostError("gone")


@pytest.fixture
def database(tmp_path):
    database = JobDatabase(f"sqlite:///{tmp_path}/jobs.db", 3600.0)
    yield database
    database.close()


@pytest.fixture
def records(database):
    return JobRecords(database)


@pytest.fixture
def submit(records, example):
    def submit_job(request: Any = example) -> str:
        return records.submit(NewJob("", "check", "application/json", json.dumps(request).encode()))[0].id

    return submit_job


@pytest.fixture
def run_until(database, records):
    """Run the runner until a condition holds."""

    def run(condition: Callable[[], Any], *, cluster: Any = None, **settings: Any) -> None:
        deadline = time.monotonic() + PATIENCE

        def goes_on(idle_seconds: float) -> bool:
            assert time.monotonic() < deadline, "the condition never held"
            return not condition()

        Runner(JobQueue(database), NAME, Settings(**settings), Limits(), cluster).run(goes_on)

    return run


def test_jobs_are_computed(submit, records, run_until, example):
    right = submit()
    wrong = submit(example | {"candidate": {"w2": [1.0, 2.0, 3.0, 4.0]}})
    invalid = submit({"weights": 3})
    run_until(lambda: not records.count_jobs().open_count)
    assert [records.get(job, "").status for job in (right, wrong, invalid)] == ["successful", "successful", "failed"]
    assert json.loads(records.get_outcome(invalid, "").problem)["status"] == 422
    job = records.get(right, "")
    assert job.created <= job.started <= job.finished
    assert job.progress.done == job.progress.total > 0


def test_cancelled_job_stops_soon(submit, records, run_until):
    long = submit(build_long_check())
    cancelled: list[float] = []

    def cancel_once() -> bool:
        if not cancelled and records.get(long, "").progress.done:
            records.dismiss(long, "")
            cancelled.append(time.monotonic())
            submit()
        return bool(cancelled) and not records.count_jobs().open_count

    run_until(cancel_once, max_running_jobs=1)
    assert records.get(long, "").status == JobStatus.DISMISSED


def test_jobs_wait_again_when_the_runner_stops(submit, records, run_until):
    long = submit(build_long_check())
    run_until(lambda: records.get(long, "").progress.done)
    assert records.get(long, "").status == JobStatus.ACCEPTED


def test_jobs_of_an_earlier_runner_are_taken_over_at_once(submit, database, records, run_until):
    identifier = submit()
    assert JobQueue(database).claim(NAME, 10_000.0) is not None
    run_until(lambda: not records.count_jobs().open_count)
    assert records.get(identifier, "").status == JobStatus.SUCCESSFUL


def test_unexpected_error_ends_the_job_with_its_number(submit, records, run_until, monkeypatch, caplog):
    def fail(*_: Any) -> Any:
        raise ZeroDivisionError("secret")

    monkeypatch.setattr(runner_module, "run_job", fail)
    identifier = submit()
    run_until(lambda: not records.count_jobs().open_count)
    problem = records.get_outcome(identifier, "").problem
    assert json.loads(problem)["status"] == 500
    assert "secret" not in problem
    assert "secret" in caplog.text


def test_jobs_wait_for_the_cluster(submit, records, run_until):
    cluster, identifier = FakeCluster(), submit()
    cluster.obstacle = "the scheduler does not answer"
    run_until(records.find_obstacle, cluster=cluster)
    assert records.find_obstacle() == cluster.obstacle
    assert records.get(identifier, "").status == JobStatus.ACCEPTED
    cluster.obstacle = None
    run_until(lambda: not records.count_jobs().open_count, cluster=cluster)
    assert records.find_obstacle() is None
    assert records.get(identifier, "").status == JobStatus.SUCCESSFUL, "a small job needs no cluster"


def test_runner_outlives_a_full_disk(submit, database, records, run_until, caplog):
    """The result waits in memory, and is stored once there is room."""
    identifier = submit()
    limit = 0

    def limit_pages(connection: Any, *_: Any) -> None:
        # For the connection, and never below the pages that there are.
        connection.execute(f"PRAGMA max_page_count = {limit or 2**30}")

    event.listen(database.writer, "checkout", limit_pages)

    def has_ended_after_a_while() -> bool:
        nonlocal limit
        if not limit:
            limit = 1
        elif "the runner waits" in caplog.text:
            limit = 2**30
        return not records.count_jobs().open_count

    with caplog.at_level("WARNING", "gradcheckd"):
        run_until(has_ended_after_a_while)
    assert "full" in caplog.text
    job = records.get(identifier, "")
    assert job.status == JobStatus.SUCCESSFUL


def test_no_job_begins_while_results_take_all_room(submit, records, run_until, example):
    first, second = submit(), submit(example | {"seed": 1})
    run_until(records.find_obstacle, max_running_jobs=1, max_job_bytes=4000)
    assert "delete jobs" in records.find_obstacle()
    states = {identifier: records.get(identifier, "").status for identifier in (first, second)}
    assert states == {first: JobStatus.SUCCESSFUL, second: JobStatus.ACCEPTED}
    records.dismiss(first, "")
    run_until(lambda: records.get(second, "").finished, max_running_jobs=1, max_job_bytes=4000)


def test_short_job_ends_while_a_long_one_of_another_caller_has_the_only_place(records, run_until, example):
    def submit_as(owner: str, request: Any, work: int | None) -> str:
        new = NewJob(owner, "check", "application/json", json.dumps(request).encode(), work=work)
        return records.submit(new)[0].id

    long, second = (submit_as("a", build_long_check(), None) for _ in range(2))
    short = submit_as("b", example, 10**6)
    run_until(lambda: records.get(short, "b").finished, max_running_jobs=1)
    assert records.get(short, "b").status == JobStatus.SUCCESSFUL
    assert records.get(long, "a").finished is None
    assert records.get(second, "a").started is None


def test_long_job_waits_for_the_only_place(records, run_until, example):
    """The control of the test above: it is the estimate that lets a job pass."""
    body = json.dumps(build_long_check()).encode()
    records.submit(NewJob("a", "check", "application/json", body))
    waiting, _ = records.submit(NewJob("b", "check", "application/json", body))
    short, _ = records.submit(NewJob("c", "check", "application/json", json.dumps(example).encode(), work=1))
    run_until(lambda: records.get(short.id, "c").finished, max_running_jobs=1)
    assert records.get(waiting.id, "b").started is None


def test_job_that_loses_its_cluster_begins_anew(submit, records, run_until, monkeypatch):
    runs: list[int] = []
    run_job = runner_module.run_job

    def lose_first(*arguments: Any) -> Any:
        runs.append(threading.get_ident())
        if len(runs) == 1:
            raise ClusterLostError("gone")
        return run_job(*arguments)

    monkeypatch.setattr(runner_module, "run_job", lose_first)
    identifier = submit()
    run_until(lambda: not records.count_jobs().open_count, cluster=FakeCluster())
    assert len(runs) == 2
    assert records.get(identifier, "").status == JobStatus.SUCCESSFUL
