"""Losses."""

from typing import Any, Literal

import numpy as np

from service.numerics.ops.op import Case, Gradients, Op, Rounding, ShapeError, op
from service.numerics.tiles import Array, Shape, size

Reduction = Literal["none", "sum", "mean"]


class ElementwiseLoss(Op):
    """A loss of pairs of elements, reduced as PyTorch does: none, their sum, or their mean."""

    reduction: Reduction

    def shape(self, input: Shape, target: Shape) -> Shape:
        if input != target:
            raise ShapeError("two inputs of one shape")
        return input if self.reduction == "none" else ()

    def _reduced(self, losses: Array) -> Array:
        if self.reduction == "none":
            return losses
        total = losses.reshape(losses.shape[0], -1).sum(axis=1)
        return total / self._divisor(losses)

    def _divisor(self, losses: Array) -> int:
        return size(losses.shape[1:]) if self.reduction == "mean" else 1

    def _spread(self, gradient: Array, like: Array) -> Array:
        """Bring dL/d(output) to each element: the reduction's own gradient."""
        if self.reduction == "none":
            return gradient
        return gradient.reshape(gradient.shape[:1] + (1,) * (like.ndim - 1)) / self._divisor(like)


@op("half_squared_error")
class HalfSquaredError(ElementwiseLoss):
    """0.5 (a - y)^2 for each element, then none, sum or mean over the N elements.

    With g = dL/d(output), a and y of shape (...), c = 1 (none, sum) or 1/N (mean):
        dL/da = g c (a - y)        dL/dy = -dL/da
    """

    reduction: Reduction = "mean"

    inputs = ("input", "target")
    cases = (
        Case(((3, 4), (3, 4))),
        Case(((5,), (5,)), {"reduction": "sum"}),
        Case(((), ()), {"reduction": "none"}),
        Case(((2, 3), (2, 3)), {"reduction": "none"}),
    )

    def forward(self, input: Array, target: Array) -> Array:
        return self._reduced(np.square(input - target) / 2)

    def backward(self, gradient: Array, output: Array, input: Array, target: Array) -> Gradients:
        difference = input - target
        by_input = self._spread(gradient, difference) * difference
        return by_input, -by_input

    def rounding(self, output: Array, input: Array, target: Array) -> Rounding:
        # a - y of two given numbers is off by one rounding of the difference, however much they cancel.
        terms = 1 if self.reduction == "none" else size(input.shape[1:])
        return Rounding(np.abs(output), terms)

    def backward_rounding(
        self, gradient: Array, output: Array, input: Array, target: Array
    ) -> tuple[Rounding, Rounding]:
        by_input, _ = self.backward(gradient, output, input, target)
        assert by_input is not None
        rounding = Rounding(np.abs(by_input), 1)
        return rounding, rounding

    def terms(self, output: Array, input: Array, target: Array) -> Array:
        losses = np.square(input - target) / 2
        return losses.reshape(losses.shape[0], -1) / self._divisor(losses)

    def terms_rounding(self, terms: Array) -> Rounding:
        # One rounding of the difference, which squaring doubles, one of the square, one of the division.
        return Rounding(np.abs(terms), 4)

    def twin(self, torch: Any, input: Any, target: Any) -> Any:
        return torch.nn.functional.mse_loss(input, target, reduction=self.reduction) / 2
