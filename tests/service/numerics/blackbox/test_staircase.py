"""Beside a staircase a gradient of 0 is not called wrong; beside any other loss it is."""

import numpy as np
import pytest

from service.numerics.blackbox.candidate_judge import judge_candidates
from service.numerics.blackbox.staircase import is_staircase
from service.numerics.core.precision import PRECISIONS
from service.numerics.verdict.outcome import Outcome
from tests.service.numerics.blackbox.smooth_losses import make_layout

W = np.array([0.7, -1.3, 2.1])
X = np.array([0.3, -1.2, 0.8])
STAIRCASES = {
    "a sum of rounded numbers": lambda x, decimals: (W * np.round(x, decimals)).sum(),
    "a rounded sum": lambda x, decimals: np.round((W * np.sin(x)).sum(), decimals),
}
SMOOTH = {
    "float64": lambda x: float((W * np.sin(x)).sum()),
    "float32": lambda x: float((W * np.sin(x)).sum().astype(np.float32)),
    "float32 brought to float64": lambda x: float((W * np.sin(x)).sum().astype(np.float32)) * 1.1 + 1e-3,
    "float32 inside": lambda x: float((W * np.sin(x)).astype(np.float32).astype(float).sum()),
    "noise": lambda x: float((W * np.sin(x)).sum()) + 1e-9 * np.sin(1e12 * x.sum()),
}


def find_outcome(loss, candidate, random, seed=0):
    layout = make_layout(X, random=random, seed=seed)
    losses = np.array([loss(point) for point in layout.stack_points("w")])
    return judge_candidates(layout, losses, {"w": candidate}, {"w": PRECISIONS["FP64"]}, 1e-4)[1]["w"].verdict


@pytest.mark.parametrize("random", [True, False])
@pytest.mark.parametrize("decimals", [1, 2, 3, 4])
@pytest.mark.parametrize("loss", STAIRCASES.values(), ids=STAIRCASES)
def test_a_gradient_of_zeros_beside_a_staircase_is_not_decided(loss, decimals, random):
    for seed in range(5):
        outcome = find_outcome(lambda x: loss(x, decimals), np.zeros(3), random, seed)
        assert outcome.outcome == Outcome.INCONCLUSIVE
        assert "is a staircase" in outcome.reason


@pytest.mark.parametrize("random", [True, False])
@pytest.mark.parametrize("loss", SMOOTH.values(), ids=SMOOTH)
def test_zero_gradient_beside_another_slope_fails(loss, random):
    assert all(find_outcome(loss, np.zeros(3), random, seed).outcome == Outcome.FAIL for seed in range(5))


@pytest.mark.parametrize("random", [True, False])
def test_beside_a_fine_staircase_other_gradients_are_judged(random):
    """In one of ten seeds two stairs at the base look like a kink."""
    outcomes = [
        find_outcome(lambda x: np.round(np.sin(x).sum(), 6), -np.cos(X), random, seed).outcome for seed in range(30)
    ]
    assert Outcome.PASS not in outcomes
    assert outcomes.count(Outcome.FAIL) >= 24


def test_a_loss_that_hardly_changes_is_no_staircase():
    spacings = np.array([2.0**-18, 2.0**-28])
    assert is_staircase(np.ones((2, 8)), spacings, 1.0, 2.0**-53)
    assert not is_staircase(np.ones((2, 8)), spacings, 1e-6, 2.0**-53)
    assert not is_staircase(np.ones((2, 8)), spacings, 1.0, 2.0**-24)


def test_a_direction_along_which_a_loss_hardly_changes_makes_no_staircase():
    """Of random directions one may be all but orthogonal to the gradient: a few roundings are all that is seen then."""
    spacings, unit = np.array([2.0**-13, 2.0**-17]), 2.0**-24
    lines = 0.51 + unit * np.array([[0, 0, 2, 5, 6, 7, 9, 9], [0, 6, 14, 20, 30, 36, 44, 51]])
    assert not is_staircase(lines, spacings, 0.3, unit)
    assert is_staircase(np.full((2, 8), 0.51), spacings, 0.3, unit)
