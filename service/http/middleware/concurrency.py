"""Limits on concurrent checks.

A bounded number, a short queue, and 503 beyond that.

Health is answered meanwhile. Small checks have a lane with places of their own, which long checks cannot take.
"""

import math
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from types import TracebackType
from typing import ClassVar

from flask import Flask, current_app
from werkzeug.exceptions import ServiceUnavailable

from service.http import metrics
from service.http.middleware.request_log import get_current_record
from service.settings import Settings


class CapacityError(ServiceUnavailable):
    """A refusal for want of a free place or of memory."""

    reason: ClassVar = "full"


class ConcurrencyLimiter:
    """A limited number of places, which requests take in the order of their arrival.

    Parameters
    ----------
    resource
        Purpose of the places, a plural noun for messages and metrics.
    limit
        Number of places.
    queue_limit
        Number of requests that may wait for a place, 0 by default.
    wait_seconds
        Longest wait for a place in seconds, 1 by default.
    is_measured
        True if the metrics show the places, the default.
    """

    def __init__(
        self,
        resource: str,
        limit: int,
        queue_limit: int = 0,
        wait_seconds: float = 1.0,
        *,
        is_measured: bool = True,
    ) -> None:
        self._resource, self._limit, self._queue_limit, self._wait_seconds = resource, limit, queue_limit, wait_seconds
        self._lock = threading.Lock()
        self._queue: deque[threading.Event] = deque()
        self._in_use = 0
        self._in_use_gauge = self._queue_gauge = metrics.UnseenGauge()
        if is_measured:
            metrics.PERMIT_LIMIT.labels(resource).set(limit)
            self._in_use_gauge = metrics.PERMITS_IN_USE.labels(resource)
            self._queue_gauge = metrics.QUEUED_REQUESTS.labels(resource)

    @property
    def in_use(self) -> int:
        """Number of places that are taken."""
        return self._in_use

    @property
    def limit(self) -> int:
        """Number of places."""
        return self._limit

    def acquire(self, waited: float = 0.0) -> "Permit":
        """Take a place, after a wait if necessary.

        Parameters
        ----------
        waited
            Seconds that the request has waited elsewhere, 0 by default; they count.

        Raises
        ------
        CapacityError
            If the queue is full, or no place became free in time.
        """
        turn_event = self._acquire_or_queue()
        if (
            turn_event is not None
            and not turn_event.wait(max(0.0, self._wait_seconds - waited))
            and self._leave_queue(turn_event)
        ):
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
        """Take a place and return None, or queue and return the event of a handover."""
        with self._lock:
            if self._in_use < self._limit:
                self._change_in_use(1)
                return None
            if len(self._queue) >= self._queue_limit:
                raise self._make_capacity_error(f"and {len(self._queue)} of at most {self._queue_limit} requests wait")
            turn_event = threading.Event()
            self._queue.append(turn_event)
            self._queue_gauge.inc()
            return turn_event

    def _leave_queue(self, turn_event: threading.Event) -> bool:
        """Leave the queue; return False if a place was handed over after all."""
        with self._lock:
            if turn_event.is_set():
                return False
            self._queue.remove(turn_event)
            self._queue_gauge.dec()
            return True

    def release(self) -> None:
        """Hand a place to the request that has waited longest, or free it."""
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
        detail = f"All {self._limit} places for {self._resource} are taken, {explanation}. Try again in {seconds} s."
        return CapacityError(detail, retry_after=seconds)


class Permit:
    """A held permit, until the block ends or `release()`, which is idempotent.

    A streamed answer takes its permit before the first byte, while a 503 is still possible. It passes `release` to the
    response's `call_on_close` as well: the generator of a client that has gone may never start.
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
        """Give the place back, from any thread, unless that was done."""
        with self._lock:
            limiter, self._limiter = self._limiter, None
        if limiter is not None:
            limiter.release()


_COMPUTE_LIMITER, _SMALL_CHECKS_KEY, _READ_LIMITER = "gradcheckd.checks", "gradcheckd.small", "gradcheckd.bodies"


def register(app: Flask, settings: Settings, *, is_measured: bool = True) -> None:
    """Create the limiters of an application, which the metrics show by default."""
    make = partial(ConcurrencyLimiter, is_measured=is_measured)
    max_queued, seconds = settings.max_queued, settings.max_wait_seconds
    app.extensions[_COMPUTE_LIMITER] = make("checks", settings.max_checks, max_queued, seconds)
    app.extensions[_SMALL_CHECKS_KEY] = make("small checks", settings.max_small_checks, max_queued, seconds)
    app.extensions[_READ_LIMITER] = make("bodies", settings.max_concurrent_reads)


def acquire_compute(is_small: Callable[[], bool] | None = None) -> Permit:
    """Take a place for the computation of this request.

    Parameters
    ----------
    is_small
        Function that tells whether the check is small, in no more memory and time than a small check may take. It is
        called in the lane, and only if no other place is free. None by default: the request cannot use the lane.

    Raises
    ------
    CapacityError
        If there is no place, and, for a small check, none in the lane.
    """
    start = time.perf_counter()
    permit = _acquire_in_lanes(current_app, is_small, start)
    get_current_record().add_stage_time("wait", time.perf_counter() - start)
    return permit


def _acquire_in_lanes(app: Flask, is_small: Callable[[], bool] | None, since: float) -> Permit:
    checks, lane = get_compute_limiter(app), get_small_checks(app)
    if is_small is None or not lane.limit:
        return checks.acquire()
    permit = checks.try_acquire() or _acquire_small(lane, is_small)
    # A check that turned out to be large has left the lane by now, and queues with nothing but its bytes.
    return permit or checks.acquire(waited=time.perf_counter() - since)


def try_acquire_compute(is_small: Callable[[], bool]) -> Permit | None:
    """Take a place for a computation of this request if one is free now; parameters are those of `acquire_compute`."""
    checks, lane = get_compute_limiter(current_app), get_small_checks(current_app)
    permit = checks.try_acquire()
    if permit is not None:
        return permit
    lane_permit = lane.try_acquire()
    return None if lane_permit is None else _keep_if_small(lane_permit, is_small)


def _acquire_small(lane: ConcurrencyLimiter, is_small: Callable[[], bool]) -> Permit | None:
    """Take a place in the lane; return None for a check that is not small."""
    return _keep_if_small(lane.acquire(), is_small)


def _keep_if_small(permit: Permit, is_small: Callable[[], bool]) -> Permit | None:
    is_recognised_small = False
    try:
        is_recognised_small = is_small()
    finally:
        if not is_recognised_small:
            permit.release()
    return permit if is_recognised_small else None


def acquire_read(is_at_hand: Callable[[], bool]) -> AbstractContextManager[object]:
    """Take a place for reading the body of this request.

    The limit leaves threads free while bodies come slowly.

    Parameters
    ----------
    is_at_hand
        Function that tells whether the whole body has come. It is called only if no place is free: such a body needs
        none, so that slow senders keep no small check out.

    Raises
    ------
    CapacityError
        If there is no place, and the body has yet to come.
    """
    bodies: ConcurrencyLimiter = current_app.extensions[_READ_LIMITER]
    permit = bodies.try_acquire()
    if permit is None and is_at_hand():
        return nullcontext()
    return permit or bodies.acquire()


def get_compute_limiter(app: Flask) -> ConcurrencyLimiter:
    """Return the limiter of the checks of an application."""
    return app.extensions[_COMPUTE_LIMITER]


def get_small_checks(app: Flask) -> ConcurrencyLimiter:
    """Return the limiter of the lane for small checks."""
    return app.extensions[_SMALL_CHECKS_KEY]


def count_running(app: Flask) -> int:
    """Count the running checks of an application, including those in the lane."""
    return get_compute_limiter(app).in_use + get_small_checks(app).in_use
