"""Directions of the replacements of other libraries' checkers."""

from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Literal, get_args

from gradcheckd.errors import RequestError

Directions = Literal["automatic", "random", "coordinates"]
_MAX_AUTOMATIC_COORDINATES = 16
"""Numbers of all inputs up to which each is moved alone by default: one line of points each, as 4 random ones."""
_directions: ContextVar[Directions] = ContextVar("directions", default="automatic")


def choose_directions(size: int, prefer_random: bool = False) -> Directions:
    """Return the kind of directions for inputs with some number of elements in all.

    Parameters
    ----------
    size
        Number of elements.
    prefer_random
        True for random directions by default, however few elements there are.
    """
    directions = _directions.get()
    if directions != "automatic":
        return directions
    return "coordinates" if size <= _MAX_AUTOMATIC_COORDINATES and not prefer_random else "random"


def are_automatic() -> bool:
    """Tell whether nobody has named a kind of directions."""
    return _directions.get() == "automatic"


@contextmanager
def use_directions(directions: Directions) -> Generator[None]:
    """Move inputs along other directions than by default, within a block.

    Parameters
    ----------
    directions
        "random": 4 of each input. "coordinates": each element alone, so that no wrong element is missed, at 18
        evaluations for each. "automatic", the default: coordinates for up to 16 elements in all unless `fast_mode`
        is set, and else random ones.

    Raises
    ------
    RequestError
        There are no such directions.
    """
    choices: tuple[Any, ...] = get_args(Directions)
    if directions not in choices:
        raise RequestError(f"directions is one of {', '.join(map(repr, choices))}; {directions!r} was given.")
    token = _directions.set(directions)
    try:
        yield
    finally:
        _directions.reset(token)
