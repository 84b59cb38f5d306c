"""Jobs under random kill -9 of every process: each ends once, with the bytes that its request has at once."""

import os
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from tests.integration.job_trial import (
    LARGE_SIZE,
    EndCounter,
    Killer,
    check_jobs,
    make_service_kills,
    run_service,
    run_trial,
    write_bodies,
)

SEED = 21
JOBS = int(os.environ.get("KILLED_JOBS", "8"))
"""Jobs of the trial: eight take a minute, two hundred some ten."""


@pytest.mark.long
def test_jobs_in_a_file_survive_every_kill(tmp_path: Path, example: dict[str, Any]) -> None:
    url = f"sqlite:///{tmp_path}/jobs.db"
    counter, bodies = EndCounter(url), write_bodies(JOBS, max(2, JOBS // 25), LARGE_SIZE, example)
    with run_service(url, tmp_path) as service:
        counts = {"worker": max(1, JOBS // 50), "runner": max(1, JOBS // 50), "master": JOBS // 100}
        killer = Killer(SEED, make_service_kills(service), counts, [service.keep_alive], 2.0)
        with run_trial(service, url, bodies, killer) as (jobs, _):
            check_jobs(jobs, bodies, counter)
        assert killer.killed["runner"] > 0
        assert killer.killed["worker"] > 0
    counter.close()


def test_counter_sees_a_second_end(tmp_path: Path) -> None:
    """The control: a runner that ends a job which another one has ended would be seen."""
    url = f"sqlite:///{tmp_path}/jobs.db"
    counter, engine = EndCounter(url), sqlalchemy.create_engine(url)
    columns = "id, owner, kind, status, created, media_type, digest, stored_bytes, done, total, attempt, crashes"
    with engine.begin() as connection:
        connection.execute(
            sqlalchemy.text(
                f"INSERT INTO gradcheckd_jobs ({columns}) "
                "VALUES ('a', '', 'check', 'running', 0, '', '', 0, 0, 0, 1, 0)"
            )
        )
        for _ in range(2):
            connection.execute(sqlalchemy.text("UPDATE gradcheckd_jobs SET status = 'successful'"))
    assert counter.count() == {"a": 2}
    engine.dispose()
    counter.close()
