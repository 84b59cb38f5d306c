import numpy as np
import pytest

from service.numerics.ops.op import ShapeError
from service.numerics.ops.placement import refuse_indices_out_of_range, refuse_repeats


def test_repeats_and_indices_out_of_range_are_refused() -> None:
    refuse_repeats(np.array([[0, 2], [1, 3]]))
    refuse_indices_out_of_range(np.array([0, 2]), 3)
    with pytest.raises(ShapeError, match="without repeats, since PyTorch leaves open which"):
        refuse_repeats(np.array([[0, 2], [2, 3]]))
    for index in (-1, 3):
        with pytest.raises(ShapeError, match="an index from 0 to 2"):
            refuse_indices_out_of_range(np.array([0, index]), 3)
