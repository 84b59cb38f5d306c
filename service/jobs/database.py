"""The database of the jobs: SQLite in a file, or PostgreSQL."""

import time
from collections.abc import Mapping
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    CursorResult,
    Engine,
    create_engine,
    event,
    func,
    literal,
    make_url,
    or_,
    update,
)
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError

from service.jobs.tables import JOBS, METADATA

_BUSY_SECONDS = 10
"""Seconds that a write waits for another one of SQLite."""
_CONNECT_SECONDS = 5
_READS_ONLY = "gradcheckd_reads_only"


class JobDatabase:
    """The table of the jobs, of all processes and replicas of a service.

    Parameters
    ----------
    url
        Address of the database, as SQLAlchemy takes it.
    ttl_seconds
        Seconds after its end for which a job is kept.

    Attributes
    ----------
    writer, reader
        Engines for transactions that write, and for those that only read.
    """

    def __init__(self, url: str, ttl_seconds: float) -> None:
        self.writer = _create_engine(url)
        self.reader = self.writer.execution_options(**{_READS_ONLY: True})
        self._ttl_seconds = ttl_seconds
        self._has_server_clock = self.writer.dialect.name == "postgresql"
        self._create_tables()

    def close(self) -> None:
        """Close the connections."""
        self.writer.dispose()

    def now(self) -> ColumnElement[Any]:
        """Return the seconds since 1970."""
        # The clocks of several machines differ; that of the database is one.
        return func.extract("epoch", func.clock_timestamp()) if self._has_server_clock else literal(time.time())

    def is_kept(self) -> ColumnElement[bool]:
        """Return the condition of a job that has not expired."""
        return or_(JOBS.c.finished.is_(None), JOBS.c.finished > self.now() - self._ttl_seconds)

    def change(self, condition: ColumnElement[bool], values: Mapping[str, Any]) -> int:
        """Change the jobs of a condition; return their number."""
        with self.writer.begin() as connection:
            return count_rows(connection.execute(update(JOBS).where(condition).values(**values)))

    def _create_tables(self) -> None:
        try:
            METADATA.create_all(self.writer)
        except (IntegrityError, OperationalError, ProgrammingError):
            # Another process has made them in between.
            METADATA.create_all(self.writer)


def count_rows(result: CursorResult[Any]) -> int:
    """Return the number of rows that a statement changed."""
    return result.rowcount


def _create_engine(url: str) -> Engine:
    # A server that takes connections and does not answer would hold requests, and the look at the health.
    waits = {"connect_timeout": _CONNECT_SECONDS} if make_url(url).get_backend_name() == "postgresql" else {}
    engine = create_engine(url, pool_pre_ping=True, connect_args=waits)
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", _configure_sqlite)
        event.listen(engine, "begin", _begin_transaction)
    return engine


def _configure_sqlite(connection: Any, record: Any) -> None:
    # The driver would begin a transaction at its first write, when another process may have begun to write.
    connection.isolation_level = None
    connection.execute(f"PRAGMA busy_timeout = {1000 * _BUSY_SECONDS}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")


def _begin_transaction(connection: Connection) -> None:
    # A transaction that reads first and then writes fails if another one has written in between. One that only reads
    # waits for none.
    is_read = connection.get_execution_options().get(_READS_ONLY)
    connection.exec_driver_sql("BEGIN" if is_read else "BEGIN IMMEDIATE")
