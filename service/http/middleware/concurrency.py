"""A bounded number of checks at once, a short queue before them, and behind that 503: health is answered meanwhile.

Small checks have a lane beside: places of their own, which a long check cannot take.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import ClassVar

from flask import Flask, current_app
from werkzeug.exceptions import ServiceUnavailable

from service.http import metrics
from service.http.middleware.request_log import current_record
from service.settings import Settings


class CapacityError(ServiceUnavailable):
    """No place, and none became free in time."""

    reason: ClassVar = "full"


class ConcurrencyLimiter:
    """Places that requests take, in the order in which they came.

    Parameters
    ----------
    of
        What they are for, in the plural.
    most
        How many there are.
    waiting
        How many may wait for one.
    seconds
        How long one may wait.
    """

    def __init__(self, resource: str, limit: int, queue_limit: int = 0, wait_seconds: float = 1.0) -> None:
        self._resource, self._limit, self._queue_limit, self._wait_seconds = resource, limit, queue_limit, wait_seconds
        self._lock = threading.Lock()
        self._queue: deque[threading.Event] = deque()
        self._in_use = 0
        metrics.PERMIT_LIMIT.labels(resource).set(limit)
        self._in_use_gauge, self._queue_gauge = (
            metrics.PERMITS_IN_USE.labels(resource),
            metrics.QUEUED_REQUESTS.labels(resource),
        )

    @property
    def in_use(self) -> int:
        """How many places are taken."""
        return self._in_use

    @property
    def limit(self) -> int:
        """How many places there are."""
        return self._limit

    def acquire(self, waited: float = 0.0) -> "Permit":
        """Take a place, waiting for it if need be.

        Parameters
        ----------
        waited
            Seconds that were spent waiting elsewhere, which count.

        Raises
        ------
        FullError
            If the queue is full, or no place became free in time.
        """
        turn = self._acquire_or_queue()
        if turn is not None and not turn.wait(max(0.0, self._wait_seconds - waited)) and self._leave_queue(turn):
            raise self._make_capacity_error(f"and none became free within {self._wait_seconds:g} s")
        return Permit(self)

    def try_acquire(self) -> "Permit | None":
        """Take a place if one is free."""
        with self._lock:
            if self._in_use >= self._limit:
                return None
            self._change_in_use(1)
        return Permit(self)

    def _acquire_or_queue(self) -> threading.Event | None:
        """Take a place, or else line up: what is returned is set when a place has been handed over."""
        with self._lock:
            if self._in_use < self._limit:
                self._change_in_use(1)
                return None
            if len(self._queue) >= self._queue_limit:
                raise self._make_capacity_error(
                    f"and {len(self._queue)} wait for one; no more than {self._queue_limit} may"
                )
            turn = threading.Event()
            self._queue.append(turn)
            self._queue_gauge.inc()
            return turn

    def _leave_queue(self, turn: threading.Event) -> bool:
        """Leave the queue; false if a place was handed over after all."""
        with self._lock:
            if turn.is_set():
                return False
            self._queue.remove(turn)
            self._queue_gauge.dec()
            return True

    def release(self) -> None:
        """Hand a place to who has waited longest, or leave it free."""
        with self._lock:
            if self._queue:
                self._queue.popleft().set()
                self._queue_gauge.dec()
            else:
                self._change_in_use(-1)

    def _change_in_use(self, change: int) -> None:
        self._in_use += change
        self._in_use_gauge.inc(change)

    def _make_capacity_error(self, explanation: str) -> CapacityError:
        seconds = math.ceil(self._wait_seconds)
        detail = (
            f"All {self._limit} places for {self._resource} are taken here, {explanation}. Try again in {seconds} s."
        )
        return CapacityError(detail, retry_after=seconds)


class Permit:
    """A place that is held: until the block ends, or until it is released, from any thread; a second time is nothing.

    Where the answer is streamed, take it before the first byte, so that 503 can still be said, and give `release` to
    the response's `call_on_close` beside using it in the generator: one whose client is gone may never be started.
    """

    def __init__(self, limiter: ConcurrencyLimiter) -> None:
        self._limiter: ConcurrencyLimiter | None = limiter
        self._lock = threading.Lock()

    def __enter__(self) -> "Permit":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    def release(self) -> None:
        """Give the place back, unless that was done."""
        with self._lock:
            slots, self._limiter = self._limiter, None
        if slots is not None:
            slots.release()


_COMPUTE_LIMITER, _SMALL_CHECKS_KEY, _READ_LIMITER = "gradcheckd.checks", "gradcheckd.small", "gradcheckd.bodies"


def register(app: Flask, settings: Settings) -> None:
    """Give an application its places."""
    waiting, seconds = settings.max_queued, settings.max_wait_seconds
    app.extensions[_COMPUTE_LIMITER] = ConcurrencyLimiter("checks", settings.max_checks, waiting, seconds)
    app.extensions[_SMALL_CHECKS_KEY] = ConcurrencyLimiter("small checks", settings.max_small_checks, waiting, seconds)
    app.extensions[_READ_LIMITER] = ConcurrencyLimiter("bodies", settings.max_concurrent_reads)


def acquire_compute(is_small: Callable[[], bool] | None = None) -> Permit:
    """Take a place for what this request asks for.

    Parameters
    ----------
    is_small
        Tells whether it is small, in no more memory and time than what is small may take. It is called in the lane, and
        only where no other place is free. Without it the request has no place in the lane.

    Raises
    ------
    FullError
        If there is none, neither here nor, for what is small, in the lane.
    """
    before = time.perf_counter()
    admission = _acquire_in_lanes(current_app, is_small, before)
    current_record().add_stage_time("wait", time.perf_counter() - before)
    return admission


def _acquire_in_lanes(app: Flask, is_small: Callable[[], bool] | None, since: float) -> Permit:
    checks, lane = get_compute_limiter(app), get_small_checks(app)
    if is_small is None or not lane.limit:
        return checks.acquire()
    admission = checks.try_acquire() or _acquire_small(lane, is_small)
    # What turns out to be large has left the lane by now, and lines up with nothing but its bytes.
    return admission or checks.acquire(waited=time.perf_counter() - since)


def _acquire_small(lane: ConcurrencyLimiter, is_small: Callable[[], bool]) -> Permit | None:
    """Take a place in the lane; None for what is not small."""
    admission, small = lane.acquire(), False
    try:
        small = is_small()
    finally:
        if not small:
            admission.release()
    return admission if small else None


def acquire_read() -> Permit:
    """Take a place for reading the body of this request: those that come slowly leave threads for others."""
    bodies: ConcurrencyLimiter = current_app.extensions[_READ_LIMITER]
    return bodies.acquire()


def get_compute_limiter(app: Flask) -> ConcurrencyLimiter:
    """Places for checks of an application."""
    return app.extensions[_COMPUTE_LIMITER]


def get_small_checks(app: Flask) -> ConcurrencyLimiter:
    """Places of its lane, for small checks alone."""
    return app.extensions[_SMALL_CHECKS_KEY]


def count_running(app: Flask) -> int:
    """How many places for checks of an application are taken, those of the lane among them."""
    return get_compute_limiter(app).in_use + get_small_checks(app).in_use
