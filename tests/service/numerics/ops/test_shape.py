import numpy as np
import pytest

from service.numerics.ops import OP_REGISTRY
from service.numerics.ops.op import ShapeError

Flatten = OP_REGISTRY["flatten"]


def test_flatten_goes_row_by_row():
    x = np.arange(24.0).reshape(1, 2, 3, 4)
    np.testing.assert_array_equal(Flatten(start_dim=1).forward(x), np.arange(24.0).reshape(1, 2, 12))
    assert Flatten().infer_output_shape(()) == (1,), "as in PyTorch, a number has one element"


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({"start_dim": 2}, "an axis from -2 to 1, not 2"),
        ({"end_dim": -3}, "an axis from -2 to 1, not -3"),
        ({"start_dim": 1, "end_dim": 0}, r"start_dim \(1\) not behind end_dim \(0\)"),
    ],
)
def test_axes_that_are_not_there_are_refused(attributes, message):
    with pytest.raises(ShapeError, match=message):
        Flatten(**attributes).infer_output_shape((2, 3))
