"""Maximum pools along one axis or three, and with a given number of windows."""

from typing import Any

import numpy as np

from service.numerics.core.batching import Shape
from service.numerics.ops.average_pool import AdaptiveWindows, count_windows, list_adaptive_windows
from service.numerics.ops.axis_numbers import (
    NotNegative,
    NotNegativeSingle,
    NotNegativeTriple,
    Positive,
    PositivePairOrLengths,
    PositiveSingle,
    PositiveTriple,
    PositiveTripleOrLengths,
    choose_axis_lengths,
    spread_over_axes,
)
from service.numerics.ops.op import (
    OpExample,
    ShapeError,
    register_op,
)
from service.numerics.ops.pointwise import find_torch_function
from service.numerics.ops.separable import check_image_rank
from service.numerics.ops.table_max_pool import AxisWindow, TableMaxPool


class MaxPool(TableMaxPool):
    """A maximum pool with windows of kernel_size at every stride."""

    kernel_size: Any
    stride: Any
    padding: Any
    dilation: Any
    ceil_mode: bool

    def _list_window_numbers(self) -> list[tuple[int, int, int, int]]:
        """Return kernel, stride, padding and dilation of each axis."""
        stride = self.kernel_size if self.stride is None else self.stride
        values = (self.kernel_size, stride, self.padding, self.dilation)
        return list(zip(*(spread_over_axes(value, self.axis_count) for value in values), strict=True))

    def infer_output_shape(self, input: Shape) -> Shape:
        check_image_rank(input, self.axis_count)
        numbers = self._list_window_numbers()
        if any(2 * padding > kernel for kernel, _, padding, _ in numbers):
            raise ShapeError("a padding of at most half the kernel_size")
        counts = tuple(
            count_windows(length, *window, ceil_mode=self.ceil_mode)
            for length, window in zip(input[-self.axis_count :], numbers, strict=True)
        )
        if min(counts) < 1:
            raise ShapeError("a window no larger than the padded input")
        return (*input[: -self.axis_count], *counts)

    def list_axis_windows(self, lengths: Shape) -> list[AxisWindow]:
        windows: list[AxisWindow] = []
        for length, (kernel, stride, padding, dilation) in zip(lengths, self._list_window_numbers(), strict=True):
            count = count_windows(length, kernel, stride, padding, dilation, ceil_mode=self.ceil_mode)
            elements = (np.arange(count) * stride - padding)[:, None] + dilation * np.arange(kernel)
            windows.append(AxisWindow(elements, (elements >= 0) & (elements < length)))
        return windows

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return find_torch_function(torch, "nn.functional", self.name)(
            input, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode
        )


@register_op("max_pool1d")
class MaxPool1d(MaxPool):
    """Maximum pooling along the last axis: y = the largest element of each window, the first of equal ones.

    dL/dx = sum of g over the windows whose largest element x is.
    """

    kernel_size: Positive | PositiveSingle
    stride: Positive | PositiveSingle | None = None
    padding: NotNegative | NotNegativeSingle = 0
    dilation: Positive | PositiveSingle = 1
    ceil_mode: bool = False

    axis_count = 1
    examples = (
        OpExample(((2, 7),), {"kernel_size": 3, "stride": 1}),
        OpExample(((2, 1, 7),), {"kernel_size": 3, "stride": 2, "padding": 1}),
        OpExample(((1, 8),), {"kernel_size": [2], "stride": 3, "ceil_mode": True, "dilation": 2}),
    )


@register_op("max_pool3d")
class MaxPool3d(MaxPool):
    """Maximum pooling over the last three axes: y = the largest element of each window.

    Among equal ones it is the first in the window, row by row. dL/dx = sum of g over the windows whose largest element
    x is.
    """

    kernel_size: Positive | PositiveTriple
    stride: Positive | PositiveTriple | None = None
    padding: NotNegative | NotNegativeTriple = 0
    dilation: Positive | PositiveTriple = 1
    ceil_mode: bool = False

    axis_count = 3
    examples = (
        OpExample(((1, 3, 3, 3),), {"kernel_size": 2, "stride": 1}),
        OpExample(((1, 2, 2, 4, 3),), {"kernel_size": [1, 2, 2]}),
        OpExample(((1, 3, 3, 3),), {"kernel_size": 2, "padding": 1, "stride": [1, 2, 2], "ceil_mode": True}),
    )


class AdaptiveMaxPool(AdaptiveWindows, TableMaxPool):
    """The largest element of windows that cover each axis evenly."""

    def list_axis_windows(self, lengths: Shape) -> list[AxisWindow]:
        windows: list[AxisWindow] = []
        for length, count in zip(lengths, choose_axis_lengths(self.output_size, lengths), strict=True):
            starts, sizes = list_adaptive_windows(length, count)
            offsets = np.arange(int(sizes.max()))
            windows.append(AxisWindow(starts[:, None] + offsets, offsets < sizes[:, None]))
        return windows


@register_op("adaptive_max_pool1d")
class AdaptiveMaxPool1d(AdaptiveMaxPool):
    """Maximum pooling to a given length: y = the largest element of each window, the first of equal ones.

    With n = output_size windows of an axis of length L, window o holds the elements from floor(o L / n) on and before
    ceil((o + 1) L / n). dL/dx = sum of g over the windows whose largest element x is.
    """

    output_size: Positive | PositiveSingle

    axis_count = 1
    examples = (OpExample(((2, 5),), {"output_size": 4}), OpExample(((2, 1, 5),), {"output_size": [1]}))


@register_op("adaptive_max_pool2d")
class AdaptiveMaxPool2d(AdaptiveMaxPool):
    """Maximum pooling to a given height and width: y = the largest element of each window, the first of equal ones.

    With n windows of an axis of length L, window o holds the elements from floor(o L / n) on and before
    ceil((o + 1) L / n). dL/dx = sum of g over the windows whose largest element x is.
    """

    output_size: Positive | PositivePairOrLengths

    axis_count = 2
    examples = (OpExample(((2, 5, 4),), {"output_size": [2, None]}), OpExample(((2, 1, 4, 3),), {"output_size": 1}))


@register_op("adaptive_max_pool3d")
class AdaptiveMaxPool3d(AdaptiveMaxPool):
    """Maximum pooling to a given depth, height and width: y = the largest element of each window, the first of equals.

    With n windows of an axis of length L, window o holds the elements from floor(o L / n) on and before
    ceil((o + 1) L / n). dL/dx = sum of g over the windows whose largest element x is.
    """

    output_size: Positive | PositiveTripleOrLengths

    axis_count = 3
    examples = (
        OpExample(((1, 3, 4, 3),), {"output_size": [2, 3, 1]}),
        OpExample(((1, 2, 3, 2, 3),), {"output_size": 2}),
    )
