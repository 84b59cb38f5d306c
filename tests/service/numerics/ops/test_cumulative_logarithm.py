import mpmath
import numpy as np
import pytest

from service.numerics.ops import OP_REGISTRY


@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0, 700.0])
def test_values_and_gradients_are_those_of_high_precision(scale: float) -> None:
    generator = np.random.default_rng(0)
    x, g = generator.uniform(-scale, scale, 9), generator.normal(size=9)
    op = OP_REGISTRY["logcumsumexp"](dim=0)
    y = op.forward(x[None])
    (by_x,) = op.backward(g[None], y, x[None])
    with mpmath.workdps(60):
        exponentials = [mpmath.exp(mpmath.mpf(value)) for value in x]
        sums = [mpmath.fsum(exponentials[: i + 1]) for i in range(9)]
        expected_y = [float(mpmath.log(total)) for total in sums]
        terms = [[exponentials[j] * mpmath.mpf(g[i]) / sums[i] for i in range(j, 9)] for j in range(9)]
        expected = np.array([float(mpmath.fsum(each)) for each in terms])
        sizes = np.array([float(mpmath.fsum(map(abs, each))) for each in terms])
    np.testing.assert_allclose(y[0], expected_y, rtol=1e-14, atol=1e-14)
    assert (np.abs(by_x[0] - expected) <= 1e-15 * (8 + 4 * scale) * sizes).all()


def test_complex_step_is_the_derivative() -> None:
    x, step = np.random.default_rng(0).normal(size=(1, 5)), 1e-30
    op = OP_REGISTRY["logcumsumexp"](dim=0)
    y = op.forward(x)
    for j in range(5):
        moved = x.astype(complex)
        moved[0, j] += 1j * step
        (by_x,) = op.backward(np.ones((1, 5)), y, x)
        np.testing.assert_allclose(op.forward(moved).imag.sum() / step, by_x[0, j], rtol=1e-12)
