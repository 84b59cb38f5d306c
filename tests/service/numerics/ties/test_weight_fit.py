import numpy as np
import pytest

from service.numerics.ties.weight_fit import ChoiceUnit, FitResult, fit_weights

SIMPLEX = [ChoiceUnit(np.arange(3), None)]
BALL = [ChoiceUnit(np.arange(3), 2.0)]


@pytest.mark.parametrize("size", [1e3, 1e13])
@pytest.mark.parametrize(
    ("units", "weights"), [(SIMPLEX, [0.2, 0.3, 0.5]), (SIMPLEX, [0, 1, 0]), (BALL, [0.6, 0, 0.8])]
)
def test_weights_that_may_be_chosen_explain_what_they_make(size, units, weights):
    """With rounding of a fraction of the allowance, whose unit is 1."""
    generator = np.random.default_rng(1)
    a = generator.normal(size=(5, 3)) * size
    b = a @ np.array(weights) + generator.uniform(-0.3, 0.3, 5)
    fit, left = fit_weights(a, b, units)
    assert fit == FitResult.EXPLAINS
    assert np.abs(left).max() <= 1


@pytest.mark.parametrize("size", [1e3, 1e13])
@pytest.mark.parametrize(
    ("units", "weights"), [(SIMPLEX, [1, 1, 1]), (SIMPLEX, [0, 0, 0]), (SIMPLEX, [2, -1, 0]), (BALL, [1, 1, 0])]
)
def test_weights_beyond_explain_nothing(size, units, weights):
    assert fit_weights(np.eye(3) * size, np.array(weights) * size, units)[0] == FitResult.IMPOSSIBLE


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("units", [SIMPLEX, BALL])
def test_a_small_residual_beside_huge_responses_is_impossible(units, seed):
    """The weights' rounding in float64 hides a residual below 1e-8 of the responses."""
    generator = np.random.default_rng(seed)
    a = generator.normal(size=(6, 3)) * 1e14
    b = a @ np.array([0.2, 0.3, 0.5])
    assert fit_weights(a, b + generator.uniform(-0.1, 0.1, 6), units)[0] == FitResult.EXPLAINS
    fit, residual = fit_weights(a, b + generator.normal(size=6) * 3e5, units)
    assert fit == FitResult.IMPOSSIBLE
    assert residual.dtype == np.float64


def test_residual_between_bounds_is_undecided():
    """One element is off by more than is allowed, and all together by less than so many might be."""
    a, b = np.zeros((9, 3)), np.array([2.0, *[0.0] * 8])
    assert fit_weights(a, b, SIMPLEX)[0] == FitResult.UNKNOWN


def test_a_simplex_and_a_ball_are_fitted_together():
    a = np.random.default_rng(2).normal(size=(6, 4)) * 1e9
    units = [ChoiceUnit(np.arange(2), None), ChoiceUnit(np.arange(2, 4), 2.0)]
    assert fit_weights(a, a @ np.array([0.25, 0.75, 0.6, -0.8]), units)[0] == FitResult.EXPLAINS
    assert fit_weights(a, a @ np.array([1.25, 0.75, 0.6, -0.8]), units)[0] != FitResult.EXPLAINS


@pytest.mark.parametrize("order", [1.0, np.inf, 3.0])
def test_weight_fit_depends_on_the_order_of_a_ball(order):
    corner = np.array([1.0, 1.0, 1.0]) / np.linalg.norm([1, 1, 1], order)
    units = [ChoiceUnit(np.arange(3), order)]
    assert fit_weights(np.eye(3) * 1e6, corner * 1e6, units)[0] == FitResult.EXPLAINS
    assert fit_weights(np.eye(3) * 1e6, corner * 1.1e6, units)[0] != FitResult.EXPLAINS
