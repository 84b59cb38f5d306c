import math

import numpy as np
import pytest

from service.numerics.core.vector_norms import euclidean_norm, is_finite


@pytest.mark.parametrize("exponent", [-1060, -700, -452, -400, 0, 400, 505, 1000])
def test_norm_holds_over_the_whole_range(exponent):
    vector = np.array([[3.0, 0.0], [4.0, 0.0]])
    assert euclidean_norm(np.ldexp(vector, exponent)) == pytest.approx(math.ldexp(5.0, exponent), rel=1e-15)


def test_squares_of_both_ends_of_the_range_are_counted():
    assert euclidean_norm(np.array([1e-200] * 100)) == pytest.approx(1e-199, rel=1e-14)
    assert euclidean_norm(np.array([1e-140] + [1e-170] * 4)) == pytest.approx(1e-140, rel=1e-14)


@pytest.mark.parametrize(("number", "norm"), [(math.inf, math.inf), (-math.inf, math.inf), (0.0, 0.0)])
def test_norm_of_zeros_and_of_infinities(number, norm):
    assert euclidean_norm(np.array([number, 0.0])) == norm


def test_norm_of_nothing_is_zero_and_nan_stays():
    assert euclidean_norm(np.zeros((0, 3))) == 0
    assert math.isnan(euclidean_norm(np.array([1.0, math.nan])))


@pytest.mark.parametrize("size", [1e-320, 1e-200, 1.0, 1e200, 1.7e308])
def test_finite_numbers_are_finite_whatever_their_squares(size: float) -> None:
    with np.errstate(all="raise"):
        assert is_finite(np.full((3, 4), size))
        assert is_finite(np.zeros((0, 2)))
        assert is_finite(np.full((4, 6), size)[::2, ::3])


@pytest.mark.parametrize("stray", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("size", [0.0, 1.0, 1e200])
def test_one_number_that_is_not_finite_shows(stray: float, size: float) -> None:
    for position in range(5):
        array = np.full(5, size)
        array[position] = stray
        assert not is_finite(array)
