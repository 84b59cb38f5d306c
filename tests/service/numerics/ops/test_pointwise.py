import numpy as np
import torch

from service.numerics.ops.pointwise import compute_in_single_precision, find_torch_function, sum_to_operands


def test_gradients_are_summed_over_the_axes_of_the_broadcast() -> None:
    row, column = np.ones((1, 3)), np.ones((1, 2, 1))
    by_row, by_column = sum_to_operands((np.ones((1, 2, 3)), np.ones((1, 2, 3))), (row, column))
    np.testing.assert_array_equal(by_row, [[2, 2, 2]])
    np.testing.assert_array_equal(by_column, [[[3], [3]]])


def test_half_precision_goes_by_way_of_single_precision() -> None:
    dtypes = []

    def record(x):
        dtypes.append(x.dtype)
        return x

    for dtype in (torch.bfloat16, torch.float64):
        assert compute_in_single_precision(torch, record, torch.zeros(1, dtype=dtype)).dtype == dtype
    assert dtypes == [torch.float32, torch.float64]


def test_functions_are_found_in_their_module() -> None:
    assert find_torch_function(torch, "", "tan") is torch.tan
    assert find_torch_function(torch, "nn.functional", "relu6") is torch.nn.functional.relu6
