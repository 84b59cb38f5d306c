import numpy as np
import pytest

from service.numerics.ops import OP_REGISTRY
from tests.service.numerics.ops.shape_refusals import get_refusal

X = np.arange(12.0).reshape(1, 3, 4)


@pytest.mark.parametrize(
    ("name", "attributes", "expected"),
    [
        ("roll", {"shifts": 5}, np.roll(X[0], 5)),
        ("tril", {"diagonal": 1}, np.tril(X[0], 1)),
        ("triu", {}, np.triu(X[0])),
        ("diagonal", {"offset": -1}, np.diagonal(X[0], -1)),
        ("select", {"dim": 1, "index": -2}, X[0, :, 2]),
        ("movedim", {"source": 1, "destination": 0}, X[0].T),
    ],
)
def test_elements_move_and_gradients_move_back(name, attributes, expected) -> None:
    op = OP_REGISTRY[name](**attributes)
    y = op.forward(X)
    np.testing.assert_array_equal(y[0], expected)
    assert y.shape[1:] == op.infer_output_shape((3, 4))
    (by_x,) = op.backward(y, y, X)
    np.testing.assert_array_equal(by_x[0], np.where(np.isin(X[0], expected), X[0], 0))


def test_infinity_beside_a_triangle_leaves_no_trace() -> None:
    x = np.array([[[1.0, np.inf], [2.0, np.nan]]])
    np.testing.assert_array_equal(OP_REGISTRY["tril"](diagonal=-1).forward(x), [[[0, 0], [2, 0]]])


@pytest.mark.parametrize(
    ("name", "attributes", "shape", "words"),
    [
        ("roll", {"shifts": [1, 2], "dims": [0]}, (3, 4), "as many shifts as dims"),
        ("tril", {}, (3,), "two axes or more"),
        ("diagonal", {"dim1": 0, "dim2": -2}, (3, 4), "two different axes"),
        ("diagonal", {"offset": 4}, (3, 4), "leaves an element"),
        ("select", {"dim": 0, "index": 3}, (3, 4), "an index of the axis"),
        ("movedim", {"source": [0, 0], "destination": [0, 1]}, (3, 4), "different axes"),
    ],
)
def test_moves_refuse_by_name(name, attributes, shape, words) -> None:
    assert words in get_refusal(name, attributes, shape)
