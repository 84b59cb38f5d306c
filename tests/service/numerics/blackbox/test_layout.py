import numpy as np
import pytest

from service.numerics.blackbox.layout import BEFORE, laid_out
from service.numerics.blackbox.schedule import NEAR, SCHEDULES
from tests.service.numerics.blackbox.losses import planned, point_of


def test_random_directions_are_those_that_were_drawn_and_taken():
    layout = planned(np.array([[0.5, -1.0, 2.0]]), count=2, seed=9)
    points, steps = layout.stacked("w"), SCHEDULES["FP64"].steps
    assert points.shape == (layout.evaluations, 1, 3)
    assert layout.evaluations == BEFORE + 2 * 2 * len(steps)
    own = points[layout.first("w") :].reshape(2, len(steps), 2, 3)
    taken = (own[:, :, 0] - own[:, :, 1]) / (2 * steps[:, None] * layout.points["w"].scale)
    assert (taken == layout.lines["w"].directions[:, None]).all(), "to the last bit, at every step"
    assert (points[:3] == layout.points["w"].values).all()
    assert len(np.unique(points[3:BEFORE], axis=0)) == 16


def test_elements_move_alone():
    values = np.array([0.5, -1000.0, 0.5, 0.0])
    layout = planned(values, random=False)
    lines = layout.lines["w"]
    assert lines.elements.tolist() == [0, 1, 2, 3]
    own = layout.stacked("w")[layout.first("w") :].reshape(4, -1, 2, 4)
    moved = own != values
    assert (moved == np.eye(4, dtype=bool)[:, None, None]).all()
    assert (lines.units == [0.5, 1024, 0.5, 0.5]).all(), "each by its own size, or the scale"


def test_a_sample_of_elements_is_drawn_from_the_seed():
    first, again, other = (planned(np.ones(1000), random=False, count=5, seed=seed) for seed in (1, 1, 2))
    assert first.lines["w"].elements.tolist() == again.lines["w"].elements.tolist()
    assert first.lines["w"].elements.tolist() != other.lines["w"].elements.tolist()
    assert len(planned(np.ones(3), random=False, count=5).lines["w"]) == 3


def test_tensors_are_moved_in_the_order_given_and_by_the_same_whatever_it_is():
    points = {"b": point_of(np.ones(2)), "a": point_of(np.array(0.5), "FP32")}
    layouts = [
        laid_out(dict(each), random=True, count=None, seed=0) for each in (points.items(), reversed(points.items()))
    ]
    assert [list(each.points) for each in layouts] == [["b", "a"], ["a", "b"]]
    assert layouts[1].first("b") == BEFORE + 8 * len(SCHEDULES["FP32"].steps) + 2 * NEAR
    for name in points:
        count = 8 * len(points[name].schedule.steps)
        assert np.array_equal(*(each.stacked(name)[each.first(name) :][:count] for each in layouts))
        assert np.array_equal(*(each.stacked(name)[:BEFORE] for each in layouts))
    moved = layouts[1].stacked("a")[layouts[1].first("b") :]
    assert (moved == 0.5).all(), "one tensor at a time"


def test_every_evaluation_is_told_of():
    layout = planned(np.ones(2), count=1)
    told = [layout.told(number) for number in range(layout.evaluations)]
    assert told[0] == "the base"
    assert told[3] == "near point 1 of line 1, all tensors moved"
    assert told[BEFORE] == "'w' moved along direction 0 by +2^-3 of its scale"
    assert told[-1] == "'w' moved along direction 0 by -2^-15 of its scale"
    with pytest.raises(IndexError):
        layout.told(layout.evaluations)


def test_each_of_several_tensors_has_near_points_without_the_others():
    layout = laid_out({name: point_of(np.ones(2)) for name in "ab"}, random=True, count=1, seed=0)
    losses = np.arange(float(layout.evaluations))
    for place, (name, other) in enumerate(("ab", "ba")):
        own = slice(BEFORE + place * NEAR, BEFORE + (place + 1) * NEAR)
        assert len(np.unique(layout.stacked(name)[own], axis=0)) == NEAR
        assert (layout.stacked(other)[own] == 1).all()
        assert layout.told(own.start) == f"near point 1 of {name!r}, moved without the rest"
        assert layout.near(name, losses)[2].tolist() == list(range(own.start, own.stop))
    assert layout.told(own.stop).startswith("'a' moved along direction 0 by +")
    alone = laid_out({"a": point_of(np.ones(2))}, random=True, count=1, seed=0)
    assert len(alone.near("a", np.zeros(alone.evaluations))) == 2


def test_of_many_tensors_some_share_their_near_points():
    layout = laid_out({f"w{number}": point_of(np.ones(1)) for number in range(40)}, random=True, count=1, seed=0)
    assert layout.first("w0") == BEFORE + 16 * NEAR
    moved = {name for name in layout.points if (layout.stacked(name)[BEFORE : BEFORE + NEAR] != 1).any()}
    assert moved == {"w0", "w16", "w32"}
    assert layout.told(BEFORE + 8) == "near point 1 of 'w1' and 2 others, moved without the rest"
