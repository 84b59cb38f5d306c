"""What a report says would have been found is found, in every element that it promises anything of."""

from collections import Counter

import numpy as np
import pytest

from service.numerics.blackbox.candidate_judge import judge_candidates
from service.numerics.core.precision import PRECISIONS
from service.numerics.verdict.outcome import Outcome
from tests.service.numerics.blackbox.mixed_scale_losses import MAX_DECADES, MixedScaleLoss
from tests.service.numerics.blackbox.smooth_losses import MAX_FREQUENCIES, draw_smooth_loss, make_layout
from tests.trials import split_count

pytestmark = pytest.mark.no_cover


class Trial:
    """A random loss with noise or without, and its gradient as its datatype has it."""

    def __init__(self, generator, datatype, seed, random=False):
        problem = MixedScaleLoss(generator, datatype)
        self.datatype, self.layout = datatype, make_layout(problem.values, datatype, random=random, seed=seed)
        losses = problem.loss(self.layout.stack_points("w"))
        losses = losses * (1 + generator.choice([0, 0, 1e-12, 1e-7]) * generator.normal(size=losses.shape))
        self.losses = losses.astype(np.float32).astype(float) if generator.random() < 0.3 else losses
        self.gradient = PRECISIONS[datatype].round_to_nearest(problem.gradient)

    def judge(self, candidate):
        return judge_candidates(self.layout, self.losses, {"w": candidate}, {"w": PRECISIONS[self.datatype]}, 1e-4)[1][
            "w"
        ]

    def find_outcome(self, number, value):
        candidate = self.gradient.copy()
        candidate[number] = value
        return self.judge(candidate).direction_results[number].outcome


@pytest.mark.parametrize("count", split_count(80))
@pytest.mark.parametrize("datatype", MAX_DECADES)
def test_no_error_that_would_have_been_found_passes(datatype, count):
    """Reports of each datatype; and an element that is 0, doubled or of the other sign does not pass."""
    generator, counts = np.random.default_rng(8), Counter()
    for seed in range(count):
        trial = Trial(generator, datatype, seed)
        right = trial.judge(trial.gradient)
        counts[right.verdict.outcome] += 1
        error = right.verdict.smallest_detectable_error
        for number in np.flatnonzero(right.is_promised):
            one, value = right.direction_results[number], trial.gradient[number]
            counts["promised"] += 1
            assert one.allowed_error < abs(one.reference)
            off = error * np.array([1, -1, 1, -1]) * np.array([one.reference, one.reference, value, value])
            for wrong in [*(value + off), 0.0, 2 * value, -value]:
                assert trial.find_outcome(number, wrong) != Outcome.PASS
            counts["half passes"] += trial.find_outcome(number, value + error * value / 8) == Outcome.PASS
    assert counts[Outcome.FAIL] == 0
    assert counts[Outcome.PASS] > 0.5 * count
    assert counts["promised"] > count
    assert counts["half passes"] > 0.1 * counts["promised"], "the error that is stated is no larger than need be by far"


@pytest.mark.parametrize("trials", split_count(250))
def test_the_error_that_is_missed_along_directions_is_found_there(trials):
    """Of gradients with one, in mixed units too, that says it is missed with probability 0.001 at most."""
    generator, passed, count = np.random.default_rng(9), 0, 0
    for seed in range(trials):
        trial = Trial(generator, "FP64", seed, random=True)
        right = trial.judge(trial.gradient)
        if right.verdict.outcome != Outcome.PASS or not np.isfinite(right.verdict.detection_limit.relative_l2):
            continue
        weights = trial.layout.lines["w"].direction_weights
        scaled = trial.gradient * weights
        error = generator.normal(size=scaled.shape) * (generator.random(scaled.shape) < 0.5)
        error[0] += 1e-3
        size = right.verdict.detection_limit.relative_l2 * np.linalg.norm(scaled) / np.linalg.norm(error)
        wrong = trial.judge((scaled + error * size) / weights)
        passed, count = passed + (wrong.verdict.outcome == Outcome.PASS), count + 1
    assert count > 0.4 * trials
    assert passed <= 0.008 * trials


@pytest.mark.parametrize("random", [True, False])
@pytest.mark.parametrize("arithmetic", [np.float32, np.float64])
def test_a_float32_tensor_times_1001_over_1000_passes_only_where_no_promise_covers_it(arithmetic, random):
    """200 losses in float32, whose noise may hide so little, and in float64, where it does not pass at all."""
    generator, outcomes = np.random.default_rng(10), Counter()
    for seed in range(200):
        n = int(generator.integers(1, 20))
        values = PRECISIONS["FP32"].round_to_nearest(generator.normal(size=n))
        problem = draw_smooth_loss(generator, n, MAX_FREQUENCIES["FP32"] / 2)
        layout = make_layout(values, "FP32", random=random, seed=seed)
        losses = problem.loss(layout.stack_points("w")).astype(arithmetic).astype(float)
        wrong = 1.001 * problem.gradient(values).astype(np.float32).astype(float)
        judgement = judge_candidates(layout, losses, {"w": wrong}, {"w": PRECISIONS["FP32"]}, 1e-3)[1]["w"]
        outcomes[judgement.verdict.outcome] += 1
        if judgement.verdict.outcome == Outcome.PASS:
            assert judgement.verdict.smallest_detectable_error > 1e-3
    assert outcomes[Outcome.FAIL] > 150
    assert outcomes[Outcome.PASS] == 0 or arithmetic is np.float32


def compute_plate_loss(p):
    e, nu, t = np.moveaxis(p, -1, 0)
    return 12e3 * (1 - nu**2) / (e * t**3)


@pytest.mark.parametrize("trials", split_count(100))
def test_no_wrong_element_of_a_plate_in_si_units_passes(trials):
    """Twelve a trial: modulus, Poisson's ratio and thickness in one tensor."""
    generator = np.random.default_rng(3)
    for seed in range(trials):
        point = np.array([210e9, 0.3, 2e-3]) * generator.uniform(0.5, 1.5, 3)
        layout, value = make_layout(point, random=False, seed=seed), compute_plate_loss(point)
        losses = compute_plate_loss(layout.stack_points("w"))
        e, nu, t = point
        right = np.array([-value / e, -2 * nu / (1 - nu**2) * value, -3 * value / t])

        def find_outcome(candidate, layout=layout, losses=losses):
            return judge_candidates(layout, losses, {"w": candidate}, {"w": PRECISIONS["FP64"]}, 1e-4)[1][
                "w"
            ].verdict.outcome

        assert find_outcome(right) == Outcome.PASS
        for number in range(3):
            for factor in (0.0, -1.0, 5.0, 1 + 1e-4):
                assert find_outcome(np.where(np.arange(3) == number, factor, 1) * right) == Outcome.FAIL
