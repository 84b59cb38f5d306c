import numpy as np
import pytest
import torch

from service.numerics.ops import OP_REGISTRY
from service.numerics.ops.axis_tables import AxisTable, make_window_table
from tests.service.numerics.ops.shape_refusals import get_refusal


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


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "linear", "area"])
@pytest.mark.parametrize("length", [1, 2, 5, 7])
@pytest.mark.parametrize("count", [1, 2, 3, 7, 14, 29])
def test_interpolation_is_that_of_pytorch_at_any_size(mode: str, length: int, count: int) -> None:
    x = np.random.default_rng(0).normal(size=(1, 1, 1, length))
    expected = torch.nn.functional.interpolate(torch.tensor(x[0]), count, mode=mode)
    np.testing.assert_allclose(
        OP_REGISTRY["interpolate"](size=count, mode=mode).forward(x)[0], expected.numpy(), rtol=1e-12, atol=1e-14
    )


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({}, "either a size or a scale_factor"),
        ({"size": 3, "scale_factor": 2.0}, "either a size or a scale_factor"),
        ({"size": 3, "mode": "linear"}, "as many axes"),
        ({"size": 3, "align_corners": True}, "align_corners"),
        ({"scale_factor": 0.1}, "leaves an element"),
        ({"size": [1, 2, 3]}, "one number"),
    ],
)
def test_interpolation_refuses_by_name(attributes: dict, words: str) -> None:
    assert words in get_refusal("interpolate", attributes, (1, 2, 4, 4))


@pytest.mark.parametrize("name", ["avg_pool1d", "max_pool1d"])
def test_pools_of_one_axis_refuse_by_name(name: str) -> None:
    assert "(B, C, L) or (C, L)" in get_refusal(name, {"kernel_size": 2}, (4,))
    assert "half the kernel_size" in get_refusal(name, {"kernel_size": 2, "padding": 2}, (1, 4))
    assert "no larger than the padded input" in get_refusal(name, {"kernel_size": 5}, (1, 4))


def test_max_pools_take_the_first_of_equals() -> None:
    op = OP_REGISTRY["adaptive_max_pool2d"](output_size=1)
    x = np.array([[[[1.0, 3.0], [3.0, 3.0]]]])
    np.testing.assert_array_equal(op.backward(np.ones((1, 1, 1, 1)), op.forward(x), x)[0][0, 0], [[0, 1], [0, 0]])
