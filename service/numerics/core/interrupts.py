"""Pauses in a computation, at which a caller may look at the clock and end it.

A loop over nodes, tiles, offsets or tensors calls `check_interrupt` once a turn. The numerics do not know the purpose
of the check: the caller installs it by `install_interrupt_check` for all that runs inside, and raises to end the
computation. A context variable carries the check, so that concurrent requests share nothing, and no function between
has to hand it on.
"""

from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

Item = TypeVar("Item")

_INTERRUPT_CHECK: ContextVar[Callable[[], None] | None] = ContextVar("look", default=None)


class OutOfTimeError(Exception):
    """The time that a computation may take is over."""


def check_interrupt() -> None:
    """Call the installed checks, which may look at the clock."""
    check = _INTERRUPT_CHECK.get()
    if check is not None:
        check()


def iterate_interruptibly(items: Iterable[Item]) -> Iterator[Item]:
    """Iterate over items with a pause before each of them.

    The checks are those installed at the first pause.
    """
    check = _INTERRUPT_CHECK.get()
    if check is None:
        yield from items
        return
    for item in items:
        check()
        yield item


@contextmanager
def install_interrupt_check(check: Callable[[], None]) -> Generator[None]:
    """Call `check` at every pause inside, after the checks already installed.

    It may raise to end the computation.
    """
    outer = _INTERRUPT_CHECK.get()
    token = _INTERRUPT_CHECK.set(check if outer is None else _chain_checks(outer, check))
    try:
        yield
    finally:
        _INTERRUPT_CHECK.reset(token)


def _chain_checks(outer: Callable[[], None], inner: Callable[[], None]) -> Callable[[], None]:
    def look() -> None:
        outer()
        inner()

    return look
