import numpy as np
import pytest

from service.numerics.gradients.finite_difference.quotients import (
    UNIT_ROUNDOFF,
    DifferenceQuotients,
    estimate_sum_rounding,
    make_exact_quotients,
    split_squarable,
    sum_by_felt_element,
    sum_quotients,
    sum_squares_by_felt_element,
)


def make_quotients(value: float, noise: float, rounding: float) -> DifferenceQuotients:
    return DifferenceQuotients(np.full((3, 2), value), np.full(2, noise), np.full(2, rounding))


def test_the_floor_doubles_with_each_halving_but_for_the_rounding_of_the_sum() -> None:
    floors = make_quotients(1.0, 1e-12, 5e-13).noise_floors
    np.testing.assert_allclose(floors[:, 0], np.array([1e-12, 2e-12, 4e-12]) + 5e-13)


def test_noises_of_parts_are_independent_and_roundings_add_up() -> None:
    quotients = sum_quotients([make_quotients(1.0, 3e-12, 5e-15), make_quotients(-1.0, 4e-12, 2e-15)])
    assert (quotients.values == 0).all()
    assert quotients.noise == pytest.approx(5e-12)
    assert quotients.rounding_error == pytest.approx(7e-15 + 2 * UNIT_ROUNDOFF), "the sum of the parts is rounded too"


def test_sum_of_one_quotient_is_that_quotient() -> None:
    part = make_quotients(1.0, 3e-12, 5e-15)
    assert sum_quotients([part]) is part


def test_exact_quotient_has_no_noise() -> None:
    quotients = make_exact_quotients(3, -2.0, 2)
    assert quotients.values.tolist() == [[-2.0, -2.0]] * 3
    assert (quotients.noise_floors == 0).all()


def test_sums_leave_out_what_is_felt_by_none() -> None:
    felt = np.array([[0, 2, 3], [1, 1, 3]])
    rows = np.array([[[1.0, 2, 4], [8, 16, 32]]])
    assert sum_by_felt_element(felt, rows, 3).tolist() == [[1.0, 24.0, 2.0]]


@pytest.mark.parametrize("unit", [1e-300, 1.0, 1e300])
def test_squares_of_the_huge_and_the_tiny_neither_overflow_nor_underflow(unit: float) -> None:
    sums = sum_squares_by_felt_element(np.array([0, 0, 1]), np.array([3.0, 4.0, 1.0]) * unit, 2)
    np.testing.assert_allclose(sums, np.array([5.0, 1.0]) * unit)


@pytest.mark.parametrize("tiny", [1e-100, 1e-165, 1e-300])
def test_tiny_value_beside_the_largest_is_kept(tiny: float) -> None:
    """1e-300 in units of 1e200 is 0."""
    sums = sum_squares_by_felt_element(np.array([0, 1]), np.array([1e200, tiny]), 2)
    np.testing.assert_allclose(sums, [1e200, tiny])


def test_numbers_whose_squares_overflow_or_underflow_are_kept_apart_unscaled() -> None:
    squares, rest = split_squarable(np.array([2.0, -1e-200, 0.0, 1e200]), 2.0)
    assert squares.tolist() == [1, 0, 0, 0]
    assert rest is not None
    assert rest.tolist() == [0, 1e-200, 0, 1e200]
    assert split_squarable(np.array([1.0, 0.5]), 1.0)[1] is None
    assert split_squarable(np.array([1.0, 0.0]), 1.0)[1] is None


def test_noise_that_is_infinite_stays_so() -> None:
    assert sum_squares_by_felt_element(np.array([0, 1]), np.array([np.inf, 1.0]), 2).tolist() == [np.inf, 1.0]


def test_a_longer_sum_rounds_more() -> None:
    assert estimate_sum_rounding(1) < estimate_sum_rounding(1000) < 20 * UNIT_ROUNDOFF
