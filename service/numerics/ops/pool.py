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
from service.numerics.ops.rounding_errors import count_running_terms
from service.numerics.ops.subgradient_choices import SubgradientChoices, choose_among_elements
from service.numerics.ops.windows import AxisWindows

_MAX_TIE_SEARCH_ELEMENTS = 2**26
"""Largest number of elements in all windows for which ties are searched."""
_EXTRA_CALLS = 8
"""Calls, each over as many elements as there are windows, beside those that join."""


class PoolingOp(Op):
    """A pool over windows of kernel_size at every stride.

    The default of `stride` is kernel_size. The input is padded on all sides.
    """

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

    def _get_stride_pair(self) -> tuple[int, int]:
        return to_pair(self.kernel_size if self.stride is None else self.stride)

    def resolve_shape_defaults(self, *shapes: Shape | None) -> Op:
        return dataclasses.replace(cast("Any", self), stride=self.kernel_size) if self.stride is None else self

    def infer_output_shape(self, input: Shape) -> Shape:
        if len(input) not in (3, 4):
            raise ShapeError("an input (B, C, H, W) or (C, H, W)")
        if any(2 * p > k for p, k in zip(to_pair(self.padding), to_pair(self.kernel_size), strict=True)):
            raise ShapeError("a padding of at most half the kernel_size")
        output_lengths = tuple(self._compute_output_length(input[-2 + i], i) for i in range(2))
        if min(output_lengths) < 1:
            raise ShapeError("a window no larger than the padded input")
        return (*input[:-2], *output_lengths)

    def propagate_dependencies(self, values: DependencyLabels, *inputs: Any) -> Array:
        (input_labels,) = values
        assert input_labels is not None
        rows, columns = self._make_axis_windows(self.infer_output_shape(input_labels.shape[1:]))
        return windows.take_window_minimum(
            windows.take_window_minimum(self._pad_input(input_labels, np.inf), -1, columns), -2, rows
        )

    def _compute_output_length(self, length: int, axis: int) -> int:
        """Return the number of windows along one axis.

        In ceil_mode a window may begin inside and end outside.
        """
        kernel, stride, padding = (
            to_pair(self.kernel_size)[axis],
            self._get_stride_pair()[axis],
            to_pair(self.padding)[axis],
        )
        last_start = length + 2 * padding - self._dilation_pair[axis] * (kernel - 1) - 1
        count = (-(-last_start // stride) if self.ceil_mode else last_start // stride) + 1
        return count - 1 if self.ceil_mode and (count - 1) * stride >= length + padding else count

    def _make_axis_windows(self, shape: Shape) -> tuple[AxisWindows, AxisWindows]:
        """Return the windows along the axis of rows and along that of columns.

        Each window of the plane, given by the shape of the output, is a window of both axes.
        """
        rows, columns = (
            AxisWindows(*window)
            for window in zip(
                shape[-2:], to_pair(self.kernel_size), self._get_stride_pair(), self._dilation_pair, strict=True
            )
        )
        return rows, columns

    def _sum_window_gradients(self, gradient: Array, input: Array) -> Array:
        """Return for each input element the sum of the gradients of its windows."""
        rows, columns = self._make_axis_windows(gradient.shape)
        sums = windows.sum_over_holding_windows(windows.sum_over_holding_windows(gradient, -2, rows), -1, columns)
        # The padded input may be longer than the windows need.
        padded = self._pad_input(input[:1], 0).shape
        trailing_widths = [(0, length - known) for length, known in zip(padded[-2:], sums.shape[-2:], strict=True)]
        return np.pad(sums, [(0, 0)] * (sums.ndim - 2) + trailing_widths)[self._get_unpadded_slices(input.shape)]

    def _pad_input(self, input: Array, value: float) -> Array:
        shape = self.infer_output_shape(input.shape[1:])
        required_lengths = tuple(axis_windows.required_length for axis_windows in self._make_axis_windows(shape))
        padding = to_pair(self.padding)
        widths = [
            (b, max(0, n - length - b))
            for n, length, b in zip(required_lengths, input.shape[-2:], padding, strict=True)
        ]
        return np.pad(input, [(0, 0)] * (input.ndim - 2) + widths, constant_values=value)

    def _get_unpadded_slices(self, shape: Shape) -> tuple[Any, ...]:
        """Return the slices of the input in the padded one."""
        top, left = to_pair(self.padding)
        return ..., slice(top, top + shape[-2]), slice(left, left + shape[-1])

    def estimate_cost(self, output: Shape, *shapes: Shape | None) -> ComputeCost:
        rows, columns = self._make_axis_windows(output)
        joins = rows.required_length * columns.join_count + output[-1] * rows.join_count
        padded_size = rows.required_length * columns.required_length
        # Padding comes before the joins, and selecting or dividing after.
        work = count_elements(output[:-2]) * (
            self._calls_per_join * joins + padded_size + _EXTRA_CALLS * count_elements(output[-2:])
        )
        calls = self._calls_per_join * (rows.call_count + columns.call_count) + _EXTRA_CALLS
        return ComputeCost(
            work,
            max(padded_size * count_elements(output[:-2]), super().estimate_cost(output, *shapes).largest_array),
            calls,
        )

    def count_propagation_elements(self, output: Shape, *shapes: Shape | None) -> int:
        """Return the elements of joins along both axes, and of the padding before."""
        rows, columns = self._make_axis_windows(output)
        return count_elements(output[:-2]) * (
            rows.required_length * (columns.join_count + columns.required_length) + output[-1] * rows.join_count
        )

    def estimate_longest_call_work(self, output: Shape, *shapes: Shape | None) -> int:
        """Return the work of one call over the elements of all windows."""
        return count_elements(output) * count_elements(to_pair(self.kernel_size))


@register_op("max_pool2d")
class MaxPool2d(PoolingOp):
    """Maximum pooling: y = the largest element of each window.

    Among equal ones it is the first in the window, row by row.
        dL/dx = sum of g over the windows whose largest element x is
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
        """Return the number of the chosen offset in each window, -1 for one of padding.

        Notes
        -----
        NaN comes before every number, so that it stays NaN. First comes the largest element of each row of a window,
        then that of its rows. So among equal elements the first wins, row by row.
        """
        rows, columns = self._make_axis_windows(self.infer_output_shape(input.shape[1:]))
        padded = self._pad_input(input, -np.inf)
        values = np.where(np.isnan(padded), np.inf, padded)
        height, width = map(int, padded.shape[-2:])
        column_indices: Array = np.zeros(values.shape, np.int64) + np.arange(width)
        best, chosen_columns = windows.take_window_maximum(values, column_indices, -1, columns)
        best, flat_indices_chosen = windows.take_window_maximum(
            best, chosen_columns + width * np.arange(height)[:, None], -2, rows
        )
        padded_row, padded_column = np.divmod(flat_indices_chosen, width)
        row = (padded_row - rows.stride * np.arange(rows.window_count)[:, None]) // rows.dilation
        column = (padded_column - columns.stride * np.arange(columns.window_count)) // columns.dilation
        return np.where(best > -np.inf, row * columns.window_length + column, -1)

    def _iterate_offset_views(self, padded: Array, shape: Shape) -> Iterator[Array]:
        """Yield the view of the padded input at each offset in the window.

        Each view is (..., out_h, out_w).
        """
        rows, columns = self._make_axis_windows(shape)
        for row, column in product(range(rows.window_length), range(columns.window_length)):
            check_interrupt()
            starts = row * rows.dilation, column * columns.dilation
            row_slice, column_slice = (
                slice(start, start + axis_windows.stride * (axis_windows.window_count - 1) + 1, axis_windows.stride)
                for start, axis_windows in zip(starts, (rows, columns), strict=True)
            )
            yield padded[..., row_slice, column_slice]

    def _get_selected_flat_indices(self, branch: Array, width: int) -> Array:
        """Return the flat index of the padded input's element that each window chooses.

        The rows of the padded input have the length `width`.
        """
        rows, columns = self._make_axis_windows(branch.shape)
        row, column = np.divmod(np.maximum(branch, 0), columns.window_length)
        row = row * rows.dilation + rows.stride * np.arange(rows.window_count)[:, None]
        return row * width + column * columns.dilation + columns.stride * np.arange(columns.window_count)

    def list_subgradient_choices(self, input_errors: Sequence[Array | None], input: Array) -> SubgradientChoices | None:
        """Return weights that sum to one of the elements that attain a window's largest.

        The search goes through windows offset by offset. If that takes too long the result is None, and ties stay
        undecided.
        """
        assert input_errors[0] is not None
        shape, first_tile = self.infer_output_shape(input.shape[1:]), input[:1]
        if count_elements(shape) * count_elements(to_pair(self.kernel_size)) > _MAX_TIE_SEARCH_ELEMENTS:
            return None
        padded_errors = self._pad_input(np.broadcast_to(input_errors[0], input.shape)[:1], 0)
        padded, padded_indices = (
            self._pad_input(first_tile, -np.inf),
            self._pad_input(flat_indices(first_tile), -1),
        )
        lower_bounds, largest = np.full((2, 1, *shape), -np.inf)
        for window, errors in zip(
            self._iterate_offset_views(padded, shape), self._iterate_offset_views(padded_errors, shape), strict=True
        ):
            lower_bounds, largest = np.maximum(lower_bounds, window - errors), np.maximum(largest, window)
        candidate_counts = np.zeros(lower_bounds.shape, np.int64)
        for window, errors in zip(
            self._iterate_offset_views(padded, shape), self._iterate_offset_views(padded_errors, shape), strict=True
        ):
            candidate_counts += (window + errors >= lower_bounds) & (window > -np.inf)
        # Most windows have a single candidate, which needs no entry.
        chosen_offsets, is_ambiguous = self.select_branch(first_tile), candidate_counts > 1
        parts: list[tuple[Array, ...]] = []
        views = (self._iterate_offset_views(view, shape) for view in (padded, padded_errors, padded_indices))
        for offset, (window, errors, element_indices) in enumerate(zip(*views, strict=True)):
            window_indices = np.flatnonzero(is_ambiguous & (window + errors >= lower_bounds) & (window > -np.inf))
            if window_indices.size:
                is_chosen, is_tied = (
                    view.ravel()[window_indices] for view in (chosen_offsets == offset, window == largest)
                )
                parts.append((window_indices, element_indices.ravel()[window_indices], is_chosen, is_tied))
        if not parts:
            return None
        output_indices, elements, is_chosen, is_tied = map(np.concatenate, zip(*parts, strict=True))
        output_order = np.argsort(output_indices, kind="stable")
        return choose_among_elements(
            output_indices[output_order],
            output_indices[output_order],
            elements[output_order],
            is_chosen[output_order],
            is_tied[output_order],
        )

    def forward_on_branch(self, branch: Array, input: Array) -> Array:
        padded = self._pad_input(input, 0)
        flat_indices = self._get_selected_flat_indices(branch, padded.shape[-1])
        flat_rows = padded.reshape(*padded.shape[:-2], -1), flat_indices.reshape(*flat_indices.shape[:-2], -1)
        selected_values = np.take_along_axis(*flat_rows, axis=-1).reshape(-1, *branch.shape[1:])
        return np.where(branch < 0, np.array(-np.inf, input.dtype), selected_values)

    def forward(self, input: Array) -> Array:
        return self.forward_on_branch(self.select_branch(input), input)

    def backward(self, gradient: Array, output: Array, input: Array) -> Gradients:
        padded, flat_positions, gradients = self._scatter_targets(gradient, input)
        np.add.at(padded.reshape(-1), flat_positions, gradients)
        return (padded[self._get_unpadded_slices(input.shape)],)

    def _scatter_targets(self, gradient: Array, input: Array) -> tuple[Array, Array, Array]:
        """Return zeros of the padded input, flat indices into them, and gradients.

        Each index is that of the element of one window, and each gradient is that window's.
        """
        tiles = max(len(gradient), len(input))
        padded = np.zeros((tiles, *self._pad_input(input, 0).shape[1:]), dtype=gradient.dtype)
        branch = np.broadcast_to(self.select_branch(input), (tiles, *gradient.shape[1:]))
        image_offsets = count_elements(padded.shape[-2:]) * np.arange(count_elements(padded.shape[:-2])).reshape(
            *padded.shape[:-2], 1, 1
        )
        flat_positions, gradients = (
            self._get_selected_flat_indices(branch, padded.shape[-1]) + image_offsets,
            np.broadcast_to(gradient, branch.shape),
        )
        return padded, flat_positions[branch >= 0], gradients[branch >= 0]

    def estimate_forward_rounding(self, output: Array, input: Array) -> None:
        return None

    def estimate_backward_rounding(self, gradient: Array, output: Array, input: Array) -> tuple[Rounding]:
        def scatter(array: Array) -> Array:
            (by_input,) = self.backward(array, output[:1] if len(array) == 1 else output, input[: len(array)])
            assert by_input is not None
            return by_input

        terms = count_elements(to_pair(self.kernel_size)) - 1
        return (Rounding(scatter(np.abs(gradient)), count_running_terms(terms, gradient, scatter)),)

    @declare_bug("the gradients of several windows overwrote each other instead of adding up: the last one is left")
    def scatter_without_accumulate(self, gradient: Array, output: Array, input: Array) -> Gradients:
        padded, flat_positions, gradients = self._scatter_targets(gradient, input)
        # The last of several values assigned to one position stays.
        padded.reshape(-1)[flat_positions] = gradients
        return (padded[self._get_unpadded_slices(input.shape)],)

    @declare_bug("the gradient of the maximum went to every element of the window")
    def to_every_element(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (self._sum_window_gradients(gradient, input),)

    @declare_bug_named(
        "to_every_element",
        "the whole gradient of the maximum went to every element of the window that attains it, where several do",
        shows_only_at_ties=True,
    )
    def give_every_largest(self, gradient: Array, output: Array, input: Array) -> Gradients:
        shape, values = self.infer_output_shape(input.shape[1:]), self._pad_input(input, -np.inf)
        padded = np.zeros((len(gradient), *values.shape[1:]), dtype=gradient.dtype)
        for window, value in zip(
            self._iterate_offset_views(padded, shape), self._iterate_offset_views(values, shape), strict=True
        ):
            window += np.where(value == output, gradient, 0)
        return (padded[self._get_unpadded_slices(input.shape)],)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.nn.functional.max_pool2d(
            input,
            to_pair(self.kernel_size),
            self._get_stride_pair(),
            to_pair(self.padding),
            to_pair(self.dilation),
            self.ceil_mode,
        )


@register_op("avg_pool2d")
class AvgPool2d(PoolingOp):
    """Average pooling: y = the sum over each window / N.

    N is the size of the window, with the padding that it covers if `count_include_pad`, or `divisor_override`.
        dL/dx = sum of g / N over the windows that hold x
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

    def _count_window_divisors(self, input: Array, shape: Shape) -> Array:
        if self.divisor_override is not None:
            return np.full(shape[-2:], self.divisor_override, dtype=input.dtype)
        is_covered = self._pad_input(np.ones((1, 1, *input.shape[-2:]), dtype=input.dtype), 0)
        if self.count_include_pad:
            # The padding of the request counts, and not the part beyond it in ceil_mode.
            top, left = to_pair(self.padding)
            is_covered[..., : input.shape[-2] + 2 * top, : input.shape[-1] + 2 * left] = 1
        return self._sum_window_totals(is_covered, shape)[0, 0]

    def _sum_window_totals(self, padded: Array, shape: Shape) -> Array:
        rows, columns = self._make_axis_windows(shape)
        return windows.sum_windows(windows.sum_windows(padded, -1, columns), -2, rows)

    def forward(self, input: Array) -> Array:
        shape = self.infer_output_shape(input.shape[1:])
        return self._sum_window_totals(self._pad_input(input, 0), shape) / self._count_window_divisors(input, shape)

    def backward(self, gradient: Array, output: Array, input: Array) -> Gradients:
        share = gradient / self._count_window_divisors(input, self.infer_output_shape(input.shape[1:]))
        return (self._sum_window_gradients(share, input),)

    def estimate_forward_rounding(self, output: Array, input: Array) -> Rounding:
        return Rounding(self.forward(np.abs(input)), count_elements(to_pair(self.kernel_size)))

    def estimate_backward_rounding(self, gradient: Array, output: Array, input: Array) -> tuple[Rounding]:
        (by_input,) = self.backward(np.abs(gradient), output, input)
        assert by_input is not None
        return (Rounding(by_input, count_elements(to_pair(self.kernel_size))),)

    def list_gradient_multipliers(self, input: Array) -> Sequence[Multiplier]:
        divisors = np.unique(self._count_window_divisors(input, self.infer_output_shape(input.shape[1:])))
        if len(divisors) > 1:
            # A divisor that differs from window to window is no factor of the gradient.
            return ()
        return [Multiplier("mean", f"the {divisors[0]:g} elements of a window", float(divisors[0]))]

    @declare_bug_named("scaled", "the sum over the window was used where the pool takes the mean")
    def skip_division(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return self.backward(gradient * self._count_window_divisors(input, output.shape[1:]), output, input)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.nn.functional.avg_pool2d(
            input,
            to_pair(self.kernel_size),
            self._get_stride_pair(),
            to_pair(self.padding),
            self.ceil_mode,
            self.count_include_pad,
            self.divisor_override,
        )
