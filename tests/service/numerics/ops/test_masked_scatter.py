import numpy as np
import pytest

from service.numerics.ops import OP_REGISTRY
from service.numerics.ops.op import ShapeError
from tests.service.numerics.ops.shape_refusals import get_refusal

MaskedScatter = OP_REGISTRY["masked_scatter"]


def test_the_source_is_read_in_order() -> None:
    x, mask = np.array([[[1.0, 2.0], [3.0, 4.0]]]), np.array([[[False, True], [True, False]]])
    source = np.array([[[7.0, 8.0, 9.0]]])
    output = MaskedScatter().forward(x, mask, source)
    np.testing.assert_array_equal(output[0], [[1, 7], [8, 4]])
    gradient = np.array([[[10.0, 20.0], [30.0, 40.0]]])
    by_x, by_mask, by_source = MaskedScatter().backward(gradient, output, x, mask, source)
    assert by_mask is None
    np.testing.assert_array_equal(by_x[0], [[10, 0], [0, 40]])
    np.testing.assert_array_equal(by_source[0], [[20, 30, 0]])


def test_a_mask_may_broadcast_but_needs_a_source_long_enough() -> None:
    op = MaskedScatter()
    op.check_values(((2, 3), (3,), (4,)), None, np.array([True, False, True]), None)
    with pytest.raises(ShapeError, match="at least 4 elements"):
        op.check_values(((2, 3), (3,), (3,)), None, np.array([True, False, True]), None)
    assert "broadcasts to the shape" in get_refusal("masked_scatter", {}, (3,), (2, 3), (6,))
    assert "broadcasts to the shape" in get_refusal("masked_scatter", {}, (3,), (2,), (6,))
