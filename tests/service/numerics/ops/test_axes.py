import pytest

from service.numerics.ops.axes import normalize_axes, normalize_axis, reduce_shape, shift_past_batch_axis
from service.numerics.ops.op import ShapeError


@pytest.mark.parametrize(
    ("dim", "rank", "expected"), [(0, 3, 0), (-1, 3, 2), (2, 3, 2), (-3, 3, 0), (0, 0, 0), (-1, 0, 0)]
)
def test_an_axis_may_be_counted_from_the_end(dim, rank, expected):
    assert normalize_axis(dim, rank) == expected


@pytest.mark.parametrize(("dim", "rank"), [(3, 3), (-4, 3), (1, 0)])
def test_an_axis_that_is_not_there_is_refused(dim, rank):
    with pytest.raises(ShapeError, match=f", not {dim}$"):
        normalize_axis(dim, rank)


@pytest.mark.parametrize(
    ("dim", "expected"), [(None, (0, 1, 2)), ([], (0, 1, 2)), (1, (1,)), ([-1, 0], (0, 2)), ([2, 1], (1, 2))]
)
def test_several_axes_come_sorted_and_none_means_all(dim, expected):
    assert normalize_axes(dim, 3) == expected
    assert shift_past_batch_axis(expected) == tuple(axis + 1 for axis in expected)


def test_an_axis_named_twice_is_refused():
    with pytest.raises(ShapeError, match="all different"):
        normalize_axes([0, -3], 3)


@pytest.mark.parametrize(("keepdim", "expected"), [(False, (3,)), (True, (1, 3, 1))])
def test_a_reduction_drops_axes_or_keeps_them(keepdim, expected):
    assert reduce_shape((2, 3, 4), (0, 2), keepdim) == expected
