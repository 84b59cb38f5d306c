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
    """Each element of x puts the kernel, times itself, into y: the adjoint of conv2d, with a bias.

    Input x (B, C, H, W) or (C, H, W), weight w (C, O/groups, kh, kw), bias b (O,). In each group, for all n, c, p, q:

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
        """The convolution of which this is the adjoint."""
        return Conv2d(stride=self.stride, padding=self.padding, dilation=self.dilation, groups=self.groups)

    def output_shape(self, input: Shape, weight: Shape, bias: Shape | None) -> Shape:
        if len(input) not in (3, 4) or len(weight) != 4 or weight[0] != input[-3]:
            raise ShapeError("input (B, C, H, W) or (C, H, W) with weight (C, out/groups, kh, kw)")
        if weight[0] % self.groups:
            raise ShapeError(f"a number of channels that groups={self.groups} divides")
        channels = weight[1] * self.groups
        if bias is not None and bias != (channels,):
            raise ShapeError(f"a bias of shape {[channels]}")
        lengths = tuple(self._output_length(input[-2 + i], weight[-2 + i], i) for i in range(2))
        if min(lengths) < 1:
            raise ShapeError(f"an input of which padding={self.padding} leaves something")
        return (*input[:-3], channels, *lengths)

    def _output_length(self, length: int, kernel: int, i: int) -> int:
        stride, dilation, extra = (to_pair(each)[i] for each in (self.stride, self.dilation, self.output_padding))
        if extra >= max(stride, dilation):
            raise ShapeError("an output_padding smaller than stride or dilation")
        return (length - 1) * stride - 2 * to_pair(self.padding)[i] + dilation * (kernel - 1) + extra + 1

    def _extend_with_zeros(self, x: Array) -> Array:
        """Zeros behind, where the convolution of an output with padding behind has more positions than x."""
        more = [extra // s for extra, s in zip(to_pair(self.output_padding), to_pair(self.stride), strict=True)]
        return np.pad(x, [(0, 0)] * (x.ndim - 2) + [(0, n) for n in more]) if any(more) else x

    def _forward_without_bias(self, x: Array, weight: Array) -> Array:
        """Output without bias."""
        shape = self.output_shape(x.shape[1:], weight.shape[1:], None)
        x = self._extend_with_zeros(x)
        return self._adjoint_convolution.compute_input_gradient(x, np.zeros((1, *shape), dtype=x.dtype), weight)

    def forward(self, input: Array, weight: Array, bias: Array | None) -> Array:
        output = self._forward_without_bias(input, weight)
        return output if bias is None else output + align_rank(bias.reshape(*bias.shape, 1, 1), output.ndim - 1)

    def propagate_dependencies(self, values: DependencyLabels, *inputs: Any) -> Array:
        of_input, of_weight, *of_bias = drop_missing(values)
        shape = self.output_shape(*get_declared_shapes(inputs))
        channels = take_min_over_axes(of_input.reshape(len(of_input), -1, self.groups, *self._group_shape(of_input)), 3)
        of_channels = take_min_over_axes(
            of_weight.reshape(len(of_weight), self.groups, -1, *of_weight.shape[2:]), (2, 4, 5)
        )
        of_channels = of_channels.reshape(len(of_channels), 1, self.groups, -1, 1, 1)
        biases = (each.reshape(-1, *of_channels.shape[1:]) for each in of_bias)
        found = take_elementwise_min(
            self._adjoint_convolution.scatter_window_minimum(channels, inputs[1].shape, shape), of_channels, *biases
        )
        return found.reshape(len(found), *shape)

    def _group_shape(self, x: Array) -> Shape:
        """Channels of a group, rows and columns."""
        return (x.shape[-3] // self.groups, *x.shape[-2:])

    def backward(self, gradient: Array, output: Array, input: Array, weight: Array, bias: Array | None) -> Gradients:
        by_input = self._adjoint_convolution.forward(gradient, weight, None)[..., : input.shape[-2], : input.shape[-1]]
        x = self._extend_with_zeros(input)
        by_weight = self._adjoint_convolution.compute_weight_gradient(x, gradient, weight)
        by_bias = None
        if bias is not None:
            others = tuple(axis for axis in range(1, gradient.ndim) if axis != gradient.ndim - 3)
            by_bias = gradient.sum(axis=others)
        return by_input, by_weight, by_bias

    def forward_rounding(self, output: Array, input: Array, weight: Array, bias: Array | None) -> Rounding:
        magnitude = self.forward(np.abs(input), np.abs(weight), None if bias is None else np.abs(bias))
        return Rounding(
            magnitude, count_elements(weight.shape[3:]) * weight.shape[1] // self.groups + (bias is not None)
        )

    def backward_rounding(
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

    def propagation_elements(self, output: Shape, *shapes: Shape | None) -> int:
        # The windows that hold an element are as many as those of what stands apart by the stride.
        return count_elements(to_pair(self.stride)) * self._adjoint_convolution.propagation_elements(
            shapes[0] or (), output, shapes[1]
        )

    def longest_call_work(self, output: Shape, *shapes: Shape | None) -> int:
        return self._adjoint_convolution.longest_call_work(shapes[0] or (), output, shapes[1])

    def torch_forward(self, torch: Any, input: Any, weight: Any, bias: Any) -> Any:
        y = transpose_in_blocks(
            torch, input if input.ndim == 4 else input[None], weight, bias, to_pair(self.stride), to_pair(self.padding),
            to_pair(self.output_padding), self.groups, to_pair(self.dilation),
        )  # fmt: skip
        return y if input.ndim == 4 else y[0]
