import threading
from copy import copy
from dataclasses import dataclass

import pytest

from service.numerics.core.cached_attribute import cached_attribute


@dataclass(frozen=True)
class Square:
    side: float
    asked: list

    @cached_attribute
    def area(self) -> float:
        """Its area."""
        self.asked.append(self.side)
        return self.side**2


def test_cached_attribute_is_computed_once_per_instance():
    two, three = Square(2, []), Square(3, [])
    assert (two.area, two.area, three.area) == (4, 4, 9)
    assert (two.asked, three.asked) == ([2], [3])
    assert copy(two).area == 4
    assert two.asked == [2], "a copy has what was kept"
    assert Square.area.__doc__ == "Its area."


def test_cached_attribute_that_raises_is_computed_again():
    broken = Square("2", [])
    for _ in range(2):
        with pytest.raises(TypeError):
            _ = broken.area
    assert broken.asked == ["2", "2"]


def test_cached_attribute_of_one_instance_blocks_no_other():
    inside, go_on = threading.Event(), threading.Event()

    class Slow:
        def __init__(self, waits: bool) -> None:
            self.waits = waits

        @cached_attribute
        def is_waiting(self) -> bool:
            if self.waits:
                inside.set()
                assert go_on.wait(60)
            return self.waits

    slow, quick = Slow(waits=True), Slow(waits=False)
    thread = threading.Thread(target=lambda: slow.is_waiting)
    thread.start()
    assert inside.wait(60)
    assert quick.is_waiting is False, "worked out while the other one is"
    go_on.set()
    thread.join()
    assert slow.is_waiting is True
