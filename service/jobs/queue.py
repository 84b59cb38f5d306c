"""The queue of jobs, as runners see it."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, and_, case, delete, func, insert, not_, or_, select, update

from service.jobs.database import JobDatabase, count_rows
from service.jobs.job import ANY_JOB, UNFINISHED, ClaimedJob, ClaimRules, JobResult, JobStatus, StoredProgress
from service.jobs.tables import JOBS, RUNNERS, write_name

MAX_CRASHES = 8
"""Runs that end with their runner before the job itself is taken for the reason."""
_WAITING_VALUES: Mapping[str, Any] = {"status": JobStatus.ACCEPTED, "lease_ends": None, "runner": None}


class JobQueue:
    """The jobs that wait for a runner, and those that runners hold.

    Every method is one transaction, as those of `JobRecords`.

    Parameters
    ----------
    database
        Database.
    """

    def __init__(self, database: JobDatabase) -> None:
        self._database = database

    def claim(self, runner: str, lease_seconds: float, rules: ClaimRules = ANY_JOB) -> ClaimedJob | None:
        """Take a job for a runner, until its lease ends; None if no job may be taken.

        Callers take turns: first those with fewer running jobs, then those whose last job began longer ago, then older
        jobs. So neither many nor large jobs of one caller hold up those of another one. A job whose lease has ended
        waits again, but not after too many runs.
        """
        is_running = JOBS.c.status == JobStatus.RUNNING
        is_long = or_(JOBS.c.work.is_(None), JOBS.c.work > rules.short_work)
        is_running_long_here = and_(is_running, JOBS.c.runner == runner, is_long)
        owners = (
            select(
                JOBS.c.owner,
                func.sum(case((is_running, 1), else_=0)).label("running"),
                func.sum(case((is_running_long_here, 1), else_=0)).label("long_here"),
                func.coalesce(func.max(JOBS.c.started), 0.0).label("last_start"),
            )
            .group_by(JOBS.c.owner)
            .subquery()
        )
        may_take = (
            or_(not_(is_long), owners.c.long_here < rules.long_jobs_per_owner) if rules.takes_long else not_(is_long)
        )
        candidate = (
            select(JOBS.c.id)
            .join(owners, owners.c.owner == JOBS.c.owner)
            .where(self._is_claimable(), may_take)
            .order_by(owners.c.running, owners.c.last_start, JOBS.c.created, JOBS.c.id)
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
                crashes=JOBS.c.crashes + case((JOBS.c.status == JobStatus.RUNNING, 1), else_=0),
                started=func.coalesce(JOBS.c.started, self._database.now()),
                lease_ends=self._database.now() + lease_seconds,
            )
            .returning(JOBS.c.id, JOBS.c.kind, JOBS.c.media_type, JOBS.c.body, JOBS.c.attempt, JOBS.c.work)
        )
        with self._database.writer.begin() as connection:
            row = connection.execute(statement).first()
        return None if row is None else ClaimedJob(*row)

    def renew(self, claimed: ClaimedJob, runner: str, lease_seconds: float, progress: StoredProgress) -> bool:
        """Keep a claimed job, and store its progress; return False if it is not the runner's any more."""
        values = {"lease_ends": self._database.now() + lease_seconds, **_progress_to_values(progress)}
        return self._change_claimed(claimed, runner, values)

    def finish(self, claimed: ClaimedJob, runner: str, result: JobResult, progress: StoredProgress) -> bool:
        """Store the result and the last progress of a claimed job; return False as for `renew`."""
        values = {
            "status": JobStatus.SUCCESSFUL,
            "result": result.content,
            "encoding": result.encoding,
            "has_details": result.has_details,
            "stored_bytes": len(result.content),
            **_progress_to_values(progress),
        }
        return self._end_claimed(claimed, runner, values)

    def fail(self, claimed: ClaimedJob, runner: str, problem: str) -> bool:
        """Store the problem of a claimed job; return False as for `renew`."""
        values = {"status": JobStatus.FAILED, "problem": problem, "stored_bytes": len(problem)}
        return self._end_claimed(claimed, runner, values)

    def release(self, claimed: ClaimedJob, runner: str, *, is_crash: bool = False) -> bool:
        """Let a claimed job wait again; return False as for `renew`.

        Parameters
        ----------
        claimed, runner
            Job, and its runner.
        is_crash
            True if processes ended with the job, which may be the cause; False by default.
        """
        return self._change_claimed(claimed, runner, {**_WAITING_VALUES, "crashes": JOBS.c.crashes + int(is_crash)})

    def release_all(self, runner: str) -> int:
        """Let the jobs of a runner that has ended without a word wait again; return their number."""
        is_held = and_(JOBS.c.runner == runner, JOBS.c.status == JobStatus.RUNNING)
        return self._database.change(is_held, {**_WAITING_VALUES, "crashes": JOBS.c.crashes + 1})

    def fail_exhausted(self, problem: str) -> int:
        """End the jobs that have outlived too many of their runners; return their number."""
        has_no_runner = or_(JOBS.c.status == JobStatus.ACCEPTED, JOBS.c.lease_ends < self._database.now())
        return self._database.change(
            and_(JOBS.c.status.in_(UNFINISHED), has_no_runner, JOBS.c.crashes >= MAX_CRASHES),
            {"status": JobStatus.FAILED, "problem": problem, "stored_bytes": len(problem), **self._end_values()},
        )

    def count_stored_bytes(self) -> int:
        """Count the bytes of all requests and results."""
        with self._database.reader.connect() as connection:
            return int(connection.execute(select(func.coalesce(func.sum(JOBS.c.stored_bytes), 0))).scalar_one())

    def delete_expired(self) -> int:
        """Delete the jobs that ended long ago; return their number."""
        with self._database.writer.begin() as connection:
            return count_rows(connection.execute(delete(JOBS).where(~self._database.is_kept())))

    def report_runner(self, runner: str, obstacle: str | None) -> None:
        """Record that a runner looks for jobs, and why it takes none; None if it takes them."""
        values = {"seen": self._database.now(), "obstacle": obstacle}
        with self._database.writer.begin() as connection:
            if not count_rows(connection.execute(update(RUNNERS).where(RUNNERS.c.name == runner).values(**values))):
                connection.execute(insert(RUNNERS).values(name=runner, **values))

    def _is_claimable(self) -> ColumnElement[bool]:
        has_lost_runner = and_(JOBS.c.status == JobStatus.RUNNING, JOBS.c.lease_ends < self._database.now())
        return and_(or_(JOBS.c.status == JobStatus.ACCEPTED, has_lost_runner), JOBS.c.crashes < MAX_CRASHES)

    def _end_claimed(self, claimed: ClaimedJob, runner: str, values: Mapping[str, Any]) -> bool:
        return self._change_claimed(claimed, runner, {**values, **self._end_values()})

    def _end_values(self) -> dict[str, Any]:
        return {"finished": self._database.now(), "body": None, "lease_ends": None, "runner": None}

    def _change_claimed(self, claimed: ClaimedJob, runner: str, values: Mapping[str, Any]) -> bool:
        is_own = and_(
            JOBS.c.id == claimed.id,
            JOBS.c.status == JobStatus.RUNNING,
            JOBS.c.runner == runner,
            JOBS.c.attempt == claimed.attempt,
        )
        return self._database.change(is_own, values) == 1


def _progress_to_values(progress: StoredProgress) -> dict[str, Any]:
    return {"done": progress.done, "total": progress.total, "tensor": write_name(progress.tensor)}
