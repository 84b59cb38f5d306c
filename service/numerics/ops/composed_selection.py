"""Selections and replacements of elements that are compositions of other ops."""

from typing import Any

from service.numerics.ops.axes import normalize_axis
from service.numerics.ops.composite import CompositeOp, Expansion, StepOperand
from service.numerics.ops.op import OpExample, ShapeError, register_op


@register_op("masked_fill")
class MaskedFill(CompositeOp):
    """One value where a mask is true: y = v where m, else x, with broadcasting of x and m.

    dL/dx = g where m is false, else 0, summed over the axes of a broadcast. dL/dv is the sum of g where m is true.
    """

    inputs = ("input", "mask:bool", "value")
    examples = (
        OpExample(((3, 4), (3, 4), ())),
        OpExample(((2, 3, 4), (4,), ())),
        OpExample(((4,), (3, 1), ())),
    )

    def expand(self, step: Expansion, input: str, mask: str, value: StepOperand) -> str:
        if step.get_shape(value):
            raise ShapeError("a value of one number, without axes")
        return step("where", mask, value, input)

    def torch_forward(self, torch: Any, input: Any, mask: Any, value: Any) -> Any:
        return torch.masked_fill(input, mask, value)


@register_op("take_along_dim")
class TakeAlongDim(CompositeOp):
    """Selection by position: y[p] = x[p with its coordinate `dim` replaced by i[p]], with broadcasting of x.

    dL/dx[q] = sum of g[p] over the positions p that read q.
    """

    dim: int

    inputs = ("input", "indices:index")
    positional = ("input", "indices", "dim")
    examples = (
        OpExample(((3, 4), (3, 6)), {"dim": 1}, index_limits={"indices": 4}),
        OpExample(((3, 1, 2), (2, 4, 2)), {"dim": 0}, index_limits={"indices": 3}),
    )

    def expand(self, step: Expansion, input: str, indices: str) -> str:
        shape, positions = step.get_shape(input), step.get_shape(indices)
        if not shape or len(shape) != len(positions):
            raise ShapeError("an input and indices with equally many axes")
        axis = normalize_axis(self.dim, len(shape))
        wanted = [n if k == axis else i for k, (n, i) in enumerate(zip(shape, positions, strict=True))]
        if any(n not in (1, length) for n, length in zip(shape, wanted, strict=True)):
            raise ShapeError(f"an input that has the lengths of the indices, or 1, in every axis but {self.dim}")
        return step("gather", step("expand", input, size=wanted), indices, dim=self.dim)

    def torch_forward(self, torch: Any, input: Any, indices: Any) -> Any:
        return torch.take_along_dim(input, indices, self.dim)


@register_op("trace")
class Trace(CompositeOp):
    """Sum of a matrix's diagonal: y = sum_i x_ii, dL/dx_ij = g for i = j, else 0."""

    inputs = ("input",)
    examples = (OpExample(((3, 3),)), OpExample(((2, 4),)))

    def expand(self, step: Expansion, input: str) -> str:
        if len(step.get_shape(input)) != 2:
            raise ShapeError("a matrix")
        return step("sum", step("diagonal", input))

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.trace(input)
