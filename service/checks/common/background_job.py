"""A check that runs in a thread of its own, while the thread of its request tells how far it is."""

import contextvars
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Generic, NamedTuple, TypeVar

from service.numerics.core.interrupts import install_interrupt_check
from service.numerics.gradients.finite_difference import DifferenceProgress

JobResult = TypeVar("JobResult")

_POLL_SECONDS = 0.1
"""Seconds between two looks at how far it is."""
_log = logging.getLogger("gradcheckd")


class ProgressStep(NamedTuple):
    """How far the finite differences are: evaluations of the loss, the last of them for the tensor."""

    tensor: str
    evaluations_done: int
    evaluations_total: int


class CancelledError(Exception):
    """Nobody waits for the result any longer."""


class BackgroundJob(Generic[JobResult]):
    """A job that has been started.

    It only ever writes down its last step, so that telling of it costs it next to nothing, and that it never waits for
    who is told.

    Parameters
    ----------
    job
        What is to run; tells of its progress.
    """

    def __init__(self, job: Callable[[DifferenceProgress], JobResult]) -> None:
        self._job = job
        self._first_step: ProgressStep | None = None
        self._last_step: ProgressStep | None = None
        self._result: JobResult | None = None
        self._error: Exception | None = None
        self._started, self._finished, self._cancelled = threading.Event(), threading.Event(), threading.Event()
        # What the request is known by in the log goes along.
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._run,), name="gradcheckd-check")
        self._thread.start()

    def _run(self) -> None:
        try:
            with install_interrupt_check(self._raise_if_cancelled):
                self._result = self._job(self._record_progress)
        except CancelledError:
            _log.info("the client went away; its check was stopped")
        except Exception as error:  # noqa: BLE001  # handed on to who asks for the result
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
            That of the job, where there was none.
        """
        self._started.wait()
        if self._first_step is None and self._error is not None:
            raise self._error

    def iterate_steps(self) -> Iterator[ProgressStep]:
        """Steps as they come, once it has begun: the first, the last, and of those between some ten a second."""
        step = self._first_step
        while step is not None:
            yield step
            step = self._wait_for_next_step(step)

    def _wait_for_next_step(self, step: ProgressStep) -> ProgressStep | None:
        """The one that is told of next, a pause later at least; None if it is over without."""
        while not self._finished.wait(_POLL_SECONDS):
            if self._last_step is not step:
                break
        return None if self._last_step is step else self._last_step

    def result(self) -> JobResult:
        """What came of it, once the steps are over.

        Raises
        ------
        Exception
            That of the job.
        """
        self._thread.join()
        if self._error is not None:
            raise self._error
        assert self._result is not None
        return self._result

    def cancel_and_wait(self) -> None:
        """Let it stop at its next pause, and wait for that, if it is not over."""
        self._cancelled.set()
        self._thread.join()
