"""The jobs of one process of the service: their records, and a runner for them."""

import hashlib
import logging
import os
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import make_url
from sqlalchemy.exc import SQLAlchemyError

from service.jobs.database import JobDatabase
from service.jobs.job import JobCounts, NewJob, StoredJob
from service.jobs.records import JobRecords, StoreLimits
from service.jobs.runner_process import RunnerStarter

_WATCH_SECONDS = 1.0
"""Seconds between two looks for a runner while jobs wait or run."""
_log = logging.getLogger("gradcheckd")


class JobService:
    """The records, and a thread that looks for a runner while there are jobs.

    Parameters
    ----------
    url
        Database of the jobs.
    ttl_seconds
        Seconds after its end for which a job is kept.
    limits
        Limits of the records.
    service_pid
        Process with which the runner ends.
    on_counts
        Receiver of the numbers of jobs, called about once a second.
    """

    def __init__(
        self,
        url: str,
        ttl_seconds: float,
        limits: StoreLimits,
        service_pid: int,
        on_counts: Callable[[JobCounts], None],
    ) -> None:
        self._database = JobDatabase(url, ttl_seconds)
        self.records = JobRecords(self._database, limits)
        self._starter = RunnerStarter(url, choose_lock(url), service_pid, limits.stored_bytes)
        self._on_counts = on_counts
        self._wakes, self._is_closed = threading.Event(), False
        self._thread = threading.Thread(target=self._watch, name="gradcheckd-jobs", daemon=True)
        self._thread.start()

    def submit(self, new: NewJob) -> tuple[StoredJob, bool]:
        """Accept a request, and see to a runner; return and raise as `JobRecords.submit`."""
        job, is_new = self.records.submit(new)
        self._wakes.set()
        return job, is_new

    def close(self) -> None:
        """End the thread and the runner that it started, and close the database."""
        self._is_closed = True
        self._wakes.set()
        self._thread.join()
        self._starter.close()
        self._database.close()

    def _watch(self) -> None:
        while not self._is_closed:
            try:
                counts = self.records.count_jobs()
                self._on_counts(counts)
                if counts.open_count:
                    self._starter.ensure_runner()
            except (OSError, SQLAlchemyError) as error:
                _log.warning("no look at the jobs: %r", error)
            self._wakes.clear()
            self._wakes.wait(_WATCH_SECONDS)


def choose_lock(url: str) -> Path:
    """Choose the path of the runner's lock: beside the file of SQLite, or one of this machine for another database."""
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite" and parsed.database and parsed.database != ":memory:":
        return Path(f"{parsed.database}.runner")
    digest = hashlib.sha256(url.encode()).hexdigest()[:16]
    return Path(tempfile.gettempdir()) / f"gradcheckd-{os.getuid()}-{digest}.runner"
