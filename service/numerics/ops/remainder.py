"""Whole quotients and remainders of a division, element by element, with the broadcasting of NumPy."""

from dataclasses import replace
from typing import Any, Literal

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.ops.binary import BinaryOp, align_ranks
from service.numerics.ops.jumps import JumpingOp
from service.numerics.ops.op import Gradients, OpExample, declare_bug, register_form, register_op
from service.numerics.ops.pointwise import sum_to_operands
from service.numerics.ops.rounding_errors import Rounding

_EXAMPLES = (
    OpExample(((3, 4), (3, 4)), low=0.4, high=3),
    OpExample(((2, 3, 4), (4,)), low=-3, high=-0.4),
    OpExample(((), (2, 3)), low=0.4, high=3),
)


class Remainder(JumpingOp, BinaryOp):
    """The remainder of a division: y = a - n b with a whole number n on each piece."""

    examples = _EXAMPLES

    def forward(self, input: Array, other: Array) -> Array:
        return self.evaluate_function(*align_ranks(input, other))

    def forward_on_branch(self, branch: Array, input: Array, other: Array) -> Array:
        a, b = align_ranks(input, other)
        return a - branch * b

    def count_divisions(self, a: Array, b: Array) -> Array:
        """Return the whole number n of each element."""
        raise NotImplementedError

    def select_branch(self, input: Array, other: Array) -> Array:
        return self.count_divisions(*align_ranks(input, other))

    def compute_partial_gradients(self, g: Array, a: Array, b: Array, y: Array) -> tuple[Array, Array]:
        return g + 0 * b, -g * self.count_divisions(a, b)

    def estimate_rounding_on_branch(self, branch: Array, output: Array, input: Array, other: Array) -> Rounding:
        divisor = align_ranks(input, other)[1]
        return Rounding(np.abs(output) + np.abs(branch * divisor), 1)

    @declare_bug("the divisor was treated as a constant")
    def divisor_constant(self, gradient: Array, output: Array, input: Array, other: Array) -> Gradients:
        return sum_to_operands((gradient, 0 * gradient), (input, other))

    @declare_bug("the quotient was used in place of the whole number of divisions")
    def quotient_not_whole(self, gradient: Array, output: Array, input: Array, other: Array) -> Gradients:
        a, b = align_ranks(input, other)
        return sum_to_operands((gradient, -gradient * a / b), (input, other))


@register_op("remainder")
class FloorRemainder(Remainder):
    """Remainder with the sign of the divisor: y = a - n b with n = floor(a / b).

    dL/da = g, dL/db = -g n, summed over broadcast axes.
    """

    def evaluate_function(self, a: Array, b: Array) -> Array:
        return np.remainder(a, b)

    def count_divisions(self, a: Array, b: Array) -> Array:
        return np.floor_divide(a, b)

    def torch_forward(self, torch: Any, input: Any, other: Any) -> Any:
        return torch.remainder(input, other)


@register_op("fmod")
class Fmod(Remainder):
    """Remainder with the sign of the dividend: y = a - n b with n = trunc(a / b).

    dL/da = g, dL/db = -g n, summed over broadcast axes.
    """

    def evaluate_function(self, a: Array, b: Array) -> Array:
        return np.fmod(a, b)

    def count_divisions(self, a: Array, b: Array) -> Array:
        # floor_divide is exact where the division itself would round to the next whole number.
        return np.sign(a) * np.sign(b) * np.floor_divide(np.abs(a), np.abs(b))

    def torch_forward(self, torch: Any, input: Any, other: Any) -> Any:
        return torch.fmod(input, other)


@register_form("div", "rounded")
class WholeQuotient(JumpingOp, BinaryOp):
    """Quotient rounded to a whole number: y = n on each piece, so dL/da = dL/db = 0."""

    rounding_mode: Literal["trunc", "floor"]

    examples = tuple(
        replace(example, attributes={"rounding_mode": mode})
        for example, mode in zip(_EXAMPLES, ("trunc", "floor", "floor"), strict=True)
    )

    def evaluate_function(self, a: Array, b: Array) -> Array:
        # floor_divide is exact where the division itself would round to the next whole number.
        return np.floor_divide(a, b) if self.rounding_mode == "floor" else np.trunc(a / b)

    def select_branch(self, input: Array, other: Array) -> Array:
        return self.forward(input, other)

    def forward_on_branch(self, branch: Array, input: Array, other: Array) -> Array:
        # No sum with 0 a: a quotient by 0 is infinite.
        shape = np.broadcast_shapes(branch.shape, *(array.shape for array in align_ranks(input, other)))
        return np.broadcast_to(branch, shape).astype(input.dtype, copy=False)

    def compute_partial_gradients(self, g: Array, a: Array, b: Array, y: Array) -> tuple[Array, Array]:
        return np.zeros_like(g), np.zeros_like(g)

    def estimate_forward_rounding(self, output: Array, input: Array, other: Array) -> Rounding | None:
        return None

    def estimate_rounding_on_branch(self, branch: Array, output: Array, input: Array, other: Array) -> Rounding | None:
        return None

    def average_over_broadcast_axes(self, gradient: Array, output: Array, input: Array, other: Array) -> Gradients:
        """Return the gradients: the mean of 0 is its sum."""
        return self.backward(gradient, output, input, other)

    @declare_bug("the gradient was that of the quotient, as if it were not rounded")
    def rounding_ignored(self, gradient: Array, output: Array, input: Array, other: Array) -> Gradients:
        a, b = align_ranks(input, other)
        return sum_to_operands((gradient / b, -gradient * (a / b) / b), (input, other))

    def torch_forward(self, torch: Any, input: Any, other: Any) -> Any:
        return torch.div(input, other, rounding_mode=self.rounding_mode)
