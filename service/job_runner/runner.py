"""The loop of the runner: it claims jobs, computes each in a thread, and keeps their leases."""

import logging
import threading
import time
from collections.abc import Callable
from functools import partial

import orjson

from schemas.problem_details import make_problem
from service.checks.common.background_job import CancelledError
from service.checks.common.limits import Limits
from service.http.response.problem_details import describe_problem
from service.job_runner.cluster import Cluster, ClusterLostError
from service.job_runner.execute import FinishedRun, run_job
from service.jobs.job import ClaimedJob, StoredProgress
from service.jobs.queue import JobQueue
from service.numerics.core.difference import DifferenceProgress
from service.settings import Settings

LEASE_SECONDS = 15.0
"""Seconds after which another runner takes the jobs of one that is gone."""
_POLL_SECONDS = 0.2
"""Seconds between two looks for new jobs and for cancelled ones."""
_RENEWAL_SECONDS = 0.5
"""Seconds between two renewals of the leases: a cancelled job stops within twice of it."""
_CLEANING_SECONDS = 30.0
_REPORT_SECONDS, _OBSTACLE_SECONDS = 5.0, 1.0
"""Seconds between two looks for an obstacle, and for its end."""
_STOP_SECONDS = 5.0
_EXHAUSTED_DETAIL = "Each run of this job ended with the process that computed it. Take a smaller model."
_EXHAUSTED = orjson.dumps(make_problem(500, "Internal Server Error", _EXHAUSTED_DETAIL)).decode()
_log = logging.getLogger("gradcheckd")


class RunningJob:
    """A job in a thread of its own.

    Parameters
    ----------
    claimed
        StoredJob.
    compute
        Function that answers it, given the receiver of its progress and the check for its cancellation.
    on_end
        Function to call at its end.
    """

    def __init__(
        self,
        claimed: ClaimedJob,
        compute: Callable[[ClaimedJob, DifferenceProgress, Callable[[], None]], FinishedRun],
        on_end: Callable[[], None],
    ) -> None:
        self.claimed = claimed
        self.progress = StoredProgress()
        self.finished_run: FinishedRun | None = None
        self.is_lost = False
        self._compute, self._on_end, self._cancelled = compute, on_end, threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"gradcheckd-job-{claimed.id}", daemon=True)
        self._thread.start()

    @property
    def has_ended(self) -> bool:
        """Return whether the thread has ended."""
        return not self._thread.is_alive()

    def cancel(self) -> None:
        """Stop the computation at its next pause."""
        self._cancelled.set()

    def wait(self, seconds: float) -> None:
        """Wait for the end of the thread."""
        self._thread.join(seconds)

    def _run(self) -> None:
        try:
            self.finished_run = self._compute(self.claimed, self._record_progress, self._raise_if_cancelled)
        except CancelledError:
            pass
        except ClusterLostError:
            self.is_lost = True
        except Exception as error:  # noqa: BLE001  # the job ends with its number in the log
            self.finished_run = FinishedRun(problem=describe_problem(error))
        finally:
            self._on_end()

    def _record_progress(self, name: str, done: int, total: int) -> None:
        self._raise_if_cancelled()
        self.progress = StoredProgress(done, total, name)

    def _raise_if_cancelled(self) -> None:
        if self._cancelled.is_set():
            raise CancelledError


class Runner:
    """The runner of a machine.

    Parameters
    ----------
    queue
        Queue of the jobs.
    name
        Name of the runner, the same after a restart: it begins with the release of the jobs that the last one held.
    settings
        Settings of the service.
    limits
        Limits of a job.
    cluster
        Cluster that computes large jobs; None, the default, for this machine.
    """

    def __init__(
        self, queue: JobQueue, name: str, settings: Settings, limits: Limits, cluster: Cluster | None = None
    ) -> None:
        self._queue, self._name, self._most = queue, name, settings.max_running_jobs
        self._cluster = cluster
        self._compute = partial(run_job, settings, limits, None if cluster is None else cluster.share_work)
        self._running: list[RunningJob] = []
        self._changed = threading.Event()
        self._next_renewal = self._next_cleaning = self._next_report = self._last_work = 0.0
        self._obstacle: str | None = None

    def run(self, goes_on: Callable[[float], bool]) -> None:
        """Compute jobs until the end.

        Parameters
        ----------
        goes_on
            Function that tells whether to go on, given the seconds for which no job has been there.
        """
        self._queue.release_all(self._name)
        self._last_work = time.monotonic()
        try:
            while goes_on(time.monotonic() - self._last_work):
                self._advance()
                self._changed.wait(_POLL_SECONDS)
                self._changed.clear()
        finally:
            self._stop()

    def _advance(self) -> None:
        now = time.monotonic()
        if now >= self._next_renewal:
            self._next_renewal = now + _RENEWAL_SECONDS
            self._renew_leases()
        if now >= self._next_cleaning:
            self._next_cleaning = now + _CLEANING_SECONDS
            self._queue.fail_exhausted(_EXHAUSTED)
            self._queue.delete_expired()
        if now >= self._next_report:
            self._report(now)
        self._record_ended()
        while self._obstacle is None and len(self._running) < self._most:
            claimed = self._queue.claim(self._name, LEASE_SECONDS)
            if claimed is None:
                break
            _log.info("job %s began, run %d", claimed.id, claimed.attempt)
            self._running.append(RunningJob(claimed, self._compute, self._changed.set))
        if self._running:
            self._last_work = now

    def _report(self, now: float) -> None:
        """Look for an obstacle, and let the service know."""
        self._obstacle = None if self._cluster is None else self._cluster.describe_absence()
        self._queue.report_runner(self._name, self._obstacle)
        self._next_report = now + (_REPORT_SECONDS if self._obstacle is None else _OBSTACLE_SECONDS)

    def _renew_leases(self) -> None:
        for job in self._running:
            if not self._queue.renew(job.claimed, self._name, LEASE_SECONDS, job.progress):
                job.cancel()

    def _record_ended(self) -> None:
        for job in [job for job in self._running if job.has_ended]:
            self._running.remove(job)
            if job.finished_run is not None:
                self._record_end(job.claimed, job.finished_run, job.progress)
            elif self._queue.release(job.claimed, self._name):
                # It stopped without being cancelled by its caller.
                _log.warning("job %s waits again", job.claimed.id)
            if job.is_lost:
                self._next_report = 0.0

    def _record_end(self, claimed: ClaimedJob, run: FinishedRun, progress: StoredProgress) -> None:
        if run.result is not None:
            is_recorded = self._queue.finish(claimed, self._name, run.result, progress)
        else:
            is_recorded = self._queue.fail(claimed, self._name, run.problem_text)
        _log.info("job %s ended%s", claimed.id, "" if is_recorded else ", and was not ours any more")

    def _stop(self) -> None:
        for job in self._running:
            job.cancel()
        deadline = time.monotonic() + _STOP_SECONDS
        for job in self._running:
            job.wait(max(0.0, deadline - time.monotonic()))
        self._record_ended()
        for job in self._running:
            self._queue.release(job.claimed, self._name)
