import mpmath
import numpy as np
import pytest

from service.numerics.ops import OP_REGISTRY
from service.numerics.ops.special import compute_sine_of_turns, compute_trigamma
from tests.service.numerics.ops.exact_functions import assert_values_and_slopes

EXACT = {
    "erfc": (
        mpmath.erfc,
        lambda x: -2 / mpmath.sqrt(mpmath.pi) * mpmath.exp(-x * x),
        [-3.0, 1e-300, 1e-8, 0.5, 3.0, 20.0],
    ),
    "erfinv": (
        mpmath.erfinv,
        lambda x: mpmath.sqrt(mpmath.pi) / 2 * mpmath.exp(mpmath.erfinv(x) ** 2),
        [-0.999, -0.5, 1e-300, 1e-8, 0.3, 1 - 2.0**-30],
    ),
    "lgamma": (
        lambda x: mpmath.log(abs(mpmath.gamma(x))),
        mpmath.digamma,
        [-7.5, -0.3, 1e-300, 1e-8, 0.5, 0.7, 3.5, 170.0, 1e8],
    ),
    "digamma": (mpmath.digamma, lambda x: mpmath.psi(1, x), [-7.4, -0.3, 1e-8, 0.5, 0.7, 3.5, 170.0, 1e8]),
}


@pytest.mark.parametrize("name", EXACT)
def test_values_and_derivatives_agree_with_60_digits(name: str) -> None:
    assert_values_and_slopes(name, EXACT[name], value_tolerance=3e-15, slope_tolerance=3e-14)


def test_sine_of_turns_is_exact_at_whole_and_half_turns() -> None:
    x = np.array([-2.0, -1.5, 0.0, 0.5, 1.0, 1e8 + 0.5, 2.0**53])
    np.testing.assert_array_equal(compute_sine_of_turns(x), [0, 1, 0, 1, 0, 1, 0])


def test_trigamma_far_to_the_left_takes_no_longer_than_elsewhere() -> None:
    """Hurwitz's zeta function would add a term for each whole number on the way to 0."""
    np.testing.assert_allclose(compute_trigamma(np.array([-1e12 - 0.5])), np.pi**2, rtol=1e-10)


def test_allowance_of_digamma_covers_the_series_of_pytorch() -> None:
    """PyTorch's trigamma is off by up to 1e-10 of itself, in float64 too."""
    op = OP_REGISTRY["digamma"]()
    x = np.array([[0.2, 1.5, 30.0]])
    cancellation = op.estimate_derivative_cancellation(x, op.forward(x))
    np.testing.assert_allclose(cancellation.largest_error, 1 / (30 * np.array([[6.8, 7.5, 36.0]]) ** 9))
