import numpy as np
import pytest

from service.numerics.blackbox.layout import EVALUATIONS_BEFORE_STEPS, lay_out_evaluations
from service.numerics.blackbox.schedule import NEAR_POINT_COUNT, STEP_SCHEDULES
from tests.service.numerics.blackbox.smooth_losses import make_layout, make_point


def test_random_directions_are_those_that_were_drawn_and_taken():
    layout = make_layout(np.array([[0.5, -1.0, 2.0]]), count=2, seed=9)
    points, steps = layout.stack_points("w"), STEP_SCHEDULES["FP64"].steps
    assert points.shape == (layout.evaluation_count, 1, 3)
    assert layout.evaluation_count == EVALUATIONS_BEFORE_STEPS + 2 * 2 * len(steps)
    own = points[layout.get_first_evaluation("w") :].reshape(2, len(steps), 2, 3)
    taken = (own[:, :, 0] - own[:, :, 1]) / (2 * steps[:, None] * layout.points["w"].scale)
    assert (taken == layout.lines["w"].directions[:, None]).all(), "to the last bit, at every step"
    assert (points[:3] == layout.points["w"].values).all()
    assert len(np.unique(points[3:EVALUATIONS_BEFORE_STEPS], axis=0)) == 16


def test_elements_move_alone():
    values = np.array([0.5, -1000.0, 0.5, 0.0])
    layout = make_layout(values, random=False)
    lines = layout.lines["w"]
    assert lines.moved_elements.tolist() == [0, 1, 2, 3]
    own = layout.stack_points("w")[layout.get_first_evaluation("w") :].reshape(4, -1, 2, 4)
    moved = own != values
    assert (moved == np.eye(4, dtype=bool)[:, None, None]).all()
    assert (lines.derivative_units == [0.5, 1024, 0.5, 0.5]).all(), "each by its own size, or the scale"


def test_a_sample_of_elements_is_drawn_from_the_seed():
    first, again, other = (make_layout(np.ones(1000), random=False, count=5, seed=seed) for seed in (1, 1, 2))
    assert first.lines["w"].moved_elements.tolist() == again.lines["w"].moved_elements.tolist()
    assert first.lines["w"].moved_elements.tolist() != other.lines["w"].moved_elements.tolist()
    assert len(make_layout(np.ones(3), random=False, count=5).lines["w"]) == 3


def test_order_of_tensors_does_not_change_their_moves():
    points = {"b": make_point(np.ones(2)), "a": make_point(np.array(0.5), "FP32")}
    layouts = [
        lay_out_evaluations(dict(items), random=True, count=None, seed=0)
        for items in (points.items(), reversed(points.items()))
    ]
    assert [list(layout.points) for layout in layouts] == [["b", "a"], ["a", "b"]]
    assert (
        layouts[1].get_first_evaluation("b")
        == EVALUATIONS_BEFORE_STEPS + 8 * len(STEP_SCHEDULES["FP32"].steps) + 2 * NEAR_POINT_COUNT
    )
    for name in points:
        count = 8 * len(points[name].schedule.steps)
        assert np.array_equal(
            *(layout.stack_points(name)[layout.get_first_evaluation(name) :][:count] for layout in layouts)
        )
        assert np.array_equal(*(layout.stack_points(name)[:EVALUATIONS_BEFORE_STEPS] for layout in layouts))
    moved = layouts[1].stack_points("a")[layouts[1].get_first_evaluation("b") :]
    assert (moved == 0.5).all(), "one tensor at a time"


def test_every_evaluation_is_reported_as_progress():
    layout = make_layout(np.ones(2), count=1)
    told = [layout.describe_evaluation(number) for number in range(layout.evaluation_count)]
    assert told[0] == "the base"
    assert told[3] == "near point 1 of line 1, all tensors moved"
    assert told[EVALUATIONS_BEFORE_STEPS] == "'w' moved along direction 0 by +2^-3 of its scale"
    assert told[-1] == "'w' moved along direction 0 by -2^-15 of its scale"
    with pytest.raises(IndexError):
        layout.describe_evaluation(layout.evaluation_count)


def test_each_of_several_tensors_has_near_points_without_the_others():
    layout = lay_out_evaluations({name: make_point(np.ones(2)) for name in "ab"}, random=True, count=1, seed=0)
    losses = np.arange(float(layout.evaluation_count))
    for place, (name, other) in enumerate(("ab", "ba")):
        own = slice(
            EVALUATIONS_BEFORE_STEPS + place * NEAR_POINT_COUNT,
            EVALUATIONS_BEFORE_STEPS + (place + 1) * NEAR_POINT_COUNT,
        )
        assert len(np.unique(layout.stack_points(name)[own], axis=0)) == NEAR_POINT_COUNT
        assert (layout.stack_points(other)[own] == 1).all()
        assert layout.describe_evaluation(own.start) == f"near point 1 of {name!r}, moved without the rest"
        assert layout.select_near_losses(name, losses)[2].tolist() == list(range(own.start, own.stop))
    assert layout.describe_evaluation(own.stop).startswith("'a' moved along direction 0 by +")
    alone = lay_out_evaluations({"a": make_point(np.ones(2))}, random=True, count=1, seed=0)
    assert len(alone.select_near_losses("a", np.zeros(alone.evaluation_count))) == 2


def test_many_tensors_share_near_points():
    layout = lay_out_evaluations(
        {f"w{number}": make_point(np.ones(1)) for number in range(40)}, random=True, count=1, seed=0
    )
    assert layout.get_first_evaluation("w0") == EVALUATIONS_BEFORE_STEPS + 16 * NEAR_POINT_COUNT
    moved = {
        name
        for name in layout.points
        if (
            layout.stack_points(name)[EVALUATIONS_BEFORE_STEPS : EVALUATIONS_BEFORE_STEPS + NEAR_POINT_COUNT] != 1
        ).any()
    }
    assert moved == {"w0", "w16", "w32"}
    assert (
        layout.describe_evaluation(EVALUATIONS_BEFORE_STEPS + 8)
        == "near point 1 of 'w1' and 2 others, moved without the rest"
    )
