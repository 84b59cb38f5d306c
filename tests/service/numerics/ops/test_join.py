import numpy as np
import pytest

from service.numerics.ops import OP_REGISTRY
from tests.service.numerics.ops.shape_refusals import get_refusal


@pytest.mark.parametrize(
    ("name", "attributes", "shapes", "words"),
    [
        ("cat", {}, ((), ()), "at least one"),
        ("cat", {}, ((2, 3), (3,)), "equally many axes"),
        ("cat", {"dim": 1}, ((2, 3), (3, 3)), "differ in length along axis 1 only"),
        ("cat", {"dim": 2}, ((2, 3), (2, 3)), "an axis from -2 to 1"),
        ("stack", {}, ((2, 3), (3,)), "tensors of one shape"),
        ("stack", {"dim": 3}, ((2, 3), (2, 3)), "an axis from -3 to 2"),
    ],
)
def test_join_refuses_mismatched_inputs(name, attributes, shapes, words):
    assert words in get_refusal(name, attributes, *shapes)


def test_joined_inputs_get_their_part_of_the_gradient():
    parts = [np.zeros((1, 2, n)) for n in (1, 3, 2)]
    op = OP_REGISTRY["cat"](dim=1)
    g = np.arange(12.0).reshape(1, 2, 6)
    back = op.backward(g, g, *parts)
    assert [array.shape for array in back] == [part.shape for part in parts]
    np.testing.assert_array_equal(op.forward(*back), g)
    stack = OP_REGISTRY["stack"](dim=-1)
    np.testing.assert_array_equal(stack.forward(*stack.backward(g, g, *[np.zeros((1, 2))] * 6)), g)
