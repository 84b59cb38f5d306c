"""Where wrong elements are, in words."""

import numpy as np
import pytest

from service.numerics.faults.places import described


def mask(shape: tuple[int, ...], *indices: object) -> np.ndarray:
    wrong = np.zeros(shape, np.bool_)
    for index in indices:
        wrong[index] = True
    return wrong


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (mask((), ()), "its one element is off"),
        (mask((3,), slice(None)), "all 3 elements are off"),
        (mask((3, 4), (1, 2)), "1 of 12 elements is off: [1, 2]"),
        (mask((3, 4), (0, 0), (2, 3)), "2 of 12 elements are off: [0, 0], [2, 3]"),
        (mask((6, 5), 2), "5 of 30 elements are off: all of row 2"),
        (mask((6, 5), (slice(None), [1, 3])), "12 of 30 elements are off: all of columns 1, 3"),
        (mask((6, 5), (slice(5), 1)), "5 of 30 elements are off: some of column 1"),
        (mask((2, 3, 4, 4), (slice(None), 1)), "32 of 96 elements are off: all of index 1 of axis 1"),
        (mask((9,), slice(5)), "5 of 9 elements are off: scattered"),
    ],
)
def test_it_is_said(wrong: np.ndarray, said: str) -> None:
    assert described(wrong) == said


def test_a_border_is_one() -> None:
    wrong = np.ones((6, 7), np.bool_)
    wrong[1:-1, 1:-1] = False
    assert described(wrong) == "22 of 42 elements are off: along the border of the last two axes, and none inside"
    wrong[2, 2] = True
    assert described(wrong).endswith("scattered")
