from typing import Any

import mpmath
import numpy as np
import pytest
import torch

from service.checks.graph.check import check
from service.numerics.ops import OP_REGISTRY
from tests.matrix_requests import differentiate_by_torch, draw_matrix, get_outcome, get_refusal, make_request


def make_definite(condition: float, seed: int = 0) -> np.ndarray:
    root = draw_matrix(condition**0.5, seed)
    product = root @ root.T
    return (product + product.T) / 2


@pytest.mark.parametrize("upper", [False, True])
def test_factor_is_that_of_high_precision(upper: bool) -> None:
    matrix = make_definite(100.0)
    with mpmath.workdps(40):
        expected = np.array(
            [[float(value) for value in row] for row in mpmath.cholesky(mpmath.matrix(matrix.tolist())).tolist()]
        )
    factor = OP_REGISTRY["cholesky"](upper=upper).forward(matrix[None])[0]
    np.testing.assert_allclose(factor, expected.T if upper else expected, rtol=1e-13, atol=1e-15)


def test_extended_precision_goes_through() -> None:
    matrix = make_definite(10.0)[None].astype(np.longdouble)
    factor = OP_REGISTRY["cholesky"]().forward(matrix)
    assert np.abs(factor @ factor.swapaxes(-1, -2) - matrix).max() < 1e-18


@pytest.mark.parametrize("condition", [10.0, 1e4, 1e8])
def test_gradient_by_pytorch_of_a_symmetric_matrix_passes(condition: float) -> None:
    for seed in range(3):
        matrix = make_definite(condition, seed)
        outcome = get_outcome(
            make_request("cholesky(a)", matrix), differentiate_by_torch(torch.linalg.cholesky, matrix)
        )
        assert outcome != "fail"
        assert outcome == "pass" or condition > 10


def test_gradient_on_one_triangle_fails() -> None:
    matrix = make_definite(10.0)
    symmetric = differentiate_by_torch(torch.linalg.cholesky, matrix)
    wrong = np.tril(2 * symmetric) - np.diag(np.diag(symmetric))
    assert get_outcome(make_request("cholesky(a)", matrix), wrong) == "fail"


def test_matrix_that_is_not_symmetric_is_refused() -> None:
    assert "a symmetric matrix" in get_refusal(make_request("cholesky(a)", [[2.0, 1.0], [0.0, 2.0]]))


@pytest.mark.parametrize("matrix", [[[1.0, 2.0], [2.0, 1.0]], [[0.0, 0.0], [0.0, 1.0]], [[-1.0]]])
def test_matrix_that_is_not_positive_definite_is_inconclusive(matrix: list[list[float]]) -> None:
    answer: Any = check(make_request("cholesky(a)", matrix))
    assert answer["outcome"] == "inconclusive"
    assert "node 'x'" in answer["verdicts"]["a"]["reason"]
