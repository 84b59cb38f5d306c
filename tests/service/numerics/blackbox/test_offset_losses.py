"""Losses beside a constant that hides them, C + f(x): no wrong candidate passes, and no right one fails."""

from collections import Counter

import numpy as np
import pytest

from service.numerics.blackbox import function_differences
from service.numerics.blackbox.candidate_judge import judge_candidates
from service.numerics.core.precision import PRECISIONS
from service.numerics.verdict.outcome import Outcome
from tests.service.numerics.blackbox.smooth_losses import make_layout

pytestmark = pytest.mark.no_cover

FUNCTIONS = {
    "sine": (lambda z: np.sin(z).sum(axis=-1), np.cos),
    "exponential": (lambda z: np.exp(z).sum(axis=-1), np.exp),
    "square": (lambda z: np.square(z).sum(axis=-1) / 2, lambda z: z),
}
WRONG = {
    "flipped": lambda g: -g,
    "zero": lambda g: 0 * g,
    "doubled": lambda g: 2 * g,
    "one flipped": lambda g: g * np.where(np.arange(g.size) == np.abs(g).argmax(), -1, 1),
}


class OffsetTrial:
    """A random function beside a random constant, evaluated in a dtype."""

    def __init__(self, seed, dtype, largest_exponent, random):
        generator = np.random.default_rng([seed, 7])
        self.precision = PRECISIONS["FP32" if dtype is np.float32 else "FP64"]
        size, kind = generator.integers(2, 7), list(FUNCTIONS)[seed % len(FUNCTIONS)]
        values = generator.normal(size=size).astype(dtype).astype(float)
        self.layout = make_layout(values, self.precision.name, random=random, seed=seed)
        function, derive = FUNCTIONS[kind]
        self.offset = 10 ** generator.uniform(0, largest_exponent)
        exact = self.offset + function(self.layout.stack_points("w"))
        self.losses = exact.astype(dtype).astype(float)
        self.gradient = derive(values)

    @property
    def is_constant(self):
        return len(set(self.losses)) == 1

    def judge(self, candidate):
        rounded = self.precision.round_to_nearest(np.asarray(candidate))
        return judge_candidates(self.layout, self.losses, {"w": rounded}, {"w": self.precision}, 1e-4)[1]["w"]


@pytest.mark.parametrize("random", [True, False])
@pytest.mark.parametrize(("dtype", "largest_exponent"), [(np.float64, 16), (np.float32, 16), (np.float32, 8)])
def test_no_wrong_candidate_passes(dtype, largest_exponent, random):
    """180 losses with four wrong candidates each, of each kind."""
    counts = Counter()
    for seed in range(180):
        trial = OffsetTrial(seed, dtype, largest_exponent, random)
        right = trial.judge(trial.gradient)
        counts["right", right.verdict.outcome] += 1
        for name, spoil in WRONG.items():
            wrong = trial.judge(spoil(trial.gradient))
            if name == "zero" and wrong.verdict.outcome == Outcome.PASS:
                # To the last bit it is a constant. What the pass says of the gradient holds.
                assert trial.is_constant
                assert wrong.verdict.zero_tolerance is not None
                assert wrong.verdict.zero_tolerance > np.abs(trial.gradient).max() or random
                assert not wrong.is_promised.any()
                continue
            counts["wrong", wrong.verdict.outcome] += 1
    assert counts["right", Outcome.FAIL] == 0
    assert counts["wrong", Outcome.PASS] == 0
    assert counts["wrong", Outcome.FAIL] > 0, "they would have been found beside a smaller constant"


@pytest.mark.parametrize("random", [True, False])
def test_moderate_offsets_are_decided(random):
    for seed in range(90):
        trial = OffsetTrial(seed, np.float64, 6, random)
        assert trial.judge(trial.gradient).verdict.outcome == Outcome.PASS
        for spoil in WRONG.values():
            assert trial.judge(spoil(trial.gradient)).verdict.outcome == Outcome.FAIL


def test_wrong_candidates_would_pass_if_every_loss_were_taken_to_jitter(monkeypatch):
    """The control of the tests above: these losses do hide gradients, and only the evidence of a zero is missing."""
    monkeypatch.setattr(
        function_differences,
        "has_rounding_jitter",
        lambda layout, name, near, values, noise: np.ones(np.shape(noise.largest_deviation), bool),
    )
    trials = [OffsetTrial(seed, np.float64, 16, random=False) for seed in range(60)]
    passing = [
        trial.judge(spoil(trial.gradient)).verdict.outcome == Outcome.PASS
        for trial in trials
        if not trial.is_constant
        for spoil in WRONG.values()
    ]
    assert sum(passing) > 5
