"""The jobs of an application.

They are opened by the first request for one: SQLAlchemy takes time and memory that a service without jobs need not
spend. A service whose database outlives it opens them at its start, since jobs may wait there.
"""

import atexit
import logging
import shutil
import tempfile
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar

from flask import Flask, current_app
from werkzeug.exceptions import ServiceUnavailable

from service.http import metrics
from service.jobs.owner import find_owner
from service.settings import Settings

if TYPE_CHECKING:
    from service.jobs.job import JobCounts
    from service.jobs.job_service import JobService

_JOBS = "gradcheckd.jobs"
_RETRY_SECONDS = 5
_SHARE_OF_FREE_BYTES = 2
"""Divisor of the free bytes of a directory in memory for the jobs: other things need room there, too."""
_log = logging.getLogger("gradcheckd")


class JobsUnavailableError(ServiceUnavailable):
    """No answer from the database of the jobs."""

    reason: ClassVar = "no-database"


class JobAccess:
    """The jobs of an application, opened at their first use.

    Parameters
    ----------
    settings
        Settings of the service.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._service: JobService | None = None

    def open(self) -> "JobService":
        """Return the jobs.

        Raises
        ------
        JobsUnavailableError
            The database does not answer.
        """
        with self._lock, _report_database_errors():
            if self._service is None:
                self._service = self._make_service()
            return self._service

    def find_obstacle(self) -> str | None:
        """Return why no job is computed now, a clause; None if jobs are, or none has been asked for here."""
        # Without the lock: a look at the health does not wait for a database that is being opened.
        service = self._service
        return None if service is None else service.records.find_obstacle()

    def close(self) -> None:
        """Close the connections to the database."""
        with self._lock:
            if self._service is not None:
                self._service.close()
                self._service = None

    def _make_service(self) -> "JobService":
        from service.jobs.job_service import JobService
        from service.jobs.records import StoreLimits

        settings, max_bytes = self._settings, self._settings.max_job_bytes
        owner, directory = find_owner()
        url = settings.jobs_url
        if not url:
            directory = directory or _make_directory()
            url = f"sqlite:///{directory}/jobs.db"
            max_bytes = min(max_bytes, shutil.disk_usage(directory).free // _SHARE_OF_FREE_BYTES)
        return JobService(
            url, settings.job_ttl_seconds, StoreLimits(settings.max_queued_jobs, max_bytes), owner, _show_counts
        )


def _show_counts(counts: "JobCounts") -> None:
    for status, count in counts.by_status.items():
        metrics.JOBS.labels(status.value).set(count)
    metrics.OLDEST_JOB_SECONDS.set(counts.oldest_seconds)


def _make_directory() -> str:
    directory = tempfile.mkdtemp(prefix="gradcheckd-jobs-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return directory


def register(app: Flask, settings: Settings) -> None:
    """Let requests of an application become jobs, and open those that may wait from before."""
    app.extensions[_JOBS] = access = JobAccess(settings)
    if settings.jobs_url:
        # The start does not wait for the database, and the first request tells of its absence.
        threading.Thread(target=_open_in_background, args=(access,), name="gradcheckd-jobs-start", daemon=True).start()


def _open_in_background(access: JobAccess) -> None:
    try:
        access.open()
    except ServiceUnavailable as error:
        _log.warning("%s", error.description)


def close_jobs(app: Flask) -> None:
    """End the runner that this application has started, and close the connections to the database."""
    access: JobAccess = app.extensions[_JOBS]
    access.close()


def has_jobs(app: Flask) -> bool:
    """Tell whether requests of an application can become jobs."""
    return _JOBS in app.extensions


def find_obstacle() -> str | None:
    """Return why the jobs of this application wait, a clause; None if they do not, or there are none."""
    if not has_jobs(current_app):
        return None
    access: JobAccess = current_app.extensions[_JOBS]
    try:
        with _report_database_errors():
            return access.find_obstacle()
    except JobsUnavailableError:
        return "their database does not answer"


@contextmanager
def use_jobs() -> Generator["JobService"]:
    """Use the jobs of this application within the block.

    Raises
    ------
    JobsUnavailableError
        The database does not answer.
    """
    access: JobAccess = current_app.extensions[_JOBS]
    service = access.open()
    with _report_database_errors():
        yield service


@contextmanager
def _report_database_errors() -> Generator[None]:
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (SQLAlchemyError, OSError) as error:
        _log.warning("the database of the jobs: %r", error)
        detail = f"The database of the jobs does not answer. Try again in {_RETRY_SECONDS} s."
        raise JobsUnavailableError(detail, retry_after=_RETRY_SECONDS) from None
