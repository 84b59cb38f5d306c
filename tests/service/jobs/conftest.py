"""A database of jobs of one's own, in SQLite and in PostgreSQL."""

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy

from service.jobs.database import JobDatabase
from service.jobs.queue import JobQueue
from service.jobs.records import JobRecords
from tests.external_programs import POSTGRESQL

_START_SECONDS = 60
KEPT_SECONDS = 3600.0


@contextmanager
def run_postgresql(directory: Path) -> Iterator[str]:
    """Run a server of PostgreSQL with an empty database, and yield its address.

    It refuses to run as root, so that then its own user runs it.
    """
    assert POSTGRESQL.path is not None
    user = "postgres" if os.geteuid() == 0 else None
    if user is not None:
        shutil.chown(directory, user)
        for parent in directory.parents:
            if parent.owner() == pwd.getpwuid(0).pw_name and parent != parent.parent:
                parent.chmod(parent.stat().st_mode | 0o055)
    data, programs = directory / "data", Path(POSTGRESQL.path).parent
    command = [programs / "initdb", "--pgdata", data, "--auth", "trust", "--username", "gradcheckd", "--no-sync"]
    subprocess.run(command, check=True, capture_output=True, user=user, cwd=directory)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    server = subprocess.Popen(
        [POSTGRESQL.path, "-D", data, "-p", str(port), "-h", "127.0.0.1", "-k", directory, "-c", "fsync=off"],
        user=user,
        cwd=directory,
        stderr=subprocess.DEVNULL,
    )
    url = f"postgresql+psycopg://gradcheckd@127.0.0.1:{port}/postgres"
    try:
        _await_connection(url)
        yield url
    finally:
        server.terminate()
        server.wait()


def _await_connection(url: str) -> None:
    engine, deadline = sqlalchemy.create_engine(url), time.monotonic() + _START_SECONDS
    while True:
        try:
            engine.connect().close()
            break
        except sqlalchemy.exc.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)
    engine.dispose()


@pytest.fixture(scope="session")
def postgresql_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with run_postgresql(tmp_path_factory.mktemp("postgresql")) as url:
        yield url


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
