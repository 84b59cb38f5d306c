"""A gradient that is 0 to rounding passes as 0, and no other does."""

import numpy as np
import pytest

from service.numerics.blackbox.candidate_judge import judge_candidates
from service.numerics.core.precision import PRECISIONS
from service.numerics.verdict.outcome import Outcome
from tests.service.numerics.blackbox.smooth_losses import make_layout


def compute_softmax(z):
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def backward(z):
    y = compute_softmax(z)
    return y * (1 - (y * 1).sum())


X = np.array([0.3, -1.2, 0.7, 2.0, 0.1])
ZEROS = {
    "the sum of a softmax": (lambda z: compute_softmax(z).sum(axis=-1), X, backward(X)),
    "a norm that is always 1": (
        lambda z: np.sqrt(np.square(z / np.linalg.norm(z, axis=-1, keepdims=True)).sum(-1)),
        X,
        0,
    ),
    "a minimum": (lambda z: np.square(z).sum(axis=-1), 0 * X, 0 * X),
    "a minimum elsewhere": (lambda z: 3 + np.square(z - X).sum(axis=-1), X, 1e-17 * X),
    "a constant": (lambda z: np.full(len(z), 0.7), X, 0 * X),
    "a constant of few digits": (lambda z: np.ones(len(z)), X, 1e-17 * X),
    "roundings that near points do not show": (
        lambda z: 1 + 2.0**-52 * np.rint(6 * np.sin(0.4 + np.abs(z - X).max(axis=-1) * 30)),
        X,
        0 * X,
    ),
}


def judge_candidate(loss, point, candidate, random, scale=1.0):
    layout = make_layout(point, random=random)
    losses = loss(layout.stack_points("w"))
    return judge_candidates(layout, losses, {"w": candidate * np.ones(point.shape)}, {"w": PRECISIONS["FP64"]}, 1e-4)[
        1
    ]["w"]


@pytest.mark.parametrize("random", [True, False])
@pytest.mark.parametrize(("loss", "point", "candidate"), ZEROS.values(), ids=ZEROS)
def test_a_gradient_of_zero_passes_and_nothing_is_promised(loss, point, candidate, random):
    verdict = judge_candidate(loss, point, candidate, random)
    assert verdict.verdict.outcome == Outcome.PASS
    assert verdict.verdict.smallest_detectable_error == np.inf or random
    assert not verdict.is_promised.any()
    if not random:
        assert verdict.verdict.negligible_count == verdict.verdict.outcome_counts[Outcome.PASS] == point.size


@pytest.mark.parametrize("random", [True, False])
@pytest.mark.parametrize("wrong", [1e-12, 1e-6, 1.0])
@pytest.mark.parametrize(("loss", "point"), [zero[:2] for zero in ZEROS.values()], ids=ZEROS)
def test_nonzero_candidate_at_zero_fails(loss, point, wrong, random):
    assert judge_candidate(loss, point, wrong * (1 + X), random).verdict.outcome != Outcome.PASS


@pytest.mark.parametrize("random", [True, False])
def test_a_gradient_that_rounding_hides_is_not_zero_where_the_candidate_says_so(random):
    """Of a tensor of 1e-9 beside a loss of float32: nothing is seen of it, right or wrong."""
    layout = make_layout(np.array([1e-9, 2e-9]), random=random)
    losses = np.cos(layout.stack_points("w").sum(axis=1) - 1).astype(np.float32).astype(float)
    for candidate in (np.sin(1.0), -np.sin(1.0), 10.0):
        results = judge_candidates(layout, losses, {"w": np.full(2, candidate)}, {"w": PRECISIONS["FP64"]}, 1e-4)[1][
            "w"
        ]
        assert results.verdict.outcome == Outcome.INCONCLUSIVE


def test_rounded_away_move_is_no_zero_gradient():
    verdict = judge_candidate(lambda z: np.cos(z - 1).sum(axis=-1), np.array([2.2e-16]), -1.0, False)
    assert verdict.verdict.outcome == Outcome.INCONCLUSIVE


@pytest.mark.parametrize("random", [True, False])
def test_zero_is_found_beside_a_tensor_that_is_not(random):
    """An element whose gradient is 0 is negligible beside others, and does not pass if it is wrong."""
    loss = lambda z: np.sin(z[..., 0]) + 0 * z[..., 1]  # noqa: E731
    point = np.array([0.3, 0.5])
    assert judge_candidate(loss, point, np.array([np.cos(0.3), 0]), random).verdict.outcome == Outcome.PASS
    assert judge_candidate(loss, point, np.array([np.cos(0.3), 1e-3]), random).verdict.outcome == Outcome.FAIL


@pytest.mark.parametrize("often", [100.0, 300.0, 1000.0])
def test_a_gradient_is_not_zero_because_the_loss_is_large_elsewhere(often):
    verdict = judge_candidate(
        lambda z: np.exp(often * (z - 1)).sum(axis=-1), np.ones(2), -often * np.ones(2), random=False
    )
    assert verdict.verdict.outcome != Outcome.PASS
