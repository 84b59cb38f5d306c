"""A check that goes on at a service without its client."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, Self, cast
from urllib.parse import quote

from gradcheckd import wire
from gradcheckd.connection import Connection
from gradcheckd.errors import AnswerTimeoutError, RequestError, hide_frames
from gradcheckd.in_process import IN_PROCESS
from gradcheckd.progress import Progress
from gradcheckd.report import Report
from gradcheckd.wire import SAFETENSORS, TEXT, Body

__tracebackhide__ = hide_frames

JobStatus = Literal["accepted", "running", "successful", "failed", "dismissed"]
JOBS_PATH = "/v1/jobs"
_FIRST_POLL_SECONDS, _LONGEST_POLL_SECONDS = 0.1, 2.0
_POLL_GROWTH = 1.3


@dataclass(frozen=True)
class JobProgress:
    """Evaluations of the loss so far, those foreseen, and the tensor whose elements move; None before it."""

    done: int
    total: int
    tensor: str | None


class Job:
    """A job of a service, as it was at the last look at it.

    Parameters
    ----------
    connection
        Connection to the service.
    raw
        Document of the job.
    deliver
        Function to call with the report, once it is there.
    """

    def __init__(self, connection: Connection, raw: Mapping[str, Any], deliver: Callable[[Report], Any]) -> None:
        self._connection, self._deliver = connection, deliver
        self._report: Report | None = None
        self._read(raw)

    def __repr__(self) -> str:
        return f"Job({self.id!r}, status={self.status!r}, progress={self.progress.done}/{self.progress.total})"

    @property
    def id(self) -> str:
        """Name of the job, with which `Service.job` finds it again."""
        return self._raw["id"]

    @property
    def status(self) -> JobStatus:
        """State at the last look: "accepted", "running", "successful", "failed" or "dismissed"."""
        return self._raw["status"]

    @property
    def has_ended(self) -> bool:
        """True for a job that had ended at the last look."""
        return self._raw["finished"] is not None

    @property
    def progress(self) -> JobProgress:
        """Progress at the last look."""
        return JobProgress(**self._raw["progress"])

    @property
    def raw(self) -> Mapping[str, Any]:
        """Document of the service."""
        return self._raw

    @property
    def result_path(self) -> str:
        """Address of the result, behind that of the service."""
        return f"{self._path}/result"

    def refresh(self) -> Self:
        """Look at the job again.

        Raises
        ------
        ProblemError
            The job has expired, or was deleted.
        """
        self._read(self._connection.get_json(self._path))
        return self

    def wait(self, timeout: float | None = None, progress: Progress | None = None) -> Report:
        """Wait for the end, and return the report.

        Parameters
        ----------
        timeout
            Seconds to wait at most; None, the default, for any time.
        progress
            Called with (name, evaluations done, evaluations foreseen) while the job runs.

        Raises
        ------
        AnswerTimeoutError
            The job has not ended in time. It goes on.
        ProblemError
            The job failed, was cancelled or has expired.
        """
        self.wait_for_end(timeout, progress)
        return self.result()

    def wait_for_end(self, timeout: float | None = None, progress: Progress | None = None) -> None:
        """Wait for the end, whatever it is; parameters and errors are those of `wait`."""
        deadline = None if timeout is None else time.monotonic() + timeout
        pause, last_progress = _FIRST_POLL_SECONDS, JobProgress(0, 0, None)
        while not self.has_ended:
            if deadline is not None:
                pause = min(pause, max(0.0, deadline - time.monotonic()))
                if not pause:
                    raise AnswerTimeoutError(
                        f"The job {self.id} has not ended within {timeout:g} s, and goes on. Wait longer, or cancel it."
                    )
            time.sleep(pause)
            pause = min(_POLL_GROWTH * pause, _LONGEST_POLL_SECONDS)
            self.refresh()
            if progress is not None and self.progress != last_progress and self.progress.tensor is not None:
                last_progress = self.progress
                progress(self.progress.tensor, last_progress.done, last_progress.total)

    def result(self) -> Report:
        """Return the report of a job that has ended.

        Raises
        ------
        ProblemError
            The job has not ended yet, failed, was cancelled or has expired.
        """
        if self._report is None:
            content = self._connection.get(self.result_path, wire.add_report_parameter(SAFETENSORS, TEXT))
            raw, text = wire.assemble_report(content), wire.read_text_entry(content)
            with wire.UnexpectedAnswerGuard():
                self._report = Report.read(raw, self._connection.prepare_result(self.result_path), text)
            self._deliver(self._report)
        return self._report

    def cancel(self) -> Self:
        """Cancel a job that has not ended, which stops within a second; forget one that has."""
        self._read(self._connection.delete(self._path))
        return self

    @property
    def _path(self) -> str:
        return f"{JOBS_PATH}/{self.id}"

    def _read(self, raw: Mapping[str, Any]) -> None:
        with wire.UnexpectedAnswerGuard():
            self._raw = {**raw}
            # A document of another form is an error here, and not at a later use.
            _ = self.id, self.status, self.has_ended, self.progress


def discard_report(report: Report) -> None:
    """Do nothing with a report."""


def submit_job(
    connection: Connection,
    body: Body,
    deliver: Callable[[Report], Any] = discard_report,
    idempotency_key: str | None = None,
) -> Job:
    """Let the request in a body become a job.

    Raises
    ------
    RequestError
        The service has no jobs.
    """
    if connection.url == IN_PROCESS:
        raise RequestError(
            "A job goes on at a service, and there is none: start one, `gradcheckd serve`, and name its address, "
            "url=... or GRADCHECKD_URL. In this process call check without wait=False."
        )
    return Job(connection, connection.post_for_job("/v1/check", body, idempotency_key), deliver)


def list_jobs(connection: Connection, deliver: Callable[[Report], Any] = discard_report) -> list[Job]:
    """Return the caller's jobs, the latest first."""
    answer = connection.get_json(JOBS_PATH)
    with wire.UnexpectedAnswerGuard():
        entries = cast("list[Mapping[str, Any]]", list(answer["jobs"]))
    return [Job(connection, entry, deliver) for entry in entries]


def find_job(connection: Connection, identifier: str, deliver: Callable[[Report], Any] = discard_report) -> Job:
    """Return a job by its name.

    Raises
    ------
    ProblemError
        The caller has no such job.
    """
    return Job(connection, connection.get_json(f"{JOBS_PATH}/{quote(identifier, safe='')}"), deliver)
