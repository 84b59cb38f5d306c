"""The time that finite differences, and all else that is long, may take."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from schemas.problem import InvalidRequestError, placed, shown
from service.numerics.gradients.finite_difference import Progress

Item = TypeVar("Item")


Remedy = Callable[[int], str]


def in_time(seconds: float, remedy: str | Remedy, *place: str, onward: Progress | None = None) -> Progress:
    """Make what is told of the progress, and refuses the request once the seconds from now are over.

    Parameters
    ----------
    seconds
        The limit.
    remedy
        What to do about it, a sentence without its full stop; or what says so of the evaluations that were done.
    place
        Path into the request.
    onward
        Is told of the progress in its turn, while there is time.
    """
    deadline = time.monotonic() + seconds

    def progress(name: str, done: int, total: int) -> None:
        if time.monotonic() > deadline:
            detail = (
                f"out of time: of the {total} evaluations for {shown(name)}, {done} were done when the limit of "
                f"{seconds:g} s was reached. {remedy if isinstance(remedy, str) else remedy(done)}"
            )
            raise InvalidRequestError([placed(detail, *place)], "out-of-time")
        if onward is not None:
            onward(name, done, total)

    return progress


def while_in_time(found: Iterable[Item], seconds: float, what: str, remedy: str, *place: str) -> Iterator[Item]:
    """Hand on what is found, and refuse the request once the seconds are over, from when the first is asked for.

    Parameters
    ----------
    found
        What is worked out one by one.
    what
        Is being done.
    seconds, remedy, place
        As of `in_time`.
    """
    deadline = time.monotonic() + seconds
    for each in found:
        if time.monotonic() > deadline:
            detail = f"out of time: {what} takes longer than the limit of {seconds:g} s. {remedy}"
            raise InvalidRequestError([placed(detail, *place)], "out-of-time")
        yield each
