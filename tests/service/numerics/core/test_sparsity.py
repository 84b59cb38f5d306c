import numpy as np
import pytest

from service.numerics.core.sparsity import (
    drop_missing,
    take_elementwise_min,
    take_min_over_axes,
    take_min_over_elements,
)
from service.numerics.ops import OP_REGISTRY

INF = np.inf


def test_minimum_of_labels_ignores_infinity():
    values = np.array([[[3.0, INF], [2.0, 5.0]]])
    np.testing.assert_array_equal(take_min_over_axes(values, 1), [[[2, 5]]])
    np.testing.assert_array_equal(take_min_over_axes(values, (1, 2)), [[[2]]])
    np.testing.assert_array_equal(take_min_over_elements(values), [2])
    np.testing.assert_array_equal(take_elementwise_min(values, np.array([[[4.0, 4.0]]])), [[[3, 4], [2, 4]]])
    assert drop_missing([None, values])[0] is values


def spread_values(name, attributes, values, *inputs):
    """Spread values through an op, whose other inputs are reached by nothing."""
    arrays = [np.ones((1, *shape)) for shape in inputs]
    others = [np.full_like(array, INF) for array in arrays[1:]]
    slots = OP_REGISTRY[name].slots
    missing = (None,) * (len(slots) - len(arrays) if not slots[-1].variadic else 0)
    return OP_REGISTRY[name](**attributes).propagate_dependencies(
        (np.array(values)[None], *others, *missing), *arrays, *missing
    )[0]


ROWS = np.repeat([[1.0], [2.0], [3.0]], 4, axis=1)
EACH = np.arange(12.0).reshape(3, 4)


@pytest.mark.parametrize(
    ("name", "attributes", "values", "others", "expected"),
    [
        ("tanh", {}, EACH, (), EACH),
        ("mul", {}, EACH, ((4,),), EACH),
        ("linear", {}, ROWS, ((2, 4),), ROWS[:, :2]),
        ("matmul", {}, ROWS, ((4, 2),), ROWS[:, :2]),
        ("einsum", {"equation": "ij,kj->ki"}, ROWS, ((2, 4),), ROWS[:, :2].T),
        ("softmax", {"dim": 1}, ROWS, (), ROWS),
        ("layer_norm", {"normalized_shape": 4}, ROWS, (), ROWS),
        ("sum", {"dim": 1}, ROWS, (), ROWS[:, 0]),
        ("cumsum", {"dim": 0}, ROWS[::-1], (), np.minimum.accumulate(ROWS[::-1])),
        ("conv2d", {}, EACH, ((2, 3),), [[0, 1], [4, 5]]),
        ("conv2d", {"padding": 1}, EACH, ((3, 3),), [[0, 0, 1, 2], [0, 0, 1, 2], [4, 4, 5, 6]]),
        ("cross_entropy", {"reduction": "none"}, ROWS, ((3, 4),), ROWS[:, 0]),
        ("mse_loss", {"reduction": "none"}, EACH, ((3, 4),), EACH),
        ("pad", {"pad": [1, 0], "value": -9.0}, EACH[:1], (), [[INF, 0, 1, 2, 3]]),
        ("flip", {"dims": 1}, EACH, (), EACH[:, ::-1]),
    ],
)
def test_a_spread_is_no_wider_than_it_must_be(name, attributes, values, others, expected):
    np.testing.assert_array_equal(
        spread_values(name, attributes, values, (3, 4) if len(values) == 3 else (1, 4), *others), expected
    )


def test_a_pool_and_a_transposed_convolution_reach_their_windows():
    picture = np.arange(16.0).reshape(1, 4, 4)
    pooled = spread_values("max_pool2d", {"kernel_size": 2}, picture, (1, 4, 4))
    np.testing.assert_array_equal(pooled, [[[0, 2], [8, 10]]])
    put = spread_values("conv_transpose2d", {"stride": 2}, picture[:, :2, :2], (1, 2, 2), (1, 1, 2, 2))
    np.testing.assert_array_equal(put, np.kron(picture[:, :2, :2], np.ones((2, 2))))
