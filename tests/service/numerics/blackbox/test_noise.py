import math

import numpy as np
import pytest

from service.numerics.blackbox.noise import estimate_line_noise, estimate_noise, find_loss_format
from service.numerics.blackbox.schedule import STEP_SCHEDULES
from tests.service.numerics.blackbox.smooth_losses import add_noise, estimate_planned_noise, make_layout


@pytest.mark.parametrize("kind", ["normal", "uniform"])
@pytest.mark.parametrize("relative", [1e-12, 1e-7, 1e-3])
def test_known_noise_is_found_within_a_factor(relative, kind):
    generator = np.random.default_rng(0)
    ratios = []
    for seed in range(200):
        layout = make_layout(generator.normal(size=5) + 2, seed=seed)
        losses = add_noise((layout.stack_points("w") ** 2).sum(axis=1), relative, generator, kind)
        ratios.append(estimate_planned_noise(losses).deviation / (relative * losses[0]))
    assert np.median(ratios) == pytest.approx(1, abs=0.1)
    assert 0.2 < min(ratios) < max(ratios) < 5


def test_smooth_loss_has_no_noise():
    t = np.arange(9) * 1e-3
    assert estimate_line_noise(np.exp(t)) < 1e-15
    assert estimate_line_noise(np.zeros(8)) == 0


def test_differences_are_weighed_as_in_the_paper():
    """gamma_k = (k!)^2 / (2k)!: alternating values have k-th differences of 2^k, all alike in size."""
    values = np.array([1.0, -1, 1, -1, 1, -1, 1, -1])
    expected = [math.sqrt(math.factorial(k) ** 2 / math.factorial(2 * k)) * 2**k for k in range(1, 8)]
    assert estimate_line_noise(values) == pytest.approx(expected[0])


def test_losses_that_are_rounded_are_not_taken_for_exact():
    """So near to one another that none leaves its float32, or its float16."""
    for format, unit in ((np.float32, 2.0**-24), (np.float16, 2.0**-11)):
        losses = np.full(30, float(format(0.3)))
        losses[-1] = float(format(0.7))
        noise = estimate_noise(losses[:3], losses[3:19].reshape(2, 8), find_loss_format(losses))
        assert noise.deviation == pytest.approx(2 * unit / math.sqrt(12) * losses[0])
        assert noise.is_deterministic


def test_a_loss_that_is_the_same_each_time_is_exact():
    """Though the computed deviation of equal numbers is often not 0."""
    losses = np.random.default_rng(0).normal(size=200)
    assert any(np.std(np.full(3, loss), ddof=1) for loss in losses)
    assert all(
        estimate_noise(np.full(3, loss), np.full((2, 8), loss), find_loss_format(np.full(30, loss))).is_deterministic
        for loss in losses
    )


def test_a_loss_that_is_another_each_time_is_noisy():
    losses = np.full(30, 0.1)
    losses[1] += 1e-5
    noise = estimate_noise(losses[:3], losses[3:19].reshape(2, 8), find_loss_format(losses))
    assert not noise.is_deterministic
    assert noise.deviation == pytest.approx(1e-5 / math.sqrt(3), rel=1e-6)


STEPS = STEP_SCHEDULES["FP64"].steps


def compare_deviations(loss, relative, absolute, seed=0, count=4):
    """Deviation that is assumed at each step, (k, levels), and that which is there."""
    generator = np.random.default_rng(seed)

    def add_noise(values):
        deviation = relative * np.abs(values) + absolute
        return values + deviation * generator.normal(size=values.shape)

    near = add_noise(loss(2.0**-20 * np.arange(16.0)))
    losses = add_noise(np.stack([loss(STEPS), loss(-STEPS)], axis=-1) * np.ones((count, 1, 1)))
    base = float(add_noise(loss(np.zeros(1)))[0])
    noise = estimate_noise(
        np.full(3, base), near.reshape(2, 8), find_loss_format(np.concatenate([near, losses.ravel()]))
    )
    return noise.compute_deviation(losses, STEPS, base), relative * np.abs(losses).max(axis=2) + absolute


@pytest.mark.parametrize("seed", range(20))
def test_relative_noise_grows_with_the_loss(seed):
    """Of a loss that is nearly 0 at the base, and a hundred times as large at the largest step."""
    assumed, there = compare_deviations(lambda t: 1e-3 + np.sin(t), 1e-6, 0.0, seed)
    assert (assumed >= there / 3).all()


@pytest.mark.parametrize("count", [1, 4, 30])
@pytest.mark.parametrize("seed", range(5))
def test_constant_noise_is_not_called_relative(seed, count):
    """As a solver's, or that of a sum without order, where the loss is nearly 0 at the base."""
    assumed, there = compare_deviations(lambda t: 1e-6 + np.sin(t), 0.0, 1e-6, seed, count)
    assert (there / 4 <= assumed).all()
    assert (assumed <= 40 * there).all(), "and not 100,000 times as much"


def test_rounding_noise_grows_with_the_loss():
    losses = np.stack([1e-9 + np.sin(STEPS), 1e-9 - np.sin(STEPS)], axis=-1)[None]
    noise = estimate_noise(np.full(3, 1e-9), np.full((2, 8), 1e-9), find_loss_format(losses.ravel()))
    assert (noise.compute_deviation(losses, STEPS, 1e-9) >= 2.0**-53 * np.abs(losses).max(axis=2) / 2).all()


def test_a_loss_of_zeros_has_no_noise():
    nothing = estimate_noise(np.zeros(3), np.zeros((2, 8)), find_loss_format(np.zeros(30)))
    assert not nothing.compute_deviation(np.ones((1, 7, 2)), STEPS, 0.0).any()


@pytest.mark.parametrize("seed", range(8))
def test_noise_that_grows_as_the_root_of_the_loss_is_not_taken_for_less(seed):
    """As of a sum of squares near its solution, whose residuals are rounded; by the truth in longer numbers."""
    generator = np.random.default_rng(seed)
    a, at = generator.normal(size=(12, 3)), generator.normal(size=3)
    b = a @ at + 1e-5 * generator.normal(size=12)
    layout = make_layout(at, seed=seed)

    def loss(points):
        return np.square(points @ a.T.astype(points.dtype) - b.astype(points.dtype)).sum(axis=1)

    points = layout.stack_points("w")
    losses = loss(points)
    off = np.abs(losses - loss(points.astype(np.longdouble))).astype(float)
    own, errors = layout.select_tensor_losses("w", losses), layout.select_tensor_losses("w", off)
    deviations = estimate_planned_noise(losses).compute_deviation(own, layout.points["w"].schedule.steps, losses[0])
    assert (np.sqrt(np.square(errors).mean(axis=(0, 2))) <= 3 * deviations.max(axis=0)).all()


def test_losses_below_the_normal_numbers_have_the_noise_of_their_spacing():
    """Multiples of 2^-1074 in units of 2^-1072 are a quarter apart, though all of them are the same near the base."""
    losses = np.full(30, 1.0)
    found = estimate_noise(losses[:3], losses[3:19].reshape(2, 8), find_loss_format(losses, -1072))
    assert found.largest_deviation == pytest.approx(0.25 / np.sqrt(12))
    ordinary = estimate_noise(losses[:3], losses[3:19].reshape(2, 8), find_loss_format(losses, -900))
    assert ordinary.largest_deviation < 0.01
