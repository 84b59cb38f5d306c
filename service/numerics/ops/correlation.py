"""Cross-correlations of any number of axes, in groups of channels."""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from typing import Any, ClassVar, cast

import numpy as np

from service.numerics.core.batching import Array, Shape, align_rank, count_elements, flat_indices
from service.numerics.core.bounded_cache import BoundedCache
from service.numerics.core.cached_attribute import cached_attribute
from service.numerics.core.interrupts import iterate_interruptibly
from service.numerics.core.sparsity import drop_missing, take_elementwise_min, take_min_over_axes
from service.numerics.ops import windows
from service.numerics.ops.blocked_convolution import correlate_in_blocks
from service.numerics.ops.conv_geometry import ConvGeometry, make_geometry
from service.numerics.ops.convolution import Convolution
from service.numerics.ops.op import (
    ComputeCost,
    DependencyLabels,
    Gradients,
    ProductExpansion,
    Rounding,
    ShapeError,
    get_declared_shapes,
)

_BIAS_POSITION = 2
_TORCH_WORK_FACTOR = 2
"""Time of a multiply-add of PyTorch's convolution, copies included, in units of ours."""
_MAX_KEPT_GEOMETRIES = 4
"""Geometries that an op keeps: that of its own operands, and those of its parts in a plan."""
AXIS_LETTERS = {1: "L", 2: "H, W", 3: "D, H, W"}
KERNEL_LETTERS = {1: "k", 2: "kh, kw", 3: "kd, kh, kw"}


class Correlation(Convolution):
    """Cross-correlation of the axes behind the channels: see `conv2d` for the derivation.

    Inputs are (B, C, ...) or (C, ...). If `takes_plain_form`, input and kernel may both be without channels.
    """

    stride: Any
    padding: Any
    dilation: Any
    groups: Any

    takes_plain_form: ClassVar[bool] = False

    def infer_output_shape(self, input: Shape, weight: Shape, bias: Shape | None) -> Shape:
        self._check_ranks(input, weight)
        channels, out_channels = self._fill_axes(input)[1], self._fill_axes(weight)[0]
        self._check_channels(channels, out_channels, self._fill_axes(weight)[1])
        has_channels = len(weight) > self.axis_count
        expected_bias = (out_channels,) if has_channels else ()
        if bias is not None and bias != expected_bias:
            raise ShapeError(f"a bias of shape {list(expected_bias)}")
        output_lengths = self._get_geometry(input, weight).output
        if min(output_lengths) < 1:
            raise ShapeError("a kernel no larger than the padded input")
        return self._join_output_shape(input, weight, output_lengths)

    def _join_output_shape(self, input: Shape, weight: Shape, output_lengths: Shape) -> Shape:
        """Return the shape of the output, given its lengths along the axes of the kernel."""
        has_channels = len(weight) > self.axis_count
        return (*input[: -self.axis_count - 1], weight[0], *output_lengths) if has_channels else output_lengths

    def _check_ranks(self, input: Shape, weight: Shape) -> None:
        axes, kernel = AXIS_LETTERS[self.axis_count], KERNEL_LETTERS[self.axis_count]
        if self.takes_plain_form and len(weight) == len(input) == self.axis_count:
            return
        if len(weight) != self.axis_count + 2 or len(input) not in (self.axis_count + 1, self.axis_count + 2):
            plain_form = f", or plain ({axes}) with ({kernel})" if self.takes_plain_form else ""
            raise ShapeError(f"input (B, C, {axes}) or (C, {axes}) with weight (out, C/groups, {kernel}){plain_form}")

    def _check_channels(self, channels: int, out_channels: int, weight_channels: int) -> None:
        if channels % self.groups or out_channels % self.groups:
            raise ShapeError(f"numbers of channels divisible by groups={self.groups}")
        if channels != weight_channels * self.groups:
            expected = channels // self.groups
            raise ShapeError(
                f"a weight of shape (out, {expected}, {KERNEL_LETTERS[self.axis_count]}) for {channels} input channels"
            )

    def _get_geometry(self, input: Shape, weight: Shape) -> ConvGeometry:
        lengths = input[-self.axis_count :], weight[-self.axis_count :]
        return self._geometries.get_or_make(lengths, lambda: self._make_geometry(input, weight))

    @cached_attribute
    def _geometries(self) -> BoundedCache[ConvGeometry]:
        return BoundedCache(_MAX_KEPT_GEOMETRIES)

    def _make_geometry(self, input: Shape, weight: Shape) -> ConvGeometry:
        before, after = self._compute_padding_widths(self._compute_kernel_extent(weight))
        kernel = weight[-self.axis_count :]
        return make_geometry(
            input[-self.axis_count :],
            kernel,
            self.list_axis_numbers(self.stride),
            self.list_axis_numbers(self.dilation),
            before,
            after,
        )

    def _fill_axes(self, shape: Shape) -> Shape:
        """Return a shape with axes of length 1 in front until there are those of a batch of channels."""
        return (1,) * (self.axis_count + 2 - len(shape)) + tuple(shape)

    def without_padding(self, weight: Array) -> tuple[Convolution, list[tuple[int, int]]]:
        before, after = self._compute_padding_widths(self._compute_kernel_extent(weight.shape))
        return replace(cast("Any", self), padding=0), [*zip(before, after, strict=True)]

    def _compute_kernel_extent(self, weight: Shape) -> tuple[int, ...]:
        """Return the distance of the kernel's last offset from its first."""
        return tuple(
            (k - 1) * d for k, d in zip(weight[-self.axis_count :], self.list_axis_numbers(self.dilation), strict=True)
        )

    def _compute_padding_widths(self, extent: tuple[int, ...]) -> tuple[Shape, Shape]:
        if self.padding == "same":
            if any(stride != 1 for stride in self.list_axis_numbers(self.stride)):
                raise ShapeError('stride 1 where padding is "same"')
            # PyTorch puts the odd row or column behind.
            before = tuple(length // 2 for length in extent)
            return before, tuple(length - half for length, half in zip(extent, before, strict=True))
        width = self.list_axis_numbers(0 if self.padding == "valid" else self.padding)
        return width, width

    def forward(self, input: Array, weight: Array, bias: Array | None) -> Array:
        x, w = self._group_channels(input, weight)
        geometry = self._get_geometry(x.shape, w.shape)
        total = _correlate(geometry, geometry.pad_input(x), w)
        shape = self._join_output_shape(input.shape[1:], weight.shape[1:], geometry.output)
        output = total.reshape(total.shape[:1] + shape)
        if bias is None:
            return output
        return output + align_rank(bias.reshape(*bias.shape, *(1,) * self.axis_count), len(shape))

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
        window_labels = geometry.pad_input(take_min_over_axes(grouped_input, 3), np.inf)
        for axis, axis_windows in reversed([*zip(self.kernel_axes, geometry.axis_windows, strict=True)]):
            window_labels = windows.take_window_minimum(window_labels, axis, axis_windows)
        channel_labels = grouped_weight.reshape(*grouped_weight.shape[:4], -1).min(axis=-1)
        channel_labels = channel_labels.reshape(*channel_labels.shape, *(1,) * self.axis_count)
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
        plane = g.reshape(*g.shape[:-1], *gradient.shape[-self.axis_count :])
        for offset in iterate_interruptibly(geometry.kernel_offsets):
            window = geometry.get_window(by_padded, offset)
            if kernel is not None:
                _add_products(window, geometry.get_kernel_entry(kernel, offset), plane)
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
        transposed_rows = np.swapaxes(self._group_gradient_rows(gradient, x, w), -1, -2)
        if x.shape[1] == 1 and len(w) == 1:
            return self._multiply_windows(geometry, padded, transposed_rows).reshape((tiles, *weight.shape[1:]))
        by_weight = np.empty((tiles, *w.shape[2:]), dtype=np.result_type(gradient, x))
        for offset in iterate_interruptibly(geometry.kernel_offsets):
            products = _flatten_last_axes(geometry.get_window(padded, offset), self.axis_count) @ transposed_rows
            by_weight[..., *offset] = np.swapaxes(products, -1, -2).sum(axis=1)
        return by_weight.reshape((tiles, *weight.shape[1:]))

    def _multiply_windows(self, geometry: ConvGeometry, padded: Array, transposed_rows: Array) -> Array:
        """Return the gradient of a weight by one image, (K, groups, O/groups, C/groups, *kernel).

        Parameters
        ----------
        geometry
            Geometry of the convolution.
        padded
            Padded input, (K, 1, groups, C/groups, ...).
        transposed_rows
            Gradient of the output, (K, 1, groups, positions, O/groups).

        Notes
        -----
        All products go into one array, of which the entries are put in order once. There is no sum over images, which
        would make -0 of a product 0: adding 0 does so here.
        """
        tiles, channels = max(len(padded), len(transposed_rows)), padded.shape[2:4]
        products = np.empty(
            (len(geometry.kernel_offsets), tiles, 1, *channels, transposed_rows.shape[-1]),
            dtype=np.result_type(padded, transposed_rows),
        )
        for offset, target in zip(iterate_interruptibly(geometry.kernel_offsets), products, strict=True):
            window = _flatten_last_axes(geometry.get_window(padded, offset), self.axis_count)
            np.matmul(window, transposed_rows, out=target)
        products += 0.0
        by_weight = np.ascontiguousarray(np.moveaxis(np.swapaxes(products[:, :, 0], -1, -2), 0, -1))
        return by_weight.reshape((*by_weight.shape[:-1], *geometry.kernel))

    def _group_gradient_rows(self, gradient: Array, x: Array, w: Array) -> Array:
        """Return the gradient of the output with grouped channels and rows flattened."""
        return gradient.reshape(len(gradient), x.shape[1], self.groups, w.shape[3], -1)

    def scatter_window_minimum(self, values: Array, weight: Shape, output: Shape) -> Array:
        """Return for each input element the least value of the windows that read it.

        Parameters
        ----------
        values
            Values of the windows, (..., *out).
        weight
            Shape of the weight.
        output
            Shape of the result: that of an input of the convolution.
        """
        geometry = self._get_geometry(output, weight)
        count = self.axis_count
        axis_windows = replace(geometry, output=values.shape[-count:]).axis_windows
        least_values = values
        for axis, windows_of_axis in zip(self.kernel_axes, axis_windows, strict=True):
            least_values = windows.take_min_over_holding_windows(least_values, axis, windows_of_axis)
        lengths = [
            max(n, length + b + a)
            for n, length, (b, a) in zip(
                least_values.shape[-count:], output[-count:], geometry.padding_widths, strict=True
            )
        ]
        padded = np.full((*values.shape[:-count], *lengths), np.inf)
        padded[..., *map(slice, least_values.shape[-count:])] = least_values
        starts = zip(geometry.padding_before, output[-count:], strict=True)
        return padded[..., *(slice(start, start + length) for start, length in starts)]

    def _group_channels(self, input: Array, weight: Array) -> tuple[Array, Array]:
        """Return input and weight with their channels in groups.

        The shapes are (K, B, groups, C/groups, ...) and (K, 1, groups, O/groups, C/groups, *kernel).
        """
        x, w = self._fill_axes(input.shape[1:]), self._fill_axes(weight.shape[1:])
        return (
            input.reshape(-1, x[0], self.groups, x[1] // self.groups, *x[2:]),
            weight.reshape(-1, 1, self.groups, w[0] // self.groups, *w[1:]),
        )

    def estimate_forward_rounding(self, output: Array, input: Array, weight: Array, bias: Array | None) -> Rounding:
        magnitude = self.forward(np.abs(input), np.abs(weight), None if bias is None else np.abs(bias))
        return Rounding(magnitude, count_elements(self._fill_axes(weight.shape[1:])[1:]) + (bias is not None))

    def estimate_backward_rounding(
        self, gradient: Array, output: Array, input: Array, weight: Array, bias: Array | None
    ) -> tuple[Rounding | None, ...]:
        magnitudes = self.backward(np.abs(gradient), output, np.abs(input), np.abs(weight), bias)
        out_channels, _, *kernel = self._fill_axes(weight.shape[1:])
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
        kernel = count_elements(self._fill_axes(weight)[1:])
        geometry = self._get_geometry(input, weight)
        padded = count_elements(input[: -self.axis_count]) * math.prod(
            length + b + a for length, (b, a) in zip(input[-self.axis_count :], geometry.padding_widths, strict=True)
        )
        # Each kernel offset takes three calls: it copies the window into rows, multiplies and adds.
        offsets = count_elements(weight[-self.axis_count :])
        return ComputeCost(
            count_elements(output) * (kernel + offsets), max(count_elements(output), padded), 3 * offsets
        )

    def count_propagation_elements(self, output: Shape, *shapes: Shape | None) -> int:
        """Return the joins along all axes, and the elements of all arrays.

        The channels of each group are joined together.
        """
        input, weight = shapes[0], shapes[1]
        assert input is not None
        assert weight is not None
        axis_windows = self._get_geometry(input, weight).axis_windows
        images = self._fill_axes(input)[0] * self.groups
        required_lengths = [windows_of_axis.required_length for windows_of_axis in axis_windows]
        counts = [windows_of_axis.window_count for windows_of_axis in axis_windows]
        # The last axis is joined first.
        joins = math.prod(required_lengths) + sum(
            math.prod(required_lengths[:axis]) * windows_of_axis.join_count * math.prod(counts[axis + 1 :])
            for axis, windows_of_axis in enumerate(axis_windows)
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
            widths = [*zip(before, after, strict=True)]
            input = torch.nn.functional.pad(input, [width for pair in reversed(widths) for width in pair])
            before = self.list_axis_numbers(0)
        x, w = input.reshape(self._fill_axes(input.shape)), weight.reshape(self._fill_axes(weight.shape))
        bias = None if bias is None else bias.reshape(-1)
        stride, dilation = self.list_axis_numbers(self.stride), self.list_axis_numbers(self.dilation)
        y = correlate_in_blocks(torch, x, w, bias, stride, before, dilation, self.groups)
        has_channels = weight.ndim > self.axis_count
        return y.reshape((*input.shape[: -self.axis_count - 1], *y.shape[1:]) if has_channels else y.shape[2:])


def _correlate(geometry: ConvGeometry, padded: Array, w: Array) -> Array:
    """Return the sum over kernel offsets of the kernel's products with each window."""
    kernel = _get_plain_kernel(w)
    total: Array | None = None
    scratch: Array | None = None
    for offset in iterate_interruptibly(geometry.kernel_offsets):
        window = geometry.get_window(padded, offset)
        if kernel is None:
            product = w[..., *offset] @ _flatten_last_axes(window, len(offset))
        else:
            # The memory of one product serves for the next.
            product = np.multiply(geometry.get_kernel_entry(kernel, offset), window, out=scratch)
            scratch = None if total is None else product
        total = product if total is None else np.add(total, product, out=total)
    assert total is not None
    return total


def _get_plain_kernel(w: Array) -> Array | None:
    """Return the kernel of one channel to one channel, (..., 1, *kernel), or None for more channels.

    A product of matrices with one row and one column costs more by its call than by its work.
    """
    return w[:, :, :, :, 0] if w.shape[3:5] == (1, 1) else None


def _add_products(total: Array, factor: Array, plane: Array) -> None:
    """Add the products of one factor in each tile with a plane; large ones tile by tile, so that each stays cached."""
    if total[0].size < _LARGE_PLANE:
        total += factor * plane
        return
    for tile in range(len(total)):
        total[tile] += factor[tile if len(factor) > 1 else 0] * plane[tile if len(plane) > 1 else 0]


_LARGE_PLANE = 2**14
"""Numbers of a tile from which on one pass over all of them leaves the cache."""


def _expand_convolution(geometry: ConvGeometry, position: int, x: Array, w: Array) -> ProductExpansion:
    """Return the products of x with w, one of which is numbered.

    Parameters
    ----------
    geometry
        Geometry of the convolution.
    position
        Position of the numbered operand: 0 for x, 1 for w.
    x
        Input, (B, groups, C/groups, ...).
    w
        Weight, (groups, O/groups, C/groups, *kernel).
    """
    padded = geometry.pad_input(flat_indices(x) if position == 0 else x, x.size if position == 0 else 0)
    kernel = w if position == 0 else flat_indices(w)
    shape = (x.shape[0], *w.shape[:2], *geometry.output)
    channel_offsets = list(product(range(x.shape[2]), geometry.kernel_offsets))
    input_windows = [geometry.get_window(padded[:, :, channel, None], offset) for channel, offset in channel_offsets]
    new_axes = (None,) * len(geometry.kernel)
    weights = [kernel[:, :, channel, *offset, *new_axes] for channel, offset in channel_offsets]
    return (
        ProductExpansion(shape, input_windows, weights)
        if position == 0
        else ProductExpansion(shape, weights, input_windows)
    )


def _flatten_last_axes(window: Array, count: int) -> Array:
    """Return a window with its last axes flattened."""
    return window.reshape(*window.shape[:-count], -1)
