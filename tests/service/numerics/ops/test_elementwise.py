import mpmath
import numpy as np
import pytest

from service.numerics.ops import REGISTRY
from service.numerics.ops.op import ShapeError

POINTS = [0.0, -0.0, 5e-324, 1e-300, -1e-8, 0.3, -1.0, 5.0, 19.0, -19.5, 30.0, -40.0, 300.0, -350.0]
EXACT = {
    "tanh": (mpmath.tanh, lambda x: mpmath.sech(x) ** 2),
    "sigmoid": (
        lambda x: 1 / (1 + mpmath.exp(-x)),
        lambda x: mpmath.exp(-abs(x)) / (1 + mpmath.exp(-abs(x))) ** 2,
    ),
}


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("point", POINTS)
def test_value_and_derivative_have_no_cancellation(name, point):
    """Against 50 digits: a few units in the last place, far out too, where 1 - y has no digits left."""
    x = np.array([point])
    function = REGISTRY[name]()
    output = function.forward(x)
    (derivative,) = function.backward(np.ones(1), output, x)
    with mpmath.workdps(50):
        value, slope = (float(each(mpmath.mpf(point))) for each in EXACT[name])
    np.testing.assert_allclose(output, value, rtol=4e-16, atol=5e-324)
    np.testing.assert_allclose(derivative, slope, rtol=1e-15, atol=5e-324)


@pytest.mark.parametrize("name", EXACT)
def test_nothing_becomes_nan_far_out(name):
    x = np.array([1e308, -1e308, np.inf, -np.inf])
    with np.errstate(over="ignore", invalid="raise", divide="raise"):
        output = REGISTRY[name]().forward(x)
        (derivative,) = REGISTRY[name]().backward(np.ones(4), output, x)
    np.testing.assert_array_equal(output, [1, -1, 1, -1] if name == "tanh" else [1, 0, 1, 0])
    np.testing.assert_array_equal(derivative, 0)


@pytest.mark.parametrize("shapes", [((2,), (3,)), ((2, 3), (2,))])
def test_shapes_that_do_not_broadcast_are_refused(shapes):
    with pytest.raises(ShapeError, match="broadcast"):
        REGISTRY["mul"]().output_shape(*shapes)
