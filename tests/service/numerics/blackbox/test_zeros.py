"""A gradient that is 0 to rounding passes as 0, and no other does."""

import numpy as np
import pytest

from service.numerics.blackbox.candidate_judge import judge_candidates
from service.numerics.blackbox.layout import lay_out_evaluations
from service.numerics.core.precision import PRECISIONS
from service.numerics.verdict.outcome import Outcome
from tests.service.numerics.blackbox.smooth_losses import make_layout, make_point


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
    "a constant of few digits": (lambda z: np.ones(len(z)), X, 0 * X),
}
HIDDEN = {
    "a constant, and a candidate that is none": (lambda z: np.full(len(z), 0.7), 1e-17 * X),
    "roundings that near points do not show": (
        lambda z: 1 + 2.0**-52 * np.rint(6 * np.sin(0.4 + np.abs(z - X).max(axis=-1) * 30)),
        0 * X,
    ),
    "a sine beside a large constant": (lambda z: 1e14 + np.sin(z).sum(axis=-1), np.cos(X)),
    "a sine beside a larger constant": (lambda z: 1e15 + np.sin(z).sum(axis=-1), 0 * X),
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
@pytest.mark.parametrize("factor", [1.0, -1.0, 0.0, 2.0])
@pytest.mark.parametrize(("loss", "candidate"), HIDDEN.values(), ids=HIDDEN)
def test_a_hidden_gradient_passes_for_no_candidate(loss, candidate, factor, random):
    judged = factor * candidate
    verdict = judge_candidate(loss, X, judged, random).verdict
    if judged.any() or len(set(loss(np.stack([X, X + 0.1, X - 0.1])))) > 1:
        assert verdict.outcome == Outcome.INCONCLUSIVE
        assert verdict.zero_tolerance is None
        assert "hidden by the noise of the loss: a gradient of up to" in verdict.reason


@pytest.mark.parametrize("random", [True, False])
def test_a_tensor_without_influence_passes_as_zero_beside_one_that_has_some(random):
    """The bias before a normalisation: its gradient is 0, and a backward pass leaves its roundings."""
    generator = np.random.default_rng(4)
    data, target = generator.normal(size=(8, 4)), generator.normal(size=(8, 2))

    def loss(w, b):
        z = data @ np.swapaxes(w, -1, -2) + b[:, None]
        z = (z - z.mean(axis=1, keepdims=True)) / np.sqrt(z.var(axis=1, keepdims=True) + 1e-5)
        return np.square(z - target).mean(axis=(1, 2))

    layout = lay_out_evaluations(
        {
            "w": make_point(generator.normal(size=(2, 4)), random=random),
            "b": make_point(generator.normal(size=2), random=random),
        },
        random=random,
        count=None,
        seed=1,
    )
    losses = loss(layout.stack_points("w"), layout.stack_points("b"))
    gradients = {"w": np.zeros((2, 4)), "b": np.array([4.9e-17, 1e-17])}
    precisions = dict.fromkeys(gradients, PRECISIONS["FP64"])
    for off, outcome in ((0.0, Outcome.PASS), (2.5e-14, Outcome.INCONCLUSIVE), (1e-3, Outcome.FAIL)):
        gradients["b"][0] = 4.9e-17 + off
        verdict = judge_candidates(layout, losses, gradients, precisions, 1e-4)[1]["b"].verdict
        assert verdict.outcome == outcome
    # Nothing is known of the bias by itself.
    alone = losses[0] + np.zeros(len(losses))
    gradients["b"][0] = 4.9e-17
    verdict = judge_candidates(layout, alone, gradients, precisions, 1e-4)[1]["b"].verdict
    assert verdict.outcome == Outcome.INCONCLUSIVE


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
