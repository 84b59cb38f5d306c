import numpy as np
import pytest

from service.numerics.blackbox.schedule import SCHEDULES, power_of_two, typical


@pytest.mark.parametrize("name", SCHEDULES)
def test_steps_fall_and_are_powers_of_two(name):
    steps = SCHEDULES[name].steps
    assert (np.diff(steps) < 0).all()
    assert (np.frexp(steps)[0] == 0.5).all()
    assert (steps[0], steps[-1]) == (SCHEDULES[name].farthest, SCHEDULES[name].finest)
    assert len(steps) >= 3, "an entry of the table needs neighbours"


def test_the_scale_is_that_of_a_typical_element():
    wide = SCHEDULES["FP64"]
    assert typical(np.zeros(3), wide) == 1
    assert typical(np.array([0.0, 0.0, 0.26]), wide) == 0.25
    assert typical(np.array([1.0, 1.0, 1e6]), wide) == 1
    assert typical(np.array(-8.0), wide) == 8


def test_in_a_narrow_datatype_the_largest_element_has_to_move_too():
    assert typical(np.array([1.0, 1.0, 1000.0]), SCHEDULES["FP16"]) == 128


@pytest.mark.parametrize("number", [5e-324, 1e-300, 1.0, 1e300])
def test_powers_leave_room_for_steps(number):
    power = power_of_two(number)
    assert np.frexp(power)[0] == 0.5
    assert np.isfinite(power * 2.0**60)
    assert power * 2.0**-60 > 0
