import pytest

from service.numerics.ops.axis_numbers import choose_axis_lengths, is_of_axis_lengths, spread_over_axes
from service.numerics.ops.op import ShapeError


def test_one_number_stands_for_all_axes() -> None:
    assert spread_over_axes(2, 3) == (2, 2, 2)
    assert spread_over_axes([2], 3) == (2, 2, 2)
    assert spread_over_axes([1, 2, 3], 3) == (1, 2, 3)


def test_a_list_that_fits_neither_one_axis_nor_all_is_refused() -> None:
    with pytest.raises(ShapeError, match="one for each of 3, in place of"):
        spread_over_axes([1, 2], 3)


def test_none_stands_for_the_length_of_the_axis() -> None:
    assert choose_axis_lengths([None, 3], (5, 7)) == (5, 3)
    assert choose_axis_lengths([None], (5, 7)) == (5, 7)
    assert choose_axis_lengths(2, (5, 7)) == (2, 2)
    with pytest.raises(ShapeError, match="one for each of 3, in place of"):
        choose_axis_lengths([None, 2], (5, 6, 7))
    assert is_of_axis_lengths([None, 3])
    assert not is_of_axis_lengths([2, 3])
    assert not is_of_axis_lengths(2)
