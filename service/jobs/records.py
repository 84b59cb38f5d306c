"""The records of jobs, as the routes see them."""

import hashlib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from service.jobs.database import JobDatabase
from service.jobs.job import (
    UNFINISHED,
    IdempotencyConflictError,
    JobCounts,
    JobOutcome,
    JobQueueFullError,
    JobResult,
    JobStatus,
    NewJob,
    StoredJob,
    StoredProgress,
)
from service.jobs.tables import JOBS, RUNNERS, read_name

_RECENT_SECONDS = 30.0
"""Seconds after which a runner that has not been seen counts for nothing."""
_VIEW = tuple(
    JOBS.c[name]
    for name in ("id", "kind", "status", "created", "started", "finished", "done", "total", "tensor", "stored_bytes")
)
_RESULT_FACTS = (JOBS.c.encoding, JOBS.c.has_details)


@dataclass(frozen=True)
class StoreLimits:
    """Limits of the records.

    Attributes
    ----------
    queued
        Most jobs that wait.
    stored_bytes
        Most bytes of all requests and results.
    """

    queued: int = 1000
    stored_bytes: int = 2**30


class JobRecords:
    """The jobs of a service.

    Every method is one transaction. A state changes by one statement that names the state before, so that two processes
    never both change it.

    Parameters
    ----------
    database
        Database.
    limits
        Limits of the records.
    """

    def __init__(self, database: JobDatabase, limits: StoreLimits | None = None) -> None:
        self._database, self._limits = database, limits or StoreLimits()

    def submit(self, new: NewJob) -> tuple[StoredJob, bool]:
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
            with self._database.writer.begin() as connection:
                connection.execute(delete(JOBS).where(~self._database.is_kept()))
                self._refuse_if_full(connection, len(new.body))
                accept = insert(JOBS).values(
                    id=uuid.uuid4().hex,
                    owner=new.owner,
                    kind=new.kind,
                    status=JobStatus.ACCEPTED,
                    created=self._database.now(),
                    media_type=new.media_type,
                    body=new.body,
                    digest=digest,
                    idempotency_key=new.idempotency_key,
                    stored_bytes=len(new.body),
                    work=new.work,
                )
                return _read_job(connection.execute(accept.returning(*_VIEW)).mappings().one()), True
        except IntegrityError:
            # The same request came twice at once, and the other one was first.
            known = self._find_repeated(new, digest)
            if known is None:
                raise
            return known, False

    def get(self, identifier: str, owner: str) -> StoredJob | None:
        """Return a job of a caller; None if there is none or it has expired."""
        with self._database.reader.connect() as connection:
            query = select(*_VIEW).where(self._is_visible(identifier, owner))
            row = connection.execute(query).mappings().first()
        return None if row is None else _read_job(row)

    def list_jobs(self, owner: str, limit: int) -> list[StoredJob]:
        """Return the latest jobs of a caller, the last one first."""
        query = (
            select(*_VIEW)
            .where(JOBS.c.owner == owner, self._database.is_kept())
            .order_by(JOBS.c.created.desc(), JOBS.c.id)
            .limit(limit)
        )
        with self._database.reader.connect() as connection:
            return [_read_job(row) for row in connection.execute(query).mappings()]

    def get_outcome(self, identifier: str, owner: str) -> JobOutcome | None:
        """Return a job of a caller with its result or problem; None as for `get`."""
        query = select(*_VIEW, JOBS.c.result, *_RESULT_FACTS, JOBS.c.problem).where(self._is_visible(identifier, owner))
        with self._database.reader.connect() as connection:
            row = connection.execute(query).mappings().first()
        if row is None:
            return None
        result = None if row["result"] is None else JobResult(row["result"], row["encoding"], row["has_details"])
        return JobOutcome(_read_job(row), result, row["problem"])

    def dismiss(self, identifier: str, owner: str) -> StoredJob | None:
        """Cancel a job that has not ended, or forget one that has; return it as it is then, None as for `get`."""
        with self._database.writer.begin() as connection:
            cancel = (
                update(JOBS)
                .where(self._is_visible(identifier, owner), JOBS.c.status.in_(UNFINISHED))
                .values(
                    status=JobStatus.DISMISSED,
                    finished=self._database.now(),
                    body=None,
                    stored_bytes=0,
                    lease_ends=None,
                )
                .returning(*_VIEW)
            )
            forget = delete(JOBS).where(self._is_visible(identifier, owner)).returning(*_VIEW)
            row = connection.execute(cancel).mappings().first() or connection.execute(forget).mappings().first()
        return None if row is None else _read_job({**row, "status": JobStatus.DISMISSED})

    def find_obstacle(self) -> str | None:
        """Return why no runner takes jobs, a clause; None if one takes them, or none has had the time to."""
        recent = self._database.now() - _RECENT_SECONDS
        waits = select(JOBS.c.id).where(JOBS.c.status == JobStatus.ACCEPTED, JOBS.c.created < recent).limit(1)
        with self._database.reader.connect() as connection:
            obstacles = connection.execute(select(RUNNERS.c.obstacle).where(RUNNERS.c.seen > recent)).scalars().all()
            if not obstacles and connection.execute(waits).first() is not None:
                return f"no runner has looked for them for {_RECENT_SECONDS:g} s"
        return obstacles[0] if obstacles and None not in obstacles else None

    def count_jobs(self) -> JobCounts:
        """Count the jobs of all callers."""
        age = func.max(case((JOBS.c.status == JobStatus.ACCEPTED, self._database.now() - JOBS.c.created), else_=0.0))
        query = select(JOBS.c.status, func.count(), age).where(self._database.is_kept()).group_by(JOBS.c.status)
        with self._database.reader.connect() as connection:
            rows = connection.execute(query).all()
        counts = dict.fromkeys(JobStatus, 0) | {JobStatus(status): int(count) for status, count, _ in rows}
        return JobCounts(counts, max([0.0, *(float(seconds) for _, _, seconds in rows)]))

    def _is_visible(self, identifier: str, owner: str) -> ColumnElement[bool]:
        return and_(JOBS.c.id == identifier, JOBS.c.owner == owner, self._database.is_kept())

    def _find_repeated(self, new: NewJob, digest: str) -> StoredJob | None:
        if new.idempotency_key is None:
            return None
        query = select(*_VIEW, JOBS.c.digest).where(
            JOBS.c.owner == new.owner, JOBS.c.idempotency_key == new.idempotency_key, self._database.is_kept()
        )
        with self._database.reader.connect() as connection:
            row = connection.execute(query).mappings().first()
        if row is None:
            return None
        if row["digest"] != digest:
            raise IdempotencyConflictError
        return _read_job(row)

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


def _compute_digest(new: NewJob) -> str:
    head = f"{new.kind}\n{new.media_type}\n".encode()
    return hashlib.sha256(head + new.body).hexdigest()


def _read_job(row: Mapping[Any, Any]) -> StoredJob:
    return StoredJob(
        row["id"],
        row["kind"],
        JobStatus(row["status"]),
        row["created"],
        row["started"],
        row["finished"],
        StoredProgress(row["done"], row["total"], read_name(row["tensor"])),
        row["stored_bytes"],
    )
