"""Layers that are compositions of other ops."""

from math import prod
from typing import Annotated, Any

from annotated_types import Gt

from service.numerics.ops.axis_numbers import NotNegative, NotNegativeSingle, Positive, PositiveSingle, spread_over_axes
from service.numerics.ops.composite import CompositeOp, Expansion
from service.numerics.ops.norm import BatchNorm
from service.numerics.ops.op import OpExample, ShapeError, register_form, register_op


@register_op("conv_transpose1d")
class ConvTranspose1d(CompositeOp):
    """One-dimensional transposed convolution: conv_transpose2d of one row.

    Input x (B, C, L) or (C, L), weight w (C, O/groups, k), bias b (O,). In each group, for all n, c, p:
        y[n, o, p s + i d - padding] += w[c, o, i] x[n, c, p],    then y[n, o] += b[o]
    So dL/dx[n, c, p] = sum_{o, i} w[c, o, i] g[n, o, p s + i d - padding], dL/dw[c, o, i] is the sum of
    x[n, c, p] g[n, o, p s + i d - padding], and dL/db[o] that of g[n, o].
    """

    stride: Positive | PositiveSingle = 1
    padding: NotNegative | NotNegativeSingle = 0
    output_padding: NotNegative | NotNegativeSingle = 0
    groups: Positive = 1
    dilation: Positive | PositiveSingle = 1

    inputs = ("input", "weight", "bias?")
    examples = (
        OpExample(((2, 3, 4), (3, 2, 3), (2,))),
        OpExample(((4, 3), (4, 1, 3), None), {"groups": 2, "stride": 2, "padding": 1, "output_padding": 1}),
        OpExample(((1, 2, 3), (2, 2, 2), (2,)), {"dilation": [2], "stride": 3}),
    )

    def expand(self, step: Expansion, input: str, weight: str, bias: str | None) -> str:
        if len(step.get_shape(input)) not in (2, 3) or len(step.get_shape(weight)) != 3:
            raise ShapeError("input (B, C, L) or (C, L) with weight (C, out/groups, k)")
        numbers = {"stride": self.stride, "padding": self.padding, "dilation": self.dilation}
        numbers["output_padding"] = self.output_padding
        row = {name: 0 if "padding" in name else 1 for name in numbers}
        pairs = {name: [row[name], *spread_over_axes(number, 1)] for name, number in numbers.items()}
        rows = (step("unsqueeze", operand, dim=-2) for operand in (input, weight))
        return step("squeeze", step("conv_transpose2d", *rows, bias, groups=self.groups, **pairs), dim=[-2])

    def torch_forward(self, torch: Any, input: Any, weight: Any, bias: Any) -> Any:
        return torch.nn.functional.conv_transpose1d(
            input, weight, bias, self.stride, self.padding, self.output_padding, self.groups, self.dilation
        )


@register_form("batch_norm", "of running statistics")
class BatchNormOfRunningStatistics(CompositeOp):
    """Batch normalisation in evaluation: y = f x + (b - f m) with f = w / sqrt(v + eps), as PyTorch computes it.

    The textbook's w (x - m) / sqrt(v + eps) rounds less where x is near a large m.
    """

    eps: float = 1e-5

    inputs = ("input", "weight?", "bias?", "running_mean?", "running_var?")

    def expand(
        self, step: Expansion, input: str, weight: str | None, bias: str | None, running_mean: str, running_var: str
    ) -> str:
        shape = [-1, *(1,) * (len(step.get_shape(input)) - 2)]
        factor = step("rsqrt", step("add", running_var, self.eps))
        if weight is not None:
            factor = step("mul", factor, weight)
        shift = step("neg", step("mul", running_mean, factor))
        if bias is not None:
            shift = step("add", bias, shift)
        scaled = step("mul", input, step("reshape", factor, shape=shape))
        return step("add", scaled, step("reshape", shift, shape=shape))

    def torch_forward(self, torch: Any, *inputs: Any) -> Any:
        return BatchNorm(training=False, eps=self.eps).torch_forward(torch, *inputs)


@register_op("instance_norm")
class InstanceNorm(CompositeOp):
    """Normalisation of each channel of each sample: group_norm with one channel a group.

    y = w z + b with z = (x - m) / s, the mean m and s = sqrt(variance + eps) over the elements of a channel:
        dL/dx = w (g - mean(g) - z mean(g z)) / s        dL/dw = sum g z        dL/db = sum g
    With use_input_stats=false it is batch_norm with training=false.
    """

    use_input_stats: bool = True
    eps: Annotated[float, Gt(0)] = 1e-5

    inputs = ("input", "weight?", "bias?", "running_mean?", "running_var?")
    positional = ("input",)
    examples = (
        OpExample(((2, 3, 5), (3,), (3,), None, None)),
        OpExample(((1, 2, 3, 2), None, None, None, None), {"eps": 0.1}),
        OpExample(((2, 3, 4), (3,), (3,), (3,), (3,)), {"use_input_stats": False}, low=0.3),
    )

    def expand(
        self,
        step: Expansion,
        input: str,
        weight: str | None,
        bias: str | None,
        running_mean: str | None = None,
        running_var: str | None = None,
    ) -> str:
        shape, statistics = step.get_shape(input), (running_mean, running_var)
        if len(shape) < 3:
            raise ShapeError("an input (B, C, ...) of three axes or more")
        if not self.use_input_stats:
            if None in statistics:
                raise ShapeError("a running_mean and a running_var with use_input_stats=false")
            return step("batch_norm", input, weight, bias, *statistics, training=False, eps=self.eps)
        if statistics != (None, None):
            raise ShapeError("running_mean and running_var with use_input_stats=false alone")
        if not shape[1] or prod(shape[2:]) < 2:
            raise ShapeError("an input (B, C, ...) with several elements a channel")
        return step("group_norm", input, weight, bias, num_groups=shape[1], eps=self.eps)

    def torch_forward(
        self, torch: Any, input: Any, weight: Any, bias: Any, running_mean: Any = None, running_var: Any = None
    ) -> Any:
        if not self.use_input_stats:
            op = BatchNorm(training=False, eps=self.eps)
            return op.torch_forward(torch, input, weight, bias, running_mean, running_var)
        return torch.nn.functional.instance_norm(input, weight=weight, bias=bias, eps=self.eps)


@register_op("local_response_norm")
class LocalResponseNorm(CompositeOp):
    """y = x / (k + alpha a)^beta, a the mean of x^2 over `size` neighbouring channels, those beyond the ends 0.

    With d = k + alpha a, q = g x d^(-beta - 1) and the windows of channels W:
        dL/dx_c = g_c d_c^-beta - (2 alpha beta / size) x_c (sum of q over the channels whose W holds c)
    """

    size: Positive
    alpha: float = 1e-4
    beta: float = 0.75
    k: float = 1.0

    inputs = ("input",)
    examples = (
        OpExample(((2, 4, 3),), {"size": 3, "alpha": 0.5}),
        OpExample(((1, 3, 2, 2),), {"size": 2, "alpha": 0.3, "beta": 0.5, "k": 2.0}),
    )

    def expand(self, step: Expansion, input: str) -> str:
        shape = step.get_shape(input)
        if len(shape) < 3:
            raise ShapeError("an input (B, C, ...) of three axes or more")
        planes = step("reshape", step("square", input), shape=[shape[0], 1, shape[1], prod(shape[2:])])
        padded = step("pad", planes, pad=[0, 0, self.size // 2, (self.size - 1) // 2])
        means = step("avg_pool2d", padded, kernel_size=[self.size, 1], stride=1)
        divisors = step("add", step("mul", step("reshape", means, shape=list(shape)), self.alpha), self.k)
        return step("div", input, step("pow", divisors, exponent=self.beta))

    def torch_forward(self, torch: Any, input: Any) -> Any:
        # PyTorch has none of images in half precision.
        wide = input.float() if input.dtype in (torch.float16, torch.bfloat16) else input
        output = torch.nn.functional.local_response_norm(wide, self.size, self.alpha, self.beta, self.k)
        return output.to(input.dtype)
