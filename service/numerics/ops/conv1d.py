"""One-dimensional convolution."""

from typing import Literal

from service.numerics.ops.axis_numbers import NotNegative, NotNegativeSingle, Positive, PositiveSingle
from service.numerics.ops.correlation import Correlation
from service.numerics.ops.op import OpExample, register_op


@register_op("conv1d")
class Conv1d(Correlation):
    """One-dimensional cross-correlation, in groups of channels.

    Input x (B, C, L) or (C, L), weight w (O, C/groups, k), bias b (O,). With p over the output and x padded with zeros,
    in each group:

        y[n, o, p] = b[o] + sum_{c, i} w[o, c, i] x[n, c, p s + i d]

    With g = dL/dy of shape (B, O, out), each factor of each product meets the other and g:

        dL/dx[n, c, p s + i d] += sum_o w[o, c, i] g[n, o, p]     for all i, p
        dL/dw[o, c, i] = sum_{n, p} g[n, o, p] x[n, c, p s + i d]
        dL/db[o] = sum_{n, p} g[n, o, p]
    """

    stride: Positive | PositiveSingle = 1
    padding: NotNegative | NotNegativeSingle | Literal["valid", "same"] = 0
    dilation: Positive | PositiveSingle = 1
    groups: Positive = 1

    kernel_axes = (-1,)
    examples = (
        OpExample(((2, 3, 7), (4, 3, 3), (4,)), {"stride": 2, "padding": 1}),
        OpExample(((2, 6), (4, 1, 2), None), {"groups": 2, "dilation": [2]}),
        OpExample(((1, 2, 5), (2, 2, 4), (2,)), {"padding": "same"}),
    )
