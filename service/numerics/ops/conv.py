"""Convolutions: cross-correlations, by PyTorch's name."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import product
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import numpy as np

from service.numerics.core.batching import Array, Shape, align_rank, count_elements, flat_indices
from service.numerics.core.cached_attribute import cached_attribute
from service.numerics.core.interrupts import iterate_interruptibly
from service.numerics.core.sparsity import drop_missing, take_elementwise_min, take_min_over_axes
from service.numerics.ops import windows
from service.numerics.ops.blocked_convolution import correlate_in_blocks
from service.numerics.ops.op import (
    ComputeCost,
    DependencyLabels,
    Gradients,
    Op,
    OpExample,
    ProductExpansion,
    Rounding,
    ShapeError,
    declare_bug,
    declare_bug_named,
    get_declared_shapes,
    register_op,
)
from service.numerics.ops.pair_attributes import NotNegative, NotNegativePair, Positive, PositivePair, to_pair
from service.numerics.ops.windows import AxisWindows

_MAX_CACHED_GEOMETRIES = 64
"""Geometries of convolutions that the cache keeps."""


@dataclass(frozen=True)
class _ConvGeometry:
    """The windows of the padded input that the kernel offsets (i, j) meet.

    Output (p, q) reads padded input (p sh + i dh, q sw + j dw): for one offset, over all (p, q), a strided window.
    """

    kernel: tuple[int, int]
    output: tuple[int, int]
    stride: tuple[int, int]
    dilation: tuple[int, int]
    padding_before: tuple[int, int]
    padding_after: tuple[int, int]

    @cached_attribute
    def kernel_offsets(self) -> tuple[tuple[int, int], ...]:
        return tuple(product(range(self.kernel[0]), range(self.kernel[1])))

    @cached_attribute
    def _window_slices(self) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        """Return the rows and columns of the windows, by row and column of the kernel."""
        rows, columns = (
            tuple(slice(i * dilation, i * dilation + stride * (count - 1) + 1, stride) for i in range(length))
            for length, dilation, stride, count in zip(
                self.kernel, self.dilation, self.stride, self.output, strict=True
            )
        )
        return rows, columns

    @property
    def axis_windows(self) -> tuple[AxisWindows, AxisWindows]:
        """Return the windows along the axis of rows and along that of columns.

        Each window of the plane is a window of both axes.
        """
        rows, columns = (
            AxisWindows(*window) for window in zip(self.output, self.kernel, self.stride, self.dilation, strict=True)
        )
        return rows, columns

    def get_window(self, padded: Array, offset: tuple[int, int]) -> Array:
        """Return the view (..., out_h, out_w) of a padded input (..., H, W) at an offset."""
        rows, columns = self._window_slices
        return padded[..., rows[offset[0]], columns[offset[1]]]

    def pad_input(self, array: Array, value: float = 0.0) -> Array:
        if not any(self.padding_before + self.padding_after):
            return array
        widths = [(0, 0)] * (array.ndim - 2) + list(zip(self.padding_before, self.padding_after, strict=True))
        return np.pad(array, widths, constant_values=value)

    def crop_padding(self, padded: Array) -> Array:
        """Return a padded array without its padding."""
        height, width = padded.shape[-2:]
        inner_rows = slice(self.padding_before[0], height - self.padding_after[0])
        return padded[..., inner_rows, self.padding_before[1] : width - self.padding_after[1]]


def shift_by_one(x: Array, axes: tuple[int, ...], step: int) -> Array:
    """Return x moved by one position along some axes, with zeros coming in."""
    shifted = np.roll(x, (step,) * len(axes), axes)
    for axis in axes:
        np.moveaxis(shifted, axis, 0)[0 if step > 0 else -1] = 0
    return shifted


def _pad_last_axes(x: Array, widths: Sequence[tuple[int, int]]) -> Array:
    """Return x padded with zeros along its last axes, by (before, after) widths."""
    return np.pad(x, [(0, 0)] * (x.ndim - len(widths)) + [*widths])


def _crop_last_axes(x: Array, widths: Sequence[tuple[int, int]]) -> Array:
    """Return x without padding of its last axes, by (before, after) widths."""
    lengths = x.shape[x.ndim - len(widths) :]
    inner_slices = (slice(before, n - after) for n, (before, after) in zip(lengths, widths, strict=True))
    return x[..., *inner_slices]


def _make_off_by_one_bug(kernel_axes: slice, step: int) -> Callable[..., Gradients]:
    """Return the bug of a convolution that reads its input one position off."""

    @declare_bug_named(
        "shifted", "the input was read one position off, as with a padding or an offset that is off by one"
    )
    def read_one_element_further(
        self: "Convolution", gradient: Array, output: Array, input: Array, weight: Array, bias: Array | None
    ) -> Gradients:
        axes = self.kernel_axes[kernel_axes]
        unpadded, padding_widths = self.without_padding(weight)
        padded = _pad_last_axes(input, padding_widths)
        by_padded, by_weight, by_bias = unpadded.backward(
            gradient, output, shift_by_one(padded, axes, step), weight, bias
        )
        assert by_padded is not None
        return _crop_last_axes(shift_by_one(by_padded, axes, -step), padding_widths), by_weight, by_bias

    return read_one_element_further


@lru_cache(_MAX_CACHED_GEOMETRIES)
def _make_geometry(
    input: tuple[int, int],
    kernel: tuple[int, int],
    stride: tuple[int, int],
    dilation: tuple[int, int],
    padding_before: tuple[int, int],
    padding_after: tuple[int, int],
) -> _ConvGeometry:
    """Return the geometry of an input with a kernel, lengths along the last two axes.

    The cache finds the windows of each geometry once.
    """
    output = tuple(
        (length + b + a - (k - 1) * d - 1) // s + 1 if length + b + a > (k - 1) * d else 0
        for length, k, s, d, b, a in zip(input, kernel, stride, dilation, padding_before, padding_after, strict=True)
    )
    return _ConvGeometry(kernel, (output[0], output[1]), stride, dilation, padding_before, padding_after)


class Convolution(Op):
    """Sums of products of an input with a kernel, and a bias."""

    multiplying_slots = MappingProxyType({"input": "factor", "weight": "factor"})
    inputs = ("input", "weight", "bias?")
    supports_complex_step = True
    linear_in = MappingProxyType({"input": ("bias",), "weight": ("bias",), "bias": ("input",)})
    kernel_axes: ClassVar[tuple[int, ...]] = (-2, -1)

    def without_padding(self, weight: Array) -> tuple["Convolution", list[tuple[int, int]]]:
        """Return the op for a padded input, and its (before, after) widths.

        The default is the op itself with widths of 0.
        """
        return self, [(0, 0)] * len(self.kernel_axes)

    @declare_bug("the kernel was read backwards, as a convolution in mathematics reads it")
    def kernel_flipped(
        self, gradient: Array, output: Array, input: Array, weight: Array, bias: Array | None
    ) -> Gradients:
        return self._backward_with_flipped_kernel(self.kernel_axes, gradient, output, input, weight, bias)

    @declare_bug_named("kernel_flipped", "the kernel was read backwards along its first axis")
    def flip_rows(self, gradient: Array, output: Array, input: Array, weight: Array, bias: Array | None) -> Gradients:
        return self._backward_with_flipped_kernel(self.kernel_axes[:1], gradient, output, input, weight, bias)

    @declare_bug_named("kernel_flipped", "the kernel was read backwards along its last axis")
    def flip_columns(
        self, gradient: Array, output: Array, input: Array, weight: Array, bias: Array | None
    ) -> Gradients:
        return self._backward_with_flipped_kernel(self.kernel_axes[-1:], gradient, output, input, weight, bias)

    def _backward_with_flipped_kernel(
        self, axes: tuple[int, ...], gradient: Array, output: Array, input: Array, weight: Array, bias: Array | None
    ) -> Gradients:
        by_input, by_weight, by_bias = self.backward(gradient, output, input, np.flip(weight, axes), bias)
        assert by_weight is not None
        return by_input, np.flip(by_weight, axes), by_bias

    one_down_and_right = _make_off_by_one_bug(slice(None), 1)
    one_up_and_left = _make_off_by_one_bug(slice(None), -1)
    one_right = _make_off_by_one_bug(slice(-1, None), 1)
    one_left = _make_off_by_one_bug(slice(-1, None), -1)
    one_down = _make_off_by_one_bug(slice(1), 1)
    one_up = _make_off_by_one_bug(slice(1), -1)

    @declare_bug_named(
        "channels_of_the_bias_averaged",
        "the gradient of the bias was averaged over its channels",
        lambda shapes: shapes[-1] is not None,
    )
    def average_bias_channels(
        self, gradient: Array, output: Array, input: Array, weight: Array, bias: Array | None
    ) -> Gradients:
        by_input, by_weight, by_bias = self.backward(gradient, output, input, weight, bias)
        return by_input, by_weight, None if by_bias is None else 0 * by_bias + by_bias.mean()


_BIAS_POSITION = 2
_TORCH_WORK_FACTOR = 2
"""Time of a multiply-add of PyTorch's convolution, copies included, in units of ours."""


@register_op("conv2d")
class Conv2d(Convolution):
    """Two-dimensional cross-correlation, in groups of channels.

    Input x (B, C, H, W) or (C, H, W) has a weight w (O, C/groups, kh, kw) and a bias b (O,). A plain x (H, W) has w
    (kh, kw) and b (). With p, q over the output and x padded with zeros, in each group:

        y[n, o, p, q] = b[o] + sum_{c, i, j} w[o, c, i, j] x[n, c, p sh + i dh, q sw + j dw]

    With g = dL/dy of shape (B, O, out_h, out_w), each factor of each product meets the other and g:

        dL/dx[n, c, p sh + i dh, q sw + j dw] += sum_o w[o, c, i, j] g[n, o, p, q]     for all i, j, p, q
        dL/dw[o, c, i, j] = sum_{n, p, q} g[n, o, p, q] x[n, c, p sh + i dh, q sw + j dw]
        dL/db[o] = sum_{n, p, q} g[n, o, p, q]

    For each kernel offset (i, j) this is one product of matrices over a strided window of x.
    """

    stride: Positive | PositivePair = 1
    padding: NotNegative | NotNegativePair | Literal["valid", "same"] = 0
    dilation: Positive | PositivePair = 1
    groups: Positive = 1

    examples = (
        OpExample(((3, 3), (2, 2), None)),
        OpExample(((5, 7), (3, 2), ()), {"stride": 2, "padding": [1, 0]}),
        OpExample(((2, 5, 6), (3, 2, 2, 3), (3,)), {"dilation": [2, 1]}),
        OpExample(((2, 4, 6, 5), (6, 2, 3, 3), (6,)), {"groups": 2, "padding": 1, "stride": [2, 1]}),
        OpExample(((2, 3, 5, 4), (2, 3, 2, 4), None), {"padding": "same"}),
        OpExample(((1, 2, 4, 4), (2, 2, 1, 1), None), {"padding": "valid"}),
    )

    def infer_output_shape(self, input: Shape, weight: Shape, bias: Shape | None) -> Shape:
        _check_ranks(input, weight)
        channels, out_channels = _to_four_dimensions(input)[1], _to_four_dimensions(weight)[0]
        self._check_channels(channels, out_channels, _to_four_dimensions(weight)[1])
        expected_bias = (out_channels,) if len(weight) == 4 else ()
        if bias is not None and bias != expected_bias:
            raise ShapeError(f"a bias of shape {list(expected_bias)}")
        output_lengths = self._get_geometry(input, weight).output
        if min(output_lengths) < 1:
            raise ShapeError("a kernel no larger than the padded input")
        return (*input[:-3], out_channels, *output_lengths) if len(weight) == 4 else output_lengths

    def _check_channels(self, channels: int, out_channels: int, weight_channels: int) -> None:
        if channels % self.groups or out_channels % self.groups:
            raise ShapeError(f"numbers of channels divisible by groups={self.groups}")
        if channels != weight_channels * self.groups:
            expected = channels // self.groups
            raise ShapeError(f"a weight of shape (out, {expected}, kh, kw) for {channels} input channels")

    def _get_geometry(self, input: Shape, weight: Shape) -> _ConvGeometry:
        before, after = self._compute_padding_widths(self._compute_kernel_extent(weight))
        return _make_geometry(input[-2:], weight[-2:], to_pair(self.stride), to_pair(self.dilation), before, after)

    def without_padding(self, weight: Array) -> tuple[Convolution, list[tuple[int, int]]]:
        before, after = self._compute_padding_widths(self._compute_kernel_extent(weight.shape))
        return replace(self, padding=0), [*zip(before, after, strict=True)]

    def _compute_kernel_extent(self, weight: Shape) -> tuple[int, ...]:
        """Return the distance of the kernel's last offset from its first."""
        return tuple((k - 1) * d for k, d in zip(weight[-2:], to_pair(self.dilation), strict=True))

    def _compute_padding_widths(self, extent: tuple[int, ...]) -> tuple[tuple[int, int], tuple[int, int]]:
        if self.padding == "same":
            if to_pair(self.stride) != (1, 1):
                raise ShapeError('stride 1 where padding is "same"')
            # PyTorch puts the odd row or column behind.
            before = (extent[0] // 2, extent[1] // 2)
            return before, (extent[0] - before[0], extent[1] - before[1])
        width = (0, 0) if self.padding == "valid" else to_pair(self.padding)  # pyright: ignore[reportArgumentType]
        return width, width

    def forward(self, input: Array, weight: Array, bias: Array | None) -> Array:
        x, w = self._group_channels(input, weight)
        geometry = self._get_geometry(x.shape, w.shape)
        total = _correlate(geometry, geometry.pad_input(x), w)
        shape = self.infer_output_shape(input.shape[1:], weight.shape[1:], None if bias is None else bias.shape[1:])
        output = total.reshape(total.shape[:1] + shape)
        if bias is None:
            return output
        return output + align_rank(bias.reshape(*bias.shape, 1, 1), len(shape))

    @declare_bug_named(
        "axes_permuted",
        "the rows of the kernel were used for its columns on the way to the input",
        lambda shapes: shapes[2][-1] == shapes[2][-2],
    )
    def transpose_kernel(
        self, gradient: Array, output: Array, input: Array, weight: Array, bias: Array | None
    ) -> Gradients:
        correct_gradients = self.backward(gradient, output, input, weight, bias)
        if weight.shape[-1] != weight.shape[-2]:
            return correct_gradients
        return self.backward(gradient, output, input, np.swapaxes(weight, -1, -2), bias)[0], *correct_gradients[1:]

    def expand_products(
        self, position: int, input: Array, weight: Array, bias: Array | None
    ) -> ProductExpansion | None:
        if position == _BIAS_POSITION:
            return None
        x, w = self._group_channels(input, weight)
        geometry = self._get_geometry(x.shape, w.shape)
        return _expand_convolution(geometry, position, x[0], w[0, 0])

    def propagate_dependencies(self, values: DependencyLabels, *inputs: Any) -> Array:
        input_labels, weight_labels, *bias_labels = drop_missing(values)
        grouped_input, grouped_weight = self._group_channels(input_labels, weight_labels)
        geometry = self._get_geometry(grouped_input.shape, grouped_weight.shape)
        rows, columns = geometry.axis_windows
        padded_labels = geometry.pad_input(take_min_over_axes(grouped_input, 3), np.inf)
        window_labels = windows.take_window_minimum(windows.take_window_minimum(padded_labels, -1, columns), -2, rows)
        channel_labels = grouped_weight.reshape(*grouped_weight.shape[:4], -1).min(axis=-1)[..., None, None]
        labels = take_elementwise_min(
            window_labels, channel_labels, *(label.reshape(-1, *channel_labels.shape[1:]) for label in bias_labels)
        )
        return labels.reshape(len(labels), *self.infer_output_shape(*get_declared_shapes(inputs)))

    def backward(self, gradient: Array, output: Array, input: Array, weight: Array, bias: Array | None) -> Gradients:
        return self.backward_for((True, True, True), gradient, output, input, weight, bias)

    def backward_for(self, wanted: Sequence[bool], gradient: Array, output: Array, *inputs: Any) -> Gradients:
        input, weight, bias = inputs
        by_bias = None
        if bias is not None and wanted[2]:
            x, w = self._group_channels(input, weight)
            g = self._group_gradient_rows(gradient, x, w)
            by_bias = g.sum(axis=(1, 4)).reshape((len(g), *bias.shape[1:]))
        return (
            self.compute_input_gradient(gradient, input, weight) if wanted[0] else None,
            self.compute_weight_gradient(gradient, input, weight) if wanted[1] else None,
            by_bias,
        )

    def compute_input_gradient(self, gradient: Array, input: Array, weight: Array) -> Array:
        """Return the gradient of the input. The values of `input` do not matter."""
        x, w = self._group_channels(input, weight)
        geometry = self._get_geometry(x.shape, w.shape)
        g = self._group_gradient_rows(gradient, x, w)
        tiles = max(len(gradient), len(x), len(w))
        padded = geometry.pad_input(x[:1])
        by_padded = np.zeros((tiles, *padded.shape[1:]), dtype=np.result_type(gradient, w))
        kernel = _get_plain_kernel(w)
        plane = g.reshape(*g.shape[:-1], *gradient.shape[-2:])
        for offset in iterate_interruptibly(geometry.kernel_offsets):
            window = geometry.get_window(by_padded, offset)
            if kernel is not None:
                _add_products(window, _get_kernel_entry(kernel, offset), plane)
                continue
            by_window = np.swapaxes(w[..., *offset], -1, -2) @ g
            window += by_window.reshape((len(by_window), *window.shape[1:]))
        return geometry.crop_padding(by_padded).reshape((tiles, *input.shape[1:]))

    def compute_weight_gradient(self, gradient: Array, input: Array, weight: Array) -> Array:
        """Return the gradient of the weight. The values of `weight` do not matter."""
        x, w = self._group_channels(input, weight)
        geometry = self._get_geometry(x.shape, w.shape)
        padded = geometry.pad_input(x)
        tiles = max(len(gradient), len(x), len(w))
        by_weight = np.empty((tiles, *w.shape[2:]), dtype=np.result_type(gradient, x))
        transposed_rows = np.swapaxes(self._group_gradient_rows(gradient, x, w), -1, -2)
        for offset in iterate_interruptibly(geometry.kernel_offsets):
            products = _flatten_plane(geometry.get_window(padded, offset)) @ transposed_rows
            by_weight[..., *offset] = np.swapaxes(products, -1, -2).sum(axis=1)
        return by_weight.reshape((tiles, *weight.shape[1:]))

    def _group_gradient_rows(self, gradient: Array, x: Array, w: Array) -> Array:
        """Return the gradient of the output with grouped channels and rows flattened."""
        return gradient.reshape(len(gradient), x.shape[1], self.groups, w.shape[3], -1)

    def scatter_window_minimum(self, values: Array, weight: Shape, output: Shape) -> Array:
        """Return for each input element the least value of the windows that read it.

        Parameters
        ----------
        values
            Values of the windows, (..., out_h, out_w).
        weight
            Shape of the weight.
        output
            Shape of the result: that of an input of the convolution.
        """
        geometry = self._get_geometry(output, weight)
        rows, columns = replace(geometry, output=(values.shape[-2], values.shape[-1])).axis_windows
        least_values = windows.take_min_over_holding_windows(
            windows.take_min_over_holding_windows(values, -2, rows), -1, columns
        )
        lengths = [
            max(n, length + b + a)
            for n, length, b, a in zip(
                least_values.shape[-2:], output[-2:], geometry.padding_before, geometry.padding_after, strict=True
            )
        ]
        padded = np.full((*values.shape[:-2], *lengths), np.inf)
        padded[..., : least_values.shape[-2], : least_values.shape[-1]] = least_values
        top, left = geometry.padding_before
        return padded[..., top : top + output[-2], left : left + output[-1]]

    def _group_channels(self, input: Array, weight: Array) -> tuple[Array, Array]:
        """Return input and weight with their channels in groups.

        The shapes are (K, B, groups, C/groups, H, W) and (K, 1, groups, O/groups, C/groups, kh, kw).
        """
        x, w = _to_four_dimensions(input.shape[1:]), _to_four_dimensions(weight.shape[1:])
        return (
            input.reshape(-1, x[0], self.groups, x[1] // self.groups, *x[2:]),
            weight.reshape(-1, 1, self.groups, w[0] // self.groups, *w[1:]),
        )

    def estimate_forward_rounding(self, output: Array, input: Array, weight: Array, bias: Array | None) -> Rounding:
        magnitude = self.forward(np.abs(input), np.abs(weight), None if bias is None else np.abs(bias))
        return Rounding(magnitude, count_elements(_to_four_dimensions(weight.shape[1:])[1:]) + (bias is not None))

    def estimate_backward_rounding(
        self, gradient: Array, output: Array, input: Array, weight: Array, bias: Array | None
    ) -> tuple[Rounding | None, ...]:
        magnitudes = self.backward(np.abs(gradient), output, np.abs(input), np.abs(weight), bias)
        out_channels, _, *kernel = _to_four_dimensions(weight.shape[1:])
        positions = count_elements(output.shape[1:]) // out_channels
        terms = (count_elements(tuple(kernel)) * out_channels // self.groups, positions, positions)
        return tuple(
            None if magnitude is None else Rounding(magnitude, count)
            for magnitude, count in zip(magnitudes, terms, strict=True)
        )

    def estimate_cost(self, output: Shape, *shapes: Shape | None) -> ComputeCost:
        input, weight = shapes[0], shapes[1]
        assert input is not None
        assert weight is not None
        kernel = count_elements(_to_four_dimensions(weight)[1:])
        geometry = self._get_geometry(input, weight)
        padded = count_elements(input[:-2]) * math.prod(
            length + b + a
            for length, b, a in zip(input[-2:], geometry.padding_before, geometry.padding_after, strict=True)
        )
        # Each kernel offset takes three calls: it copies the window into rows, multiplies and adds.
        offsets = count_elements(weight[-2:])
        return ComputeCost(
            count_elements(output) * (kernel + offsets), max(count_elements(output), padded), 3 * offsets
        )

    def count_propagation_elements(self, output: Shape, *shapes: Shape | None) -> int:
        """Return the joins along both axes, and the elements of all arrays.

        The channels of each group are joined together.
        """
        input, weight = shapes[0], shapes[1]
        assert input is not None
        assert weight is not None
        rows, columns = self._get_geometry(input, weight).axis_windows
        images = count_elements(_to_four_dimensions(input)[:1]) * self.groups
        joins = (
            rows.required_length * (columns.join_count + columns.required_length)
            + columns.window_count * rows.join_count
        )
        return images * joins + count_elements(input) + count_elements(weight) + count_elements(output)

    def estimate_longest_call_work(self, output: Shape, *shapes: Shape | None) -> int:
        """Return the work of the whole convolution, which is one call.

        PyTorch copies the windows of the input first.
        """
        return _TORCH_WORK_FACTOR * self.estimate_cost(output, *shapes).work

    def torch_forward(self, torch: Any, input: Any, weight: Any, bias: Any) -> Any:
        before, after = self._compute_padding_widths(self._compute_kernel_extent(weight.shape))
        if before != after:
            # PyTorch warns when it has to pad by itself, for an even kernel.
            input = torch.nn.functional.pad(input, (before[1], after[1], before[0], after[0]))
            before = (0, 0)
        x, w = input.reshape(_to_four_dimensions(input.shape)), weight.reshape(_to_four_dimensions(weight.shape))
        bias = None if bias is None else bias.reshape(-1)
        y = correlate_in_blocks(torch, x, w, bias, to_pair(self.stride), before, to_pair(self.dilation), self.groups)
        return y.reshape((*input.shape[:-3], *y.shape[1:]) if weight.ndim == 4 else y.shape[2:])


def _correlate(geometry: _ConvGeometry, padded: Array, w: Array) -> Array:
    """Return the sum over kernel offsets of the kernel's products with each window."""
    kernel = _get_plain_kernel(w)
    total: Array | None = None
    for offset in iterate_interruptibly(geometry.kernel_offsets):
        window = geometry.get_window(padded, offset)
        product = (
            w[..., *offset] @ _flatten_plane(window) if kernel is None else _get_kernel_entry(kernel, offset) * window
        )
        total = product if total is None else np.add(total, product, out=total)
    assert total is not None
    return total


def _get_plain_kernel(w: Array) -> Array | None:
    """Return the kernel of one channel to one channel, (..., kh, kw), or None for more channels.

    A product of matrices with one row and one column costs more by its call than by its work.
    """
    return w[..., 0, :, :] if w.shape[3:5] == (1, 1) else None


def _add_products(total: Array, factor: Array, plane: Array) -> None:
    """Add the products of one factor in each tile with a plane; large ones tile by tile, so that each stays cached."""
    if total[0].size < _LARGE_PLANE:
        total += factor * plane
        return
    for tile in range(len(total)):
        total[tile] += factor[tile if len(factor) > 1 else 0] * plane[tile if len(plane) > 1 else 0]


_LARGE_PLANE = 2**14
"""Numbers of a tile from which on one pass over all of them leaves the cache."""


def _get_kernel_entry(kernel: Array, offset: tuple[int, int]) -> Array:
    i, j = offset
    return kernel[..., i : i + 1, j : j + 1]


def _expand_convolution(geometry: _ConvGeometry, position: int, x: Array, w: Array) -> ProductExpansion:
    """Return the products of x with w, one of which is numbered.

    Parameters
    ----------
    geometry
        Geometry of the convolution.
    position
        Position of the numbered operand: 0 for x, 1 for w.
    x
        Input, (B, groups, C/groups, H, W).
    w
        Weight, (groups, O/groups, C/groups, kh, kw).
    """
    padded = geometry.pad_input(flat_indices(x) if position == 0 else x, x.size if position == 0 else 0)
    kernel = w if position == 0 else flat_indices(w)
    shape = (x.shape[0], *w.shape[:2], *geometry.output)
    channel_offsets = list(product(range(x.shape[2]), geometry.kernel_offsets))
    input_windows = [geometry.get_window(padded[:, :, channel, None], offset) for channel, offset in channel_offsets]
    weights = [kernel[:, :, channel, i, j, None, None] for channel, (i, j) in channel_offsets]
    return (
        ProductExpansion(shape, input_windows, weights)
        if position == 0
        else ProductExpansion(shape, weights, input_windows)
    )


def _to_four_dimensions(shape: Shape) -> Shape:
    """Return a shape with axes of length 1 in front until there are four."""
    return (1,) * (4 - len(shape)) + tuple(shape)


def _flatten_plane(window: Array) -> Array:
    """Return a window with its last two axes flattened."""
    return window.reshape(*window.shape[:-2], -1)


def _check_ranks(input: Shape, weight: Shape) -> None:
    if len(weight) == 2 and len(input) == 2:
        return
    if len(weight) != 4 or len(input) not in (3, 4):
        raise ShapeError(
            "input (B, C, H, W) or (C, H, W) with weight (out, C/groups, kh, kw), or plain (H, W) with (kh, kw)"
        )
