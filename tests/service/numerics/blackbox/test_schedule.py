import math

import numpy as np
import pytest

from service.numerics.blackbox.schedule import (
    STEP_SCHEDULES,
    choose_move_sizes,
    choose_typical_scale,
    round_to_power_of_two,
)


@pytest.mark.parametrize("name", STEP_SCHEDULES)
def test_steps_fall_and_are_powers_of_two(name):
    steps = STEP_SCHEDULES[name].steps
    assert (np.diff(steps) < 0).all()
    assert (np.frexp(steps)[0] == 0.5).all()
    assert (steps[0], steps[-1]) == (STEP_SCHEDULES[name].largest_step, STEP_SCHEDULES[name].smallest_step)
    assert len(steps) >= 3, "an entry of the table needs neighbours"


def test_the_scale_is_that_of_a_typical_element():
    wide = STEP_SCHEDULES["FP64"]
    assert choose_typical_scale(np.zeros(3), wide) == 1
    assert choose_typical_scale(np.array([0.0, 0.0, 0.26]), wide) == 0.25
    assert choose_typical_scale(np.array([1.0, 1.0, 1e6]), wide) == 1
    assert choose_typical_scale(np.array(-8.0), wide) == 8


def test_move_sizes_of_narrow_datatypes_move_the_largest_element():
    assert choose_typical_scale(np.array([1.0, 1.0, 1000.0]), STEP_SCHEDULES["FP16"]) == 128


@pytest.mark.parametrize("exponent", [-950, -1, 0, 1, 60, 950])
def test_powers_are_exact_and_the_next_in_ratio(exponent):
    """The root of 2 is the limit, whatever a logarithm of it rounds to."""
    power, root = math.ldexp(1.0, exponent), math.ldexp(math.sqrt(2), exponent)
    for number in (power, np.nextafter(root, 0.0), power / math.sqrt(2) * (1 + 1e-15)):
        assert round_to_power_of_two(number) == power
    assert round_to_power_of_two(np.nextafter(root, np.inf)) == 2 * power


@pytest.mark.parametrize("number", [5e-324, 1e-300, 1.0, 1e300])
def test_powers_leave_room_for_steps(number):
    power = round_to_power_of_two(number)
    assert np.frexp(power)[0] == 0.5
    assert np.isfinite(power * 2.0**60)
    assert power * 2.0**-60 > 0


WIDE = STEP_SCHEDULES["FP64"]


def list_move_sizes(*values, random=False, datatype="FP64"):
    return choose_move_sizes(np.array(values, np.float64), STEP_SCHEDULES[datatype], random=random).tolist()


def test_elements_of_one_unit_are_moved_by_the_scale_or_by_more():
    assert list_move_sizes(1.0, -0.3, 8.0, 1.0, 0.0) == [1, 1, 8, 1, 1]
    assert list_move_sizes(0.0, 0.0) == [1, 1]
    assert list_move_sizes(1.0, -0.3, 8.0, 1.0, 0.0, random=True) == [1] * 5
    generator = np.random.default_rng(0)
    share = np.mean(choose_move_sizes(generator.normal(size=100_000), WIDE, random=False) < 0.5)
    assert share < 0.005, "of those next to 0, one in 240"


@pytest.mark.parametrize("random", [True, False])
def test_elements_of_other_units_are_moved_by_their_own_sizes(random):
    sizes = list_move_sizes(210e9, 0.3, 2e-3, random=random)
    assert np.array(sizes) / [210e9, 0.3, 2e-3] == pytest.approx(1, abs=0.5)
    assert list_move_sizes(1e12, 1e-12, random=random) == [2.0**40, 2.0**-40]


@pytest.mark.parametrize("left", [2.2e-16, -1.1e-16, 5.5e-17])
def test_remainder_of_rounding_is_moved_like_zero(left):
    assert (
        list_move_sizes(1.0, left, left, 0.7, left) == [1, 1, 1, 0.5, 1]
        or list_move_sizes(1.0, left, left, 0.7, left) == [1] * 5
    )
    assert list_move_sizes(left)[0] == round_to_power_of_two(abs(left)), (
        "but not where there is nothing of which it was left"
    )
    assert list_move_sizes(1e6, 1e-12, 1e-3, 1e3, 1e-9)[1] < 1e-11, "nor among numbers of many units"


def test_a_zero_among_numbers_of_several_units_is_moved_by_the_smallest():
    assert list_move_sizes(0.0, 1e12, 1e-12) == [2.0**-40, 2.0**40, 2.0**-40]
    assert list_move_sizes(0.0, 1.0, 2.0, 1.0) == [1, 1, 2, 1]


@pytest.mark.parametrize("extreme", [5e-324, 1e-310, 1.7e308])
def test_numbers_at_the_ends_of_the_range_are_moved_by_what_leaves_room(extreme):
    sizes = np.array(
        [*list_move_sizes(extreme, 1.0), *list_move_sizes(extreme, 1.0, random=True), *list_move_sizes(extreme)]
    )
    assert (sizes >= 2.0**-960).all()
    assert (sizes <= 2.0**960).all()


def test_narrow_datatypes_have_no_room_for_what_rounding_leaves():
    assert list_move_sizes(1.0, 1.0, 1e-3, datatype="FP16")[2] == 2.0**-10
