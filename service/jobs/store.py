"""The records of jobs in a database: SQLite in a file, or PostgreSQL."""

import hashlib
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from sqlalchemy import (
    ColumnElement,
    Connection,
    CursorResult,
    Engine,
    and_,
    case,
    create_engine,
    delete,
    event,
    func,
    insert,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError

from service.jobs.job import (
    UNFINISHED,
    ClaimedJob,
    IdempotencyConflictError,
    Job,
    JobOutcome,
    JobProgress,
    JobQueueFullError,
    JobResult,
    JobStatus,
    NewJob,
    QueueCounts,
)
from service.jobs.tables import JOBS, METADATA

_BUSY_SECONDS = 10
"""Seconds that a write waits for another one of SQLite."""
_READS_ONLY = "gradcheckd_reads_only"
MAX_ATTEMPTS = 5
"""Runs that end with their runner before the job itself is taken for the reason."""
_VIEW = tuple(JOBS.c[name] for name in ("id", "kind", "status", "created", "started", "finished"))
_RESULT_FACTS = (JOBS.c.encoding, JOBS.c.has_details)
_PROGRESS = (JOBS.c.done, JOBS.c.total, JOBS.c.tensor)


@dataclass(frozen=True)
class StoreLimits:
    """Limits of the store.

    Attributes
    ----------
    queued
        Most jobs that wait.
    stored_bytes
        Most bytes of all requests and results.
    ttl_seconds
        Seconds after its end for which a job is kept.
    """

    queued: int = 1000
    stored_bytes: int = 2**30
    ttl_seconds: float = 86_400.0


class JobStore:
    """The jobs of a service, of all its processes and replicas.

    Every method is one transaction. A state changes by one statement that names the state before, so that two processes
    never both change it.

    Parameters
    ----------
    url
        Address of the database, as SQLAlchemy takes it.
    limits
        Limits of the store.
    """

    def __init__(self, url: str, limits: StoreLimits | None = None) -> None:
        self._limits = limits or StoreLimits()
        self._engine = _create_engine(url)
        self._reader = self._engine.execution_options(**{_READS_ONLY: True})
        self._has_server_clock = self._engine.dialect.name == "postgresql"
        self._create_table()

    def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    def submit(self, new: NewJob) -> tuple[Job, bool]:
        """Accept a request; return its job, and whether it is new.

        Raises
        ------
        JobQueueFullError
            Too many jobs wait, or there is no room for the request.
        IdempotencyConflictError
            The caller's idempotency key belongs to another request.
        """
        digest = _compute_digest(new)
        known = self._find_repeated(new, digest)
        if known is not None:
            return known, False
        try:
            with self._engine.begin() as connection:
                connection.execute(delete(JOBS).where(~self._is_kept()))
                self._refuse_if_full(connection, len(new.body))
                identifier = uuid.uuid4().hex
                connection.execute(
                    insert(JOBS).values(
                        id=identifier,
                        owner=new.owner,
                        kind=new.kind,
                        status=JobStatus.ACCEPTED,
                        created=self._now(),
                        media_type=new.media_type,
                        body=new.body,
                        digest=digest,
                        idempotency_key=new.idempotency_key,
                        stored_bytes=len(new.body),
                    )
                )
        except IntegrityError:
            # The same request came twice at once, and the other one was first.
            known = self._find_repeated(new, digest)
            if known is None:
                raise
            return known, False
        job = self.get(identifier, new.owner)
        assert job is not None
        return job, True

    def get(self, identifier: str, owner: str) -> Job | None:
        """Return a job of a caller; None if there is none or it has expired."""
        with self._reader.connect() as connection:
            row = connection.execute(select(*_VIEW, *_PROGRESS).where(self._is_visible(identifier, owner))).first()
        return None if row is None else _read_job(row._mapping)

    def list_jobs(self, owner: str, limit: int) -> list[Job]:
        """Return the latest jobs of a caller, the last one first."""
        query = (
            select(*_VIEW, *_PROGRESS)
            .where(JOBS.c.owner == owner, self._is_kept())
            .order_by(JOBS.c.created.desc(), JOBS.c.id)
            .limit(limit)
        )
        with self._reader.connect() as connection:
            return [_read_job(row._mapping) for row in connection.execute(query)]

    def get_outcome(self, identifier: str, owner: str) -> JobOutcome | None:
        """Return a job of a caller with its result or problem; None as for `get`."""
        query = select(*_VIEW, *_PROGRESS, JOBS.c.result, *_RESULT_FACTS, JOBS.c.problem).where(
            self._is_visible(identifier, owner)
        )
        with self._reader.connect() as connection:
            row = connection.execute(query).first()
        if row is None:
            return None
        result = None if row.result is None else JobResult(row.result, row.encoding, row.has_details)
        return JobOutcome(_read_job(row._mapping), result, row.problem)

    def dismiss(self, identifier: str, owner: str) -> Job | None:
        """Cancel a job that has not ended, or forget one that has; return it as it is then, None as for `get`."""
        with self._engine.begin() as connection:
            cancelled = connection.execute(
                update(JOBS)
                .where(self._is_visible(identifier, owner), JOBS.c.status.in_(UNFINISHED))
                .values(status=JobStatus.DISMISSED, finished=self._now(), body=None, stored_bytes=0, lease_ends=None)
                .returning(*_VIEW, *_PROGRESS)
            ).first()
            if cancelled is not None:
                return _read_job(cancelled._mapping)
            forgotten = connection.execute(
                delete(JOBS).where(self._is_visible(identifier, owner)).returning(*_VIEW, *_PROGRESS)
            ).first()
        return None if forgotten is None else _read_job({**forgotten._mapping, "status": JobStatus.DISMISSED})

    def claim(self, runner: str, lease_seconds: float) -> ClaimedJob | None:
        """Take a job for a runner, until its lease ends; None if no job waits.

        Callers with fewer running jobs come first, then older jobs: many or large jobs of one caller hold up no other
        one. A job whose lease has ended waits again, but not after too many runs.
        """
        running = (
            select(JOBS.c.owner, func.count().label("count"))
            .where(JOBS.c.status == JobStatus.RUNNING)
            .group_by(JOBS.c.owner)
            .subquery()
        )
        candidate = (
            select(JOBS.c.id)
            .outerjoin(running, running.c.owner == JOBS.c.owner)
            .where(self._is_claimable())
            .order_by(func.coalesce(running.c.count, 0), JOBS.c.created, JOBS.c.id)
            .limit(1)
            .with_for_update(skip_locked=True, of=JOBS)
            .scalar_subquery()
        )
        statement = (
            update(JOBS)
            .where(JOBS.c.id == candidate, self._is_claimable())
            .values(
                status=JobStatus.RUNNING,
                runner=runner,
                attempt=JOBS.c.attempt + 1,
                started=func.coalesce(JOBS.c.started, self._now()),
                lease_ends=self._now() + lease_seconds,
            )
            .returning(JOBS.c.id, JOBS.c.kind, JOBS.c.media_type, JOBS.c.body, JOBS.c.attempt)
        )
        with self._engine.begin() as connection:
            row = connection.execute(statement).first()
        return None if row is None else ClaimedJob(*row)

    def renew(self, claimed: ClaimedJob, runner: str, lease_seconds: float, progress: JobProgress) -> bool:
        """Keep a claimed job, and store its progress; return False if it is not the runner's any more."""
        values = {"lease_ends": self._now() + lease_seconds, "done": progress.done, "total": progress.total}
        return self._change_claimed(claimed, runner, values | {"tensor": progress.tensor})

    def finish(self, claimed: ClaimedJob, runner: str, result: JobResult, progress: JobProgress) -> bool:
        """Store the result and the last progress of a claimed job; return False as for `renew`."""
        values = {
            "status": JobStatus.SUCCESSFUL,
            "result": result.content,
            "encoding": result.encoding,
            "has_details": result.has_details,
            "done": progress.done,
            "total": progress.total,
            "tensor": progress.tensor,
        }
        return self._end_claimed(claimed, runner, values | {"stored_bytes": len(result.content)})

    def fail(self, claimed: ClaimedJob, runner: str, problem: str) -> bool:
        """Store the problem of a claimed job; return False as for `renew`."""
        values = {"status": JobStatus.FAILED, "problem": problem, "stored_bytes": len(problem)}
        return self._end_claimed(claimed, runner, values)

    def release(self, runner: str) -> int:
        """Let all jobs of a runner wait again; return their number."""
        return self._change(
            and_(JOBS.c.runner == runner, JOBS.c.status == JobStatus.RUNNING),
            {"status": JobStatus.ACCEPTED, "lease_ends": None, "runner": None},
        )

    def fail_exhausted(self, problem: str) -> int:
        """End the jobs that have outlived too many of their runners; return their number."""
        return self._change(
            and_(JOBS.c.status == JobStatus.RUNNING, JOBS.c.lease_ends < self._now(), JOBS.c.attempt >= MAX_ATTEMPTS),
            {"status": JobStatus.FAILED, "problem": problem, "stored_bytes": len(problem), **self._end_values()},
        )

    def delete_expired(self) -> int:
        """Delete the jobs that ended long ago; return their number."""
        with self._engine.begin() as connection:
            return _count_rows(connection.execute(delete(JOBS).where(~self._is_kept())))

    def count_queue(self) -> QueueCounts:
        """Count the jobs that have not ended."""
        waiting = case((JOBS.c.status == JobStatus.ACCEPTED, 1), else_=0)
        oldest = func.min(case((JOBS.c.status == JobStatus.ACCEPTED, JOBS.c.created)))
        query = select(func.count(), func.coalesce(func.sum(waiting), 0), self._now() - oldest).where(
            JOBS.c.status.in_(UNFINISHED)
        )
        with self._reader.connect() as connection:
            total, accepted, age = connection.execute(query).one()
        return QueueCounts(int(accepted), int(total) - int(accepted), max(0.0, float(age or 0)))

    def _create_table(self) -> None:
        try:
            METADATA.create_all(self._engine)
        except (IntegrityError, OperationalError, ProgrammingError):
            # Another process has made it in between.
            METADATA.create_all(self._engine)

    def _now(self) -> ColumnElement[float]:
        # The clocks of several machines differ; that of the database is one.
        return func.extract("epoch", func.clock_timestamp()) if self._has_server_clock else literal(time.time())

    def _is_kept(self) -> ColumnElement[bool]:
        return or_(JOBS.c.finished.is_(None), JOBS.c.finished > self._now() - self._limits.ttl_seconds)

    def _is_visible(self, identifier: str, owner: str) -> ColumnElement[bool]:
        return and_(JOBS.c.id == identifier, JOBS.c.owner == owner, self._is_kept())

    def _is_claimable(self) -> ColumnElement[bool]:
        has_lost_runner = and_(JOBS.c.status == JobStatus.RUNNING, JOBS.c.lease_ends < self._now())
        return and_(or_(JOBS.c.status == JobStatus.ACCEPTED, has_lost_runner), JOBS.c.attempt < MAX_ATTEMPTS)

    def _find_repeated(self, new: NewJob, digest: str) -> Job | None:
        if new.idempotency_key is None:
            return None
        query = select(*_VIEW, *_PROGRESS, JOBS.c.digest).where(
            JOBS.c.owner == new.owner, JOBS.c.idempotency_key == new.idempotency_key, self._is_kept()
        )
        with self._reader.connect() as connection:
            row = connection.execute(query).first()
        if row is None:
            return None
        if row.digest != digest:
            raise IdempotencyConflictError
        return _read_job(row._mapping)

    def _refuse_if_full(self, connection: Connection, size: int) -> None:
        waiting = func.coalesce(func.sum(case((JOBS.c.status == JobStatus.ACCEPTED, 1), else_=0)), 0)
        stored = func.coalesce(func.sum(JOBS.c.stored_bytes), 0)
        queued, stored_bytes = connection.execute(select(waiting, stored)).one()
        if queued >= self._limits.queued:
            raise JobQueueFullError(f"{queued} jobs wait, as many as the service takes")
        if stored_bytes + size > self._limits.stored_bytes:
            raise JobQueueFullError(
                f"jobs take {stored_bytes} of the {self._limits.stored_bytes} bytes that the service stores"
            )

    def _end_claimed(self, claimed: ClaimedJob, runner: str, values: Mapping[str, Any]) -> bool:
        return self._change_claimed(claimed, runner, {**values, **self._end_values()})

    def _end_values(self) -> dict[str, Any]:
        return {"finished": self._now(), "body": None, "lease_ends": None, "runner": None}

    def _change_claimed(self, claimed: ClaimedJob, runner: str, values: Mapping[str, Any]) -> bool:
        is_own = and_(
            JOBS.c.id == claimed.id,
            JOBS.c.status == JobStatus.RUNNING,
            JOBS.c.runner == runner,
            JOBS.c.attempt == claimed.attempt,
        )
        return self._change(is_own, values) == 1

    def _change(self, condition: ColumnElement[bool], values: Mapping[str, Any]) -> int:
        with self._engine.begin() as connection:
            return _count_rows(connection.execute(update(JOBS).where(condition).values(**values)))


def _create_engine(url: str) -> Engine:
    engine = create_engine(url, pool_pre_ping=True)
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


def _compute_digest(new: NewJob) -> str:
    head = f"{new.kind}\n{new.media_type}\n".encode()
    return hashlib.sha256(head + new.body).hexdigest()


def _count_rows(result: CursorResult[Any]) -> int:
    return result.rowcount


def _read_job(row: Mapping[Any, Any]) -> Job:
    fields = cast("Mapping[str, Any]", row)
    return Job(
        fields["id"],
        fields["kind"],
        JobStatus(fields["status"]),
        fields["created"],
        fields["started"],
        fields["finished"],
        JobProgress(fields["done"], fields["total"], fields["tensor"]),
    )
