"""Pooling over windows of the last two axes, (B, C, H, W) or (C, H, W)."""

import dataclasses
from collections.abc import Iterator, Sequence
from itertools import product
from types import MappingProxyType
from typing import Any, ClassVar, cast

import numpy as np

from service.numerics.core.batching import Array, Shape, count_elements, flat_indices
from service.numerics.core.interrupts import check_interrupt
from service.numerics.ops import windows
from service.numerics.ops.multipliers import Multiplier
from service.numerics.ops.op import (
    ComputeCost,
    DependencyLabels,
    Gradients,
    Op,
    OpExample,
    Rounding,
    ShapeError,
    declare_bug,
    declare_bug_named,
    register_op,
)
from service.numerics.ops.pair_attributes import NotNegative, NotNegativePair, Positive, PositivePair, to_pair
from service.numerics.ops.subgradient_choices import SubgradientChoices, choose_among_elements
from service.numerics.ops.windows import AxisWindows

_MAX_TIE_SEARCH_ELEMENTS = 2**26
"""Elements of windows up to which ties are looked for."""
_EXTRA_CALLS = 8
"""Calls, over as many elements as there are windows, beside those that join."""


class PoolingOp(Op):
    """Windows of kernel_size at every stride (kernel_size if left out), over an input padded on all sides."""

    kernel_size: Positive | PositivePair
    stride: Positive | PositivePair | None
    padding: NotNegative | NotNegativePair
    ceil_mode: bool

    inputs = ("input",)
    _calls_per_join: ClassVar[int] = 1
    """Calls of NumPy for each join."""

    @property
    def _dilation_pair(self) -> tuple[int, int]:
        return (1, 1)

    def _stride_pair(self) -> tuple[int, int]:
        return to_pair(self.kernel_size if self.stride is None else self.stride)

    def resolve_shape_defaults(self, *shapes: Shape | None) -> Op:
        return dataclasses.replace(cast("Any", self), stride=self.kernel_size) if self.stride is None else self

    def output_shape(self, input: Shape) -> Shape:
        if len(input) not in (3, 4):
            raise ShapeError("an input (B, C, H, W) or (C, H, W)")
        if any(2 * p > k for p, k in zip(to_pair(self.padding), to_pair(self.kernel_size), strict=True)):
            raise ShapeError("a padding of half the kernel_size at most")
        window = tuple(self._output_length(input[-2 + i], i) for i in range(2))
        if min(window) < 1:
            raise ShapeError("a window that fits into the padded input")
        return (*input[:-2], *window)

    def propagate_dependencies(self, values: DependencyLabels, *inputs: Any) -> Array:
        (of_input,) = values
        assert of_input is not None
        rows, columns = self._axis_windows(self.output_shape(of_input.shape[1:]))
        return windows.take_window_minimum(
            windows.take_window_minimum(self._pad_input(of_input, np.inf), -1, columns), -2, rows
        )

    def _output_length(self, length: int, i: int) -> int:
        """Windows along one axis; in ceil_mode one may begin inside and end outside."""
        kernel, stride, padding = to_pair(self.kernel_size)[i], self._stride_pair()[i], to_pair(self.padding)[i]
        room = length + 2 * padding - self._dilation_pair[i] * (kernel - 1) - 1
        count = (-(-room // stride) if self.ceil_mode else room // stride) + 1
        return count - 1 if self.ceil_mode and (count - 1) * stride >= length + padding else count

    def _axis_windows(self, shape: Shape) -> tuple[AxisWindows, AxisWindows]:
        """Windows along the rows' axis and along the columns', given the shape of the output: each is of both."""
        rows, columns = (
            AxisWindows(*each)
            for each in zip(
                shape[-2:], to_pair(self.kernel_size), self._stride_pair(), self._dilation_pair, strict=True
            )
        )
        return rows, columns

    def _sum_window_gradients(self, gradient: Array, input: Array) -> Array:
        """Sum, for each element of the input, of the gradients of the windows that hold it."""
        rows, columns = self._axis_windows(gradient.shape)
        held = windows.sum_over_holding_windows(windows.sum_over_holding_windows(gradient, -2, rows), -1, columns)
        # A padded input may be longer than the windows need.
        padded = self._pad_input(input[:1], 0).shape
        behind = [(0, length - known) for length, known in zip(padded[-2:], held.shape[-2:], strict=True)]
        return np.pad(held, [(0, 0)] * (held.ndim - 2) + behind)[self._unpadded_slices(input.shape)]

    def _pad_input(self, input: Array, value: float) -> Array:
        shape = self.output_shape(input.shape[1:])
        needed = tuple(each.required_length for each in self._axis_windows(shape))
        before = to_pair(self.padding)
        around = [(b, max(0, n - length - b)) for n, length, b in zip(needed, input.shape[-2:], before, strict=True)]
        return np.pad(input, [(0, 0)] * (input.ndim - 2) + around, constant_values=value)

    def _unpadded_slices(self, shape: Shape) -> tuple[Any, ...]:
        """Where the input lies in the padded one."""
        top, left = to_pair(self.padding)
        return ..., slice(top, top + shape[-2]), slice(left, left + shape[-1])

    def estimate_cost(self, output: Shape, *shapes: Shape | None) -> ComputeCost:
        rows, columns = self._axis_windows(output)
        joins = rows.required_length * columns.join_count + output[-1] * rows.join_count
        needed = rows.required_length * columns.required_length
        # Padding comes before, and taking or dividing after.
        work = count_elements(output[:-2]) * (
            self._calls_per_join * joins + needed + _EXTRA_CALLS * count_elements(output[-2:])
        )
        calls = self._calls_per_join * (rows.call_count + columns.call_count) + _EXTRA_CALLS
        return ComputeCost(
            work, max(needed * count_elements(output[:-2]), super().estimate_cost(output, *shapes).largest_array), calls
        )

    def propagation_elements(self, output: Shape, *shapes: Shape | None) -> int:
        """Joins along both axes, and padding before."""
        rows, columns = self._axis_windows(output)
        return count_elements(output[:-2]) * (
            rows.required_length * (columns.join_count + columns.required_length) + output[-1] * rows.join_count
        )

    def longest_call_work(self, output: Shape, *shapes: Shape | None) -> int:
        """Element by element of each window."""
        return count_elements(output) * count_elements(to_pair(self.kernel_size))


@register_op("max_pool2d")
class MaxPool2d(PoolingOp):
    """y = the largest element of each window: dL/dx = sum of g over the windows whose largest element x is.

    Of several equal ones the first in the window, row by row, is taken.
    """

    kernel_size: Positive | PositivePair
    stride: Positive | PositivePair | None = None
    padding: NotNegative | NotNegativePair = 0
    dilation: Positive | PositivePair = 1
    ceil_mode: bool = False

    examples = (
        OpExample(((2, 4, 6),), {"kernel_size": 2}),
        OpExample(((2, 1, 5, 5),), {"kernel_size": 3, "stride": [2, 1], "padding": 1}),
        OpExample(((1, 6, 6),), {"kernel_size": [2, 3], "stride": 2, "ceil_mode": True, "dilation": [2, 1]}),
    )

    _calls_per_join = 3

    @property
    def _dilation_pair(self) -> tuple[int, int]:
        return to_pair(self.dilation)

    def select_branch(self, input: Array) -> Array:
        """Number of the offset taken, in each window; -1 where all of it is padding.

        What is no number is taken before every number, so that it stays none.
        The largest of each row of a window first, then that of its rows: the first of equal ones, row by row.
        """
        rows, columns = self._axis_windows(self.output_shape(input.shape[1:]))
        padded = self._pad_input(input, -np.inf)
        values = np.where(np.isnan(padded), np.inf, padded)
        height, width = map(int, padded.shape[-2:])
        every_column: Array = np.zeros(values.shape, np.int64) + np.arange(width)
        best, taken = windows.take_window_maximum(values, every_column, -1, columns)
        best, at = windows.take_window_maximum(best, taken + width * np.arange(height)[:, None], -2, rows)
        at_row, at_column = np.divmod(at, width)
        row = (at_row - rows.stride * np.arange(rows.window_count)[:, None]) // rows.dilation
        column = (at_column - columns.stride * np.arange(columns.window_count)) // columns.dilation
        return np.where(best > -np.inf, row * columns.window_length + column, -1)

    def _iterate_offset_views(self, padded: Array, shape: Shape) -> Iterator[Array]:
        """View of the padded input for each offset in the window, (..., out_h, out_w)."""
        rows, columns = self._axis_windows(shape)
        for row, column in product(range(rows.window_length), range(columns.window_length)):
            check_interrupt()
            first = row * rows.dilation, column * columns.dilation
            down, across = (
                slice(start, start + each.stride * (each.window_count - 1) + 1, each.stride)
                for start, each in zip(first, (rows, columns), strict=True)
            )
            yield padded[..., down, across]

    def _selected_flat_indices(self, branch: Array, width: int) -> Array:
        """Flat index, into rows of a length, of the element of the padded input that each window takes."""
        rows, columns = self._axis_windows(branch.shape)
        row, column = np.divmod(np.maximum(branch, 0), columns.window_length)
        row = row * rows.dilation + rows.stride * np.arange(rows.window_count)[:, None]
        return row * width + column * columns.dilation + columns.stride * np.arange(columns.window_count)

    def subgradient_choices(self, input_errors: Sequence[Array | None], input: Array) -> SubgradientChoices | None:
        """Weights that sum to one of the elements of each window that attain its largest.

        Windows are gone through offset by offset; where that takes too long nothing is declared, and what ties there
        is not decided.
        """
        assert input_errors[0] is not None
        shape, one = self.output_shape(input.shape[1:]), input[:1]
        if count_elements(shape) * count_elements(to_pair(self.kernel_size)) > _MAX_TIE_SEARCH_ELEMENTS:
            return None
        reach = self._pad_input(np.broadcast_to(input_errors[0], input.shape)[:1], 0)
        padded, numbers = self._pad_input(one, -np.inf), self._pad_input(flat_indices(one), -1)
        least, largest = np.full((2, 1, *shape), -np.inf)
        for window, within in zip(
            self._iterate_offset_views(padded, shape), self._iterate_offset_views(reach, shape), strict=True
        ):
            least, largest = np.maximum(least, window - within), np.maximum(largest, window)
        several = np.zeros(least.shape, np.int64)
        for window, within in zip(
            self._iterate_offset_views(padded, shape), self._iterate_offset_views(reach, shape), strict=True
        ):
            several += (window + within >= least) & (window > -np.inf)
        # Most windows have one alone, of which nothing need be listed.
        taken, open_at = self.select_branch(one), several > 1
        found: list[tuple[Array, ...]] = []
        ways = (self._iterate_offset_views(each, shape) for each in (padded, reach, numbers))
        for number, (window, within, places) in enumerate(zip(*ways, strict=True)):
            at = np.flatnonzero(open_at & (window + within >= least) & (window > -np.inf))
            if at.size:
                share, tied = (each.ravel()[at] for each in (taken == number, window == largest))
                found.append((at, places.ravel()[at], share, tied))
        if not found:
            return None
        outputs, elements, share, tied = map(np.concatenate, zip(*found, strict=True))
        order = np.argsort(outputs, kind="stable")
        return choose_among_elements(outputs[order], outputs[order], elements[order], share[order], tied[order])

    def forward_on_branch(self, branch: Array, input: Array) -> Array:
        padded = self._pad_input(input, 0)
        places = self._selected_flat_indices(branch, padded.shape[-1])
        flat = padded.reshape(*padded.shape[:-2], -1), places.reshape(*places.shape[:-2], -1)
        taken = np.take_along_axis(*flat, axis=-1).reshape(-1, *branch.shape[1:])
        return np.where(branch < 0, np.array(-np.inf, input.dtype), taken)

    def forward(self, input: Array) -> Array:
        return self.forward_on_branch(self.select_branch(input), input)

    def backward(self, gradient: Array, output: Array, input: Array) -> Gradients:
        padded, places, gradients = self._scatter_targets(gradient, input)
        np.add.at(padded.reshape(-1), places, gradients)
        return (padded[self._unpadded_slices(input.shape)],)

    def _scatter_targets(self, gradient: Array, input: Array) -> tuple[Array, Array, Array]:
        """Zeros of the padded input; by flat index where in them each window's element lies; and its gradient."""
        tiles = max(len(gradient), len(input))
        padded = np.zeros((tiles, *self._pad_input(input, 0).shape[1:]), dtype=gradient.dtype)
        branch = np.broadcast_to(self.select_branch(input), (tiles, *gradient.shape[1:]))
        of_image = count_elements(padded.shape[-2:]) * np.arange(count_elements(padded.shape[:-2])).reshape(
            *padded.shape[:-2], 1, 1
        )
        places, gradients = (
            self._selected_flat_indices(branch, padded.shape[-1]) + of_image,
            np.broadcast_to(gradient, branch.shape),
        )
        return padded, places[branch >= 0], gradients[branch >= 0]

    def forward_rounding(self, output: Array, input: Array) -> None:
        return None

    def backward_rounding(self, gradient: Array, output: Array, input: Array) -> tuple[Rounding]:
        (by_input,) = self.backward(np.abs(gradient), output, input)
        assert by_input is not None
        return (Rounding(by_input, count_elements(to_pair(self.kernel_size)) - 1),)

    @declare_bug("the gradients of several windows overwrote each other instead of adding up: the last one is left")
    def scatter_without_accumulate(self, gradient: Array, output: Array, input: Array) -> Gradients:
        padded, places, gradients = self._scatter_targets(gradient, input)
        # Of what is assigned to one place the last stays.
        padded.reshape(-1)[places] = gradients
        return (padded[self._unpadded_slices(input.shape)],)

    @declare_bug("the gradient of the maximum went to every element of the window")
    def to_every_element(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (self._sum_window_gradients(gradient, input),)

    @declare_bug_named(
        "to_every_element",
        "the whole gradient of the maximum went to every element of the window that attains it, where several do",
        shows_only_at_ties=True,
    )
    def to_every_largest(self, gradient: Array, output: Array, input: Array) -> Gradients:
        shape, values = self.output_shape(input.shape[1:]), self._pad_input(input, -np.inf)
        padded = np.zeros((len(gradient), *values.shape[1:]), dtype=gradient.dtype)
        for window, value in zip(
            self._iterate_offset_views(padded, shape), self._iterate_offset_views(values, shape), strict=True
        ):
            window += np.where(value == output, gradient, 0)
        return (padded[self._unpadded_slices(input.shape)],)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.nn.functional.max_pool2d(
            input,
            to_pair(self.kernel_size),
            self._stride_pair(),
            to_pair(self.padding),
            to_pair(self.dilation),
            self.ceil_mode,
        )


@register_op("avg_pool2d")
class AvgPool2d(PoolingOp):
    """y = the sum over each window / N: dL/dx = sum of g / N over the windows that hold x.

    N is the size of the window, with the padding that it covers if `count_include_pad`, or `divisor_override`.
    """

    kernel_size: Positive | PositivePair
    stride: Positive | PositivePair | None = None
    padding: NotNegative | NotNegativePair = 0
    ceil_mode: bool = False
    count_include_pad: bool = True
    divisor_override: Positive | None = None

    supports_complex_step = True
    linear_in = MappingProxyType({"input": ()})

    examples = (
        OpExample(((2, 4, 6),), {"kernel_size": 2}),
        OpExample(((2, 1, 5, 5),), {"kernel_size": 3, "stride": [2, 1], "padding": 1}),
        OpExample(
            ((1, 5, 5),), {"kernel_size": 3, "padding": 1, "count_include_pad": False, "ceil_mode": True, "stride": 2}
        ),
        OpExample(((1, 4, 4),), {"kernel_size": [2, 1], "divisor_override": 3}),
    )

    def _window_divisors(self, input: Array, shape: Shape) -> Array:
        if self.divisor_override is not None:
            return np.full(shape[-2:], self.divisor_override, dtype=input.dtype)
        covered = self._pad_input(np.ones((1, 1, *input.shape[-2:]), dtype=input.dtype), 0)
        if self.count_include_pad:
            # Padding counts as far as it was asked for, not what ceil_mode goes beyond.
            top, left = to_pair(self.padding)
            covered[..., : input.shape[-2] + 2 * top, : input.shape[-1] + 2 * left] = 1
        return self._window_totals(covered, shape)[0, 0]

    def _window_totals(self, padded: Array, shape: Shape) -> Array:
        rows, columns = self._axis_windows(shape)
        return windows.sum_windows(windows.sum_windows(padded, -1, columns), -2, rows)

    def forward(self, input: Array) -> Array:
        shape = self.output_shape(input.shape[1:])
        return self._window_totals(self._pad_input(input, 0), shape) / self._window_divisors(input, shape)

    def backward(self, gradient: Array, output: Array, input: Array) -> Gradients:
        share = gradient / self._window_divisors(input, self.output_shape(input.shape[1:]))
        return (self._sum_window_gradients(share, input),)

    def forward_rounding(self, output: Array, input: Array) -> Rounding:
        return Rounding(self.forward(np.abs(input)), count_elements(to_pair(self.kernel_size)))

    def backward_rounding(self, gradient: Array, output: Array, input: Array) -> tuple[Rounding]:
        (by_input,) = self.backward(np.abs(gradient), output, input)
        assert by_input is not None
        return (Rounding(by_input, count_elements(to_pair(self.kernel_size))),)

    def gradient_multipliers(self, input: Array) -> Sequence[Multiplier]:
        divisors = np.unique(self._window_divisors(input, self.output_shape(input.shape[1:])))
        if len(divisors) > 1:
            # It differs from window to window, and so is no factor of the gradient.
            return ()
        return [Multiplier("mean", f"the {divisors[0]:g} elements of a window", float(divisors[0]))]

    @declare_bug_named("scaled", "the sum over the window was used where the pool takes the mean")
    def not_divided(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return self.backward(gradient * self._window_divisors(input, output.shape[1:]), output, input)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.nn.functional.avg_pool2d(
            input,
            to_pair(self.kernel_size),
            self._stride_pair(),
            to_pair(self.padding),
            self.ceil_mode,
            self.count_include_pad,
            self.divisor_override,
        )
