from service.numerics.ops.axis_numbers import spread_over_axes


def test_one_number_stands_for_all_axes() -> None:
    assert spread_over_axes(2, 3) == (2, 2, 2)
    assert spread_over_axes([2], 3) == (2, 2, 2)
    assert spread_over_axes([1, 2, 3], 3) == (1, 2, 3)
