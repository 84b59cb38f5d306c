"""Average pools along one axis or three, and with a given number of windows."""

from dataclasses import replace
from typing import Any, ClassVar, cast

import numpy as np

from service.numerics.core.batching import Array, Shape
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
    is_of_axis_lengths,
    spread_over_axes,
)
from service.numerics.ops.axis_tables import AxisTable, make_window_table
from service.numerics.ops.op import Gradients, Op, OpExample, ShapeError, declare_bug_named, register_op
from service.numerics.ops.pointwise import compute_in_single_precision, find_torch_function
from service.numerics.ops.separable import SeparableMap, check_image_rank


def count_windows(length: int, kernel: int, stride: int, padding: int, dilation: int, *, ceil_mode: bool) -> int:
    """Return the number of windows along an axis.

    In ceil_mode a window may begin inside and end outside.
    """
    last_start = length + 2 * padding - dilation * (kernel - 1) - 1
    count = (-(-last_start // stride) if ceil_mode else last_start // stride) + 1
    return count - 1 if ceil_mode and (count - 1) * stride >= length + padding else count


def list_adaptive_windows(length: int, count: int) -> tuple[Array, Array]:
    """Return start and length of each of `count` windows that cover an axis evenly."""
    numbers = np.arange(count)
    starts = numbers * length // count
    return starts, -(-((numbers + 1) * length) // count) - starts


class AverageMap(SeparableMap):
    """An average over windows of the last axes."""

    axis_count: ClassVar[int]

    def get_axis_count(self, input: Shape) -> int:
        return self.axis_count

    @declare_bug_named("scaled", "the sum over the window was used where the pool takes the mean")
    def skip_division(self, gradient: Array, output: Array, input: Array) -> Gradients:
        tables = [
            AxisTable(table.indices, (table.weights != 0).astype(np.float64))
            for table in self.list_axis_tables(input.shape[-self.axis_count :])
        ]
        return (self._apply_transposed(tables, gradient, input),)


class AveragePool(AverageMap):
    """An average pool with windows of kernel_size at every stride."""

    kernel_size: Any
    stride: Any
    padding: Any
    ceil_mode: bool
    count_include_pad: bool

    def _list_window_numbers(self) -> list[tuple[int, int, int]]:
        """Return kernel, stride and padding of each axis."""
        values = (self.kernel_size, self.kernel_size if self.stride is None else self.stride, self.padding)
        return list(zip(*(spread_over_axes(value, self.axis_count) for value in values), strict=True))

    def _get_divisor_override(self) -> int | None:
        return None

    def infer_output_shape(self, input: Shape) -> Shape:
        check_image_rank(input, self.axis_count)
        windows = self._list_window_numbers()
        if any(2 * padding > kernel for kernel, _, padding in windows):
            raise ShapeError("a padding of at most half the kernel_size")
        counts = tuple(
            count_windows(length, kernel, stride, padding, 1, ceil_mode=self.ceil_mode)
            for length, (kernel, stride, padding) in zip(input[-self.axis_count :], windows, strict=True)
        )
        if min(counts) < 1:
            raise ShapeError("a window no larger than the padded input")
        return (*input[: -self.axis_count], *counts)

    def list_axis_tables(self, lengths: Shape) -> list[AxisTable]:
        tables: list[AxisTable] = []
        override = self._get_divisor_override()
        for length, (kernel, stride, padding) in zip(lengths, self._list_window_numbers(), strict=True):
            count = count_windows(length, kernel, stride, padding, 1, ceil_mode=self.ceil_mode)
            starts = np.arange(count) * stride - padding
            table = make_window_table(starts, np.full(count, kernel), 1, length)
            # The padding of the request counts, and not the part beyond it in ceil_mode.
            padded = np.minimum(starts + kernel, length + padding) - starts
            divisors = padded if self.count_include_pad else table.weights.sum(axis=1)
            if override is not None:
                divisors = np.full(count, 1 if tables else override)
            tables.append(AxisTable(table.indices, table.weights / np.maximum(divisors, 1)[:, None]))
        return tables


@register_op("avg_pool1d")
class AvgPool1d(AveragePool):
    """Average pooling along the last axis: y = the sum over each window / N.

    N is the size of the window, with the padding that it covers if `count_include_pad`.
        dL/dx = sum of g / N over the windows that hold x
    """

    kernel_size: Positive | PositiveSingle
    stride: Positive | PositiveSingle | None = None
    padding: NotNegative | NotNegativeSingle = 0
    ceil_mode: bool = False
    count_include_pad: bool = True

    axis_count = 1
    examples = (
        OpExample(((2, 6),), {"kernel_size": 2}),
        OpExample(((2, 1, 7),), {"kernel_size": 3, "stride": 2, "padding": 1}),
        OpExample(
            ((2, 6),), {"kernel_size": 3, "padding": 1, "count_include_pad": False, "ceil_mode": True, "stride": 2}
        ),
    )

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.nn.functional.avg_pool1d(
            input, self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad
        )


@register_op("avg_pool3d")
class AvgPool3d(AveragePool):
    """Average pooling over the last three axes: y = the sum over each window / N.

    N is the size of the window, with the padding that it covers if `count_include_pad`, or `divisor_override`.
        dL/dx = sum of g / N over the windows that hold x
    """

    kernel_size: Positive | PositiveTriple
    stride: Positive | PositiveTriple | None = None
    padding: NotNegative | NotNegativeTriple = 0
    ceil_mode: bool = False
    count_include_pad: bool = True
    divisor_override: Positive | None = None

    axis_count = 3
    examples = (
        OpExample(((1, 2, 4, 2),), {"kernel_size": [1, 2, 2]}),
        OpExample(((1, 2, 3, 3, 3),), {"kernel_size": 2, "stride": 1, "padding": 1, "count_include_pad": False}),
        OpExample(((1, 2, 4, 3),), {"kernel_size": [2, 2, 1], "divisor_override": 3, "ceil_mode": True}),
    )

    def _get_divisor_override(self) -> int | None:
        return self.divisor_override

    def torch_forward(self, torch: Any, input: Any) -> Any:
        windows = self.kernel_size, self.stride, self.padding, self.ceil_mode, self.count_include_pad

        def average(x: Any) -> Any:
            return torch.nn.functional.avg_pool3d(x, *windows, self.divisor_override)

        return compute_in_single_precision(torch, average, input)


class AdaptiveWindows(Op):
    """A pool with a given number of windows along each of the last axes, which cover the axis evenly."""

    output_size: Any

    axis_count: ClassVar[int]

    def infer_output_shape(self, input: Shape) -> Shape:
        check_image_rank(input, self.axis_count)
        return (*input[: -self.axis_count], *choose_axis_lengths(self.output_size, input[-self.axis_count :]))

    def resolve_shape_defaults(self, *shapes: Shape | None) -> Op:
        (input,) = shapes
        assert input is not None
        if not is_of_axis_lengths(self.output_size):
            return self
        lengths = choose_axis_lengths(self.output_size, input[-self.axis_count :])
        return replace(cast("Any", self), output_size=list(lengths))

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return find_torch_function(torch, "nn.functional", self.name)(input, self.output_size)


class AdaptiveAveragePool(AdaptiveWindows, AverageMap):
    """An average over windows that cover each axis evenly."""

    def list_axis_tables(self, lengths: Shape) -> list[AxisTable]:
        tables: list[AxisTable] = []
        for length, count in zip(lengths, choose_axis_lengths(self.output_size, lengths), strict=True):
            starts, sizes = list_adaptive_windows(length, count)
            table = make_window_table(starts, sizes, 1, length)
            tables.append(AxisTable(table.indices, table.weights / sizes[:, None]))
        return tables


@register_op("adaptive_avg_pool1d")
class AdaptiveAvgPool1d(AdaptiveAveragePool):
    """Average pooling to a given length: y = the mean over each window.

    With n = output_size windows of an axis of length L, window o holds the elements from floor(o L / n) on and before
    ceil((o + 1) L / n), N in number. dL/dx = sum of g / N over the windows that hold x.
    """

    output_size: Positive | PositiveSingle

    axis_count = 1
    examples = (OpExample(((2, 7),), {"output_size": 3}), OpExample(((2, 1, 5),), {"output_size": [1]}))


@register_op("adaptive_avg_pool2d")
class AdaptiveAvgPool2d(AdaptiveAveragePool):
    """Average pooling to a given height and width: y = the mean over each window.

    With n windows of an axis of length L, window o holds the elements from floor(o L / n) on and before
    ceil((o + 1) L / n), and those of both axes together, N in number.
        dL/dx = sum of g / N over the windows that hold x
    """

    output_size: Positive | PositivePairOrLengths

    axis_count = 2
    examples = (OpExample(((2, 5, 4),), {"output_size": [2, None]}), OpExample(((2, 1, 4, 3),), {"output_size": 1}))


@register_op("adaptive_avg_pool3d")
class AdaptiveAvgPool3d(AdaptiveAveragePool):
    """Average pooling to a given depth, height and width: y = the mean over each window.

    With n windows of an axis of length L, window o holds the elements from floor(o L / n) on and before
    ceil((o + 1) L / n), and those of all axes together, N in number.
        dL/dx = sum of g / N over the windows that hold x
    """

    output_size: Positive | PositiveTripleOrLengths

    axis_count = 3
    examples = (
        OpExample(((1, 3, 4, 3),), {"output_size": [2, 3, 1]}),
        OpExample(((1, 2, 2, 2, 3),), {"output_size": 2}),
    )
