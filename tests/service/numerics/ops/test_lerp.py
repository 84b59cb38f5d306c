import numpy as np

from service.numerics.ops import OP_REGISTRY
from tests.service.numerics.ops.shape_refusals import get_refusal


def test_ends_and_weight_have_their_shares() -> None:
    a, b, w = np.array([[1.0, 2.0]]), np.array([[5.0, 2.5]]), np.array([0.25])
    op = OP_REGISTRY["lerp"]()
    y = op.forward(a, b, w)
    np.testing.assert_array_equal(y, [[2, 2.125]])
    by_a, by_b, by_w = op.backward(np.ones_like(y), y, a, b, w)
    np.testing.assert_array_equal(by_a, [[0.75, 0.75]])
    np.testing.assert_array_equal(by_b, [[0.25, 0.25]])
    np.testing.assert_array_equal(by_w, [4.5])


def test_shapes_that_do_not_broadcast_are_refused() -> None:
    assert "broadcast" in get_refusal("lerp", {}, (2,), (3,), ())
