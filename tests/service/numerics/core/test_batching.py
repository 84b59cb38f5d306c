import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import mutually_broadcastable_shapes

from service.numerics.core.batching import (
    add_batch_axis,
    align_rank,
    count_elements,
    count_repeats,
    is_broadcastable,
    sum_broadcast_axes,
    unravel_index,
)


@given(mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=4))
def test_unbroadcasting_ones_counts_how_often_each_element_is_used(shapes):
    for shape in shapes.input_shapes:
        counts = sum_broadcast_axes(np.ones((2, *shapes.result_shape)), shape)
        assert counts.shape == (2, *shape)
        assert (counts == np.prod(shapes.result_shape) / np.prod(shape)).all()
        assert (counts == count_repeats(shapes.result_shape, shape)).all()


@given(mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=4))
def test_aligned_arrays_broadcast_behind_the_tile_axis_as_numpy_does_without_it(shapes):
    generator = np.random.default_rng(0)
    a, b = (generator.normal(size=shape) for shape in shapes.input_shapes)
    rank = max(a.ndim, b.ndim)
    np.testing.assert_array_equal((align_rank(add_batch_axis(a), rank) * align_rank(add_batch_axis(b), rank))[0], a * b)


@pytest.mark.parametrize(("shape", "count"), [((), 1), ((2, 3), 6), ((2**40, 2**40), 2**80)])
def test_size_is_exact(shape, count):
    assert count_elements(shape) == count


@pytest.mark.parametrize(
    ("operand", "result", "fits"),
    [((), (2, 3), True), ((3,), (2, 3), True), ((2,), (2, 3), False), ((4, 2, 3), (2, 3), False)],
)
def test_broadcasting_to_a_shape_keeps_that_shape(operand, result, fits):
    assert is_broadcastable(operand, result) is fits


@pytest.mark.parametrize("shape", [(), (1,), (7,), (2, 3), (3, 1, 4, 2)])
def test_flat_index_leads_to_the_element(shape):
    numbers = np.arange(count_elements(shape)).reshape(shape)
    for flat_index in numbers.ravel():
        index = unravel_index(flat_index, shape)
        assert numbers[index] == flat_index
        assert all(type(number) is int for number in index)
