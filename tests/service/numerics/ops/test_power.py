import mpmath
import numpy as np
import pytest
import torch

from service.numerics.ops.op import make_form

POWER = make_form("pow", "tensor")
BASES, EXPONENTS = np.array([[1e-8, 0.3, 1.0000001, 7.5, 1e6]]), np.array([[-3.5], [0.25], [2.0], [9.0]])


def test_power_and_both_gradients_are_those_in_fifty_digits() -> None:
    a, b = (np.broadcast_to(array, (4, 5))[None].copy() for array in (BASES, EXPONENTS))
    y = POWER.forward(a, b)
    results = (y, *POWER.backward(np.ones_like(y), y, a, b))
    with mpmath.workdps(50):
        for base, exponent, *computed in zip(
            a.ravel(), b.ravel(), *(result.ravel() for result in results), strict=True
        ):
            x, p = mpmath.mpf(base), mpmath.mpf(exponent)
            expected = (x**p, p * x ** (p - 1), x**p * mpmath.log(x))
            for ours, exact in zip(computed, expected, strict=True):
                assert abs(ours - exact) <= 4e-15 * abs(exact)


EDGES = [(0, 0), (0, 2), (0, 1), (0, 0.5), (0, -1), (-2, 2), (-2, -3), (-2, 0), (-2, 0.5), (np.inf, 2), (2, np.inf)]


@pytest.mark.parametrize(("base", "exponent"), [*EDGES, (1e300, 2)])
def test_conventions_at_edges_are_those_of_pytorch(base, exponent) -> None:
    x, p = (torch.tensor([float(number)], dtype=torch.float64, requires_grad=True) for number in (base, exponent))
    expected = torch.pow(x, p)
    expected.sum().backward()
    a, b = np.array([[float(base)]]), np.array([[float(exponent)]])
    with np.errstate(all="ignore"):
        y = POWER.forward(a, b)
        by_a, by_b = POWER.backward(np.ones_like(y), y, a, b)
    np.testing.assert_array_equal(y[0], expected.detach().numpy())
    np.testing.assert_array_equal(by_a[0], x.grad.numpy())
    np.testing.assert_array_equal(by_b[0], p.grad.numpy())


def test_a_complex_step_gives_the_derivatives_at_negative_bases_and_at_0() -> None:
    step = 1e-30j
    for base, exponent, slope in (
        (-2.0, 3.0, 12.0),
        (-2.0, -1.0, -0.25),
        (0.0, 2.0, 0.0),
        (2.5, -1.5, -1.5 * 2.5**-2.5),
    ):
        moved = POWER.forward(np.array([[base + step]]), np.array([[exponent]]))
        np.testing.assert_allclose(moved.imag / step.imag, slope, rtol=1e-13, atol=1e-25)
    with np.errstate(all="ignore"):
        assert np.isnan(POWER.forward(np.array([[-2.0]]), np.array([[2.0 + step]]))).all()
    assert POWER.forward(np.array([[0.0]]), np.array([[2.0 + step]])) == 0
