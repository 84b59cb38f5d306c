import mpmath
import numpy as np
import pytest

from service.numerics.ops import OP_REGISTRY
from tests.service.numerics.ops.shape_refusals import get_refusal

EXACT = {
    "exp": (mpmath.exp, mpmath.exp, [-700.0, -1.0, 1e-20, 0.0, 3.0, 700.0]),
    "expm1": (mpmath.expm1, mpmath.exp, [-40.0, -1e-12, 1e-300, 0.5, 30.0]),
    "log": (mpmath.log, lambda x: 1 / x, [1e-300, 1e-8, 1.0, 1 + 1e-12, 1e300]),
    "log1p": (mpmath.log1p, lambda x: 1 / (1 + x), [-0.9, -1e-12, 1e-300, 0.5, 1e8]),
    "sqrt": (mpmath.sqrt, lambda x: 1 / (2 * mpmath.sqrt(x)), [1e-300, 1e-8, 2.0, 1e300]),
    "rsqrt": (lambda x: 1 / mpmath.sqrt(x), lambda x: -1 / (2 * x * mpmath.sqrt(x)), [1e-200, 1e-8, 2.0, 1e200]),
    "sin": (mpmath.sin, mpmath.cos, [-1e8, -1.0, 1e-300, 3.0, 1e6]),
    "cos": (mpmath.cos, lambda x: -mpmath.sin(x), [-1e8, -1.0, 1e-300, 3.0, 1e6]),
    "erf": (
        mpmath.erf,
        lambda x: 2 / mpmath.sqrt(mpmath.pi) * mpmath.exp(-(x**2)),
        [-6.0, -1.0, 1e-300, 1e-8, 0.5, 3.0],
    ),
}


@pytest.mark.parametrize("name", EXACT)
def test_values_and_derivatives_agree_with_50_digits(name):
    function, derivative, points = EXACT[name]
    x = np.array(points)
    op = OP_REGISTRY[name]()
    output = op.forward(x)
    (slope,) = op.backward(np.ones_like(x), output, x)
    with mpmath.workdps(50):
        exact = [mpmath.mpf(point) for point in points]
        values = np.array([float(function(value)) for value in exact])
        slopes = np.array([float(derivative(value)) for value in exact])
    np.testing.assert_allclose(output, values, rtol=1e-15)
    np.testing.assert_allclose(slope, slopes, rtol=1e-14)


@pytest.mark.parametrize(
    ("exponent", "x", "value", "slope"),
    [(2, -3.0, 9, -6), (3, -2.0, -8, 12), (0, 0.0, 1, 0), (1, 0.0, 0, 1), (0.5, 4.0, 2, 0.25), (-1, 0.5, 2, -4)],
)
def test_pow_equals_its_formula(exponent, x, value, slope):
    op = OP_REGISTRY["pow"](exponent=exponent)
    at = np.array([x])
    assert op.forward(at) == value
    assert op.backward(np.ones(1), op.forward(at), at)[0] == slope


def test_clamp_at_and_beyond_its_ends():
    op = OP_REGISTRY["clamp"](min=-1.0, max=2.0)
    x = np.array([-3.0, -1.0, 0.5, 2.0, 5.0])
    np.testing.assert_array_equal(op.forward(x), [-1, -1, 0.5, 2, 2])
    np.testing.assert_array_equal(op.backward(np.ones(5), x, x)[0], [0, 1, 1, 1, 0])
    np.testing.assert_array_equal(OP_REGISTRY["clamp"](min=2.0, max=-1.0).forward(x), -1), "as in PyTorch, max prevails"


def test_abs_has_slope_0_at_0():
    op = OP_REGISTRY["abs"]()
    x = np.array([-2.0, 0.0, 2.0])
    np.testing.assert_array_equal(op.backward(np.ones(3), op.forward(x), x)[0], [-1, 0, 1])


def test_pow_knows_odd_from_even_beyond_the_digits_of_float32():
    op = OP_REGISTRY["pow"](exponent=2**24 + 1)
    x = np.array([-1.0, 1.0], np.float32)
    np.testing.assert_array_equal(op.forward(x), [-1, 1])
    np.testing.assert_array_equal(op.backward(np.ones(2, np.float32), x, x)[0], np.float32([2**24 + 1] * 2))


def test_pow_allows_for_an_exponent_that_the_dtype_rounds():
    """In bfloat16 PyTorch takes -4.3 for -4.3125: of a power of 0.1 that is 3 per cent, eight times the roundoff."""
    op, x, g = OP_REGISTRY["pow"](exponent=-3.3), np.array([[0.1]]), np.ones((1, 1))
    output = op.forward(x)
    ((size, terms),) = op.estimate_backward_rounding(g, output, x)
    assert abs(-3.3 * 0.1**-4.3125 - op.backward(g, output, x)[0]) <= 2.0**-8 * np.sqrt(terms) * size
    for exponent in (2, -1.5, 0.25, 64):
        plain = OP_REGISTRY["pow"](exponent=exponent)
        np.testing.assert_array_equal(plain.estimate_forward_rounding(plain.forward(x), x).magnitude, plain.forward(x))


def test_clamp_without_bounds_is_refused():
    assert "a min, a max or both" in get_refusal("clamp", {}, (3,))
