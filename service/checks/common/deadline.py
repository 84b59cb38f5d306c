"""The one clock of a request: it limits the time of all stages together."""

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar

from schemas.problem_details import InvalidRequestError, error_at, quote_name
from service.numerics.core.difference import DifferenceProgress
from service.numerics.core.interrupts import OutOfTimeError, check_interrupt, install_interrupt_check

SMALLER_MODEL_REMEDY = "Take a smaller model"
"""Remedy for a request that took too long in a part with no better one."""
_GRACE_FRACTION = 0.25
"""Part of the limit that the search for a remedy may take beyond it."""
_NOTABLE_SHARE = 0.1
"""Part of the limit from which on an error names the time that the request took to arrive."""


_CURRENT_CLOCK: ContextVar["Clock | None"] = ContextVar("clock", default=None)


def current_clock(seconds: float) -> "Clock":
    """Return the running clock of the request, or else a new one that starts now."""
    return _CURRENT_CLOCK.get() or Clock(seconds)


class Clock:
    """The time of one request, checked at each pause of the computation.

    Parameters
    ----------
    seconds
        Limit of the time.
    now
        Function that returns seconds since a fixed moment; `time.monotonic` if left out.
    spent
        Seconds of the limit that passed before, as while the request arrived; 0 by default.
    """

    def __init__(self, seconds: float, now: Callable[[], float] | None = None, spent: float = 0.0) -> None:
        self._seconds, self._now, self._spent = seconds, now or time.monotonic, spent
        self._started = self._now() - spent
        self._deadline = self._started + seconds
        self._stage = "the request was being read"
        self._evaluations_done = 0

    @property
    def evaluations_done(self) -> int:
        """Return the evaluations that the progress has reported."""
        return self._evaluations_done

    @contextmanager
    def enforce_deadline(self) -> Generator[None]:
        """Raise `OutOfTimeError` within the block at its first pause after the deadline."""
        if _CURRENT_CLOCK.get() is self:
            yield
            return
        token = _CURRENT_CLOCK.set(self)
        try:
            with install_interrupt_check(self._check_time):
                yield
        finally:
            _CURRENT_CLOCK.reset(token)

    @contextmanager
    def name_stage(self, stage: str) -> Generator[None]:
        """Name the work within the block, by a clause in the past tense for a timeout error."""
        self._stage = stage
        check_interrupt()
        yield

    @contextmanager
    def limit_to_fraction(self, part: float) -> Generator[None]:
        """End the block when a part of all the time is over, or at the deadline."""
        with self._end_at(min(self._deadline, self._started + part * self._seconds)):
            yield

    @contextmanager
    def refuse_on_timeout(self, remedy: str | Callable[[], str], *path: str) -> Generator[None]:
        """Refuse the request if the block runs out of time.

        Parameters
        ----------
        remedy
            Remedy, a sentence without its full stop; or a function that finds one, in a little more time.
        path
            Path into the request of the field to change.

        Raises
        ------
        InvalidRequestError
            The time was over within the block.
        """
        try:
            yield
        except OutOfTimeError:
            stage, advice = self._stage, remedy if isinstance(remedy, str) else self._compute_remedy(remedy)
            limit = f"the limit of {self._seconds:g} s was reached{self._describe_spent_time()}"
            detail = f"out of time: {stage} when {limit}. {advice}"
            raise InvalidRequestError([error_at(detail, *path)], "out-of-time") from None

    def track_progress(self, forward: DifferenceProgress | None = None) -> DifferenceProgress:
        """Make a receiver of progress that keeps it for errors, checks the time, and forwards it."""

        def progress(name: str, done: int, total: int) -> None:
            self._stage = f"of the {total} evaluations for {quote_name(name)}, {done} were done"
            self._evaluations_done = done
            check_interrupt()
            if forward is not None:
                forward(name, done, total)

        return progress

    def _describe_spent_time(self) -> str:
        """Describe the time before the start, if it was notable: the computation did not take it."""
        return (
            f", {self._spent:.1f} s of it before the request was there"
            if self._spent > _NOTABLE_SHARE * self._seconds
            else ""
        )

    def _check_time(self) -> None:
        if self._now() > self._deadline:
            raise OutOfTimeError

    def _compute_remedy(self, remedy: Callable[[], str]) -> str:
        """Return the remedy that a search finds within its grace, and a general one otherwise."""
        try:
            with self._end_at(self._now() + _GRACE_FRACTION * self._seconds):
                return remedy()
        except OutOfTimeError:
            return SMALLER_MODEL_REMEDY

    @contextmanager
    def _end_at(self, deadline: float) -> Generator[None]:
        outer_deadline, self._deadline = self._deadline, deadline
        try:
            yield
        finally:
            self._deadline = outer_deadline
