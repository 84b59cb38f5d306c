import numpy as np
import pytest

from service.numerics.blackbox.schedule import STEP_SCHEDULES
from service.numerics.blackbox.step_offsets import describe_offset, list_signed_step_offsets


@pytest.mark.parametrize("schedule", STEP_SCHEDULES.values(), ids=STEP_SCHEDULES)
def test_steps_are_whole_multiples_of_the_smallest_within_the_largest(schedule):
    offsets = list_signed_step_offsets(schedule, np.array([0, 1, -1]))
    assert offsets.shape == (3, len(schedule.steps), 2)
    assert (offsets[0] == np.stack([schedule.steps, -schedule.steps], axis=-1)).all()
    assert (offsets[1] == -offsets[2]).all()
    units = offsets[1] / schedule.smallest_step
    assert (units == np.rint(units)).all()
    assert units.min() == 1
    assert offsets[1].max() == schedule.largest_step
    assert len(np.unique(units)) >= min(2 * len(schedule.steps), schedule.largest_step / schedule.smallest_step) - 1


@pytest.mark.parametrize("schedule", STEP_SCHEDULES.values(), ids=STEP_SCHEDULES)
def test_a_step_in_words_is_that_step(schedule):
    for offset in list_signed_step_offsets(schedule, np.array([0, -1])).ravel().tolist():
        said = describe_offset(schedule, offset)
        sign, words = said[0], said[1:]
        factor, _, power = words.rpartition("*")
        value = int(factor or 1) * 2.0 ** int(power.removeprefix("2^"))
        assert (-value if sign == "-" else value) == offset
