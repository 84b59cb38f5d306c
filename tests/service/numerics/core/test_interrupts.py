import contextvars
import threading

import pytest

from service.numerics.core.interrupts import (
    OutOfTimeError,
    check_interrupt,
    install_interrupt_check,
    iterate_interruptibly,
)


def test_no_interrupt_is_checked_without_a_hook():
    check_interrupt()
    assert list(iterate_interruptibly("abc")) == ["a", "b", "c"]


def test_iteration_runs_the_interrupt_check_at_each_pause():
    looks = []

    def look():
        looks.append(1)
        if len(looks) > 2:
            raise OutOfTimeError

    done = iter("abcd")
    with install_interrupt_check(look), pytest.raises(OutOfTimeError):
        list(iterate_interruptibly(done))
    assert list(done) == ["d"], "the third was at hand"
    check_interrupt()
    assert len(looks) == 3, "nobody waits any longer"


def test_nested_interrupt_checks_all_run():
    outer, inner = [], []
    with install_interrupt_check(lambda: outer.append(1)):
        with install_interrupt_check(lambda: inner.append(1)):
            check_interrupt()
        check_interrupt()
    assert (len(outer), len(inner)) == (2, 1)


def test_threads_side_by_side_are_looked_at_apart():
    looks = []

    def check_beside():
        check_interrupt()

    with install_interrupt_check(lambda: looks.append(1)):
        for context in (contextvars.Context(), contextvars.copy_context()):
            thread = threading.Thread(target=context.run, args=(check_beside,))
            thread.start()
            thread.join()
    assert looks == [1], "only what was begun for who waits"
