import numpy as np
import torch

from service.numerics.ops import OP_REGISTRY
from service.numerics.ops.average_pool import count_windows, list_adaptive_windows


def test_windows_of_an_adaptive_pool_cover_the_axis() -> None:
    for length in range(1, 12):
        for count in range(1, 15):
            starts, sizes = list_adaptive_windows(length, count)
            covered = {
                element for start, size in zip(starts, sizes, strict=True) for element in range(start, start + size)
            }
            assert covered == set(range(length))


def test_number_of_windows_is_that_of_pytorch() -> None:
    for length in range(3, 12):
        for ceil_mode in (False, True):
            pooled = torch.nn.functional.max_pool1d(torch.zeros(1, length), 3, 2, 1, 1, ceil_mode)
            assert count_windows(length, 3, 2, 1, 1, ceil_mode=ceil_mode) == pooled.shape[-1]


def test_padding_counts_where_it_is_included() -> None:
    x = np.ones((1, 1, 3))
    included = OP_REGISTRY["avg_pool1d"](kernel_size=2, padding=1)
    left_out = OP_REGISTRY["avg_pool1d"](kernel_size=2, padding=1, count_include_pad=False)
    np.testing.assert_array_equal(included.forward(x), [[[0.5, 1]]])
    np.testing.assert_array_equal(left_out.forward(x), [[[1, 1]]])
