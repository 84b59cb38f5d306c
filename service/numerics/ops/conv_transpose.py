"""Transposed convolution: the adjoint of a convolution."""

from typing import Any, ClassVar

import numpy as np

from service.numerics.core.batching import Array, Shape, align_rank, count_elements
from service.numerics.core.sparsity import drop_missing, take_elementwise_min, take_min_over_axes
from service.numerics.ops.axis_numbers import NotNegativeTriple, PositiveTriple
from service.numerics.ops.blocked_convolution import transpose_in_blocks
from service.numerics.ops.conv import Conv2d, Conv3d
from service.numerics.ops.conv_geometry import pad_last_axes
from service.numerics.ops.convolution import Convolution
from service.numerics.ops.correlation import AXIS_LETTERS, KERNEL_LETTERS, Correlation
from service.numerics.ops.op import (
    ComputeCost,
    DependencyLabels,
    Gradients,
    OpExample,
    Rounding,
    ShapeError,
    get_declared_shapes,
    register_op,
)
from service.numerics.ops.pair_attributes import NotNegative, NotNegativePair, Positive, PositivePair


class TransposedConvolution(Convolution):
    """Transposed convolution: see `conv_transpose2d` for the derivation."""

    stride: Any
    padding: Any
    output_padding: Any
    groups: Any
    dilation: Any

    adjoint_type: ClassVar[type[Any]]
    """Op of the convolution whose adjoint the op is."""

    @property
    def _adjoint_convolution(self) -> Correlation:
        """Return the convolution whose adjoint this op is."""
        return self.adjoint_type(stride=self.stride, padding=self.padding, dilation=self.dilation, groups=self.groups)

    def infer_output_shape(self, input: Shape, weight: Shape, bias: Shape | None) -> Shape:
        count = self.axis_count
        has_ranks = len(input) in (count + 1, count + 2) and len(weight) == count + 2
        if not has_ranks or weight[0] != input[-count - 1]:
            axes = AXIS_LETTERS[count]
            raise ShapeError(
                f"input (B, C, {axes}) or (C, {axes}) with weight (C, out/groups, {KERNEL_LETTERS[count]})"
            )
        if weight[0] % self.groups:
            raise ShapeError(f"a number of channels divisible by groups={self.groups}")
        channels = weight[1] * self.groups
        if bias is not None and bias != (channels,):
            raise ShapeError(f"a bias of shape {[channels]}")
        lengths = tuple(self._compute_output_length(input[i - count], weight[i - count], i) for i in range(count))
        if min(lengths) < 1:
            raise ShapeError(f"an input that padding={self.padding} does not cut off whole")
        return (*input[: -count - 1], channels, *lengths)

    def _compute_output_length(self, length: int, kernel: int, axis: int) -> int:
        stride, dilation, output_padding = (
            self.list_axis_numbers(attribute)[axis] for attribute in (self.stride, self.dilation, self.output_padding)
        )
        if output_padding >= max(stride, dilation):
            raise ShapeError("an output_padding smaller than stride or dilation")
        padding = self.list_axis_numbers(self.padding)[axis]
        return (length - 1) * stride - 2 * padding + dilation * (kernel - 1) + output_padding + 1

    def _extend_with_zeros(self, x: Array) -> Array:
        """Return x with zeros behind.

        A convolution of an output with padding behind may have more positions than x.
        """
        zero_counts = [
            output_padding // s
            for output_padding, s in zip(
                self.list_axis_numbers(self.output_padding), self.list_axis_numbers(self.stride), strict=True
            )
        ]
        return pad_last_axes(x, [(0, n) for n in zero_counts]) if any(zero_counts) else x

    def _forward_without_bias(self, x: Array, weight: Array) -> Array:
        """Return the output without the bias."""
        shape = self.infer_output_shape(x.shape[1:], weight.shape[1:], None)
        x = self._extend_with_zeros(x)
        return self._adjoint_convolution.compute_input_gradient(x, np.zeros((1, *shape), dtype=x.dtype), weight)

    def forward(self, input: Array, weight: Array, bias: Array | None) -> Array:
        output = self._forward_without_bias(input, weight)
        if bias is None:
            return output
        return output + align_rank(bias.reshape(*bias.shape, *(1,) * self.axis_count), output.ndim - 1)

    def propagate_dependencies(self, values: DependencyLabels, *inputs: Any) -> Array:
        input_labels, weight_labels, *bias_labels = drop_missing(values)
        shape = self.infer_output_shape(*get_declared_shapes(inputs))
        kernel = weight_labels.shape[3:]
        window_labels = take_min_over_axes(
            input_labels.reshape(len(input_labels), -1, self.groups, *self._group_shape(input_labels)), 3
        )
        channel_labels = take_min_over_axes(
            weight_labels.reshape(len(weight_labels), self.groups, -1, weight_labels.shape[2], count_elements(kernel)),
            (2, 4),
        )
        channel_labels = channel_labels.reshape(len(channel_labels), 1, self.groups, -1, *(1,) * self.axis_count)
        grouped_biases = (labels_of_bias.reshape(-1, *channel_labels.shape[1:]) for labels_of_bias in bias_labels)
        labels = take_elementwise_min(
            self._adjoint_convolution.scatter_window_minimum(window_labels, inputs[1].shape, shape),
            channel_labels,
            *grouped_biases,
        )
        return labels.reshape(len(labels), *shape)

    def _group_shape(self, x: Array) -> Shape:
        """Return the channels of a group, and the lengths of the axes."""
        return (x.shape[-self.axis_count - 1] // self.groups, *x.shape[-self.axis_count :])

    def backward(self, gradient: Array, output: Array, input: Array, weight: Array, bias: Array | None) -> Gradients:
        by_extended_input = self._adjoint_convolution.forward(gradient, weight, None)
        by_input = by_extended_input[..., *map(slice, input.shape[-self.axis_count :])]
        x = self._extend_with_zeros(input)
        by_weight = self._adjoint_convolution.compute_weight_gradient(x, gradient, weight)
        by_bias = None
        if bias is not None:
            sample_axes = tuple(axis for axis in range(1, gradient.ndim) if axis != gradient.ndim - self.axis_count - 1)
            by_bias = gradient.sum(axis=sample_axes)
        return by_input, by_weight, by_bias

    def estimate_forward_rounding(self, output: Array, input: Array, weight: Array, bias: Array | None) -> Rounding:
        magnitude = self.forward(np.abs(input), np.abs(weight), None if bias is None else np.abs(bias))
        return Rounding(
            magnitude, count_elements(weight.shape[3:]) * weight.shape[1] // self.groups + (bias is not None)
        )

    def estimate_backward_rounding(
        self, gradient: Array, output: Array, input: Array, weight: Array, bias: Array | None
    ) -> tuple[Rounding | None, ...]:
        magnitudes = self.backward(np.abs(gradient), output, np.abs(input), np.abs(weight), bias)
        positions = count_elements(input.shape[1:]) // weight.shape[1]
        terms = (count_elements(weight.shape[2:]), positions, count_elements(output.shape[1:]))
        return tuple(
            None if magnitude is None else Rounding(magnitude, count)
            for magnitude, count in zip(magnitudes, terms, strict=True)
        )

    def estimate_cost(self, output: Shape, *shapes: Shape | None) -> ComputeCost:
        return self._adjoint_convolution.estimate_cost(shapes[0] or (), output, shapes[1])

    def count_propagation_elements(self, output: Shape, *shapes: Shape | None) -> int:
        # The values of the windows are set apart by the stride, which makes so many times more windows.
        return count_elements(
            self.list_axis_numbers(self.stride)
        ) * self._adjoint_convolution.count_propagation_elements(shapes[0] or (), output, shapes[1])

    def estimate_longest_call_work(self, output: Shape, *shapes: Shape | None) -> int:
        return self._adjoint_convolution.estimate_longest_call_work(shapes[0] or (), output, shapes[1])

    def torch_forward(self, torch: Any, input: Any, weight: Any, bias: Any) -> Any:
        has_batch = input.ndim == self.axis_count + 2
        stride, padding, output_padding, dilation = map(
            self.list_axis_numbers, (self.stride, self.padding, self.output_padding, self.dilation)
        )
        x = input if has_batch else input[None]
        y = transpose_in_blocks(torch, x, weight, bias, stride, padding, output_padding, self.groups, dilation)
        return y if has_batch else y[0]


@register_op("conv_transpose2d")
class ConvTranspose2d(TransposedConvolution):
    """Two-dimensional transposed convolution: the adjoint of conv2d, with a bias.

    Each element of x puts the kernel, times itself, into y. Input x (B, C, H, W) or (C, H, W), weight w (C, O/groups,
    kh, kw), bias b (O,). In each group, for all n, c, p, q:

        y[n, o, p sh + i dh - ph, q sw + j dw - pw] += w[c, o, i, j] x[n, c, p, q],    then y[n, o] += b[o]

    So with g = dL/dy, which conv2d takes back where x came from:

        dL/dx[n, c, p, q] = sum_{o, i, j} w[c, o, i, j] g[n, o, p sh + i dh - ph, q sw + j dw - pw]
        dL/dw[c, o, i, j] = sum_{n, p, q} x[n, c, p, q] g[n, o, p sh + i dh - ph, q sw + j dw - pw]
        dL/db[o] = sum of g[n, o]

    `output_padding` adds rows and columns behind, which some kernel offsets may still reach.
    """

    stride: Positive | PositivePair = 1
    padding: NotNegative | NotNegativePair = 0
    output_padding: NotNegative | NotNegativePair = 0
    groups: Positive = 1
    dilation: Positive | PositivePair = 1

    adjoint_type = Conv2d
    examples = (
        OpExample(((2, 3, 3, 4), (3, 2, 2, 3), (2,))),
        OpExample(((4, 3, 2), (4, 1, 3, 3), None), {"groups": 2, "stride": 2, "padding": 1, "output_padding": 1}),
        OpExample(((1, 2, 2, 3), (2, 2, 2, 2), (2,)), {"dilation": [2, 1], "stride": [1, 3], "output_padding": [1, 2]}),
    )


@register_op("conv_transpose3d")
class ConvTranspose3d(TransposedConvolution):
    """Three-dimensional transposed convolution: the adjoint of conv3d, with a bias.

    Each element of x puts the kernel, times itself, into y. Input x (B, C, D, H, W) or (C, D, H, W), weight w (C,
    O/groups, kd, kh, kw), bias b (O,). With places p and offsets e by axis, in each group, for all n, c, p:

        y[n, o, p s + e d - padding] += w[c, o, e] x[n, c, p],    then y[n, o] += b[o]

    So with g = dL/dy, which conv3d takes back where x came from:

        dL/dx[n, c, p] = sum_{o, e} w[c, o, e] g[n, o, p s + e d - padding]
        dL/dw[c, o, e] = sum_{n, p} x[n, c, p] g[n, o, p s + e d - padding]
        dL/db[o] = sum of g[n, o]

    `output_padding` adds places behind, which some kernel offsets may still reach.
    """

    stride: Positive | PositiveTriple = 1
    padding: NotNegative | NotNegativeTriple = 0
    output_padding: NotNegative | NotNegativeTriple = 0
    groups: Positive = 1
    dilation: Positive | PositiveTriple = 1

    adjoint_type = Conv3d
    kernel_axes = (-3, -2, -1)
    examples = (
        OpExample(((1, 2, 2, 2, 3), (2, 2, 2, 1, 2), (2,))),
        OpExample(
            ((4, 2, 2, 1), (4, 1, 2, 3, 2), None),
            {"groups": 2, "stride": [1, 2, 3], "padding": [0, 1, 0], "output_padding": [0, 1, 2]},
        ),
        OpExample(((1, 1, 2, 1, 2), (1, 1, 2, 2, 2), (1,)), {"dilation": [2, 1, 1]}),
    )
