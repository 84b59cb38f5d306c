import mpmath
import numpy as np
import pytest

from service.numerics.ops import OP_REGISTRY
from tests.service.numerics.ops.shape_refusals import get_refusal

X = np.array([[1e8, 1e8 - 3, -1e8, 0.0]])


def test_softmax_of_large_scores_does_not_overflow():
    with np.errstate(over="raise", invalid="raise"):
        y, log_y = (OP_REGISTRY[name](dim=0).forward(X) for name in ("softmax", "log_softmax"))
    with mpmath.workdps(50):
        total = 1 + mpmath.exp(-3)
        np.testing.assert_allclose(y[0, :2], [float(1 / total), float(mpmath.exp(-3) / total)], rtol=1e-15)
        np.testing.assert_allclose(log_y[0, 0], float(-mpmath.log(total)), rtol=1e-14)
    np.testing.assert_allclose(log_y[0, 2], -2e8, rtol=1e-8)


def test_gradients_along_the_axis_sum_to_zero():
    generator = np.random.default_rng(0)
    x, g = generator.normal(size=(2, 3, 4, 5)), generator.normal(size=(2, 3, 4, 5))
    for name in ("softmax", "log_softmax"):
        op = OP_REGISTRY[name](dim=1)
        (by_x,) = op.backward(g, op.forward(x), x)
        np.testing.assert_allclose(by_x.sum(axis=2), 0, atol=1e-14)


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_an_axis_that_is_not_there_is_refused(name):
    assert "an axis from -2 to 1" in get_refusal(name, {"dim": 2}, (3, 4))


@pytest.mark.parametrize("shape", [(1, 5, 1), (2, 3, 5), (2, 1, 4)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_log_softmax_is_the_same_along_the_last_axis_and_another(shape, order):
    x = np.asarray(np.random.default_rng(3).normal(size=shape), order=order)
    x[0, 0, 0] = 40.0
    last = OP_REGISTRY["log_softmax"](dim=1).forward(x)
    other = OP_REGISTRY["log_softmax"](dim=0).forward(np.swapaxes(x, 1, 2))
    np.testing.assert_allclose(np.swapaxes(other, 1, 2), last, rtol=1e-14)
