"""Undecided checks of the replacements of other libraries' checkers."""

import warnings
from collections.abc import Callable, Generator
from contextlib import contextmanager
from contextvars import ContextVar

from gradcheckd.errors import InconclusiveGradientWarning, count_own_frames

UndecidedListener = Callable[[str], None]
_undecided_listener: ContextVar[UndecidedListener | None] = ContextVar("undecided_listener", default=None)


@contextmanager
def listen_to_undecided(listener: UndecidedListener) -> Generator[None]:
    """Call a function with the reason of each undecided check within a block, in place of a warning."""
    token = _undecided_listener.set(listener)
    try:
        yield
    finally:
        _undecided_listener.reset(token)


def announce_undecided(reason: str) -> None:
    """Warn the caller of this package that a check is undecided, or tell the listener."""
    listener = _undecided_listener.get()
    if listener is None:
        warnings.warn(reason, InconclusiveGradientWarning, stacklevel=count_own_frames())
    else:
        listener(reason)
