"""An executor whose calls are shared between this thread and helpers.

All calls of a map are known at once. The thread that asks for their results computes the oldest call that nobody has
begun, as the helpers do. So it never waits while there is work, and a map ends without any helper.
"""

import pickle
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, Protocol, TypeVar

from service.numerics.core.interrupts import check_interrupt
from service.numerics.gradients.finite_difference.inline_executor import InlineExecutor

ResultT = TypeVar("ResultT")

_FEWEST_SHARED_CALLS = 2
_POLL_SECONDS = 0.05
"""Seconds between two looks at the clock of the request, while a helper has the last calls."""
_PATIENCE_SECONDS = 2.0
_PATIENCE_IN_CALLS = 4
"""A helper is given up when a call takes it these seconds, and this many times the longest call here, too."""


class SharedJob:
    """The calls of one map.

    Parameters
    ----------
    function
        Function to call; it and its results can be pickled.
    arguments
        Arguments of each call.
    """

    def __init__(self, function: Callable[..., Any], arguments: list[tuple[Any, ...]]) -> None:
        self.function = function
        self.arguments = arguments
        self.results: dict[int, Any] = {}
        self._pickled: bytes | None = None

    def dump(self) -> bytes:
        """Return the pickled job, which is made once."""
        if self._pickled is None:
            self._pickled = pickle.dumps((self.function, self.arguments), pickle.HIGHEST_PROTOCOL)
        return self._pickled


class SharedCall(NamedTuple):
    """One call of a job."""

    job: SharedJob
    index: int


class CallTaker(Protocol):
    """One that takes calls: a helper."""

    def give_up(self) -> None:
        """End at once, and give back what was taken."""


class SharedExecutor(InlineExecutor):
    """The shared calls of one check.

    Parameters
    ----------
    job_bytes
        Bytes that a helper may take for a job.
    """

    runs_ahead = True

    def __init__(self, job_bytes: int) -> None:
        self.job_bytes = job_bytes
        self._changed = threading.Condition()
        self._waiting: deque[SharedCall] = deque()
        self._taken: dict[SharedCall, CallTaker] = {}
        self._is_closed = False
        self._longest_call = 0.0

    def map(
        self, fn: Callable[..., ResultT], *iterables: Iterable[Any], timeout: float | None = None, chunksize: int = 1
    ) -> Iterator[ResultT]:
        """Offer all calls at once, and return an iterator of their results, in order.

        A single call is made here, on request: its job would take longer to send.
        """
        job = SharedJob(fn, list(zip(*iterables, strict=False)))
        if len(job.arguments) < _FEWEST_SHARED_CALLS:
            return (fn(*arguments) for arguments in job.arguments)
        with self._changed:
            self._waiting.extend(SharedCall(job, index) for index in range(len(job.arguments)))
            self._changed.notify_all()
        return self._iterate_results(job)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Withdraw all calls, and end the helpers that compute one."""
        with self._changed:
            self._is_closed = True
            self._waiting.clear()
            takers = set(self._taken.values())
            self._taken.clear()
            self._changed.notify_all()
        for taker in takers:
            taker.give_up()

    def take(self, taker: CallTaker, *, waits: bool) -> SharedCall | None:
        """Take the oldest call that nobody has begun, for a helper.

        Parameters
        ----------
        taker
            The helper.
        waits
            True to wait for a call; it is then None at the end of the check alone.
        """
        with self._changed:
            while waits and not self._waiting and not self._is_closed:
                self._changed.wait()
            if not self._waiting:
                return None
            call = self._waiting.popleft()
            self._taken[call] = taker
            return call

    def finish(self, call: SharedCall, result: Any) -> None:
        """Keep the result of a call that a helper took."""
        with self._changed:
            if self._taken.pop(call, None) is not None:
                call.job.results[call.index] = result
                self._changed.notify_all()

    def give_back(self, calls: Iterable[SharedCall]) -> None:
        """Offer calls again, oldest first, that a helper took and did not compute."""
        with self._changed:
            self._waiting.extendleft(call for call in reversed(list(calls)) if self._taken.pop(call, None) is not None)
            self._changed.notify_all()

    def _iterate_results(self, job: SharedJob) -> Iterator[Any]:
        for index in range(len(job.arguments)):
            while index not in job.results:
                self._advance(SharedCall(job, index))
            yield job.results.pop(index)

    def _advance(self, wanted: SharedCall) -> None:
        """Make the oldest call that nobody has begun; wait for the wanted one if there is none."""
        check_interrupt()
        with self._changed:
            call = self._waiting.popleft() if self._waiting else None
        if call is None:
            self._wait_for(wanted)
            return
        started = time.monotonic()
        result = call.job.function(*call.job.arguments[call.index])
        self._longest_call = max(self._longest_call, time.monotonic() - started)
        call.job.results[call.index] = result

    def _wait_for(self, wanted: SharedCall) -> None:
        """Wait until the wanted call is done or given back; give a helper up that takes too long."""
        patience_ends = time.monotonic() + _PATIENCE_SECONDS + _PATIENCE_IN_CALLS * self._longest_call
        while True:
            with self._changed:
                taker = self._taken.get(wanted)
                if taker is None:
                    return
                self._changed.wait(_POLL_SECONDS)
            check_interrupt()
            if time.monotonic() > patience_ends:
                taker.give_up()
                self.give_back([call for call, other in list(self._taken.items()) if other is taker])
                return
