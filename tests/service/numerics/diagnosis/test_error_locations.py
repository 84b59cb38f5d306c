"""Where wrong elements are, in words."""

from itertools import product

import numpy as np
import pytest

from service.numerics.diagnosis.error_locations import describe_locations


def make_mask(shape: tuple[int, ...], *indices: object) -> np.ndarray:
    wrong = np.zeros(shape, np.bool_)
    for index in indices:
        wrong[index] = True
    return wrong


ALL = slice(None)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        (make_mask((), ()), "its one element is off"),
        (make_mask((3,), ALL), "all 3 elements are off"),
        (make_mask((3, 4), (1, 2)), "1 of 12 elements is off: [1, 2]"),
        (make_mask((3, 4), (0, 0), (2, 3)), "2 of 12 elements are off: [0, 0], [2, 3]"),
        (make_mask((6, 5), 2), "5 of 30 elements are off: exactly row 2"),
        (make_mask((6, 5), slice(0, 2)), "10 of 30 elements are off: exactly rows 0 to 1"),
        (make_mask((6, 5), slice(3, 6)), "15 of 30 elements are off: exactly rows 3 to 5 (the second half)"),
        (make_mask((6, 5), (ALL, [1, 3])), "12 of 30 elements are off: exactly columns 1, 3"),
        (
            make_mask((6, 9), (ALL, slice(1, None, 3))),
            "18 of 54 elements are off: exactly every third column from 1 on",
        ),
        (make_mask((6, 5), (slice(5), 1)), "5 of 30 elements are off: exactly rows 0 to 4 of column 1"),
        (make_mask((6, 5), ([0, 1, 2, 3, 5], 1)), "5 of 30 elements are off: some of column 1"),
        (make_mask((2, 3, 4, 4), (ALL, 1)), "32 of 96 elements are off: exactly index 1 of axis 1"),
        (make_mask((24,), slice(16)), "16 of 24 elements are off: exactly elements 0 to 15"),
        (make_mask((24,), slice(12)), "12 of 24 elements are off: exactly elements 0 to 11 (the first half)"),
        (make_mask((9,), slice(1, None, 2)), "4 of 9 elements are off: exactly every second element from 1 on"),
        (make_mask((20,), slice(2, 12, 2)), "5 of 20 elements are off: exactly elements 2 to 10 in steps of 2"),
        (
            make_mask((24,), slice(16)).reshape(4, 6),
            "16 of 24 elements are off: exactly elements 0 to 15, counted row by row",
        ),
        (
            make_mask((2, 3, 4), (ALL, 1, slice(2, 4))),
            "4 of 24 elements are off: exactly index 1 of axis 1 at indices 2 to 3 (the second half) of axis 2",
        ),
        (~make_mask((6, 5), 2), "25 of 30 elements are off: exactly all but row 2"),
        (
            make_mask((5, 5), np.triu_indices(5, 1)),
            "10 of 25 elements are off: exactly the elements above the diagonal",
        ),
        (
            make_mask((6, 3), (ALL, [0, 2])) & ~make_mask((6, 3), (4, 0)),
            "11 of 18 elements are off: some of columns 0, 2",
        ),
        (make_mask((30,), [1, 3, 5, 8, 12]), "5 of 30 elements are off: some of elements 1 to 12"),
        (make_mask((30,), [1, 3, 5, 8, 29]), "5 of 30 elements are off: scattered"),
    ],
)
def test_mask_is_described_by_its_pattern(wrong: np.ndarray, said: str) -> None:
    assert describe_locations(wrong) == said


def test_border_is_described_exactly_or_in_part() -> None:
    wrong = np.ones((6, 7), np.bool_)
    wrong[1:-1, 1:-1] = False
    assert describe_locations(wrong) == "22 of 42 elements are off: exactly the border"
    assert describe_locations(np.stack([wrong, wrong])).endswith("exactly the border in the last two axes")
    part = wrong.copy()
    part[0, 2] = part[5, 3] = False
    assert describe_locations(part).endswith("some along the border of the last two axes, and none inside")
    wrong[2, 2] = True
    assert describe_locations(wrong).endswith("scattered")
    assert describe_locations(make_mask((6, 7), (slice(1, -1), slice(1, -1)))).endswith(
        "exactly rows 1 to 4 of columns 1 to 5"
    )


@pytest.mark.parametrize("shape", [(9,), (3, 3), (2, 5), (5, 2), (2, 2, 2), (3, 1, 3)])
def test_exact_description_belongs_to_one_mask(shape: tuple[int, ...]) -> None:
    """All masks of a shape: no words are said of two, unless they say that some are off, or that they are scattered."""
    masks_by_words: dict[str, np.ndarray] = {}
    exact = 0
    for bits in product((False, True), repeat=int(np.prod(shape))):
        wrong = np.array(bits).reshape(shape)
        if not wrong.any():
            continue
        said = describe_locations(wrong)
        if "some " in said or "scattered" in said:
            continue
        assert said not in masks_by_words
        masks_by_words[said] = wrong
        exact += 1
    assert exact > 100
