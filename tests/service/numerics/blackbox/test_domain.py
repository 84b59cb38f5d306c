import numpy as np
import pytest

from service.numerics.blackbox.domain import LossDomain, find_element_moves, find_power_of_two_below, is_steppable
from service.numerics.blackbox.schedule import STEP_SCHEDULES

FP64 = STEP_SCHEDULES["FP64"]


def find_moves(value, size, low=-np.inf, high=np.inf, schedule=FP64, random=False):
    arrays = [np.atleast_1d(np.asarray(one, float)) for one in (value, size, low, high)]
    moves = find_element_moves(arrays[0], arrays[1], LossDomain(arrays[2], arrays[3]), schedule, random=random)
    return moves.move_sizes.tolist(), moves.move_sides.tolist()


def test_point_far_from_its_bounds_moves_as_without_them():
    assert find_moves([1.0, -2.0], [0.5, 4.0]) == ([0.5, 4.0], [0, 0])
    assert find_moves(1.0, 0.5, 0.5, 2.0) == ([0.5], [0])


def test_point_near_a_bound_moves_less_on_both_sides():
    sizes, sides = find_moves(1.0, 4.0, high=1.01)
    assert sides == [0]
    assert 0.01 / 2 < sizes[0] / 8 * 1.25 < 0.01


@pytest.mark.parametrize("distance", [1e-3, 1e-4, 1e-5, 1e-6])
def test_a_barrier_has_points_on_both_sides_as_long_as_digits_are_left(distance):
    sizes, sides = find_moves(1.0, 2.0, high=1 + distance)
    assert sides == [0]
    assert distance / 2 < sizes[0] / 8 * 1.25 < distance


@pytest.mark.parametrize(("low", "high", "side"), [(1.0, 9.0, 1), (-9.0, 1.0, -1), (1 - 1e-9, 9.0, 1)])
def test_point_on_a_bound_moves_to_one_side(low, high, side):
    assert find_moves(1.0, 4.0, low, high) == ([4.0], [side])


def test_where_neither_side_has_much_room_a_side_takes_what_there_is():
    sizes, sides = find_moves(0.0, 1.0, 0.0, 1e-3)
    assert sides == [1]
    assert 1e-3 / 2 <= sizes[0] / 8 * 1.25 < 1e-3


def test_where_the_datatype_has_no_numbers_there_is_no_room():
    assert find_moves(1.0, 1.0, 1.0, 1 + 1e-14) == ([0.0], [0])
    assert find_moves(1.0, 1.0, 0.999, 1.001, STEP_SCHEDULES["BF16"]) == ([0.0], [0])


def test_a_random_part_takes_three_times_the_room():
    (alone,), _ = find_moves(1.0, 4.0, high=2.0)
    (along,), sides = find_moves(1.0, 4.0, high=2.0, random=True)
    assert (alone, along, sides) == (4.0, 2.0, [0])


@pytest.mark.parametrize("room", [0.0, 1e-320, 0.125, 0.126, 0.9, 1e300, np.inf])
def test_power_of_two_below_a_room_is_the_largest(room):
    power = float(find_power_of_two_below(np.array(room), 0.125))
    if room in (0.0, np.inf):
        assert power == room
    else:
        assert power * 0.125 < room <= 2 * power * 0.125


@pytest.mark.parametrize("datatype", STEP_SCHEDULES)
def test_the_smallest_step_is_two_numbers_at_least(datatype):
    schedule = STEP_SCHEDULES[datatype]
    least = 2.0 ** (1 - schedule.precision.significand_bits) * 2 / schedule.smallest_step
    assert is_steppable(np.array([1.0]), np.array([2 * least]), schedule).all()
    assert not is_steppable(np.array([1.0]), np.array([least / 2]), schedule).any()
    assert not is_steppable(np.array([1.0, 1.0, np.finfo(float).max]), np.array([0.0, np.inf, 1e308]), schedule).any()
