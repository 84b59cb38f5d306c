import numpy as np

from service.numerics.ops import OP_REGISTRY
from tests.service.numerics.ops.shape_refusals import get_refusal


def test_prelu_takes_one_slope_or_one_for_each_channel() -> None:
    op = OP_REGISTRY["prelu"]()
    x = np.array([[[-1.0, 2.0], [-3.0, -4.0]]])
    output = op.forward(x, np.array([[0.5, 0.25]]))
    np.testing.assert_array_equal(output, [[[-0.5, 2], [-1.5, -1]]])
    by_input, by_weight = op.backward(np.ones_like(x), output, x, np.array([[0.5, 0.25]]))
    np.testing.assert_array_equal(by_input, [[[0.5, 1], [0.5, 0.25]]])
    np.testing.assert_array_equal(by_weight, [[-4, -4]])
    assert "(B, C, ...)" in get_refusal("prelu", {}, (2, 3, 4), (2,))
