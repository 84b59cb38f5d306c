"""Gradients of small networks with kinks, in every mixture of arithmetics: what is right is not failed."""

from collections import Counter

import numpy as np
import pytest

from service.numerics.blackbox.candidate_judge import judge_candidates
from service.numerics.core.precision import PRECISIONS
from service.numerics.verdict.outcome import Outcome
from tests.service.numerics.blackbox.smooth_losses import make_layout

pytestmark = pytest.mark.no_cover

ACTIVATIONS = {
    "relu": (lambda z: np.maximum(z, 0), lambda z: (z > 0) * 1.0),
    "abs": (np.abs, np.sign),
}
ARITHMETICS = {"FP64": np.float64, "FP32": np.float32}


class Network:
    """Fit of one layer, B samples of D numbers to H, its weight, (H, D), the point; mean of squares."""

    def __init__(self, generator, activation):
        b, d, h = generator.integers(1, 7, 3)
        self.x, self.y, self.weight = (
            generator.normal(size=shape).astype(np.float32).astype(float) for shape in ((b, d), (b, h), (h, d))
        )
        self.forward, self.slope = ACTIVATIONS[activation]

    def losses(self, points, arithmetic):
        x, y, weight = (array.astype(arithmetic) for array in (self.x, self.y, points.reshape(-1, *self.weight.shape)))
        outputs = self.forward(np.einsum("bd,phd->pbh", x, weight))
        return ((outputs - y) ** 2).mean(axis=(1, 2), dtype=arithmetic).astype(float)

    @property
    def gradient(self):
        z = self.x @ self.weight.T
        return ((2 * (self.forward(z) - self.y) * self.slope(z)).T @ self.x / self.y.size).ravel()


def count_outcomes(count, activation, datatype, arithmetic, change=0.0):
    generator, counts = np.random.default_rng(29), Counter()
    for number in range(count):
        network = Network(generator, activation)
        gradient = PRECISIONS[datatype].round_to_nearest((1 + change) * network.gradient)
        layout = make_layout(network.weight.ravel(), datatype, random=bool(number % 2), seed=number)
        losses = network.losses(layout.stack_points("w"), ARITHMETICS[arithmetic])
        _, judged = judge_candidates(layout, losses, {"w": gradient}, {"w": PRECISIONS[datatype]}, 1e-4)
        counts[judged["w"].verdict.outcome] += 1
    return counts


@pytest.mark.parametrize("arithmetic", ARITHMETICS)
@pytest.mark.parametrize("datatype", ARITHMETICS)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_right_gradient_of_a_network_does_not_fail_beside_kinks(activation, datatype, arithmetic):
    counts = count_outcomes(500, activation, datatype, arithmetic)
    assert counts[Outcome.FAIL] == 0
    if (datatype, arithmetic) != ("FP64", "FP32"):
        assert counts[Outcome.PASS] > 0.9 * counts.total()


def test_wrong_gradient_of_a_network_mostly_fails() -> None:
    counts = count_outcomes(100, "relu", "FP32", "FP32", change=0.01)
    assert counts[Outcome.FAIL] > 85
