"""A check that runs in a thread of its own, while the thread of its request tells how far it is."""

import contextvars
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Generic, NamedTuple, TypeVar

from service.numerics.gradients.finite_difference import Progress
from service.numerics.pausing import watched

Result = TypeVar("Result")

_PAUSE = 0.1
"""Seconds between two looks at how far it is."""
_log = logging.getLogger("gradcheckd")


class Step(NamedTuple):
    """How far the finite differences are: evaluations of the loss, the last of them for the tensor."""

    tensor: str
    done: int
    total: int


class CancelledError(Exception):
    """Nobody waits for the result any longer."""


class Running(Generic[Result]):
    """A job that has been started.

    It only ever writes down its last step, so that telling of it costs it next to nothing, and that it never waits for
    who is told.

    Parameters
    ----------
    job
        What is to run; tells of its progress.
    """

    def __init__(self, job: Callable[[Progress], Result]) -> None:
        self._job = job
        self._first: Step | None = None
        self._last: Step | None = None
        self._result: Result | None = None
        self._error: Exception | None = None
        self._begun, self._over, self._cancelled = threading.Event(), threading.Event(), threading.Event()
        # What the request is known by in the log goes along.
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._run,), name="gradcheckd-check")
        self._thread.start()

    def _run(self) -> None:
        try:
            with watched(self._while_awaited):
                self._result = self._job(self._told)
        except CancelledError:
            _log.info("the client went away; its check was stopped")
        except Exception as error:  # noqa: BLE001  # handed on to who asks for the result
            self._error = error
        finally:
            self._over.set()
            self._begun.set()

    def _while_awaited(self) -> None:
        if self._cancelled.is_set():
            raise CancelledError

    def _told(self, name: str, done: int, total: int) -> None:
        self._while_awaited()
        self._last = Step(name, done, total)
        if self._first is None:
            self._first = self._last
            self._begun.set()

    def wait_until_begun(self) -> None:
        """Wait for the first step.

        Raises
        ------
        Exception
            That of the job, where there was none.
        """
        self._begun.wait()
        if self._first is None and self._error is not None:
            raise self._error

    def steps(self) -> Iterator[Step]:
        """Steps as they come, once it has begun: the first, the last, and of those between some ten a second."""
        step = self._first
        while step is not None:
            yield step
            step = self._after(step)

    def _after(self, step: Step) -> Step | None:
        """The one that is told of next, a pause later at least; None if it is over without."""
        while not self._over.wait(_PAUSE):
            if self._last is not step:
                break
        return None if self._last is step else self._last

    def result(self) -> Result:
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

    def stop(self) -> None:
        """Let it stop at its next pause, and wait for that, if it is not over."""
        self._cancelled.set()
        self._thread.join()
