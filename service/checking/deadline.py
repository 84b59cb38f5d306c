"""The one clock of a request: the time that all it asks for may take, whatever stage takes it."""

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar

from schemas.problem import InvalidRequestError, placed, shown
from service.numerics.gradients.finite_difference import Progress
from service.numerics.pausing import OutOfTimeError, pause, watched

_BESIDES = 0.25
"""Part of the limit that may be taken beyond it to say what would fit."""
_MUCH = 0.1
"""Part of the limit that is told of where the request took it to come."""


_CLOCK: ContextVar["Clock | None"] = ContextVar("clock", default=None)


def clock_of(seconds: float) -> "Clock":
    """Return the clock of the request that is being answered; one that starts now where none has been started."""
    return _CLOCK.get() or Clock(seconds)


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
        self._ends = self._started + seconds
        self._doing = "the request was being read"
        self._done = 0

    @property
    def done(self) -> int:
        """How many evaluations were done, as far as that was told."""
        return self._done

    @contextmanager
    def watching(self) -> Generator[None]:
        """End what runs inside with `OutOfTimeError` at the first pause after the end."""
        if _CLOCK.get() is self:
            yield
            return
        token = _CLOCK.set(self)
        try:
            with watched(self._look):
                yield
        finally:
            _CLOCK.reset(token)

    @contextmanager
    def during(self, what: str) -> Generator[None]:
        """Say what is being done inside: a clause, as of the moment at which the time is over."""
        self._doing = what
        pause()
        yield

    @contextmanager
    def up_to(self, part: float) -> Generator[None]:
        """Let what runs inside end when so large a part of all the time is over."""
        with self._ending(min(self._ends, self._started + part * self._seconds)):
            yield

    @contextmanager
    def refusing(self, remedy: str | Callable[[], str], *place: str) -> Generator[None]:
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
            said, advice = self._doing, remedy if isinstance(remedy, str) else self._found(remedy)
            detail = f"out of time: {said} when the limit of {self._seconds:g} s was reached{self._before()}. {advice}"
            raise InvalidRequestError([placed(detail, *place)], "out-of-time") from None

    def counting(self, onward: Progress | None = None) -> Progress:
        """Make what is told of the progress of differences, says how far they are, and tells it onward in time."""

        def progress(name: str, done: int, total: int) -> None:
            self._doing = f"of the {total} evaluations for {shown(name)}, {done} were done"
            self._done = done
            pause()
            if onward is not None:
                onward(name, done, total)

        return progress

    def _before(self) -> str:
        """Say how much of the time was gone at the start, if it was much: what is computed is not to blame for it."""
        return (
            f", {self._spent:.1f} s of it before the request was there" if self._spent > _MUCH * self._seconds else ""
        )

    def _look(self) -> None:
        if self._now() > self._ends:
            raise OutOfTimeError

    def _found(self, remedy: Callable[[], str]) -> str:
        with self._ending(self._now() + _BESIDES * self._seconds):
            return remedy()

    @contextmanager
    def _ending(self, at: float) -> Generator[None]:
        before, self._ends = self._ends, at
        try:
            yield
        finally:
            self._ends = before
