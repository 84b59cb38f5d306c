import numpy as np
import pytest

from service.numerics.ops import OP_REGISTRY
from tests.service.numerics.ops.shape_refusals import get_refusal


@pytest.mark.parametrize("name", ["max_pool2d", "avg_pool2d"])
@pytest.mark.parametrize(
    ("attributes", "shape", "words"),
    [
        ({"kernel_size": 2}, (4, 4), "(B, C, H, W) or (C, H, W)"),
        ({"kernel_size": 2, "padding": 2}, (1, 4, 4), "half the kernel_size"),
        ({"kernel_size": 5}, (1, 4, 4), "a window no larger"),
    ],
)
def test_pool_refuses_mismatched_inputs(name, attributes, shape, words):
    assert words in get_refusal(name, attributes, shape)


def test_max_pool_takes_the_first_of_equals():
    op = OP_REGISTRY["max_pool2d"](kernel_size=2)
    x = np.array([[[[1.0, 3.0], [3.0, 3.0]]]])
    np.testing.assert_array_equal(op.backward(np.ones((1, 1, 1, 1)), op.forward(x), x)[0][0, 0], [[0, 1], [0, 0]])


def test_overlapping_windows_add_up():
    op = OP_REGISTRY["max_pool2d"](kernel_size=2, stride=1)
    x = np.array([[[[0.0, 1.0, 0.0], [0.0, 9.0, 0.0], [0.0, 1.0, 0.0]]]])
    (by_x,) = op.backward(np.ones((1, 1, 2, 2)), op.forward(x), x)
    assert by_x[0, 0, 1, 1] == 4


def test_padding_is_never_the_largest():
    op = OP_REGISTRY["max_pool2d"](kernel_size=2, padding=1)
    x = -np.ones((1, 1, 2, 2))
    np.testing.assert_array_equal(op.forward(x), -1)


def test_a_window_of_nothing_but_padding_is_minus_infinity_as_in_pytorch():
    op = OP_REGISTRY["max_pool2d"](kernel_size=[1, 2], padding=[0, 1], dilation=2)
    x = np.ones((1, 1, 1, 1))
    np.testing.assert_array_equal(op.forward(x), -np.inf)
    np.testing.assert_array_equal(op.backward(np.ones((1, 1, 1, 1)), op.forward(x), x)[0], 0)


def test_max_pool_window_with_nan_has_no_maximum() -> None:
    x = np.array([[[[np.nan, 2.0, 3.0, -1.0], [5.0, 1.0, 0.0, 1.0]]]])
    pooled = OP_REGISTRY["max_pool2d"](kernel_size=2).forward(x)
    np.testing.assert_array_equal(pooled, [[[[np.nan, 3.0]]]])
