"""Ops that move values without computing any."""

from typing import Any

from service.numerics.ops.op import Case, Gradients, Op, ShapeError, op
from service.numerics.tiles import Array, Shape, size


@op("flatten")
class Flatten(Op):
    """Axes start_dim to end_dim, both included, become one, row by row.

    y[..., i W + j, ...] = x[..., i, j, ...] has one source for each element, so dL/dx is g in the shape of x.
    """

    start_dim: int = 0
    end_dim: int = -1

    inputs = ("input",)
    cases = (
        Case(((3, 4),)),
        Case(((),)),
        Case(((2, 3, 4, 2),), {"start_dim": 1}),
        Case(((2, 3, 4, 2),), {"start_dim": 1, "end_dim": -2}),
    )

    def shape(self, input: Shape) -> Shape:
        if not input:
            # As in PyTorch, a number counts as one axis of one element.
            return self.shape((1,))
        start, end = self._axis(self.start_dim, len(input)), self._axis(self.end_dim, len(input))
        if start > end:
            raise ShapeError(f"start_dim ({self.start_dim}) not behind end_dim ({self.end_dim})")
        merged = size(input[start : end + 1])
        return (*input[:start], merged, *input[end + 1 :])

    @staticmethod
    def _axis(axis: int, rank: int) -> int:
        if not -rank <= axis < rank:
            raise ShapeError(f"an axis from {-rank} to {rank - 1}; {axis} was asked for")
        return axis % rank

    def forward(self, input: Array) -> Array:
        return input.reshape(input.shape[:1] + self.shape(input.shape[1:]))

    def backward(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient.reshape(gradient.shape[:1] + input.shape[1:]),)

    def rounding(self, output: Array, input: Array) -> None:
        return None

    def backward_rounding(self, gradient: Array, output: Array, input: Array) -> tuple[None]:
        return (None,)

    def twin(self, torch: Any, input: Any) -> Any:
        return torch.flatten(input, self.start_dim, self.end_dim)
