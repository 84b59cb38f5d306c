import threading
from dataclasses import dataclass

from gradcheckd.lazy_attribute import lazy_attribute


@dataclass(frozen=True)
class Slow:
    """An object whose attribute waits for another thread."""

    started: threading.Event
    may_end: threading.Event

    @lazy_attribute
    def number(self) -> list[int]:
        """Return a number."""
        self.started.set()
        assert self.may_end.wait(10)
        return [1]


def test_an_attribute_is_computed_once() -> None:
    may_end = threading.Event()
    may_end.set()
    slow = Slow(threading.Event(), may_end)
    assert slow.number is slow.number
    assert Slow.number.__doc__ == "Return a number."


def test_no_object_waits_for_another() -> None:
    """With the lock of `functools.cached_property` the second one would wait, and a forked process for ever."""
    slow = Slow(threading.Event(), threading.Event())
    thread = threading.Thread(target=lambda: slow.number)
    thread.start()
    assert slow.started.wait(10)
    other = Slow(threading.Event(), threading.Event())
    other.may_end.set()
    assert other.number == [1]
    slow.may_end.set()
    thread.join()
