"""Jobs under random kill -9 of every process: each ends once, with the bytes that its request has at once."""

import os
import random
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy

from tests.dask_processes import DaskProcesses, run_dask
from tests.external_programs import POSTGRESQL
from tests.integration.conftest import PATIENCE
from tests.integration.job_trial import (
    LARGE_SIZE,
    EndCounter,
    Killer,
    check_jobs,
    compute_under_kills,
    make_service_kills,
    run_service,
    write_bodies,
)
from tests.postgresql_server import PostgresqlServer, run_postgresql

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
        check_jobs(compute_under_kills(service, bodies, killer), bodies, counter)
        assert dict(killer.killed) == {name: count for name, count in counts.items() if count}
    counter.close()


@pytest.mark.long
@POSTGRESQL.required_mark
def test_jobs_on_a_cluster_survive_every_kill(tmp_path: Path, example: dict[str, Any]) -> None:
    (tmp_path / "postgresql").mkdir()
    (tmp_path / "dask").mkdir()
    with run_postgresql(tmp_path / "postgresql") as server, run_dask(tmp_path / "dask", 2) as cluster:
        counter, bodies = EndCounter(server.url), write_bodies(JOBS, max(2, JOBS // 25), LARGE_SIZE, example)
        with run_service(server.url, tmp_path, GRADCHECKD_SCHEDULER=cluster.address) as service:
            kills = make_service_kills(service) | make_cluster_kills(cluster, server)
            names = ("worker", "runner", "scheduler", "dask worker", "database")
            counts = dict.fromkeys(names, max(1, JOBS // 100)) | {"master": JOBS // 100}
            killer = Killer(SEED, kills, counts, [service.keep_alive, cluster.replace_ended], 2.0)
            check_jobs(compute_under_kills(service, bodies, killer), bodies, counter)
            assert dict(killer.killed) == {name: count for name, count in counts.items() if count}
        counter.close()


def make_cluster_kills(
    cluster: DaskProcesses, server: PostgresqlServer
) -> Mapping[str, Callable[[random.Random], object]]:
    """Return what ends a process of a cluster, or its database, and starts it again."""

    def restart_database(_: random.Random) -> None:
        server.stop()
        server.start()

    return {
        "scheduler": lambda _: cluster.restart_scheduler(),
        "dask worker": lambda generator: cluster.restart_worker(generator.randrange(2)),
        "database": restart_database,
    }


@pytest.mark.parametrize("kills_any", [True, False])
def test_killer_is_at_work_until_it_has_killed(*, kills_any: bool) -> None:
    killer = Killer(SEED, {"worker": lambda _: kills_any}, {"worker": 1}, [], 0.01)
    killer.start()
    deadline = time.monotonic() + (PATIENCE if kills_any else 0.2)
    while killer.is_at_work and time.monotonic() < deadline:
        time.sleep(0.01)
    assert killer.is_at_work != kills_any
    killer.stop()
    assert killer.killed == ({"worker": 1} if kills_any else {})


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
