"""What a request asks of how its point is moved: what is wrong with it in words, and what follows where nothing is."""

import numpy as np
import pytest

from schemas.plan import BoundsSpec
from schemas.tensor import Tensor
from service.checks.blackbox.scales_and_bounds import (
    MoveSettings,
    build_bounded_point,
    compute_step_sizes,
    find_narrow_bounds,
)
from service.numerics.blackbox.lines import TensorPoint
from service.numerics.blackbox.schedule import STEP_SCHEDULES, choose_move_sizes

FP64, FP32, BF16 = (STEP_SCHEDULES[name] for name in ("FP64", "FP32", "BF16"))
POINT = [0.5, -0.25, 2.0]


def make_settings(scale=None, bounds=None):
    return MoveSettings(
        {} if scale is None else {"w": Tensor.decode(scale)},
        {} if bounds is None else {"w": BoundsSpec.model_validate(bounds)},
    )


def find_errors(request, point=POINT):
    return list(request.find_errors({"w": Tensor.decode(point)}, ("plan",)))


BOOLEAN = {"datatype": "BOOL", "shape": [3], "data": [True, True, True]}


@pytest.mark.parametrize(
    ("scale", "said"),
    [
        (0, "must be above 0; 0 was given"),
        (-0.5, "must be above 0; -0.5 was given"),
        ([1, 0.5, 0], "must be above 0; at index [2] 0 was given"),
        ([1, 0.5], "must be a number, or a tensor of the point's shape: its shape is [2]; the point has [3]"),
        ([[1, 1, 1]], "must be a number, or a tensor of the point's shape: its shape is [1, 3]; the point has [3]"),
        (BOOLEAN, "must be of numbers; datatype BOOL was given"),
        (1e-300, "1e-300 was given: that leaves a float64 no room around it"),
        ([1, 1e300, 1], "at index [1] 1e+300 was given: that leaves a float64 no room around it"),
    ],
)
def test_a_scale_that_cannot_be_obeyed_is_one_error_that_says_why(scale, said):
    (error,) = find_errors(make_settings(scale))
    assert error["pointer"] == "/plan/scale/w"
    assert error["detail"].startswith(said)


@pytest.mark.parametrize(
    ("bounds", "place", "said"),
    [
        ({}, "", "have neither min nor max; give one of them, or both"),
        ({"min": [0, 0]}, "/min", "must be a number, or a tensor of the point's shape: its shape is [2]"),
        ({"max": BOOLEAN}, "/max", "must be of numbers; datatype BOOL was given"),
        ({"min": "NaN"}, "/min", "must be numbers, or infinite where there is no bound; NaN was given"),
        ({"max": [3, "NaN", 3]}, "/max", "must be numbers, or infinite where there is no bound; NaN was given"),
        ({"min": 3, "max": 3}, "", "min must be below max; at index [0] 3 was given, and as max 3"),
        ({"min": [-1, 4, -1], "max": 3}, "", "min must be below max; at index [1] 4 was given, and as max 3"),
        ({"min": 0}, "", "exclude the point: at index [1] it is -0.25, and min is 0"),
        ({"max": [1, 1, 1.5]}, "", "exclude the point: at index [2] it is 2, and max is 1.5"),
    ],
)
def test_bounds_that_cannot_be_kept_are_one_error_that_says_why(bounds, place, said):
    (error,) = find_errors(make_settings(bounds=bounds))
    assert error["pointer"] == f"/plan/bounds/w{place}"
    assert error["detail"].startswith(said)


def test_error_of_a_scalar_names_no_index():
    (error,) = find_errors(make_settings(bounds={"min": 1}), 0.5)
    assert error["detail"] == "exclude the point: it is 0.5, and min is 1"


@pytest.mark.parametrize(
    ("scale", "bounds"),
    [
        (0.3, None),
        ([1, 2.0**-960, 2.0**960], None),
        (None, {"min": -0.25, "max": 2}),
        (None, {"min": ["-Infinity", -1, 0]}),
        (None, {"max": "Infinity"}),
    ],
)
def test_feasible_scales_and_bounds_are_accepted(scale, bounds):
    assert find_errors(make_settings(scale, bounds)) == []


def test_tensors_that_are_not_in_the_point_are_named_and_each_tensor_has_one_error():
    tensor, bounds = Tensor.decode(-1), BoundsSpec.model_validate({"min": 9})
    errors = MoveSettings({"w": tensor, "v": tensor}, {"w": bounds, "u": bounds}).find_errors(
        {"w": Tensor.decode(POINT)}, ()
    )
    assert [(error["pointer"], error["detail"]) for error in errors] == [
        ("/scale/w", "must be above 0; -1 was given"),
        ("/scale/v", "there is no tensor 'v' in the point"),
        ("/bounds/w", "exclude the point: at index [0] it is 0.5, and min is 9"),
        ("/bounds/u", "there is no tensor 'u' in the point"),
    ]


@pytest.mark.parametrize("random", [True, False])
@pytest.mark.parametrize(
    ("scale", "taken"),
    [
        (1.0, 1.0),
        (np.nextafter(1, 0), 0.5),
        (1.999, 1.0),
        (0.3, 0.25),
        (3e-9, 2.0**-29),
        (2.0**-960, 2.0**-960),
        ([0.3, 1.0, 1.5], [0.25, 1.0, 1.0]),
    ],
)
def test_a_scale_is_taken_down_to_a_power_of_two_and_never_up(scale, taken, random):
    values = np.zeros(3)
    sizes = compute_step_sizes(
        "w", values, FP64, make_settings(scale if isinstance(scale, list) else float(scale)), random=random
    )
    assert sizes.tolist() == np.broadcast_to(taken, 3).tolist()
    assert (sizes <= np.asarray(scale)).all()
    assert (sizes > np.asarray(scale) / 2).all()


@pytest.mark.parametrize("random", [True, False])
def test_without_a_scale_elements_are_moved_by_their_own_sizes(random):
    values = np.array(POINT)
    expected = choose_move_sizes(values, FP64, random=random)
    assert (compute_step_sizes("w", values, FP64, make_settings(), random=random) == expected).all()
    other = MoveSettings({"v": Tensor.decode(1e-3)}, {})
    assert (compute_step_sizes("w", values, FP64, other, random=random) == expected).all()


def test_an_element_too_large_for_one_scale_is_moved_by_its_own_size():
    """In float32 1e6 has no neighbours within 2^-10 of 2^-7."""
    values = np.array([0.5, 2.0**20])
    assert compute_step_sizes("w", values, FP32, make_settings(2.0**-7), random=False).tolist() == [2.0**-7, 2.0**20]
    assert compute_step_sizes("w", values, FP64, make_settings(2.0**-7), random=False).tolist() == [2.0**-7] * 2


@pytest.mark.parametrize(
    ("scale", "random", "values"),
    [
        (2.0**-7, True, [0.5, 2.0**20]),
        ([2.0**-7, 2.0**-7], False, [0.5, 2.0**20]),
        (2.0**-7, False, [2.0**20, 2.0**20]),
    ],
    ids=["along directions", "for each element", "too small for all"],
)
def test_scale_is_obeyed_where_elements_have_their_own_or_move_together(scale, random, values):
    sizes = compute_step_sizes("w", np.array(values), FP32, make_settings(scale), random=random)
    assert sizes.tolist() == [2.0**-7] * 2


def build_bounded_point_and_moves(bounds, values=POINT, schedule=FP64, *, random=False, moved=None):
    values = np.array(values, float)
    moved = np.ones(values.size) if moved is None else moved
    return build_bounded_point("w", values, schedule, moved, make_settings(bounds=bounds), random=random), moved


def test_unbounded_point_moves_to_both_sides():
    point, moved = build_bounded_point_and_moves(None)
    assert point.domain is None
    assert (point.element_moves.move_sizes == moved).all()
    assert not point.element_moves.move_sides.any()
    assert point.scale == 1


@pytest.mark.parametrize("random", [True, False])
def test_within_bounds_no_element_leaves_them(random):
    point, moved = build_bounded_point_and_moves({"min": -0.25, "max": [9, 9, 2.0 + 2.0**-4]}, random=random)
    assert point.element_moves.move_sides.tolist() == [0, 1, 0 if point.element_moves.move_sides[2] == 0 else -1]
    assert (point.element_moves.move_sizes <= moved).all()
    assert (point.element_moves.move_sizes > 0).all()
    reach = (3.0 if random else 1.0) * FP64.largest_step * point.element_moves.move_sizes
    values = point.values
    assert point.domain.contains_points(values + np.where(point.element_moves.move_sides < 0, 0, reach)).all()
    assert point.domain.contains_points(values - np.where(point.element_moves.move_sides > 0, 0, reach)).all()


def test_the_unit_of_a_point_is_the_median_of_the_moves_that_there_are():
    assert build_bounded_point_and_moves(None, moved=np.array([0.25, 4.0, 16.0]))[0].scale == 4
    crowded = {"min": POINT, "max": [float(np.nextafter(value, 9)) for value in POINT]}
    assert build_bounded_point_and_moves(crowded)[0].scale == 1, "and 1 where there is none"


def test_bounds_without_room_for_a_step_are_an_error_that_says_where():
    values = [[0.5, -0.25], [2.0, 1.0]]
    low = [[-9, -9], [2.0, -9]]
    bounds = {"min": low, "max": [[9, 9], [float(np.nextafter(2.0, 3)), 9]]}
    point, moved = build_bounded_point_and_moves(bounds, values, moved=np.ones(4))
    (error,) = find_narrow_bounds("w", point, moved, ("plan",))
    assert error["pointer"] == "/plan/bounds/w"
    assert error["detail"].startswith(
        "leave no room for a step: at index [1, 0] the point is 2, between 2.0 and 2.0000"
    )
    assert "FP64 has too few numbers; give wider bounds" in error["detail"]


@pytest.mark.parametrize("bounds", [None, {"min": -0.25}, {"min": -9, "max": 9}])
def test_bounds_with_room_are_no_error(bounds):
    point, moved = build_bounded_point_and_moves(bounds)
    assert list(find_narrow_bounds("w", point, moved, ())) == []


def test_an_element_that_no_scale_would_move_is_not_blamed_on_its_bounds():
    """A scale that is too small for bfloat16 leaves no step with bounds, nor without them."""
    for size, count in ((2.0**-20, 0), (1.0, 1)):
        point, moved = build_bounded_point_and_moves({"min": 1, "max": 1.0078125}, [1.0], BF16, moved=np.array([size]))
        assert len(list(find_narrow_bounds("w", point, moved, ()))) == count


def test_a_point_without_bounds_or_ways_is_not_cramped():
    assert list(find_narrow_bounds("w", TensorPoint(np.ones(1), FP64, 1.0), np.ones(1), ())) == []
