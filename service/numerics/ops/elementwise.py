"""Ops that act on each element by itself."""

from typing import Any

import numpy as np

from service.numerics.ops.op import Case, Gradients, Op, Rounding, ShapeError, op
from service.numerics.tiles import Array, Shape, aligned, repeats, unbroadcast


class Unary(Op):
    """y = phi(x), element by element: dL/dx = g phi'(x), all of one shape (...)."""

    inputs = ("input",)
    cases = (Case(((3, 4),)), Case(((),)), Case(((5,),), scale=6.0))

    def shape(self, input: Shape) -> Shape:
        return input

    def rounding(self, output: Array, input: Array) -> Rounding:
        return Rounding(np.abs(output), 1)


@op("tanh")
class Tanh(Unary):
    """t = tanh(x), element by element.

    With g = dL/dt, all of shape (...):
        dL/dx = g (1 - t^2) = g sech^2(x) = g 4 e / (1 + e)^2,   e = exp(-2 abs(x))
    The last form is computed: 1 - t^2 has no digits left where t rounds to 1.
    """

    def forward(self, input: Array) -> Array:
        return np.tanh(input)

    def backward(self, gradient: Array, output: Array, input: Array) -> Gradients:
        e = np.exp(-2 * np.abs(input))
        return (gradient * (4 * e / np.square(1 + e)),)

    def backward_rounding(self, gradient: Array, output: Array, input: Array) -> tuple[Rounding]:
        # The textbook's 1 - t^2, cancellation included: a correct pass may well be written so.
        return (Rounding(np.abs(gradient) * (1 + np.square(output)), 1),)

    def twin(self, torch: Any, input: Any) -> Any:
        return torch.tanh(input)


@op("sigmoid")
class Sigmoid(Unary):
    """s = 1 / (1 + exp(-x)), element by element.

    With g = dL/ds, e = exp(-abs(x)), all of shape (...):
        s = 1 / (1 + e) for x >= 0, e / (1 + e) below, which never overflows
        dL/dx = g s (1 - s) = g e / (1 + e)^2
    The last form is computed: 1 - s has no digits left where s rounds to 1.
    """

    def forward(self, input: Array) -> Array:
        e = np.exp(-np.abs(input))
        return np.where(input >= 0, 1, e) / (1 + e)

    def backward(self, gradient: Array, output: Array, input: Array) -> Gradients:
        e = np.exp(-np.abs(input))
        return (gradient * (e / np.square(1 + e)),)

    def backward_rounding(self, gradient: Array, output: Array, input: Array) -> tuple[Rounding]:
        # The textbook's s (1 - s), cancellation included.
        return (Rounding(np.abs(gradient) * output * (1 + output), 1),)

    def twin(self, torch: Any, input: Any) -> Any:
        return torch.sigmoid(input)


@op("mul")
class Mul(Op):
    """y = a b, with the broadcasting of NumPy.

    With g = dL/dy of the broadcast shape:
        dL/da = sum g b over the axes along which a was broadcast
        dL/db = sum g a over the axes along which b was broadcast
    """

    inputs = ("input", "other")
    cases = (
        Case(((3, 4), (3, 4))),
        Case(((2, 3, 4), (4,))),
        Case(((3, 1), (1, 4))),
        Case(((), (2, 3))),
    )

    def shape(self, input: Shape, other: Shape) -> Shape:
        try:
            return np.broadcast_shapes(input, other)
        except ValueError:
            raise ShapeError("shapes that broadcast together") from None

    def forward(self, input: Array, other: Array) -> Array:
        rank = max(input.ndim, other.ndim) - 1
        return aligned(input, rank) * aligned(other, rank)

    def backward(self, gradient: Array, output: Array, input: Array, other: Array) -> Gradients:
        rank = output.ndim - 1
        return (
            unbroadcast(gradient * aligned(other, rank), input.shape[1:]),
            unbroadcast(gradient * aligned(input, rank), other.shape[1:]),
        )

    def rounding(self, output: Array, input: Array, other: Array) -> Rounding:
        return Rounding(np.abs(output), 1)

    def backward_rounding(
        self, gradient: Array, output: Array, input: Array, other: Array
    ) -> tuple[Rounding, Rounding]:
        by_input, by_other = self.backward(np.abs(gradient), output, np.abs(input), np.abs(other))
        assert by_input is not None
        assert by_other is not None
        result = output.shape[1:]
        return (
            Rounding(by_input, repeats(result, input.shape[1:])),
            Rounding(by_other, repeats(result, other.shape[1:])),
        )

    def twin(self, torch: Any, input: Any, other: Any) -> Any:
        return torch.mul(input, other)
