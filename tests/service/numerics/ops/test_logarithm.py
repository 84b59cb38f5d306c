import mpmath
import numpy as np
import pytest

from service.numerics.ops import OP_REGISTRY
from tests.service.numerics.ops.exact_functions import assert_values_and_slopes

EXACT = {
    "log2": (lambda x: mpmath.log(x, 2), lambda x: 1 / (x * mpmath.log(2)), [1e-300, 1e-8, 1 + 1e-10, 3.0, 1e300]),
    "log10": (lambda x: mpmath.log(x, 10), lambda x: 1 / (x * mpmath.log(10)), [1e-300, 1e-8, 1 + 1e-10, 3.0, 1e300]),
    "exp2": (lambda x: mpmath.mpf(2) ** x, lambda x: mpmath.log(2) * mpmath.mpf(2) ** x, [-1000.0, 1e-300, 0.3, 900.0]),
    "square": (lambda x: x * x, lambda x: 2 * x, [-1e100, -1.0, 0.0, 1e-150, 3.0]),
    "reciprocal": (lambda x: 1 / x, lambda x: -1 / x**2, [-1e100, -1.0, 1e-150, 3.0]),
}


@pytest.mark.parametrize("name", EXACT)
def test_values_and_derivatives_agree_with_60_digits(name: str) -> None:
    assert_values_and_slopes(name, EXACT[name])


def test_logit_agrees_with_60_digits() -> None:
    def logit(x):
        return mpmath.log(x / (1 - x))

    def slope(x):
        return 1 / (x * (1 - x))

    assert_values_and_slopes("logit", (logit, slope, [1e-300, 1e-8, 0.2, 0.9, 1 - 2.0**-50]))


def test_logit_clamps_to_eps_and_passes_nothing_on_there() -> None:
    op = OP_REGISTRY["logit"](eps=0.25)
    x = np.array([-1.0, 0.1, 0.25, 0.5, 0.75, 0.9, 3.0])
    output = op.forward(x)
    np.testing.assert_allclose(output, np.log(3) * np.array([-1, -1, -1, 0, 1, 1, 1]))
    expected = np.array([0, 0, 16 / 3, 4, 16 / 3, 0, 0])
    np.testing.assert_allclose(op.backward(np.ones(7), output, x)[0], expected)
    with np.errstate(invalid="ignore"):
        assert np.isnan(OP_REGISTRY["logit"]().backward(np.ones(1), x[:1], np.array([2.0]))[0]).all()
