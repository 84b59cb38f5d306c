import mpmath
import numpy as np
import pytest

from service.numerics.ops import dense_matrices as dense

GENERATOR = np.random.default_rng(0)
MATRICES = GENERATOR.normal(size=(4, 3, 3))
RIGHT = GENERATOR.normal(size=(4, 3, 2))


def solve_exactly(matrix: np.ndarray, right: np.ndarray) -> np.ndarray:
    with mpmath.workdps(40):
        solution = mpmath.lu_solve(mpmath.matrix(matrix.tolist()), mpmath.matrix(right.tolist()))
        return np.array([float(value) for value in solution])


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble])
def test_systems_are_solved_in_every_dtype(dtype: type[np.floating]) -> None:
    solutions = dense.solve_systems(MATRICES.astype(dtype), RIGHT.astype(dtype))
    assert solutions.dtype == dtype
    expected = np.stack([[solve_exactly(a, b[:, j]) for j in range(2)] for a, b in zip(MATRICES, RIGHT, strict=True)])
    np.testing.assert_allclose(solutions, expected.swapaxes(-1, -2), rtol=max(1e-12, 300 * np.finfo(dtype).eps))


def test_extended_precision_solves_to_more_than_double() -> None:
    wide = MATRICES.astype(np.longdouble)
    residual = wide @ dense.solve_systems(wide, RIGHT.astype(np.longdouble)) - RIGHT
    assert np.abs(residual).max() < 1e-17


def test_singular_matrix_gives_nan_and_spares_the_others() -> None:
    matrices = MATRICES.copy()
    matrices[1] = [[1, 2, 3], [2, 4, 6], [0, 0, 1]]
    solutions = dense.solve_systems(matrices, RIGHT)
    assert np.isnan(solutions[1]).all()
    np.testing.assert_array_equal(solutions[[0, 2, 3]], dense.solve_systems(MATRICES, RIGHT)[[0, 2, 3]])


@pytest.mark.parametrize("upper", [False, True])
def test_triangles_are_solved_without_the_other_triangle(upper: bool) -> None:
    triangles = np.triu(MATRICES) if upper else np.tril(MATRICES)
    solutions = dense.solve_triangles(MATRICES, RIGHT, upper=upper)
    np.testing.assert_allclose(triangles @ solutions, RIGHT, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("dtype", [np.float64, np.longdouble])
def test_determinants_are_those_of_the_formula(dtype: type[np.floating]) -> None:
    a = MATRICES.astype(dtype)
    expected = np.einsum("ki,ki->k", a[:, 0], np.cross(a[:, 1], a[:, 2]))
    np.testing.assert_allclose(dense.compute_determinant(a), expected, rtol=1e-13)
    sign, logarithm = dense.compute_log_determinant(a)
    np.testing.assert_allclose(sign * np.exp(logarithm), expected, rtol=1e-13)


def test_elimination_error_follows_the_scale_of_rows_and_columns() -> None:
    """Rows and columns in other units scale the error of an element as they scale the element."""
    rows, columns = np.array([1.0, 2.0**30, 2.0**-30]), np.ones(3)
    matrix = np.ones((3, 3))
    scaled = dense.estimate_elimination_error(rows[:, None] * matrix * columns)
    np.testing.assert_array_equal(scaled, rows[:, None] * dense.estimate_elimination_error(matrix))
