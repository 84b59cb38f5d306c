"""Transposed convolution: the adjoint of a convolution."""

from typing import Any

import numpy as np

from service.numerics.core.batching import Array, Shape, align_rank, count_elements
from service.numerics.core.sparsity import drop_missing, take_elementwise_min, take_min_over_axes
from service.numerics.ops.blocked_convolution import transpose_in_blocks
from service.numerics.ops.conv import Conv2d, Convolution
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
from service.numerics.ops.pair_attributes import NotNegative, NotNegativePair, Positive, PositivePair, to_pair


@register_op("conv_transpose2d")
class ConvTranspose2d(Convolution):
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

    examples = (
        OpExample(((2, 3, 3, 4), (3, 2, 2, 3), (2,))),
        OpExample(((4, 3, 2), (4, 1, 3, 3), None), {"groups": 2, "stride": 2, "padding": 1, "output_padding": 1}),
        OpExample(((1, 2, 2, 3), (2, 2, 2, 2), (2,)), {"dilation": [2, 1], "stride": [1, 3], "output_padding": [1, 2]}),
    )

    @property
    def _adjoint_convolution(self) -> Conv2d:
        """Return the convolution whose adjoint this op is."""
        return Conv2d(stride=self.stride, padding=self.padding, dilation=self.dilation, groups=self.groups)

    def infer_output_shape(self, input: Shape, weight: Shape, bias: Shape | None) -> Shape:
        if len(input) not in (3, 4) or len(weight) != 4 or weight[0] != input[-3]:
            raise ShapeError("input (B, C, H, W) or (C, H, W) with weight (C, out/groups, kh, kw)")
        if weight[0] % self.groups:
            raise ShapeError(f"a number of channels divisible by groups={self.groups}")
        channels = weight[1] * self.groups
        if bias is not None and bias != (channels,):
            raise ShapeError(f"a bias of shape {[channels]}")
        lengths = tuple(self._compute_output_length(input[-2 + i], weight[-2 + i], i) for i in range(2))
        if min(lengths) < 1:
            raise ShapeError(f"an input that padding={self.padding} does not cut off whole")
        return (*input[:-3], channels, *lengths)

    def _compute_output_length(self, length: int, kernel: int, axis: int) -> int:
        stride, dilation, output_padding = (
            to_pair(attribute)[axis] for attribute in (self.stride, self.dilation, self.output_padding)
        )
        if output_padding >= max(stride, dilation):
            raise ShapeError("an output_padding smaller than stride or dilation")
        return (length - 1) * stride - 2 * to_pair(self.padding)[axis] + dilation * (kernel - 1) + output_padding + 1

    def _extend_with_zeros(self, x: Array) -> Array:
        """Return x with zeros behind.

        A convolution of an output with padding behind may have more positions than x.
        """
        zero_counts = [
            output_padding // s
            for output_padding, s in zip(to_pair(self.output_padding), to_pair(self.stride), strict=True)
        ]
        return np.pad(x, [(0, 0)] * (x.ndim - 2) + [(0, n) for n in zero_counts]) if any(zero_counts) else x

    def _forward_without_bias(self, x: Array, weight: Array) -> Array:
        """Return the output without the bias."""
        shape = self.infer_output_shape(x.shape[1:], weight.shape[1:], None)
        x = self._extend_with_zeros(x)
        return self._adjoint_convolution.compute_input_gradient(x, np.zeros((1, *shape), dtype=x.dtype), weight)

    def forward(self, input: Array, weight: Array, bias: Array | None) -> Array:
        output = self._forward_without_bias(input, weight)
        return output if bias is None else output + align_rank(bias.reshape(*bias.shape, 1, 1), output.ndim - 1)

    def propagate_dependencies(self, values: DependencyLabels, *inputs: Any) -> Array:
        input_labels, weight_labels, *bias_labels = drop_missing(values)
        shape = self.infer_output_shape(*get_declared_shapes(inputs))
        window_labels = take_min_over_axes(
            input_labels.reshape(len(input_labels), -1, self.groups, *self._group_shape(input_labels)), 3
        )
        channel_labels = take_min_over_axes(
            weight_labels.reshape(len(weight_labels), self.groups, -1, *weight_labels.shape[2:]), (2, 4, 5)
        )
        channel_labels = channel_labels.reshape(len(channel_labels), 1, self.groups, -1, 1, 1)
        grouped_biases = (labels_of_bias.reshape(-1, *channel_labels.shape[1:]) for labels_of_bias in bias_labels)
        labels = take_elementwise_min(
            self._adjoint_convolution.scatter_window_minimum(window_labels, inputs[1].shape, shape),
            channel_labels,
            *grouped_biases,
        )
        return labels.reshape(len(labels), *shape)

    def _group_shape(self, x: Array) -> Shape:
        """Return the channels of a group, the rows and the columns."""
        return (x.shape[-3] // self.groups, *x.shape[-2:])

    def backward(self, gradient: Array, output: Array, input: Array, weight: Array, bias: Array | None) -> Gradients:
        by_input = self._adjoint_convolution.forward(gradient, weight, None)[..., : input.shape[-2], : input.shape[-1]]
        x = self._extend_with_zeros(input)
        by_weight = self._adjoint_convolution.compute_weight_gradient(x, gradient, weight)
        by_bias = None
        if bias is not None:
            sample_axes = tuple(axis for axis in range(1, gradient.ndim) if axis != gradient.ndim - 3)
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
        return count_elements(to_pair(self.stride)) * self._adjoint_convolution.count_propagation_elements(
            shapes[0] or (), output, shapes[1]
        )

    def estimate_longest_call_work(self, output: Shape, *shapes: Shape | None) -> int:
        return self._adjoint_convolution.estimate_longest_call_work(shapes[0] or (), output, shapes[1])

    def torch_forward(self, torch: Any, input: Any, weight: Any, bias: Any) -> Any:
        y = transpose_in_blocks(
            torch, input if input.ndim == 4 else input[None], weight, bias, to_pair(self.stride), to_pair(self.padding),
            to_pair(self.output_padding), self.groups, to_pair(self.dilation),
        )  # fmt: skip
        return y if input.ndim == 4 else y[0]
