"""What is said to do when a candidate could not be judged follows from what the loss did."""

import numpy as np
import pytest

from service.numerics.blackbox.candidate_judge import judge_candidates
from service.numerics.core.precision import PRECISIONS
from service.numerics.verdict.outcome import Outcome
from tests.service.numerics.blackbox.smooth_losses import make_layout

DRAWN, CONSTANT, KINK = "not the same each time", "the same at every point", "has a kink here"
JUMP = "jumps within the steps"
USUAL, COORDINATES = "in a more precise arithmetic", 'Plan directions of kind "coordinates"'


class Drifting:
    def __init__(self):
        self.calls = 0

    def __call__(self, x):
        self.calls += 1
        return float((x**2).sum()) + 1e-3 * self.calls


X = np.array([0.5, -0.25, 1.0])


@pytest.mark.parametrize(
    ("loss", "point", "gradient", "outcome", "said"),
    [
        (Drifting(), X, 2 * X, Outcome.INCONCLUSIVE, DRAWN),
        (lambda _: 1.0, X, X, Outcome.INCONCLUSIVE, CONSTANT),
        (lambda _: float(np.sin(X).sum()), X, 2 * X, Outcome.FAIL, CONSTANT),
        (lambda x: np.maximum(x, 0).sum(), 0 * X, 0 * X, Outcome.INCONCLUSIVE, KINK),
        (lambda x: np.abs(x - 1e-9).sum(), 0 * X, -np.ones(3), Outcome.INCONCLUSIVE, KINK),
        (lambda x: (x**2).sum() + 1e-6 * np.sin(1e9 * x).sum(), 0 * X, 0 * X, Outcome.INCONCLUSIVE, USUAL),
        (lambda x: x.sum() + (x > 1e-3).sum(), 0 * X, np.ones(3), Outcome.INCONCLUSIVE, JUMP),
        (lambda x: (1 / (x - 1e-4)).sum(), 0 * X, 0 * X, Outcome.INCONCLUSIVE, JUMP),
        (lambda x: (x**2).sum(), X, 3 * X, Outcome.FAIL, COORDINATES),
    ],
    ids=["drifting", "constant", "deaf", "relu at 0", "a kink near", "noise", "a comparison", "a pole", "wrong"],
)
def test_remedy_follows_from_the_cause(loss, point, gradient, outcome, said):
    layout = make_layout(point)
    losses = np.array([loss(row) for row in layout.stack_points("w")])
    _, results = judge_candidates(layout, losses, {"w": gradient}, {"w": PRECISIONS["FP64"]}, 1e-4)
    verdict = results["w"].verdict
    assert verdict.outcome == outcome
    assert [
        sentence for sentence in (DRAWN, CONSTANT, KINK, JUMP, USUAL, COORDINATES) if sentence in verdict.reason
    ] == [said]
