import numpy as np
import pytest

from service.numerics.ops import OP_REGISTRY
from service.numerics.ops.op import ShapeError
from tests.service.numerics.ops.shape_refusals import get_refusal


@pytest.mark.parametrize(
    ("name", "attributes", "shapes", "words"),
    [
        ("index_select", {"dim": 0}, ((), (2,)), "at least one axis"),
        ("index_select", {"dim": 0}, ((3,), (2, 2)), "an index (n,)"),
        ("index_select", {"dim": 2}, ((3, 4), (2,)), "an axis from -2 to 1"),
        ("gather", {"dim": 0}, ((3, 4), (2,)), "equally many axes"),
        ("gather", {"dim": 0}, ((3, 4), (2, 5)), "not longer than the input"),
        ("embedding", {}, ((2,), (5,)), "a weight (V, D)"),
    ],
)
def test_index_ops_refuse_mismatched_inputs(name, attributes, shapes, words):
    assert words in get_refusal(name, attributes, *shapes)


CASES = {
    "index_select": ({"dim": 1}, ((2, 3), (2,)), 1, 3),
    "gather": ({"dim": 0}, ((3, 2), (4, 2)), 1, 3),
    "embedding": ({}, ((2,), (5, 2)), 0, 5),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("beyond", [-1, 0])
def test_an_index_out_of_range_is_refused_with_the_range(name, beyond):
    attributes, shapes, position, length = CASES[name]
    values = [None, None]
    values[position] = np.zeros(shapes[position], dtype=np.int64)
    op = OP_REGISTRY[name](**attributes)
    op.check_values(shapes, *values)
    values[position] = values[position].copy()
    values[position].flat[0] = length + beyond if beyond == 0 else beyond
    with pytest.raises(ShapeError, match=f"an index from 0 to {length - 1}"):
        op.check_values(shapes, *values)


def test_repeated_index_accumulates_its_gradient():
    index, table = np.array([[2, 0, 2, 2]]), np.zeros((1, 3, 1))
    g = np.array([1.0, 10, 100, 1000]).reshape(1, 4, 1)
    _, by_table = OP_REGISTRY["embedding"]().backward(g, g, index, table)
    np.testing.assert_array_equal(by_table[0, :, 0], [10, 0, 1101])
    by_x, _ = OP_REGISTRY["index_select"](dim=0).backward(g, g, table, index)
    np.testing.assert_array_equal(by_x[0, :, 0], [10, 0, 1101])
    by_x, _ = OP_REGISTRY["gather"](dim=0).backward(g, g, table, index[..., None])
    np.testing.assert_array_equal(by_x[0, :, 0], [10, 0, 1101])
