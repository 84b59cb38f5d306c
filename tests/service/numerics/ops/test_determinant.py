import numpy as np
import pytest

from service.numerics.ops import OP_REGISTRY
from service.numerics.ops.determinant import compute_cofactors
from tests.matrix_requests import draw_matrix, get_outcome, make_request


def expand_minors(matrix: np.ndarray) -> np.ndarray:
    """Cofactors by their definition."""
    length = len(matrix)

    def get_minor(i: int, j: int) -> float:
        rest = np.delete(np.delete(matrix, i, 0), j, 1)
        return float(np.linalg.det(rest)) if rest.size else 1.0

    return np.array([[(-1) ** (i + j) * get_minor(i, j) for j in range(length)] for i in range(length)])


SINGULAR = {
    "rank 2 of 3": [[1, 2, 3], [4, 5, 6], [7, 8, 9]],
    "rank 1 of 3": [[1, 1, 1], [2, 2, 2], [3, 3, 3]],
    "rank 1 of 2": [[1, 2], [2, 4]],
    "zeros": [[0, 0], [0, 0]],
    "a row of zeros": [[1, -1, -1], [2, 0, 0], [0, 0, 0]],
    "one element": [[0]],
}


@pytest.mark.parametrize("name", SINGULAR)
def test_cofactors_of_a_singular_matrix_are_its_minors(name: str) -> None:
    matrix = np.array(SINGULAR[name], dtype=np.float64)
    np.testing.assert_allclose(compute_cofactors(matrix[None])[0], expand_minors(matrix), atol=1e-13)


@pytest.mark.parametrize("condition", [1.0, 1e6, 1e15])
def test_cofactors_do_not_lose_digits_to_the_condition(condition: float) -> None:
    matrix = draw_matrix(condition, seed=2, length=4)
    np.testing.assert_allclose(compute_cofactors(matrix[None])[0], expand_minors(matrix), atol=1e-15)


@pytest.mark.parametrize("name", ["rank 2 of 3", "rank 1 of 2", "a row of zeros"])
def test_gradient_at_a_singular_matrix_is_that_of_the_cofactors(name: str) -> None:
    """The gradient of PyTorch in a backward pass without a graph is 0 there: a check finds it."""
    matrix = np.array(SINGULAR[name], dtype=np.float64)
    request = make_request("det(a)", matrix) | {"model": "x = det(a)\nloss = sum(x)"}
    assert get_outcome(request, expand_minors(matrix)) == "pass"
    assert get_outcome(request, np.zeros_like(matrix)) == "fail"


def test_logarithm_of_a_negative_determinant_is_nan_and_that_of_its_size_is_not() -> None:
    swap = np.array([[[0.0, 2.0], [3.0, 0.0]]])
    assert np.isnan(OP_REGISTRY["logdet"]().forward(swap)).all()
    np.testing.assert_allclose(OP_REGISTRY["slogdet"]().forward(swap), np.log(6))
