import math

import numpy as np
import pytest

from service.numerics.blackbox import taylor

STEPS = 2.0 ** -np.arange(1, 8)


def test_the_slope_is_two_of_a_right_gradient_and_one_of_a_wrong_one():
    plus = np.exp(STEPS) - 1
    for explained, slope in ((1.0, 2), (2.0, 1), (-1.0, 1)):
        left, remainders = taylor.compute_remainders(0, plus, STEPS, explained, np.full(7, 1e-16))
        assert remainders == pytest.approx(slope, abs=0.05)
        assert left == pytest.approx(plus - STEPS * explained)


def test_below_the_noise_there_is_no_slope():
    _, remainders = taylor.compute_remainders(0, 3 * STEPS, STEPS, 3.0, np.full(7, 1e-16))
    assert math.isnan(remainders)


def test_intercept_keeps_its_sign():
    assert taylor.fit_intercept_and_factor(-2.0, 2.0) == (-2.0, -1.0)
    assert taylor.fit_intercept_and_factor(2.0, -2.0) == (2.0, -1.0)
    assert taylor.fit_intercept_and_factor(1.0, 2.0) == (-0.5, 0.5)
    assert taylor.fit_intercept_and_factor(-1.0, 0.0)[0] == -math.inf
    assert taylor.fit_intercept_and_factor(0.0, 0.0)[0] == 0
