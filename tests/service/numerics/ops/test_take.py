import numpy as np
import pytest

from service.numerics.ops import OP_REGISTRY
from service.numerics.ops.op import ShapeError


def test_gradients_of_a_repeated_position_add_up() -> None:
    x, index = np.array([[[1.0, 2.0], [3.0, 4.0]]]), np.array([[3, 1, 3]])
    op = OP_REGISTRY["take"]()
    y = op.forward(x, index)
    np.testing.assert_array_equal(y, [[4, 2, 4]])
    np.testing.assert_array_equal(op.backward(np.array([[1.0, 10.0, 100.0]]), y, x, index)[0], [[[0, 10], [0, 101]]])


def test_position_beyond_the_end_is_refused() -> None:
    with pytest.raises(ShapeError, match="an index from 0 to 3"):
        OP_REGISTRY["take"]().check_values(((2, 2), (1,)), None, np.array([4]))
