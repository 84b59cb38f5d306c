from typing import Any

import mpmath
import numpy as np
import pytest
import torch

from service.numerics.ops import OP_REGISTRY
from tests.matrix_requests import differentiate_by_torch, get_outcome, make_request

GENERATOR = np.random.default_rng(3)
ROTATION, _ = np.linalg.qr(GENERATOR.normal(size=(3, 3)))


def make_symmetric(values: list[float]) -> np.ndarray:
    product = ROTATION * np.array(values) @ ROTATION.T
    return (product + product.T) / 2


def test_eigenvalues_and_gradient_are_those_of_high_precision() -> None:
    matrix, g = make_symmetric([-1.0, 0.5, 2.0]), GENERATOR.normal(size=3)
    with mpmath.workdps(40):
        values, vectors = mpmath.eigsy(mpmath.matrix(matrix.tolist()))
        weighted = vectors * mpmath.diag(g.tolist()) * vectors.T
        expected = np.array([[float(value) for value in row] for row in weighted.tolist()])
    op = OP_REGISTRY["eigvalsh"]()
    w = op.forward(matrix[None])
    np.testing.assert_allclose(w[0], [float(value) for value in values], rtol=1e-13)
    (gradient,) = op.backward(g[None], w, matrix[None])
    assert gradient is not None
    np.testing.assert_allclose(gradient[0], expected, rtol=1e-12, atol=1e-14)


EIGENVALUES: dict[str, tuple[str, Any]] = {
    "eigvalsh": ("eigvalsh(a)", lambda a: torch.linalg.eigvalsh(a)),
    "svdvals": ("svdvals(a)", lambda a: torch.linalg.svdvals(a)),
}


@pytest.mark.parametrize("name", EIGENVALUES)
def test_gradients_at_values_that_are_apart_pass_and_wrong_ones_fail(name: str) -> None:
    expression, function = EIGENVALUES[name]
    matrix = make_symmetric([0.3, 1.0, 2.0])
    request = make_request(expression, matrix)
    right = differentiate_by_torch(function, matrix)
    assert get_outcome(request, right) == "pass"
    assert get_outcome(request, right * (1 + 1e-6)) == "fail"
    wrong = right.copy()
    wrong[0, 1] *= 1.001
    assert get_outcome(request, wrong) == "fail"


@pytest.mark.parametrize("name", EIGENVALUES)
@pytest.mark.parametrize("gap", [0.0, 1e-15, 1e-12, 1e-9, 1e-6, 1e-3])
def test_gradients_where_values_meet_do_not_fail(name: str, gap: float) -> None:
    """The largest value alone, which bends there."""
    expression, function = EIGENVALUES[name]
    index = 2 if name == "eigvalsh" else 0
    matrix = make_symmetric([0.3, 1.0, 1.0 + gap])
    request = make_request(expression, matrix)
    request["model"] = f"w = {expression}\nx = select(w, dim=0, index={index})\nloss = sum(x)"
    leaf = torch.tensor(matrix, requires_grad=True)
    function(leaf)[index].backward()
    assert leaf.grad is not None
    assert get_outcome(request, leaf.grad.numpy()) != "fail"


@pytest.mark.parametrize("name", EIGENVALUES)
def test_gradients_at_the_identity_and_at_zero_do_not_fail(name: str) -> None:
    expression, function = EIGENVALUES[name]
    for matrix in (np.eye(3), np.zeros((2, 2)), np.diag([1.0, 1.0, 0.0])):
        gradient = differentiate_by_torch(function, matrix)
        assert get_outcome(make_request(expression, matrix), gradient) != "fail"


def test_numbers_that_are_not_finite_give_nan() -> None:
    matrix = np.array([[[1.0, np.nan], [0.0, 1.0]], [[2.0, 0.0], [0.0, 1.0]]])
    for name, expected in (("eigvalsh", [1, 2]), ("svdvals", [2, 1])):
        values = OP_REGISTRY[name]().forward(matrix)
        assert np.isnan(values[0]).all()
        np.testing.assert_allclose(values[1], expected)
