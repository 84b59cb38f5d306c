"""The time that finite differences may take."""

import time

from schemas.problem import InvalidRequestError, placed, shown
from service.numerics.gradients.finite_difference import Progress


def in_time(seconds: float, remedy: str, *place: str, onward: Progress | None = None) -> Progress:
    """Make what is told of the progress, and refuses the request once the seconds from now are over.

    Parameters
    ----------
    seconds
        The limit.
    remedy
        What to do about it, a sentence without its full stop.
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
                f"{seconds:g} s was reached. {remedy}"
            )
            raise InvalidRequestError([placed(detail, *place)], "out-of-time")
        if onward is not None:
            onward(name, done, total)

    return progress
