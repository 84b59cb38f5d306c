import numpy as np
import pytest

from service.numerics.ops.axis_tables import AxisTable, make_window_table


def to_matrix(table: AxisTable, length: int) -> np.ndarray:
    matrix = np.zeros((len(table.indices), length))
    np.add.at(matrix, (np.arange(len(matrix))[:, None], table.indices), table.weights)
    return matrix


@pytest.mark.parametrize("seed", range(5))
def test_tables_are_sparse_matrices(seed: int) -> None:
    generator = np.random.default_rng(seed)
    indices = generator.integers(0, 6, (4, 3))
    table = AxisTable(indices, generator.normal(size=(4, 3)) * (generator.random((4, 3)) < 0.7))
    matrix = to_matrix(table, 6)
    np.testing.assert_array_equal(to_matrix(table.transpose(6), 4), matrix.T)
    x = generator.normal(size=(2, 6, 5))
    np.testing.assert_allclose(table.apply(x, -2), np.einsum("oi,bik->bok", matrix, x), atol=1e-15)
    np.testing.assert_allclose(table.apply(x.transpose(0, 2, 1), -1), x.transpose(0, 2, 1) @ matrix.T, atol=1e-15)


def test_windows_beyond_the_ends_of_an_axis_have_fewer_elements() -> None:
    table = make_window_table(np.array([-1, 1, 3]), np.array([3, 3, 3]), 1, 5)
    np.testing.assert_array_equal(to_matrix(table, 5), [[1, 1, 0, 0, 0], [0, 1, 1, 1, 0], [0, 0, 0, 1, 1]])
