"""Derivatives of digamma against 60 digits, and PyTorch's as far to the left as they are asked for."""

import mpmath
import numpy as np
import pytest
import torch

from service.numerics.ops import OP_REGISTRY
from service.numerics.ops.polygamma import compute_polygamma, list_cotangent_coefficients
from tests.service.numerics.ops.exact_functions import assert_values_and_slopes

POINTS = [-7.4, -0.3, -1e-3, 1e-8, 0.3, 0.5, 0.7, 3.5, 170.0, 1e8]


@pytest.mark.parametrize("n", [0, 1, 2, 3, 7])
def test_values_and_slopes_agree_with_60_digits(n: int) -> None:
    exact = lambda x: mpmath.psi(n, x), lambda x: mpmath.psi(n + 1, x), POINTS
    assert_values_and_slopes("polygamma", exact, value_tolerance=1e-13, slope_tolerance=1e-13, n=n)


def test_derivatives_of_the_cotangent_are_polynomials_of_it() -> None:
    assert list_cotangent_coefficients(0) == (1, 0)
    assert list_cotangent_coefficients(1) == (-1, 0, -1)
    assert list_cotangent_coefficients(2) == (2, 0, 2, 0)
    with mpmath.workdps(40):
        x = mpmath.mpf("0.37")
        expected = mpmath.diff(lambda t: mpmath.cot(t), x, 5)
        polynomial = mpmath.polyval(list(map(mpmath.mpf, list_cotangent_coefficients(5))), mpmath.cot(x))
        assert abs(polynomial - expected) < 1e-12 * abs(expected)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_far_to_the_left_no_sum_goes_on_to_0(n: int) -> None:
    """A sum would have a term for each whole number, 1e12 of them."""
    x = np.array([-1e12 - 0.25])
    with mpmath.workdps(40):
        expected = float(mpmath.mpf(-1) * mpmath.pi ** (n + 1) * mpmath.diff(mpmath.cot, mpmath.pi * (-0.25), n))
    np.testing.assert_allclose(compute_polygamma(n, x), expected, rtol=1e-10)
    op = OP_REGISTRY["polygamma"](n=n)
    np.testing.assert_allclose(op.torch_forward(torch, torch.tensor(x)).numpy(), expected, rtol=1e-10)


@pytest.mark.parametrize("n", [1, 2, 5])
def test_the_form_for_pytorch_is_its_own_beside_the_far_left(n: int) -> None:
    op = OP_REGISTRY["polygamma"](n=n)
    x = torch.tensor([-51.3, -49.3, -0.7, 2.5], dtype=torch.float64)
    np.testing.assert_allclose(op.torch_forward(torch, x), torch.polygamma(n, x), rtol=2e-9)
