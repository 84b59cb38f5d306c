from typing import Any

import mpmath
import numpy as np
import pytest
import torch

from service.checks.graph.check import check
from service.numerics.ops import OP_REGISTRY
from tests.matrix_requests import differentiate_by_torch, draw_matrix, get_outcome, get_refusal, make_request

GENERATOR = np.random.default_rng(1)
A = GENERATOR.normal(size=(3, 3))
B = GENERATOR.normal(size=(3, 2))
G = GENERATOR.normal(size=(3, 2))


def to_array(matrix: Any) -> np.ndarray:
    return np.array([[float(value) for value in row] for row in matrix.tolist()])


def test_solution_and_gradients_are_those_of_high_precision() -> None:
    with mpmath.workdps(40):
        inverse = mpmath.inverse(mpmath.matrix(A.tolist()))
        solution = inverse * mpmath.matrix(B.tolist())
        by_right = inverse.T * mpmath.matrix(G.tolist())
        by_matrix = -by_right * solution.T
    op = OP_REGISTRY["solve"]()
    x = op.forward(A[None], B[None])
    np.testing.assert_allclose(x[0], to_array(solution), rtol=1e-12)
    gradients = op.backward(G[None], x, A[None], B[None])
    for gradient, expected in zip(gradients, (by_matrix, by_right), strict=True):
        assert gradient is not None
        np.testing.assert_allclose(gradient[0], to_array(expected), rtol=1e-12)


def test_stacks_broadcast_and_sum_their_gradients() -> None:
    op = OP_REGISTRY["solve"]()
    stack = GENERATOR.normal(size=(1, 4, 3, 2))
    x = op.forward(A[None], stack)
    assert x.shape == (1, 4, 3, 2)
    by_matrix, _ = op.backward(np.ones_like(x), x, A[None], stack)
    alone = [op.backward(np.ones((1, 3, 2)), x[:, i], A[None], stack[:, i])[0] for i in range(4)]
    np.testing.assert_allclose(by_matrix, sum(alone[1:], alone[0]), rtol=1e-12)


FUNCTIONS: dict[str, tuple[str, Any]] = {
    "inv": ("inv(a)", torch.linalg.inv),
    "slogdet": ("slogdet(a)", lambda a: torch.linalg.slogdet(a).logabsdet),
    "det": ("det(a)", torch.linalg.det),
    "solve": ("b = square(a)\nx = solve(a, b)", lambda a: torch.linalg.solve(a, a.square())),
    "solve_triangular": (
        "b = square(a)\nx = solve_triangular(a, b, upper=True)",
        lambda a: torch.linalg.solve_triangular(a, a.square(), upper=True),
    ),
}


@pytest.mark.parametrize("name", FUNCTIONS)
@pytest.mark.parametrize("condition", [10.0, 1e4, 1e8, 1e12])
def test_right_gradient_of_an_ill_conditioned_matrix_does_not_fail(name: str, condition: float) -> None:
    expression, function = FUNCTIONS[name]
    for seed in range(3):
        matrix = draw_matrix(condition, seed)
        outcome = get_outcome(make_request(expression, matrix), differentiate_by_torch(function, matrix))
        assert outcome != "fail"
        assert outcome == "pass" or condition > 10


@pytest.mark.parametrize("name", FUNCTIONS)
def test_wrong_gradient_of_a_well_conditioned_matrix_fails(name: str) -> None:
    expression, function = FUNCTIONS[name]
    matrix = draw_matrix(10.0)
    right = differentiate_by_torch(function, matrix)
    assert get_outcome(make_request(expression, matrix), right * (1 + 1e-6)) == "fail"
    assert get_outcome(make_request(expression, matrix), right.T) == "fail"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gradient_in_a_narrow_dtype_does_not_fail(dtype: str) -> None:
    for condition in (3.0, 1e3, 1e8):
        rounded = torch.tensor(draw_matrix(condition)).to(getattr(torch, dtype))
        gradient = differentiate_by_torch(
            lambda a: torch.linalg.inv(a.float()).to(a.dtype), rounded.double().numpy(), getattr(torch, dtype)
        )
        request = make_request("inv(a)", rounded.double().numpy(), dtype=dtype)
        assert not np.isfinite(gradient).all() or get_outcome(request, gradient) != "fail"


def test_singular_matrix_has_no_finite_loss_and_is_no_error() -> None:
    answer: Any = check(make_request("inv(a)", [[1.0, 2.0], [2.0, 4.0]]))
    assert answer["outcome"] == "inconclusive"
    assert "node 'x'" in answer["verdicts"]["a"]["reason"]


@pytest.mark.parametrize("expression", ["inv(a)", "det(a)", "matrix_exp(a)", "eigvalsh(a)", "cholesky(a)"])
def test_matrices_that_are_not_square_are_refused(expression: str) -> None:
    assert "square matrices" in get_refusal(make_request(expression, [[1.0, 2.0, 3.0]]))


@pytest.mark.parametrize("expression", ["det(a)", "slogdet(a)", "inv(a)", "matrix_exp(a)", "svdvals(a)", "solve(a, a)"])
def test_matrices_without_elements_and_of_one_element_are_taken(expression: str) -> None:
    assert check(make_request(expression, [[0.7]]))["outcome"] == "pass"
    empty = {"datatype": "FP64", "shape": [0, 0], "data": []}
    answer: Any = check(
        {
            "tensors": {"a": empty},
            "weights": {"c": 0.7},
            "model": f"x = {expression}\ny = mul(x, c)\nz = sum(y)\nloss = add(z, c)",
        }
    )
    assert answer["outcome"] == "pass"
    assert set(answer["loss"].values()) == {1.4 if expression == "det(a)" else 0.7}
