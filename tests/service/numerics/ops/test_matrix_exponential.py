import mpmath
import numpy as np
import pytest
import torch

from service.numerics.ops import OP_REGISTRY
from service.numerics.ops.matrix_exponential import exponentiate
from tests.matrix_requests import differentiate_by_torch, get_outcome, make_request


def exponentiate_exactly(matrix: np.ndarray) -> np.ndarray:
    with mpmath.workdps(60):
        rows = mpmath.expm(mpmath.matrix(matrix.tolist()), method="taylor").tolist()
        return np.array([[float(value) for value in row] for row in rows])


@pytest.mark.parametrize("scale", [1e-8, 1e-2, 0.3, 1.0, 10.0])
def test_exponential_is_that_of_high_precision(scale: float) -> None:
    matrix = scale * np.random.default_rng(0).uniform(-1, 1, (3, 3))
    expected = exponentiate_exactly(matrix)
    assert np.abs(exponentiate(matrix[None])[0] - expected).max() <= 1e-15 * (1 + 3 * scale) * np.abs(expected).max()


def test_exponential_of_a_nilpotent_matrix_is_its_polynomial() -> None:
    matrix = np.array([[0.0, 1e6], [0.0, 0.0]])
    np.testing.assert_allclose(exponentiate(matrix[None])[0], [[1, 1e6], [0, 1]], rtol=1e-9)


def test_gradient_is_the_derivative_of_the_series() -> None:
    """sum_k sum_j (A^T)^j G (A^T)^(k-1-j) / k!, term by term."""
    generator = np.random.default_rng(1)
    a, g = generator.normal(size=(2, 3, 3))
    powers = [np.linalg.matrix_power(a.T, k) for k in range(40)]
    expected = np.zeros((3, 3))
    factorial = 1.0
    for k in range(1, 40):
        factorial *= k
        expected += sum(powers[j] @ g @ powers[k - 1 - j] for j in range(k)) / factorial
    op = OP_REGISTRY["matrix_exp"]()
    (gradient,) = op.backward(g[None], op.forward(a[None]), a[None])
    assert gradient is not None
    np.testing.assert_allclose(gradient[0], expected, rtol=1e-12)


@pytest.mark.parametrize("scale", [1e-5, 1e-2, 1.0, 5.0])
def test_gradient_by_pytorch_does_not_fail(scale: float) -> None:
    matrix = scale * np.random.default_rng(0).uniform(-1, 1, (3, 3))
    gradient = differentiate_by_torch(torch.linalg.matrix_exp, matrix)
    assert get_outcome(make_request("matrix_exp(a)", matrix), gradient) != "fail"
    assert get_outcome(make_request("matrix_exp(a)", matrix), gradient * (1 + 1e-6)) == "fail"
