import numpy as np
import pytest

from service.numerics.blackbox.schedule import SCHEDULES
from service.numerics.blackbox.sides import offsets, told


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_steps_are_whole_multiples_of_the_smallest_within_the_largest(schedule):
    found = offsets(schedule, np.array([0, 1, -1]))
    assert found.shape == (3, len(schedule.steps), 2)
    assert (found[0] == np.stack([schedule.steps, -schedule.steps], axis=-1)).all()
    assert (found[1] == -found[2]).all()
    units = found[1] / schedule.finest
    assert (units == np.rint(units)).all()
    assert units.min() == 1
    assert found[1].max() == schedule.farthest
    assert len(np.unique(units)) >= min(2 * len(schedule.steps), schedule.farthest / schedule.finest) - 1


@pytest.mark.parametrize("schedule", SCHEDULES.values(), ids=SCHEDULES)
def test_a_step_in_words_is_that_step(schedule):
    for offset in offsets(schedule, np.array([0, -1])).ravel().tolist():
        said = told(schedule, offset)
        sign, words = said[0], said[1:]
        factor, _, power = words.rpartition("*")
        value = int(factor or 1) * 2.0 ** int(power.removeprefix("2^"))
        assert (-value if sign == "-" else value) == offset
