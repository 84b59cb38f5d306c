import numpy as np
import pytest

from service.numerics.ops import OP_REGISTRY
from tests.service.numerics.ops.shape_refusals import get_refusal

X = np.arange(12.0).reshape(1, 3, 4)
PARTS = {
    "slice_scatter": ({"dim": 1, "start": 1, "step": 2}, np.s_[:, :, 1::2]),
    "select_scatter": ({"dim": 1, "index": -1}, np.s_[:, :, -1]),
    "diagonal_scatter": ({"offset": 1}, np.s_[:, [0, 1, 2], [1, 2, 3]]),
}


@pytest.mark.parametrize("name", PARTS)
def test_part_is_replaced_and_gives_its_gradient_to_the_source(name: str) -> None:
    attributes, part = PARTS[name]
    op = OP_REGISTRY[name](**attributes)
    source = -1 - X[part]
    expected = X.copy()
    expected[part] = source
    y = op.forward(X, source)
    np.testing.assert_array_equal(y, expected)
    by_x, by_source = op.backward(X, y, X, source)
    kept = X.copy()
    kept[part] = 0
    np.testing.assert_array_equal(by_x, kept)
    np.testing.assert_array_equal(by_source, X[part])


@pytest.mark.parametrize("name", PARTS)
def test_source_of_another_shape_is_refused_by_name(name: str) -> None:
    assert "a src of shape [3" in get_refusal(name, PARTS[name][0], (3, 4), (9,))
