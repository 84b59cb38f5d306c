"""The one clock of a request: the time that all it asks for may take, whatever stage takes it."""

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar

from schemas.problem_details import InvalidRequestError, error_at, quote_name
from service.numerics.core.interrupts import OutOfTimeError, check_interrupt, install_interrupt_check
from service.numerics.gradients.finite_difference import DifferenceProgress

_GRACE_FRACTION = 0.25
"""Part of the limit that may be taken beyond it to say what would fit."""
_NOTABLE_SHARE = 0.1
"""Part of the limit that is told of where the request took it to come."""


_CURRENT_CLOCK: ContextVar["Clock | None"] = ContextVar("clock", default=None)


def current_clock(seconds: float) -> "Clock":
    """Return the clock of the request that is being answered; one that starts now where none has been started."""
    return _CURRENT_CLOCK.get() or Clock(seconds)


class Clock:
    """The time of one request, looked at wherever the computation pauses.

    Parameters
    ----------
    seconds
        The limit.
    now
        Seconds since whenever.
    spent
        How many of the limit have gone by already, as while the request was coming.
    """

    def __init__(self, seconds: float, now: Callable[[], float] | None = None, spent: float = 0.0) -> None:
        self._seconds, self._now, self._spent = seconds, now or time.monotonic, spent
        self._started = self._now() - spent
        self._deadline = self._started + seconds
        self._stage = "the request was being read"
        self._evaluations_done = 0

    @property
    def evaluations_done(self) -> int:
        """How many evaluations were done, as far as that was told."""
        return self._evaluations_done

    @contextmanager
    def enforce_deadline(self) -> Generator[None]:
        """End what runs inside with `OutOfTimeError` at the first pause after the end."""
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
        """Say what is being done inside: a clause, as of the moment at which the time is over."""
        self._stage = stage
        check_interrupt()
        yield

    @contextmanager
    def limit_to_fraction(self, part: float) -> Generator[None]:
        """Let what runs inside end when so large a part of all the time is over."""
        with self._end_at(min(self._deadline, self._started + part * self._seconds)):
            yield

    @contextmanager
    def refuse_on_timeout(self, remedy: str | Callable[[], str], *path: str) -> Generator[None]:
        """Refuse the request where what runs inside is out of time.

        Parameters
        ----------
        remedy
            What to do about it, a sentence without its full stop; or what finds it, in a little more time.
        place
            Path into the request.
        """
        try:
            yield
        except OutOfTimeError:
            said, advice = self._stage, remedy if isinstance(remedy, str) else self._compute_remedy(remedy)
            detail = f"out of time: {said} when the limit of {self._seconds:g} s was reached{self._seconds_before()}. {advice}"
            raise InvalidRequestError([error_at(detail, *path)], "out-of-time") from None

    def track_progress(self, forward: DifferenceProgress | None = None) -> DifferenceProgress:
        """Make what is told of the progress of differences, says how far they are, and tells it onward in time."""

        def progress(name: str, done: int, total: int) -> None:
            self._stage = f"of the {total} evaluations for {quote_name(name)}, {done} were done"
            self._evaluations_done = done
            check_interrupt()
            if forward is not None:
                forward(name, done, total)

        return progress

    def _seconds_before(self) -> str:
        """Say how much of the time was gone at the start, if it was much: what is computed is not to blame for it."""
        return (
            f", {self._spent:.1f} s of it before the request was there"
            if self._spent > _NOTABLE_SHARE * self._seconds
            else ""
        )

    def _check_time(self) -> None:
        if self._now() > self._deadline:
            raise OutOfTimeError

    def _compute_remedy(self, remedy: Callable[[], str]) -> str:
        with self._end_at(self._now() + _GRACE_FRACTION * self._seconds):
            return remedy()

    @contextmanager
    def _end_at(self, at: float) -> Generator[None]:
        before, self._deadline = self._deadline, at
        try:
            yield
        finally:
            self._deadline = before
