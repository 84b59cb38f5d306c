"""Convolutions along two and three axes: cross-correlations, by PyTorch's name."""

from typing import Literal

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.ops.axis_numbers import NotNegativeTriple, PositiveTriple
from service.numerics.ops.correlation import Correlation
from service.numerics.ops.op import Gradients, OpExample, declare_bug_named, register_op
from service.numerics.ops.pair_attributes import NotNegative, NotNegativePair, Positive, PositivePair


class PlaneCorrelation(Correlation):
    """Cross-correlation whose kernel has rows and columns."""

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


@register_op("conv2d")
class Conv2d(PlaneCorrelation):
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

    takes_plain_form = True
    examples = (
        OpExample(((3, 3), (2, 2), None)),
        OpExample(((5, 7), (3, 2), ()), {"stride": 2, "padding": [1, 0]}),
        OpExample(((2, 5, 6), (3, 2, 2, 3), (3,)), {"dilation": [2, 1]}),
        OpExample(((2, 4, 6, 5), (6, 2, 3, 3), (6,)), {"groups": 2, "padding": 1, "stride": [2, 1]}),
        OpExample(((2, 3, 5, 4), (2, 3, 2, 4), None), {"padding": "same"}),
        OpExample(((1, 2, 4, 4), (2, 2, 1, 1), None), {"padding": "valid"}),
    )


@register_op("conv3d")
class Conv3d(PlaneCorrelation):
    """Three-dimensional cross-correlation, in groups of channels.

    Input x (B, C, D, H, W) or (C, D, H, W) has a weight w (O, C/groups, kd, kh, kw) and a bias b (O,). With p, q, r
    over the output and x padded with zeros, in each group:

        y[n, o, p, q, r] = b[o] + sum_{c, i, j, k} w[o, c, i, j, k] x[n, c, p sd + i dd, q sh + j dh, r sw + k dw]

    With g = dL/dy, each factor of each product meets the other and g:

        dL/dx[n, c, p sd + i dd, q sh + j dh, r sw + k dw] += sum_o w[o, c, i, j, k] g[n, o, p, q, r]
        dL/dw[o, c, i, j, k] = sum_{n, p, q, r} g[n, o, p, q, r] x[n, c, p sd + i dd, q sh + j dh, r sw + k dw]
        dL/db[o] = sum_{n, p, q, r} g[n, o, p, q, r]
    """

    stride: Positive | PositiveTriple = 1
    padding: NotNegative | NotNegativeTriple | Literal["valid", "same"] = 0
    dilation: Positive | PositiveTriple = 1
    groups: Positive = 1

    kernel_axes = (-3, -2, -1)
    examples = (
        OpExample(((1, 2, 3, 4, 3), (2, 2, 2, 2, 2), (2,)), {"padding": [1, 0, 1], "stride": [1, 2, 1]}),
        OpExample(((2, 3, 3, 5), (4, 1, 2, 2, 2), None), {"groups": 2, "dilation": [1, 1, 3]}),
        OpExample(((1, 1, 2, 3, 3), (1, 1, 2, 3, 1), (1,)), {"padding": "same"}),
    )
