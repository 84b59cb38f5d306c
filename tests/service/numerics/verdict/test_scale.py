"""The factor of a gradient as a whole."""

import numpy as np
import pytest

from service.numerics.core.precision import PRECISIONS
from service.numerics.verdict.reference import Reference
from service.numerics.verdict.scale import measure_scale


def make_reference(value, bound=0.0, **fields):
    array = np.asarray(value, np.float64)
    return Reference(array, np.full(array.shape, bound), np.zeros(array.shape), PRECISIONS["BF16"], **fields)


@pytest.mark.parametrize("size", [1.0, 1e-200, 1e200])
def test_the_factor_is_that_of_the_best_fit(size):
    reference = make_reference(size * np.array([1.0, -2.0, 0.5]))
    scale = measure_scale(1.02 * reference.value, reference, 0.01)
    assert scale.factor == pytest.approx(1.02)
    assert scale.is_wrong
    assert not measure_scale(1.009 * reference.value, reference, 0.01).is_wrong


def test_what_the_bounds_may_make_of_it_is_allowed():
    reference = make_reference([1.0, -2.0], bound=0.1)
    scale = measure_scale(np.array([1.09, -2.09]), reference, 0.0)
    assert scale.allowed == pytest.approx(0.1 * 3 / 5)
    assert not scale.is_wrong
    assert measure_scale(np.array([1.11, -2.11]), reference, 0.0).is_wrong


def test_elements_without_a_number_are_left_out():
    reference = make_reference([1.0, np.nan, 3.0])
    assert measure_scale(np.array([2.0, 7.0, np.inf]), reference, 0.0).factor == 2.0


@pytest.mark.parametrize(("value", "allowed"), [([0.0, 0.0], 0.1), ([np.nan], 0.1), ([1.0], np.inf)])
def test_nothing_is_known_of_zeros_and_without_an_allowance(value, allowed):
    assert measure_scale(np.ones(len(value)), make_reference(value), allowed) is None
