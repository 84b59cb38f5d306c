"""A clock that goes by looks and not by seconds: what a busy machine does is no matter to it."""

from collections.abc import Generator
from contextlib import contextmanager

from service.checks.common.deadline import Clock


class CountingClock:
    """Seconds that are looks."""

    def __init__(self) -> None:
        self.look_count = 0

    def __call__(self) -> float:
        """One more."""
        self.look_count += 1
        return self.look_count


@contextmanager
def end_time_after_looks(looks: float) -> Generator[CountingClock]:
    """Run what is inside with the time over after so many looks at the clock."""
    ticking = CountingClock()
    with Clock(looks, ticking).enforce_deadline():
        yield ticking
