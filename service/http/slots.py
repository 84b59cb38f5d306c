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
from service.http.observed import observed
from service.settings import Settings


class FullError(ServiceUnavailable):
    """No place, and none became free in time."""

    reason: ClassVar = "full"


class Slots:
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

    def __init__(self, of: str, most: int, waiting: int = 0, seconds: float = 1.0) -> None:
        self._of, self._most, self._waiting, self._seconds = of, most, waiting, seconds
        self._lock = threading.Lock()
        self._queue: deque[threading.Event] = deque()
        self._busy = 0
        metrics.PLACES.labels(of).set(most)
        self._busy_gauge, self._waiting_gauge = metrics.BUSY.labels(of), metrics.WAITING.labels(of)

    @property
    def busy(self) -> int:
        """How many places are taken."""
        return self._busy

    @property
    def most(self) -> int:
        """How many places there are."""
        return self._most

    def admit(self, waited: float = 0.0) -> "Admission":
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
        turn = self._turn()
        if turn is not None and not turn.wait(max(0.0, self._seconds - waited)) and self._given_up(turn):
            raise self._full(f"and none became free within {self._seconds:g} s")
        return Admission(self)

    def admit_at_once(self) -> "Admission | None":
        """Take a place if one is free."""
        with self._lock:
            if self._busy >= self._most:
                return None
            self._count(1)
        return Admission(self)

    def _turn(self) -> threading.Event | None:
        """Take a place, or else line up: what is returned is set when a place has been handed over."""
        with self._lock:
            if self._busy < self._most:
                self._count(1)
                return None
            if len(self._queue) >= self._waiting:
                raise self._full(f"and {len(self._queue)} wait for one; no more than {self._waiting} may")
            turn = threading.Event()
            self._queue.append(turn)
            self._waiting_gauge.inc()
            return turn

    def _given_up(self, turn: threading.Event) -> bool:
        """Leave the queue; false if a place was handed over after all."""
        with self._lock:
            if turn.is_set():
                return False
            self._queue.remove(turn)
            self._waiting_gauge.dec()
            return True

    def give_back(self) -> None:
        """Hand a place to who has waited longest, or leave it free."""
        with self._lock:
            if self._queue:
                self._queue.popleft().set()
                self._waiting_gauge.dec()
            else:
                self._count(-1)

    def _count(self, change: int) -> None:
        self._busy += change
        self._busy_gauge.inc(change)

    def _full(self, rest: str) -> FullError:
        seconds = math.ceil(self._seconds)
        detail = f"All {self._most} places for {self._of} are taken here, {rest}. Try again in {seconds} s."
        return FullError(detail, retry_after=seconds)


class Admission:
    """A place that is held: until the block ends, or until it is released, from any thread; a second time is nothing.

    Where the answer is streamed, take it before the first byte, so that 503 can still be said, and give `release` to
    the response's `call_on_close` beside using it in the generator: one whose client is gone may never be started.
    """

    def __init__(self, slots: Slots) -> None:
        self._slots: Slots | None = slots
        self._lock = threading.Lock()

    def __enter__(self) -> "Admission":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    def release(self) -> None:
        """Give the place back, unless that was done."""
        with self._lock:
            slots, self._slots = self._slots, None
        if slots is not None:
            slots.give_back()


_CHECKS, _SMALL, _BODIES = "gradcheckd.checks", "gradcheckd.small", "gradcheckd.bodies"


def register(app: Flask, settings: Settings) -> None:
    """Give an application its places."""
    waiting, seconds = settings.max_waiting, settings.max_wait_seconds
    app.extensions[_CHECKS] = Slots("checks", settings.max_checks, waiting, seconds)
    app.extensions[_SMALL] = Slots("small checks", settings.max_small_checks, waiting, seconds)
    app.extensions[_BODIES] = Slots("bodies", settings.max_reading)


def admitted(is_small: Callable[[], bool] | None = None) -> Admission:
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
    admission = _admitted(current_app, is_small, before)
    observed().spent("wait", time.perf_counter() - before)
    return admission


def _admitted(app: Flask, is_small: Callable[[], bool] | None, since: float) -> Admission:
    checks, lane = checks_of(app), small_checks_of(app)
    if is_small is None or not lane.most:
        return checks.admit()
    admission = checks.admit_at_once() or _in_the_lane(lane, is_small)
    # What turns out to be large has left the lane by now, and lines up with nothing but its bytes.
    return admission or checks.admit(waited=time.perf_counter() - since)


def _in_the_lane(lane: Slots, is_small: Callable[[], bool]) -> Admission | None:
    """Take a place in the lane; None for what is not small."""
    admission, small = lane.admit(), False
    try:
        small = is_small()
    finally:
        if not small:
            admission.release()
    return admission if small else None


def reading() -> Admission:
    """Take a place for reading the body of this request: those that come slowly leave threads for others."""
    bodies: Slots = current_app.extensions[_BODIES]
    return bodies.admit()


def checks_of(app: Flask) -> Slots:
    """Places for checks of an application."""
    return app.extensions[_CHECKS]


def small_checks_of(app: Flask) -> Slots:
    """Places of its lane, for small checks alone."""
    return app.extensions[_SMALL]


def running(app: Flask) -> int:
    """How many places for checks of an application are taken, those of the lane among them."""
    return checks_of(app).busy + small_checks_of(app).busy
