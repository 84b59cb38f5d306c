"""Functions of two tensors, element by element, with the broadcasting of NumPy."""

import math
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.ops import analytic_continuation
from service.numerics.ops.binary import BinaryOp, align_ranks
from service.numerics.ops.jumps import JumpingOp
from service.numerics.ops.op import Gradients, OpExample, declare_bug, register_op
from service.numerics.ops.pointwise import sum_to_operands
from service.numerics.ops.rounding_errors import Rounding

_LN_2 = math.log(2)
_POSITIVE_EXAMPLES = (
    OpExample(((3, 4), (3, 4)), low=0.1, high=3),
    OpExample(((2, 3, 4), (4,)), low=0.5, high=20),
    OpExample(((), (2, 3)), low=0.1, high=3),
)


@register_op("atan2")
class Atan2(JumpingOp, BinaryOp):
    """Angle of the point (b, a): y = atan2(a, b), between -pi and pi.

    With r^2 = a^2 + b^2:
        dL/da = g b / r^2, dL/db = -g a / r^2, summed over broadcast axes, and 0 at the origin
    The value jumps by 2 pi where a changes its sign left of 0, b < 0; the derivatives do not.
    """

    numpy_calls = 9

    def select_branch(self, input: Array, other: Array) -> Array:
        a, b = align_ranks(input, other)
        return (b < 0) * np.where(np.signbit(a), -1, 1)

    def forward(self, input: Array, other: Array) -> Array:
        return self.forward_on_branch(self.select_branch(input, other), input, other)

    def forward_on_branch(self, branch: Array, input: Array, other: Array) -> Array:
        # Left of 0 the angle is that of the opposite point, and half a turn.
        a, b = align_ranks(input, other)
        direction = np.where(branch == 0, 1, -1).astype(a.dtype)
        half_turn = np.arctan2(a.dtype.type(0), a.dtype.type(-1))
        return np.arctan2(direction * a, direction * b) + branch.astype(a.dtype) * half_turn

    def evaluate_function(self, a: Array, b: Array) -> Array:
        return np.arctan2(a, b)

    def compute_partial_gradients(self, g: Array, a: Array, b: Array, y: Array) -> tuple[Array, Array]:
        # At the origin PyTorch's derivatives are 0.
        length = np.hypot(a, b)
        radius = np.where(length == 0, 1, length).astype(length.dtype)
        return g * (b / radius / radius), -g * (a / radius / radius)

    def estimate_rounding_on_branch(self, branch: Array, output: Array, input: Array, other: Array) -> Rounding:
        return Rounding(np.abs(output) + np.pi * np.abs(branch), 2)

    def estimate_forward_rounding(self, output: Array, input: Array, other: Array) -> Rounding:
        return Rounding(np.abs(output), 4)

    def estimate_partial_gradient_magnitudes(self, g: Array, a: Array, b: Array, y: Array) -> tuple[Array, Array]:
        by_a, by_b = self.compute_partial_gradients(np.abs(g), a, b, y)
        return 2 * np.abs(by_a), 2 * np.abs(by_b)

    @declare_bug("the two operands were exchanged in the derivatives")
    def operands_exchanged(self, gradient: Array, output: Array, input: Array, other: Array) -> Gradients:
        a, b = align_ranks(input, other)
        square = np.square(a) + np.square(b)
        return sum_to_operands((gradient * a / square, -gradient * b / square), (input, other))

    @declare_bug("the sign of the derivative by the second operand was left out")
    def sign_forgotten(self, gradient: Array, output: Array, input: Array, other: Array) -> Gradients:
        by_input, by_other = self.backward(gradient, output, input, other)
        assert by_other is not None
        return by_input, -by_other

    def torch_forward(self, torch: Any, input: Any, other: Any) -> Any:
        return torch.atan2(input, other)


@register_op("hypot")
class Hypot(BinaryOp):
    """Length of the vector (a, b): y = sqrt(a^2 + b^2), without overflow.

    dL/da = g a / y, dL/db = g b / y, summed over broadcast axes, and 0 at the origin, where PyTorch has NaN.
    """

    supports_complex_step = True

    def evaluate_function(self, a: Array, b: Array) -> Array:
        return analytic_continuation.hypot(a, b)

    def compute_partial_gradients(self, g: Array, a: Array, b: Array, y: Array) -> tuple[Array, Array]:
        length = np.where(y == 0, 1, y).astype(y.dtype, copy=False)
        return g * (a / length), g * (b / length)

    def estimate_value_magnitude(self, a: Array, b: Array, y: Array) -> Array:
        return 2 * np.abs(y)

    def estimate_partial_gradient_magnitudes(self, g: Array, a: Array, b: Array, y: Array) -> tuple[Array, Array]:
        by_a, by_b = self.compute_partial_gradients(np.abs(g), a, b, y)
        return 2 * np.abs(by_a), 2 * np.abs(by_b)

    @declare_bug("the division by the length was left out, as for the sum of squares")
    def division_forgotten(self, gradient: Array, output: Array, input: Array, other: Array) -> Gradients:
        a, b = align_ranks(input, other)
        return sum_to_operands((gradient * a, gradient * b), (input, other))

    @declare_bug("the length was not differentiated: each operand got the gradient itself")
    def passed_on(self, gradient: Array, output: Array, input: Array, other: Array) -> Gradients:
        return sum_to_operands((gradient, gradient), (input, other))

    def torch_forward(self, torch: Any, input: Any, other: Any) -> Any:
        is_origin = (input == 0) & (other == 0)
        length = torch.hypot(torch.where(is_origin, torch.ones_like(input), input), other)
        return torch.where(is_origin, 0 * (input + other), length)


class LogAddExp(BinaryOp):
    """Logarithm of the sum of two powers of a base, without overflow."""

    supports_complex_step = True
    log_of_base: ClassVar[float] = 1.0

    def compute_partial_gradients(self, g: Array, a: Array, b: Array, y: Array) -> tuple[Array, Array]:
        # The share of a is 1 / (1 + e) where a is the larger, and e / (1 + e) where it is not.
        e: Array = np.exp(-np.abs(a - b) * a.dtype.type(self.log_of_base))
        larger, smaller = 1 / (1 + e), e / (1 + e)
        is_first_larger = a >= b
        return g * np.where(is_first_larger, larger, smaller), g * np.where(is_first_larger, smaller, larger)

    def estimate_value_magnitude(self, a: Array, b: Array, y: Array) -> Array:
        # The larger operand, the logarithm that is added to it, and the error of the difference inside.
        e = np.exp(-np.abs(a - b) * self.log_of_base)
        return np.maximum(np.abs(a), np.abs(b)) + np.abs(y) + (1 + np.abs(a - b)) * e / (1 + e)

    def estimate_partial_gradient_magnitudes(self, g: Array, a: Array, b: Array, y: Array) -> tuple[Array, Array]:
        # exp(a - y), whose exponent is off by u of its terms, and no share is off by more than the other.
        by_a, by_b = self.compute_partial_gradients(np.abs(g), a, b, y)
        exponent_error = self.log_of_base * (np.abs(a - b) + np.abs(y))
        return by_a * (2 + exponent_error), by_b * (2 + exponent_error)

    @declare_bug("the shares of the two operands were exchanged")
    def shares_exchanged(self, gradient: Array, output: Array, input: Array, other: Array) -> Gradients:
        a, b = align_ranks(input, other)
        by_a, by_b = self.compute_partial_gradients(gradient, a, b, output)
        return sum_to_operands((by_b, by_a), (input, other))

    @declare_bug("each operand got the gradient itself, as for a sum")
    def passed_on(self, gradient: Array, output: Array, input: Array, other: Array) -> Gradients:
        return sum_to_operands((gradient, gradient), (input, other))


@register_op("logaddexp")
class Logaddexp(LogAddExp):
    """Logarithm of a sum of exponentials: y = log(exp(a) + exp(b)), without overflow.

    dL/da = g exp(a - y), dL/db = g exp(b - y), summed over broadcast axes. The two shares add up to 1. They are
    computed as 1 / (1 + e) and e / (1 + e) with e = exp(-abs(a - b)).
    """

    def evaluate_function(self, a: Array, b: Array) -> Array:
        return analytic_continuation.logaddexp(a, b)

    def torch_forward(self, torch: Any, input: Any, other: Any) -> Any:
        return torch.logaddexp(input, other)


@register_op("logaddexp2")
class Logaddexp2(LogAddExp):
    """Logarithm to base 2 of a sum of powers of 2: y = log2(2^a + 2^b), without overflow.

    dL/da = g 2^(a - y), dL/db = g 2^(b - y), summed over broadcast axes. The two shares add up to 1. They are computed
    as 1 / (1 + e) and e / (1 + e) with e = 2^-abs(a - b).
    """

    log_of_base = _LN_2

    def evaluate_function(self, a: Array, b: Array) -> Array:
        if a.dtype.kind != "c" and b.dtype.kind != "c":
            return np.logaddexp2(a, b)
        return analytic_continuation.logaddexp(a * _LN_2, b * _LN_2) / _LN_2

    @declare_bug("the shares were those of the natural exponential")
    def natural_shares(self, gradient: Array, output: Array, input: Array, other: Array) -> Gradients:
        a, b = align_ranks(input, other)
        share = 1 / (1 + np.exp(b - a))
        return sum_to_operands((gradient * share, gradient * (1 - share)), (input, other))

    def torch_forward(self, torch: Any, input: Any, other: Any) -> Any:
        return torch.logaddexp2(input, other)


@register_op("xlogy")
class Xlogy(BinaryOp):
    """Product with a logarithm: y = a log(b), and 0 where a = 0.

    dL/da = g log(b), and 0 where a = 0 and b <= 0; dL/db = g a / b. Both are summed over broadcast axes.
    """

    numpy_calls = 6
    supports_complex_step = True
    linear_in = MappingProxyType({"input": ()})
    examples = _POSITIVE_EXAMPLES

    def evaluate_function(self, a: Array, b: Array) -> Array:
        is_nothing = (a == 0) & ~np.isnan(b)
        return a * np.log(np.where(is_nothing, 1, b)).astype(b.dtype, copy=False)

    def compute_partial_gradients(self, g: Array, a: Array, b: Array, y: Array) -> tuple[Array, Array]:
        is_nothing = (a == 0) & (b <= 0)
        return g * np.where(is_nothing, 0, np.log(np.where(is_nothing, 1, b))).astype(b.dtype, copy=False), g * a / b

    def estimate_value_magnitude(self, a: Array, b: Array, y: Array) -> Array:
        return 2 * np.abs(y)

    def compute_linear_response(self, position: int, direction: Array, *inputs: Any) -> Array:
        direction, other = align_ranks(direction, inputs[1])
        return direction * np.log(other)

    @declare_bug("the derivative of the logarithm was left out: the gradient was multiplied by the first operand")
    def logarithm_not_differentiated(self, gradient: Array, output: Array, input: Array, other: Array) -> Gradients:
        a, b = align_ranks(input, other)
        return sum_to_operands((gradient * np.log(b), gradient * a), (input, other))

    @declare_bug("1 was added to the logarithm, as in the derivative of x log(x)")
    def derivative_of_x_log_x(self, gradient: Array, output: Array, input: Array, other: Array) -> Gradients:
        a, b = align_ranks(input, other)
        return sum_to_operands((gradient * (np.log(b) + 1), gradient * a / b), (input, other))

    def torch_forward(self, torch: Any, input: Any, other: Any) -> Any:
        return torch.xlogy(input, other)
