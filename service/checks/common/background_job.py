"""A check in a thread of its own, while the thread of the request reports its progress."""

import contextvars
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Generic, NamedTuple, TypeVar

from service.numerics.core.difference import DifferenceProgress
from service.numerics.core.interrupts import install_interrupt_check

JobResult = TypeVar("JobResult")

_POLL_SECONDS = 0.1
"""Seconds between two looks at the progress."""
_log = logging.getLogger("gradcheckd")


class ProgressStep(NamedTuple):
    """The progress of the finite differences: evaluations of the loss, the last of them for the tensor."""

    tensor: str
    evaluations_done: int
    evaluations_total: int


class CancelledError(Exception):
    """The client has left: nobody waits for the result."""


class BackgroundJob(Generic[JobResult]):
    """A job that has been started.

    The job stores its last step alone: reporting costs it next to nothing, and it never waits for a reader.

    Parameters
    ----------
    job
        Function to run; takes the receiver of its progress.
    """

    def __init__(self, job: Callable[[DifferenceProgress], JobResult]) -> None:
        self._job = job
        self._first_step: ProgressStep | None = None
        self._last_step: ProgressStep | None = None
        self._result: JobResult | None = None
        self._error: Exception | None = None
        self._started, self._finished, self._cancelled = threading.Event(), threading.Event(), threading.Event()
        # The log knows the request by its context.
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._run,), name="gradcheckd-check")
        self._thread.start()

    def _run(self) -> None:
        try:
            with install_interrupt_check(self._raise_if_cancelled):
                self._result = self._job(self._record_progress)
        except CancelledError:
            _log.info("the client went away; its check was stopped")
        except Exception as error:  # noqa: BLE001  # `result` raises it
            self._error = error
        finally:
            self._finished.set()
            self._started.set()

    def _raise_if_cancelled(self) -> None:
        if self._cancelled.is_set():
            raise CancelledError

    def _record_progress(self, name: str, done: int, total: int) -> None:
        self._raise_if_cancelled()
        self._last_step = ProgressStep(name, done, total)
        if self._first_step is None:
            self._first_step = self._last_step
            self._started.set()

    def wait_until_started(self) -> None:
        """Wait for the first step.

        Raises
        ------
        Exception
            The job failed before its first step, with this error.
        """
        self._started.wait()
        if self._first_step is None and self._error is not None:
            raise self._error

    def iterate_steps(self) -> Iterator[ProgressStep]:
        """Yield the first step, the last one, and about ten a second between them."""
        step = self._first_step
        while step is not None:
            yield step
            step = self._wait_for_next_step(step)

    def _wait_for_next_step(self, step: ProgressStep) -> ProgressStep | None:
        """Return the next step, at least a pause later; None at the end of the job."""
        while not self._finished.wait(_POLL_SECONDS):
            if self._last_step is not step:
                break
        return None if self._last_step is step else self._last_step

    def result(self) -> JobResult:
        """Wait for the end of the job, and return its result.

        Raises
        ------
        Exception
            The job failed with this error.
        """
        self._thread.join()
        if self._error is not None:
            raise self._error
        assert self._result is not None
        return self._result

    def cancel_and_wait(self) -> None:
        """Stop the job at its next pause, and wait for its end."""
        self._cancelled.set()
        self._thread.join()
