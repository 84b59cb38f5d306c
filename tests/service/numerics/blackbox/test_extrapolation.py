import numpy as np
import pytest

from service.numerics.blackbox.extrapolation import extrapolate_central
from service.numerics.blackbox.schedule import STEP_SCHEDULES

STEPS = STEP_SCHEDULES["FP64"].steps
NOTHING = np.zeros((1, len(STEPS)))


def extrapolate(quotients, noise=NOTHING, kinked=NOTHING):
    return extrapolate_central(np.atleast_2d(quotients), STEPS, noise, kinked)


def test_polynomials_in_the_square_of_the_step_are_exact():
    extrapolation = extrapolate(3 - 2 * STEPS**2 + 7 * STEPS**4 + STEPS**6)
    assert abs(extrapolation.value[0] - 3) <= extrapolation.bound[0] < 1e-13


def test_noise_is_carried_through_the_table():
    generator = np.random.default_rng(0)
    noise = np.full((20_000, len(STEPS)), 1e-6)
    off = generator.normal(size=noise.shape) * noise / np.sqrt(2) / STEPS
    extrapolation = extrapolate(np.cos(STEPS) + off, noise, np.zeros(noise.shape))
    errors = np.abs(extrapolation.value - 1)
    assert (errors <= extrapolation.bound).all()
    assert np.sqrt(np.mean(errors**2)) == pytest.approx(np.sqrt(np.mean(extrapolation.deviation**2)), rel=0.3)


def test_a_coincidence_of_coarse_steps_is_undone_by_fine_ones():
    quotients = np.array([5.0, 5.0, 5.0, 5.0, 1.0, 1.0, 1.0])
    extrapolation = extrapolate(quotients)
    assert abs(extrapolation.value[0] - 1) <= extrapolation.bound[0]


@pytest.mark.parametrize(("away", "contested"), [(0.0, False), (2e-4, False), (4.5e-4, True)])
def test_finer_differences_that_stay_away_contest_a_value(away, contested):
    """Here by 3.4e-4, which is what noise of theirs explains; from 5.4e-4 on the bound is raised instead."""
    extrapolation = extrapolate(1 + np.array([0, 0, 0, *[away] * 4]), np.full((1, 7), 1e-6))
    assert extrapolation.value == [1.0]
    assert extrapolation.is_contested == [contested]


def test_bound_is_wide_without_convergence():
    generator = np.random.default_rng(1)
    extrapolation = extrapolate_central(
        generator.normal(size=(3000, len(STEPS))), STEPS, np.zeros((3000, 7)), np.zeros((3000, 7))
    )
    assert np.mean(extrapolation.bound < 1e-2) < 0.03


def test_kink_widens_the_bound():
    kinked = NOTHING.copy()
    kinked[0, :] = 0.5
    assert extrapolate(1 + STEPS**2, kinked=kinked).bound[0] >= 0.5


def test_nonfinite_losses_have_no_bound():
    quotients = np.full(len(STEPS), np.nan)
    with np.errstate(invalid="ignore"):
        assert extrapolate(quotients).bound[0] == np.inf
