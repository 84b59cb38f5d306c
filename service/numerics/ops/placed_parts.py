"""Placements of a part of a tensor: a slice, one position of an axis, or a diagonal."""

from typing import Any

from service.numerics.core.batching import Array, Shape
from service.numerics.ops.axis_numbers import Positive
from service.numerics.ops.element_moves import Diagonal, ElementMove, Select
from service.numerics.ops.op import OpExample, ShapeError, register_op
from service.numerics.ops.placement import ReplacingPlacement, declare_joint_linearity
from service.numerics.ops.slices import Slice


class PartPlacement(ReplacingPlacement):
    """A placement of src at the part of the input that a move of elements picks."""

    inputs = ("input", "src")
    source_position = 1
    linear_in = declare_joint_linearity("src")

    @property
    def _part(self) -> ElementMove:
        """Return the move that picks the part."""
        raise NotImplementedError(f"{self.name} has no part")

    def infer_output_shape(self, input: Shape, src: Shape) -> Shape:
        if src != (expected := self._part.infer_output_shape(input)):
            raise ShapeError(f"a src of shape {list(expected)}")
        return input

    def pick(self, numbers: Array, *indices: Array) -> Array:
        return self._part.move(numbers)


@register_op("slice_scatter")
class SliceScatter(PartPlacement):
    """Replacement of a slice: y[..., start + k step, ...] = src[..., k, ...], y = x elsewhere.

    dL/dx = g, 0 in the slice, and dL/dsrc is g in the slice.
    """

    dim: int = 0
    start: int | None = None
    end: int | None = None
    step: Positive = 1

    examples = (
        OpExample(((5, 2), (3, 2)), {"start": 1, "end": 4}),
        OpExample(((2, 7), (2, 3)), {"dim": -1, "start": -6, "end": 6, "step": 2}),
    )

    @property
    def _part(self) -> ElementMove:
        return Slice(dim=self.dim, start=self.start, end=self.end, step=self.step)

    def torch_forward(self, torch: Any, input: Any, src: Any) -> Any:
        return torch.slice_scatter(input, src, self.dim, self.start, self.end, self.step)


@register_op("select_scatter")
class SelectScatter(PartPlacement):
    """Replacement of one position of an axis: y[..., index, ...] = src, y = x elsewhere.

    dL/dx = g, 0 at that position, and dL/dsrc is g there.
    """

    dim: int
    index: int

    examples = (
        OpExample(((3, 4), (4,)), {"dim": 0, "index": 1}),
        OpExample(((2, 3, 4), (2, 3)), {"dim": -1, "index": -1}),
    )

    @property
    def _part(self) -> ElementMove:
        return Select(dim=self.dim, index=self.index)

    def torch_forward(self, torch: Any, input: Any, src: Any) -> Any:
        return torch.select_scatter(input, src, self.dim, self.index)


@register_op("diagonal_scatter")
class DiagonalScatter(PartPlacement):
    """Replacement of a diagonal: y[..., i, ..., i + offset] = src[..., i], y = x elsewhere.

    dL/dx = g, 0 on the diagonal, and dL/dsrc is g on it.
    """

    offset: int = 0
    dim1: int = 0
    dim2: int = 1

    examples = (
        OpExample(((3, 4), (3,))),
        OpExample(((2, 3, 4), (2, 3)), {"offset": 1, "dim1": -2, "dim2": -1}),
    )

    @property
    def _part(self) -> ElementMove:
        return Diagonal(offset=self.offset, dim1=self.dim1, dim2=self.dim2)

    def torch_forward(self, torch: Any, input: Any, src: Any) -> Any:
        return torch.diagonal_scatter(input, src, self.offset, self.dim1, self.dim2)
