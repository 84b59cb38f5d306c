"""Reductions that are compositions of other ops."""

import math
from typing import Any

from service.numerics.core.batching import count_elements
from service.numerics.ops.axes import AxisSelection, normalize_axes
from service.numerics.ops.composite import CompositeOp, Expansion
from service.numerics.ops.correction import choose_correction
from service.numerics.ops.op import OpExample, ShapeError, register_op


@register_op("amin")
class Amin(CompositeOp):
    """Minimum: y = min x = -max(-x).

    dL/dx = g at the smallest element, in equal parts at several equal ones.
    """

    dim: AxisSelection = None
    keepdim: bool = False

    inputs = ("input",)
    positional = ("input", "dim")
    examples = (
        OpExample(((3, 4),)),
        OpExample(((2, 3, 4),), {"dim": 1}),
        OpExample(((2, 3, 4),), {"dim": [0, -1], "keepdim": True}),
    )

    def expand(self, step: Expansion, input: str) -> str:
        return step("neg", step("amax", step("neg", input), dim=self.dim, keepdim=self.keepdim))

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.amin(input, normalize_axes(self.dim, input.ndim), self.keepdim)


@register_op("std")
class StandardDeviation(CompositeOp):
    """Standard deviation: y = |x - m|_2 / sqrt(N - correction), m the mean.

    dL/dx = g (x - m) / (y (N - correction)), and 0 where y = 0. The mean's own derivative drops out, since
    sum (x - m) = 0. `unbiased` is PyTorch's older name for a correction of 1 or 0.
    """

    dim: AxisSelection = None
    correction: float | None = 1
    keepdim: bool = False
    unbiased: bool | None = None

    inputs = ("input",)
    positional = ("input", "dim")
    examples = (
        OpExample(((3, 4),)),
        OpExample(((2, 3, 4),), {"dim": 1, "correction": 0}),
        OpExample(((2, 3, 4),), {"dim": [0, -1], "keepdim": True}),
    )

    def expand(self, step: Expansion, input: str) -> str:
        shape = step.get_shape(input)
        axes = normalize_axes(self.dim, len(shape))
        count = count_elements(tuple(shape[axis] for axis in axes))
        correction = choose_correction(self.correction, self.unbiased)
        if count <= correction:
            raise ShapeError(f"more than {correction:g} elements for the deviation, and has {count}")
        centred = step("sub", input, step("mean", input, dim=list(axes), keepdim=True))
        norm = step("vector_norm", centred, dim=list(axes), keepdim=self.keepdim)
        return step("div", norm, math.sqrt(count - correction))

    def torch_forward(self, torch: Any, input: Any) -> Any:
        axes = normalize_axes(self.dim, input.ndim)
        correction = choose_correction(self.correction, self.unbiased)
        return torch.std(input, axes, correction=correction, keepdim=self.keepdim)
