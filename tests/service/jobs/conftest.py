"""A database of jobs of one's own, in SQLite and in PostgreSQL."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy

from service.jobs.database import JobDatabase
from service.jobs.queue import JobQueue
from service.jobs.records import JobRecords
from tests.external_programs import POSTGRESQL
from tests.postgresql_server import run_postgresql

KEPT_SECONDS = 3600.0


@pytest.fixture(scope="session")
def postgresql_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with run_postgresql(tmp_path_factory.mktemp("postgresql")) as server:
        yield server.url


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=POSTGRESQL.required_mark)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/jobs.db" if request.param == "sqlite" else request.getfixturevalue("postgresql_url")


@pytest.fixture
def database(database_url: str) -> Iterator[JobDatabase]:
    """An empty database."""
    database = JobDatabase(database_url, KEPT_SECONDS)
    with database.writer.begin() as connection:
        for name in ("gradcheckd_jobs", "gradcheckd_runners"):
            connection.execute(sqlalchemy.text(f"DELETE FROM {name}"))
    yield database
    database.close()


@pytest.fixture
def records(database: JobDatabase) -> JobRecords:
    return JobRecords(database)


@pytest.fixture
def job_queue(database: JobDatabase) -> JobQueue:
    return JobQueue(database)
