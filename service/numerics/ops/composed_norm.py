"""Pools and distances that are compositions of norms and powers."""

from math import prod
from typing import Annotated, Any, ClassVar

from annotated_types import Gt

from service.numerics.ops.axis_numbers import Positive, PositiveSingle, PositiveTriple, spread_over_axes
from service.numerics.ops.composite import CompositeOp, Expansion
from service.numerics.ops.half_precision import widen_half
from service.numerics.ops.op import OpExample, ShapeError, register_op
from service.numerics.ops.pair_attributes import PositivePair
from service.numerics.ops.vector_norm import NormOrder

NormType = Annotated[float, Gt(0)]


class LpPool(CompositeOp):
    """Root of the sum of powers of each window: y = (sum x^p)^(1/p), p = norm_type, without absolute values."""

    norm_type: Any
    kernel_size: Any
    stride: Any
    ceil_mode: Any

    axis_count: ClassVar[int]
    inputs = ("input",)
    positional = ("input", "norm_type", "kernel_size", "stride", "ceil_mode")

    def expand(self, step: Expansion, input: str) -> str:
        powers = step("pow", input, exponent=self.norm_type)
        options = {"kernel_size": self.kernel_size, "stride": self.stride, "ceil_mode": self.ceil_mode}
        means = step(f"avg_pool{self.axis_count}d", powers, **options)
        count = prod(spread_over_axes(self.kernel_size, self.axis_count))
        return step("pow", step("mul", means, float(count)), exponent=1 / self.norm_type)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        function = getattr(torch.nn.functional, self.name)
        kernel_size, stride = (
            number if number is None or self.axis_count == 1 else spread_over_axes(number, self.axis_count)
            for number in map(_take_single, (self.kernel_size, self.stride))
        )
        output = function(widen_half(torch, input), self.norm_type, kernel_size, stride, self.ceil_mode)
        return output.to(input.dtype)


def _take_single(value: int | list[int] | None) -> int | list[int] | None:
    """Return the number of a list of one number, and anything else as it is."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


@register_op("lp_pool1d")
class LpPool1d(LpPool):
    """Root of the sum of powers of each window: y = (k mean x^p)^(1/p), p = norm_type, k = kernel_size.

    The sign of x stays in its powers. dL/dx = sum of g (x / y)^(p-1) over the windows.
    """

    norm_type: NormType
    kernel_size: Positive | PositiveSingle
    stride: Positive | PositiveSingle | None = None
    ceil_mode: bool = False

    axis_count = 1
    examples = (OpExample(((2, 3, 6),), {"norm_type": 2, "kernel_size": 3, "stride": 2}, low=0.2),)


@register_op("lp_pool2d")
class LpPool2d(LpPool):
    """Root of the sum of powers of each window: y = (k mean x^p)^(1/p), p = norm_type, k elements in a window.

    The sign of x stays in its powers. dL/dx = sum of g (x / y)^(p-1) over the windows.
    """

    norm_type: NormType
    kernel_size: Positive | PositivePair
    stride: Positive | PositivePair | None = None
    ceil_mode: bool = False

    axis_count = 2
    examples = (
        OpExample(((2, 4, 6),), {"norm_type": 2, "kernel_size": 2}, low=0.2),
        OpExample(((1, 2, 5, 4),), {"norm_type": 3.5, "kernel_size": [2, 3], "ceil_mode": True}, low=0.2),
    )


@register_op("lp_pool3d")
class LpPool3d(LpPool):
    """Root of the sum of powers of each window: y = (k mean x^p)^(1/p), p = norm_type, k elements in a window.

    The sign of x stays in its powers. dL/dx = sum of g (x / y)^(p-1) over the windows.
    """

    norm_type: NormType
    kernel_size: Positive | PositiveTriple
    stride: Positive | PositiveTriple | None = None
    ceil_mode: bool = False

    axis_count = 3
    examples = (OpExample(((1, 2, 4, 2, 3),), {"norm_type": 2, "kernel_size": [2, 2, 1]}, low=0.2),)


@register_op("dist")
class Dist(CompositeOp):
    """Distance of two tensors: y = (sum abs(a - b)^p)^(1/p) over all elements, with broadcasting.

    With e = a - b: dL/da = g sign(e) (abs(e) / y)^(p-1), and dL/db = -dL/da, summed over the axes of a broadcast.
    """

    p: NormOrder = 2

    inputs = ("input", "other")
    positional = ("input", "other", "p")
    examples = (OpExample(((3, 4), (3, 4))), OpExample(((2, 3, 4), (4,)), {"p": 1}), OpExample(((5,), (5,)), {"p": 3}))

    def expand(self, step: Expansion, input: str, other: str) -> str:
        return step("vector_norm", step("sub", input, other), ord=self.p)

    def torch_forward(self, torch: Any, input: Any, other: Any) -> Any:
        return torch.dist(input, other, float(self.p))


@register_op("pdist")
class Pdist(CompositeOp):
    """Distances of the rows of x (N, D): y = (|x_0 - x_1|_p, |x_0 - x_2|_p, ..., |x_1 - x_2|_p, ...).

    With e = x_i - x_j: dL/dx_i = sum of g sign(e) (abs(e) / y)^(p-1) over the pairs of i, and the negative for j.
    """

    p: NormOrder = 2

    inputs = ("input",)
    positional = ("input", "p")
    examples = (OpExample(((4, 3),)), OpExample(((3, 2),), {"p": 1}), OpExample(((2, 4),), {"p": 3}))

    def expand(self, step: Expansion, input: str) -> str:
        shape = step.get_shape(input)
        if len(shape) != 2 or shape[0] < 2:
            raise ShapeError("an input (N, D) of at least two rows")
        if not float(self.p) >= 0:
            raise ShapeError("a p that is not negative")
        differences = [
            step(
                "sub",
                step("narrow", input, dim=0, start=row, length=1),
                step("narrow", input, dim=0, start=row + 1, length=shape[0] - 1 - row),
            )
            for row in range(shape[0] - 1)
        ]
        joined = differences[0] if len(differences) == 1 else step("cat", *differences, dim=0)
        return step("vector_norm", joined, dim=[1], ord=self.p)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.pdist(widen_half(torch, input), float(self.p)).to(input.dtype)
