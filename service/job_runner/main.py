"""The program of the runner."""

import hashlib
import logging
import os
import signal
import socket
import sys
import threading
from types import FrameType

from service import logs
from service.checks.kinds import load_kinds
from service.helper_processes.oom_score import raise_oom_score
from service.http.middleware.request_limits import read_job_limits
from service.job_runner.cluster import Cluster
from service.job_runner.runner import Runner
from service.jobs.database import JobDatabase
from service.jobs.queue import JobQueue
from service.jobs.runner_process import read_start_time
from service.settings import Settings

_NICENESS = 5


def run_runner(url: str, lock: str, service_pid: int, start_time: str, max_bytes: int) -> None:
    """Compute jobs until none has come for a while, a signal comes, or the service is gone.

    Parameters
    ----------
    url
        Database of the jobs.
    lock
        Path of the lock, which this process holds.
    service_pid, start_time
        Process of the service, and its start.
    max_bytes
        Most bytes of all requests and results.
    """
    stopped = threading.Event()

    def stop(number: int, frame: FrameType | None) -> None:
        stopped.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    # A request has a client that waits for it; a job has none.
    os.nice(_NICENESS)
    raise_oom_score()
    _configure_logging()
    settings = Settings()
    load_kinds()

    def goes_on(idle_seconds: float) -> bool:
        is_served = read_start_time(service_pid) == start_time
        return is_served and not stopped.is_set() and idle_seconds < settings.job_idle_seconds

    database = JobDatabase(url, settings.job_ttl_seconds)
    cluster = Cluster(settings.scheduler) if settings.scheduler else None
    try:
        limits = read_job_limits(settings)
        Runner(JobQueue(database), _name_runner(lock), settings, limits, cluster, max_bytes).run(goes_on)
    finally:
        if cluster is not None:
            cluster.close()
        database.close()


def _configure_logging() -> None:
    logs.log_to_stderr(logging.INFO)
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logs.make_formatter())
    logging.getLogger("gradcheckd").addHandler(handler)
    logging.getLogger("gradcheckd").setLevel(logging.INFO)


def _name_runner(lock: str) -> str:
    """Name the runner of this machine and lock: a later one has the same name."""
    digest = hashlib.sha256(os.path.abspath(lock).encode()).hexdigest()[:16]
    return f"{socket.gethostname()}/{digest}"
