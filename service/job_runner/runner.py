"""The loop of the runner: it claims jobs, computes each in a thread, and keeps their leases."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import orjson
from sqlalchemy.exc import SQLAlchemyError

from schemas.problem_details import make_problem
from service.checks.common.background_job import CancelledError
from service.checks.common.limits import Limits
from service.http.response.problem_details import describe_problem
from service.job_runner.cluster import Cluster, ClusterLostError
from service.job_runner.execute import FinishedRun, run_job
from service.jobs.job import ClaimedJob, ClaimRules, StoredProgress
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
_REPORT_SECONDS = 5.0
"""Seconds between two signs of life to the service."""
_LOOK_SECONDS = 1.0
"""Seconds between two looks at the cluster."""
_UNSEEN_CLUSTER = "the scheduler has not answered yet"
_DATABASE_SECONDS = 1.0
"""Seconds between two attempts while the database does not answer."""
_STOP_SECONDS = 5.0
_SHORT_PLACES = 1
"""Places for short jobs, beside those for all jobs: no long job holds up a short one."""
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
        self.loss: ClusterLostError | None = None
        self._compute, self._on_end = compute, on_end
        self._cancelled, self._is_over = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"gradcheckd-job-{claimed.id}", daemon=True)
        self._thread.start()

    @property
    def has_ended(self) -> bool:
        """Return whether the computation has ended."""
        return self._is_over.is_set()

    @property
    def has_ended_workers(self) -> bool:
        """Return whether workers of a cluster ended with the job."""
        return self.loss is not None and self.loss.has_ended_workers

    def cancel(self) -> None:
        """Stop the computation at its next pause."""
        self._cancelled.set()

    def wait(self, seconds: float) -> None:
        """Wait for the end of the computation."""
        self._is_over.wait(seconds)

    def _run(self) -> None:
        try:
            self.finished_run = self._compute(self.claimed, self._record_progress, self._raise_if_cancelled)
        except CancelledError:
            pass
        except ClusterLostError as error:
            self.loss = error
        except Exception as error:  # noqa: BLE001  # the job ends with its number in the log
            self.finished_run = FinishedRun(problem=describe_problem(error))
        finally:
            self._is_over.set()
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
    max_bytes
        Most bytes of all requests and results, beyond which no job begins; those of the settings by default.
    """

    def __init__(
        self,
        queue: JobQueue,
        name: str,
        settings: Settings,
        limits: Limits,
        cluster: Cluster | None = None,
        max_bytes: int | None = None,
    ) -> None:
        self._queue, self._name, self._most = queue, name, settings.max_running_jobs
        # A long job has all processes, so that a second one of the same caller would gain nothing beside it.
        self._rules = ClaimRules(settings.max_work, max(1, self._most - 1))
        self._cluster = cluster
        self._compute = partial(run_job, settings, limits, None if cluster is None else cluster.share_work)
        self._running: list[RunningJob] = []
        self._changed, self._is_stopped = threading.Event(), threading.Event()
        self._next_renewal = self._next_cleaning = self._next_report = self._last_work = 0.0
        self._max_bytes, self._stored_bytes = max_bytes or settings.max_job_bytes, 0
        self._cluster_obstacle: str | None = None if cluster is None else _UNSEEN_CLUSTER
        self._loses_database = False

    def run(self, goes_on: Callable[[float], bool]) -> None:
        """Compute jobs until the end.

        Parameters
        ----------
        goes_on
            Function that tells whether to go on, given the seconds for which no job has been there.
        """
        self._queue.release_all(self._name)
        self._last_work = time.monotonic()
        if self._cluster is not None:
            threading.Thread(
                target=self._watch_cluster, args=(self._cluster,), name="gradcheckd-cluster", daemon=True
            ).start()
        try:
            while goes_on(time.monotonic() - self._last_work):
                self._advance_or_wait()
                self._changed.wait(_POLL_SECONDS)
                self._changed.clear()
        finally:
            self._is_stopped.set()
            self._stop()

    def _watch_cluster(self, cluster: Cluster) -> None:
        """Look for an obstacle, in a thread of its own: a scheduler that does not answer holds up no job."""
        while not self._is_stopped.is_set():
            obstacle = cluster.describe_absence()
            if obstacle != self._cluster_obstacle:
                self._cluster_obstacle, self._next_report = obstacle, 0.0
                self._changed.set()
            self._is_stopped.wait(_LOOK_SECONDS)

    def _advance_or_wait(self) -> None:
        """Take a step; without the database, let the jobs compute until it is there again.

        A lease may end meanwhile. Its job then belongs to the runner that has taken it, and to this one if none has.
        """
        try:
            self._advance()
        except SQLAlchemyError as error:
            if not self._loses_database:
                _log.warning("no answer from the database of the jobs; the runner waits for it: %r", error)
            self._loses_database = True
            self._is_stopped.wait(_DATABASE_SECONDS)
        else:
            self._loses_database = False

    def _advance(self) -> None:
        now = time.monotonic()
        if now >= self._next_renewal:
            self._renew_leases()
            self._next_renewal = now + _RENEWAL_SECONDS
        self._record_ended()
        if now >= self._next_cleaning:
            self._queue.fail_exhausted(_EXHAUSTED)
            self._queue.delete_expired()
            self._next_cleaning = now + _CLEANING_SECONDS
        if now >= self._next_report:
            self._stored_bytes = self._queue.count_stored_bytes()
            self._next_report = now + _REPORT_SECONDS
            self._queue.report_runner(self._name, self._obstacle)
        self._claim_jobs()
        if self._running:
            self._last_work = now

    @property
    def _obstacle(self) -> str | None:
        """Return why no job may begin now, a clause; None if one may."""
        if self._cluster_obstacle is not None:
            return self._cluster_obstacle
        if self._stored_bytes < self._max_bytes:
            return None
        return f"requests and results take all of the {self._max_bytes} bytes for them; delete jobs that have ended"

    def _claim_jobs(self) -> None:
        """Take jobs for the free places, one of which is for short jobs alone."""
        while self._obstacle is None and len(self._running) < self._most + _SHORT_PLACES:
            long_count = sum(self._rules.is_long(job.claimed) for job in self._running)
            rules = replace(self._rules, takes_long=long_count < self._most)
            claimed = self._queue.claim(self._name, LEASE_SECONDS, rules)
            if claimed is None:
                break
            _log.info("job %s began, run %d", claimed.id, claimed.attempt)
            self._running.append(RunningJob(claimed, self._compute, self._changed.set))

    def _renew_leases(self) -> None:
        for job in self._running:
            if not self._queue.renew(job.claimed, self._name, LEASE_SECONDS, job.progress):
                job.cancel()

    def _record_ended(self) -> None:
        for job in [job for job in self._running if job.has_ended]:
            if job.loss is not None:
                # Its cause is gone for a while, or the job began in the moment before the watch saw it.
                self._cluster_obstacle = self._cluster_obstacle or _UNSEEN_CLUSTER
            if job.finished_run is not None:
                self._record_end(job.claimed, job.finished_run, job.progress)
            elif self._queue.release(job.claimed, self._name, is_crash=job.has_ended_workers):
                # It stopped without being cancelled by its caller.
                _log.warning("job %s waits again", job.claimed.id)
            # Not before: without the database it would be lost.
            self._running.remove(job)

    def _record_end(self, claimed: ClaimedJob, run: FinishedRun, progress: StoredProgress) -> None:
        if run.result is not None:
            self._stored_bytes += len(run.result.content)
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
        try:
            self._record_ended()
            for job in self._running:
                self._queue.release(job.claimed, self._name)
        except SQLAlchemyError as error:
            _log.warning("the jobs wait until their leases end: %r", error)
