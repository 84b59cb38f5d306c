"""A clock that goes by looks and not by seconds: what a busy machine does is no matter to it."""

from collections.abc import Generator
from contextlib import contextmanager

from service.checking.deadline import Clock


class Ticking:
    """Seconds that are looks."""

    def __init__(self) -> None:
        self.looks = 0

    def __call__(self) -> float:
        """One more."""
        self.looks += 1
        return self.looks


@contextmanager
def ending_after(looks: float) -> Generator[Ticking]:
    """Run what is inside with the time over after so many looks at the clock."""
    ticking = Ticking()
    with Clock(looks, ticking).watching():
        yield ticking
