import contextvars
import threading

import pytest

from service.numerics.pausing import OutOfTimeError, pause, pausing, watched


def test_nothing_is_looked_at_where_nobody_waits():
    pause()
    assert list(pausing("abc")) == ["a", "b", "c"]


def test_who_waits_looks_at_each_pause_and_may_end_it():
    looks = []

    def look():
        looks.append(1)
        if len(looks) > 2:
            raise OutOfTimeError

    done = iter("abcd")
    with watched(look), pytest.raises(OutOfTimeError):
        list(pausing(done))
    assert list(done) == ["d"], "the third was at hand"
    pause()
    assert len(looks) == 3, "nobody waits any longer"


def test_who_waits_inside_is_asked_too():
    outer, inner = [], []
    with watched(lambda: outer.append(1)):
        with watched(lambda: inner.append(1)):
            pause()
        pause()
    assert (len(outer), len(inner)) == (2, 1)


def test_threads_side_by_side_are_looked_at_apart():
    looks = []

    def beside():
        pause()

    with watched(lambda: looks.append(1)):
        for context in (contextvars.Context(), contextvars.copy_context()):
            thread = threading.Thread(target=context.run, args=(beside,))
            thread.start()
            thread.join()
    assert looks == [1], "only what was begun for who waits"
