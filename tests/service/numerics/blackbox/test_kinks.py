import numpy as np
import pytest

from service.numerics.blackbox.kinks import LossShape, find_kinks
from service.numerics.blackbox.schedule import STEP_SCHEDULES

STEPS = STEP_SCHEDULES["FP64"].steps


def compute_second_differences(loss):
    return (loss(STEPS) + loss(-STEPS) - 2 * loss(np.zeros(1)))[None]


def find_kinks_of(loss, noise=1e-16):
    return find_kinks(compute_second_differences(loss), STEPS, np.full((1, len(STEPS)), noise), np.zeros(1))


@pytest.mark.parametrize("jump", [1.0, 1e-3, 1e-6])
def test_a_jump_at_the_base_adds_its_half_and_a_sixteenth_of_that(jump):
    kinks = find_kinks_of(lambda t: np.sin(t) + jump * np.maximum(t, 0) + t**2)
    assert kinks.loss_shape == [LossShape.KINKED]
    assert kinks.may_have_kink == [True]
    assert kinks.added_bound[0] == pytest.approx(17 / 16 * jump / 2, rel=0.01)


@pytest.mark.parametrize("part", [0.1, 0.3, 0.5])
def test_a_kink_nearer_than_the_smallest_step_has_a_bound_that_holds(part):
    """At a part of it the derivative at the base is that of one side, and the differences are near the mean of both."""
    distance = part * STEPS[-1]
    kinks = find_kinks_of(lambda t: np.abs(t - distance))
    quotients = (np.abs(STEPS - distance) - np.abs(-STEPS - distance)) / (2 * STEPS)
    assert (np.abs(quotients + 1)[:-1] <= kinks.added_bound[0, :-1]).all()


def test_jump_widens_no_bound_of_finer_steps():
    added = find_kinks_of(lambda t: np.maximum(t - 0.02, 0)).added_bound
    assert added[0, 0] > 0.05
    assert added[0, 4] == 0


@pytest.mark.parametrize(
    "loss", [np.exp, np.sin, np.cosh, lambda t: 1 / (1 + 4 * t * t), lambda t: t**4, np.zeros_like]
)
def test_a_smooth_loss_adds_nothing(loss):
    kinks = find_kinks_of(loss)
    assert not kinks.added_bound.any()
    assert kinks.loss_shape == [LossShape.SMOOTH]
    assert kinks.may_have_kink == [False]


def test_noise_adds_nothing():
    generator = np.random.default_rng(0)
    noise = np.full((5000, len(STEPS)), 1e-7)
    sides = generator.normal(size=(5000, len(STEPS), 2)) * 1e-7
    kinks = find_kinks(sides.sum(axis=2) - 2e-7 * generator.normal(size=(5000, 1)), STEPS, noise, np.zeros(5000))
    assert np.mean(kinks.loss_shape != LossShape.SMOOTH) < 1e-3
    assert 1e-4 < np.mean(kinks.may_have_kink) < 0.1


@pytest.mark.parametrize("distance", [0.3, 0.2, 0.18, 0.1, 0.01])
def test_jump_beside_the_finest_steps_widens_the_bound_at_any_distance(distance):
    """At a fifth of a step, four times the next, a pair sees nothing of it; the finest step alone is not looked at."""
    steps = STEP_SCHEDULES["FP32"].steps
    assert steps[-3] == 4 * steps[-2] == 16 * steps[-1]
    at = distance * steps[-2]

    def loss(t):
        return t + t**2 + np.maximum(t - at, 0)

    seconds = (loss(steps) + loss(-steps) - 2 * loss(np.zeros(1)))[None]
    added = find_kinks(seconds, steps, np.full((1, len(steps)), 1e-16), np.zeros(1)).added_bound
    differences = (loss(steps) - loss(-steps)) / (2 * steps)
    # Of pairs of coarser steps, a quarter apart at most, (1) sees all but 5 d / h.
    assert (added[0, :-1] >= 0.95 * ((1 - 5 * at / steps) * np.abs(differences - 1))[:-1]).all()
    assert added[0, -2] >= 0.95 * abs(differences[-2] - 1)


NO_KINKS = {
    "a comparison": (lambda t: np.sin(t) + (t > 1e-9), LossShape.JUMPING),
    "a comparison among the steps": (lambda t: np.sin(t) + (t > 0.01), LossShape.JUMPING),
    "a pole": (lambda t: 1 / (t - 1e-6), LossShape.JUMPING),
    "a pole of higher order": (lambda t: (t + 1e-5) ** -3.0, LossShape.JUMPING),
    "a root of higher order": (lambda t: np.abs(t) ** 2.2, LossShape.ROUGH),
}


@pytest.mark.parametrize(("loss", "shape"), NO_KINKS.values(), ids=NO_KINKS)
def test_other_losses_are_not_called_kinks(loss, shape):
    assert find_kinks_of(loss).loss_shape == [shape]


def test_a_loss_that_turns_many_times_seldom_has_a_kink_or_a_jump():
    """Second differences of a wave are all of one sign, as those over a jump are."""
    generator = np.random.default_rng(0)
    often, phase = 10 ** generator.uniform(2, 4.5, (4000, 1)), generator.uniform(0, 2 * np.pi, (4000, 1))
    plus, minus, base = (np.sin(often * t + phase) / often for t in (STEPS, -STEPS, 0.0))
    shape = find_kinks(plus + minus - 2 * base, STEPS, np.full((4000, len(STEPS)), 1e-16), np.zeros(4000)).loss_shape
    assert np.mean(shape == LossShape.KINKED) < 0.03
    assert np.mean(shape == LossShape.JUMPING) < 0.15


def test_a_bend_that_finer_steps_see_is_no_kink():
    assert find_kinks_of(lambda t: np.sqrt(t**2 + 1e-6)).loss_shape == [LossShape.ROUGH]
    assert find_kinks_of(lambda t: np.sqrt(t**2 + 1e-16)).loss_shape == [LossShape.KINKED]


@pytest.mark.parametrize("loss", [lambda t: 1 / (t - 1e-6), lambda t: np.sin(t) + (t > 1e-6), lambda t: (t == 0) * 1.0])
def test_where_the_base_is_apart_nothing_is_known(loss):
    assert np.isinf(find_kinks_of(loss).added_bound).all()


@pytest.mark.parametrize("distance", [1e-9, 1e-6, 1e-5, 3e-5, 1e-4])
def test_bound_beside_a_kink_is_finite(distance):
    assert np.isfinite(find_kinks_of(lambda t: np.sin(t) + np.abs(t - distance)).added_bound).all()
