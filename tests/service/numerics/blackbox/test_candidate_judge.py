"""Verdicts from losses: what is right is never failed, what is wrong is found as often as is said."""

import math

import numpy as np
import pytest

from service.numerics.blackbox.allowance import choose_allowed_roundoffs
from service.numerics.blackbox.candidate_judge import judge_candidates
from service.numerics.core.precision import PRECISIONS
from service.numerics.verdict.outcome import Outcome
from tests.service.numerics.blackbox.smooth_losses import MAX_FREQUENCIES, add_noise, draw_smooth_loss, make_layout


def judge_gradient(layout, losses, gradient, precision="FP64", sought=1e-4):
    noise, results = judge_candidates(layout, losses, {"w": gradient}, {"w": PRECISIONS[precision]}, sought)
    return noise, results["w"]


class Fit:
    """A fit of n numbers, one weight each: a mean of squares of cubics."""

    def __init__(self, generator, n=10_000):
        self.values, self.a, self.y = generator.normal(size=(3, n))

    def loss(self, x):
        residual = x * (1 + 0.1 * x) * self.a - self.y
        return np.einsum("...i,...i->...", residual, residual) / x.shape[-1]

    @property
    def gradient(self):
        x = self.values
        return 2 * (x * (1 + 0.1 * x) * self.a - self.y) * (1 + 0.2 * x) * self.a / x.size


def run_trials(count, relative, n=10_000, error=1e-4):
    """Of candidates with one wrong element: whether each was found, and the probability stated of missing it."""
    generator = np.random.default_rng(17)
    fit = Fit(generator, n)
    is_found, stated = [], []
    for _ in range(count):
        layout = make_layout(fit.values, seed=int(generator.integers(2**60)))
        losses = add_noise(fit.loss(layout.stack_points("w")), relative, generator)
        candidate = fit.gradient
        candidate[generator.integers(n)] *= 1 + error
        _, results = judge_gradient(layout, losses, candidate, sought=error)
        is_found.append(results.verdict.outcome == Outcome.FAIL)
        stated.append(results.single_miss_probability)
    return np.array(is_found), np.array(stated)


def are_misses_consistent(is_found, stated, deviations=3.3):
    """Whether so many misses are within the binomial confidence interval, 99.9 %, of what was stated."""
    expected, spread = stated.sum(), math.sqrt((stated * (1 - stated)).sum())
    return abs((~is_found).sum() - expected) <= deviations * spread + 1


@pytest.mark.no_cover
def test_single_element_of_ten_thousand_is_missed_as_often_as_stated():
    """1,000 trials, with noise of which about a third of such errors is hidden."""
    is_found, stated = run_trials(1000, 1e-12)
    assert 0.1 < stated.mean() < 0.9
    assert are_misses_consistent(is_found, stated)
    assert not are_misses_consistent(is_found, np.clip(stated + 0.06, 0, 1)), "and another probability would not be"
    assert not are_misses_consistent(is_found, np.clip(stated - 0.06, 0, 1))


@pytest.mark.no_cover
def test_wrong_element_without_noise_is_nearly_always_found():
    is_found, stated = run_trials(100, 0.0)
    assert stated.mean() < 0.01
    assert are_misses_consistent(is_found, stated)


@pytest.mark.no_cover
def test_error_of_the_stated_detectable_size_is_found():
    """Of the norm that is missed with probability 0.001 at most, in any direction."""
    generator = np.random.default_rng(2)
    missed = 0
    for trial in range(300):
        fit = Fit(generator, 100)
        layout = make_layout(fit.values, seed=trial)
        losses = add_noise(fit.loss(layout.stack_points("w")), 10 ** generator.uniform(-16, -9), generator)
        right = judge_gradient(layout, losses, fit.gradient)[1].verdict
        assert right.detection_limit.probability <= 1e-3
        error = generator.normal(size=100) * (generator.uniform(size=100) < 0.1 + 0.9 * (trial % 2))
        error[0] += 1e-3
        wrong = fit.gradient + error * right.detection_limit.relative_l2 * np.linalg.norm(
            fit.gradient
        ) / np.linalg.norm(error)
        missed += judge_gradient(layout, losses, wrong)[1].verdict.outcome == Outcome.PASS
    assert missed <= 3


@pytest.mark.parametrize("random", [True, False])
@pytest.mark.parametrize("relative", [0.0, 1e-12, 1e-7])
@pytest.mark.parametrize("datatype", MAX_FREQUENCIES)
def test_candidate_right_to_rounding_never_fails(datatype, relative, random):
    generator = np.random.default_rng(23)
    outcomes = []
    for seed in range(100):
        n = int(generator.integers(1, 30))
        loss = draw_smooth_loss(generator, n, MAX_FREQUENCIES[datatype])
        layout = make_layout(generator.normal(size=n), datatype, random=random, seed=seed)
        losses = add_noise(loss.loss(layout.stack_points("w")), relative, generator, ("normal", "uniform")[seed % 2])
        gradient = PRECISIONS[datatype].round_to_nearest(loss.gradient(layout.points["w"].values))
        _, result = judge_gradient(layout, losses, gradient, datatype)
        outcomes.append(result.verdict.outcome)
    assert Outcome.FAIL not in outcomes
    if relative < 1e-7:
        assert np.mean(np.array(outcomes) == Outcome.PASS) > (0.9 if random and datatype != "BF16" else 0.5)


def test_a_loss_in_float32_fails_nothing_that_is_right():
    generator = np.random.default_rng(3)
    for seed in range(100):
        fit = Fit(generator, 50)
        layout = make_layout(fit.values, "FP32", seed=seed)
        values = layout.points["w"].values
        a, y, x = (array.astype(np.float32) for array in (fit.a, fit.y, layout.stack_points("w")))
        losses = (np.square(x * (1 + np.float32(0.1) * x) * a - y).mean(axis=-1)).astype(np.float64)
        gradient = 2 * (values * (1 + 0.1 * values) * fit.a - fit.y) * (1 + 0.2 * values) * fit.a / 50
        _, result = judge_gradient(layout, losses, gradient.astype(np.float32), "FP32")
        assert result.verdict.outcome == Outcome.PASS


BUGS = {"a sign": (-1.0, "sign_flipped"), "twice": (2.0, "scaled"), "nothing": (0.0, "detached")}


@pytest.mark.parametrize(("factor", "name"), BUGS.values(), ids=BUGS)
@pytest.mark.parametrize("random", [True, False])
def test_bugs_that_are_a_factor_are_named(factor, name, random):
    fit = Fit(np.random.default_rng(0), 5)
    layout = make_layout(fit.values, random=random)
    _, result = judge_gradient(layout, fit.loss(layout.stack_points("w")), factor * fit.gradient)
    assert result.verdict.outcome == Outcome.FAIL
    assert result.diagnosis.bug_name == name
    if factor:
        assert result.remainder_test.fit_factor == pytest.approx(1 / factor)
        assert result.remainder_test.convergence_order == pytest.approx(1, abs=0.1)


def test_a_wrong_element_is_named():
    fit = Fit(np.random.default_rng(0), 6)
    layout = make_layout(fit.values.reshape(2, 3), random=False)
    candidate = fit.gradient
    candidate[4] *= 1 + 1e-6
    _, judged = judge_gradient(layout, fit.loss(layout.stack_points("w").reshape(-1, 6)), candidate.reshape(2, 3))
    assert judged.verdict.outcome == Outcome.FAIL
    assert judged.verdict.worst_elements[0].index == (1, 1)
    assert [result.outcome for result in judged.direction_results] == [Outcome.PASS] * 4 + [Outcome.FAIL, Outcome.PASS]
    assert judged.diagnosis is None


@pytest.mark.parametrize("random", [True, False])
def test_a_constant_loss_and_a_gradient_of_zeros_agree(random):
    layout = make_layout(np.ones(3), random=random)
    _, result = judge_gradient(layout, np.full(layout.evaluation_count, 0.7), np.zeros(3))
    assert result.verdict.outcome == Outcome.PASS
    assert result.verdict.smallest_detectable_error == np.inf
    assert result.single_miss_probability == 1
    assert result.remainder_test.fit_intercept == 0
    _, zero = judge_gradient(layout, np.zeros(layout.evaluation_count), np.zeros(3))
    assert zero.verdict.outcome == Outcome.PASS


@pytest.mark.parametrize("random", [True, False])
def test_a_gradient_below_the_noise_is_no_pass(random):
    layout = make_layout(np.ones(3), random=random)
    generator = np.random.default_rng(0)
    _, result = judge_gradient(layout, 0.7 + 1e-6 * generator.normal(size=layout.evaluation_count), np.zeros(3))
    assert result.verdict.outcome == Outcome.INCONCLUSIVE


@pytest.mark.parametrize("candidate", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("random", [True, False])
@pytest.mark.parametrize("relative", [0.0, 1e-12, 1e-7])
def test_at_a_kink_nothing_is_called_wrong_and_nothing_certain(candidate, random, relative):
    """A rectifier at 0, of which every value between its sides is a convention."""
    layout = make_layout(np.zeros(1), random=random)
    losses = np.maximum(layout.stack_points("w")[:, 0], 0) + 0.3
    losses = add_noise(losses, relative, np.random.default_rng(1))
    _, result = judge_gradient(layout, losses, np.array([candidate]))
    assert result.verdict.outcome == Outcome.INCONCLUSIVE


def test_a_network_of_rectifiers_is_no_alarm():
    generator = np.random.default_rng(5)
    outcomes = []
    for seed in range(100):
        inputs, v = generator.normal(size=(20, 8)), generator.normal(size=16)
        values = generator.normal(size=(8, 16)) / np.sqrt(8)
        layout = make_layout(values, seed=seed)
        hidden = inputs @ layout.stack_points("w")
        losses = np.square(np.maximum(hidden, 0) @ v).mean(axis=-1)
        z = inputs @ values
        gradient = inputs.T @ (2 / 20 * (np.maximum(z, 0) @ v)[:, None] * v * (z > 0))
        outcomes.append(judge_gradient(layout, losses, gradient)[1].verdict.outcome)
    assert Outcome.FAIL not in outcomes
    assert np.mean(np.array(outcomes) == Outcome.PASS) > 0.5


@pytest.mark.parametrize("random", [True, False])
def test_nonfinite_candidate_fails(random):
    fit = Fit(np.random.default_rng(0), 3)
    layout = make_layout(fit.values, random=random)
    for value in (np.nan, np.inf, 1e308):
        candidate = fit.gradient
        candidate[1] = value
        _, result = judge_gradient(layout, fit.loss(layout.stack_points("w")), candidate)
        assert result.verdict.outcome == Outcome.FAIL


def test_a_lower_precision_is_hinted_at():
    fit = Fit(np.random.default_rng(0), 30)
    layout = make_layout(fit.values)
    losses = fit.loss(layout.stack_points("w"))
    _, result = judge_gradient(layout, losses, fit.gradient.astype(np.float32).astype(np.float64))
    assert '"candidate_dtype": "FP32"' in result.verdict.reason
    _, result = judge_gradient(layout, losses, 2 * fit.gradient)
    assert "candidate_dtype" not in result.verdict.reason


@pytest.mark.parametrize("unit", [1e-300, 1e-150, 1e150, 1e300])
def test_the_size_of_the_loss_changes_nothing(unit):
    fit = Fit(np.random.default_rng(0), 4)
    layout = make_layout(fit.values)
    losses = fit.loss(layout.stack_points("w"))
    _, expected = judge_gradient(layout, losses, fit.gradient)
    noise, result = judge_gradient(layout, losses * unit, fit.gradient * unit)
    assert result.verdict.outcome == expected.verdict.outcome == Outcome.PASS
    assert noise.deviation < 1e-13 * losses[0] * unit


def test_a_narrow_arithmetic_has_fewer_units():
    assert [choose_allowed_roundoffs(PRECISIONS[name]) for name in ("FP64", "FP32", "TF32", "FP16", "BF16")] == [
        256,
        256,
        24,
        24,
        24,
    ]


@pytest.mark.parametrize("random", [True, False])
def test_a_loss_that_is_lost_in_rounding_calls_nothing_wrong(random):
    """A cross-entropy so sure of itself that nothing is left of it but 0, and its true gradient."""
    layout = make_layout(np.array([60.0, 0.5]), random=random)
    z = layout.stack_points("w")
    losses = np.log(1 + np.exp(-(z[:, 0] + z[:, 1])))
    assert not losses.any()
    off = np.exp(-60.5)
    _, result = judge_gradient(layout, losses, np.array([-off, -off]))
    assert result.verdict.outcome == Outcome.INCONCLUSIVE


def test_inconclusive_verdict_claims_no_more_than_it_finds():
    """Where the noise is large, what is not called wrong counts as missed too."""
    generator = np.random.default_rng(4)
    fit, unnoticed = Fit(generator, 100), 0
    for trial in range(300):
        layout = make_layout(fit.values, seed=trial)
        losses = add_noise(fit.loss(layout.stack_points("w")), 1e-6, generator)
        right = judge_gradient(layout, losses, fit.gradient)[1].verdict
        error = generator.normal(size=100)
        size = right.detection_limit.relative_l2 * np.linalg.norm(fit.gradient)
        wrong = judge_gradient(layout, losses, fit.gradient + error * size / np.linalg.norm(error))[1].verdict
        unnoticed += wrong.outcome != Outcome.FAIL
    assert unnoticed <= 3
