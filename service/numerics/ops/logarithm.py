"""Powers and logarithms of other bases, squares and inverses, element by element."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Le

from service.numerics.core.batching import Array
from service.numerics.ops.elementwise import PiecewiseUnary
from service.numerics.ops.multipliers import Multiplier, declare_division, declare_factor
from service.numerics.ops.op import Gradients, Op, OpExample, declare_bug, register_op
from service.numerics.ops.pointwise import AnalyticUnary

POSITIVE_EXAMPLES = (
    OpExample(((3, 4),), low=0.1, high=3),
    OpExample(((),), low=0.5, high=2),
    OpExample(((5,),), low=1e-3, high=50),
)
"""Examples of a function of positive numbers."""
_LN_2, _LN_10 = math.log(2), math.log(10)


@register_op("log2")
class Log2(AnalyticUnary):
    """Logarithm to base 2: y = log(x) / log(2), dL/dx = g / (x log(2))."""

    numpy_function = np.log2
    examples = POSITIVE_EXAMPLES

    def evaluate_derivative(self, x: Array, y: Array) -> Array:
        return 1 / (x * x.dtype.type(_LN_2))

    def list_gradient_multipliers(self, input: Array) -> Sequence[Multiplier]:
        return [declare_division(_LN_2)]

    @declare_bug("the division by log(2) was left out, as for the natural logarithm")
    def base_forgotten(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient / input,)


@register_op("log10")
class Log10(AnalyticUnary):
    """Logarithm to base 10: y = log(x) / log(10), dL/dx = g / (x log(10))."""

    numpy_function = np.log10
    examples = POSITIVE_EXAMPLES

    def evaluate_derivative(self, x: Array, y: Array) -> Array:
        return 1 / (x * x.dtype.type(_LN_10))

    def list_gradient_multipliers(self, input: Array) -> Sequence[Multiplier]:
        return [declare_division(_LN_10)]

    @declare_bug("the division by log(10) was left out, as for the natural logarithm")
    def base_forgotten(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient / input,)


@register_op("exp2")
class Exp2(AnalyticUnary):
    """Power of 2: y = 2^x, dL/dx = g y log(2)."""

    numpy_function = np.exp2

    def evaluate_derivative(self, x: Array, y: Array) -> Array:
        return y * y.dtype.type(_LN_2)

    def estimate_value_magnitude(self, x: Array, y: Array) -> Array:
        # Some libraries compute exp(x log 2), whose argument is off by u of itself.
        return np.abs(y) * (1 + np.abs(x))

    def estimate_derivative_magnitude(self, x: Array, y: Array) -> Array:
        return np.abs(self.evaluate_derivative(x, y)) * (1 + np.abs(x))

    def list_gradient_multipliers(self, input: Array) -> Sequence[Multiplier]:
        return [declare_factor(_LN_2)]

    @declare_bug("the factor log(2) was left out, as for the natural exponential")
    def base_forgotten(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient * output,)


@register_op("square")
class Square(AnalyticUnary):
    """Square: y = x^2, dL/dx = 2 g x."""

    numpy_function = np.square

    def evaluate_derivative(self, x: Array, y: Array) -> Array:
        return 2 * x

    def list_gradient_multipliers(self, input: Array) -> Sequence[Multiplier]:
        return [declare_factor(2.0)]

    @declare_bug("the factor 2 was left out")
    def factor_forgotten(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient * input,)

    @declare_bug("the gradient was multiplied by the output instead of the input")
    def slope_of_the_output(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (2 * gradient * output,)


@register_op("reciprocal")
class Reciprocal(AnalyticUnary):
    """Reciprocal: y = 1 / x, dL/dx = -g y^2."""

    numpy_function = np.reciprocal
    examples = (*POSITIVE_EXAMPLES, OpExample(((4,),), low=-3, high=-0.2))

    def evaluate_derivative(self, x: Array, y: Array) -> Array:
        return -np.square(y)

    @declare_bug("the sign was left out")
    def sign_forgotten(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient * np.square(output),)

    @declare_bug("the output was not squared")
    def square_forgotten(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (-gradient * output,)


@register_op("logit")
class Logit(PiecewiseUnary):
    """Inverse of the logistic function: y = log(x / (1 - x)).

    With `eps`, x is clamped to [eps, 1 - eps] before.
    dL/dx = g / (x (1 - x)) where x was not clamped, else 0.
    """

    numpy_calls = 9
    eps: Annotated[float, Ge(0), Le(0.5)] | None = None

    examples = (
        OpExample(((3, 4),), {"eps": 0.1}, low=0.02, high=0.98),
        OpExample(((),), low=0.2, high=0.4),
        OpExample(((5,),), {"eps": 1e-6}, low=0.9, high=0.999),
    )

    @property
    def _ends(self) -> tuple[float, float]:
        return (-math.inf, math.inf) if self.eps is None else (self.eps, 1 - self.eps)

    @property
    def kink_positions(self) -> tuple[float, ...]:
        return () if self.eps is None else tuple(dict.fromkeys(self._ends))

    def round_constants(self, nearest: Callable[[float], float]) -> Op:
        return self if self.eps is None else dataclasses.replace(self, eps=nearest(self.eps))

    def select_branch(self, input: Array) -> Array:
        low, high = self._ends
        return (input > high).astype(np.int8) - (input < low).astype(np.int8)

    def forward_on_branch(self, branch: Array, input: Array) -> Array:
        low, high = self._ends
        x = np.where(branch == 0, input, np.where(branch < 0, low, high)).astype(input.dtype, copy=False)
        return np.log(x / (1 - x))

    def evaluate_derivative(self, x: Array, y: Array) -> Array:
        is_inside = self.select_branch(x) == 0
        inside = np.where(is_inside, x, 0.5)
        slope = np.where((inside < 0) | (inside > 1), np.nan, 1 / (inside * (1 - inside)))
        return np.where(is_inside, slope, 0).astype(x.dtype, copy=False)

    def estimate_value_magnitude(self, x: Array, y: Array) -> Array:
        # The relative errors of 1 - x and of the quotient are absolute ones of its logarithm.
        return np.abs(y) + 2

    @declare_bug("the derivative of the logistic function was used, x (1 - x) in place of its inverse")
    def inverse_forgotten(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient * input * (1 - input),)

    @declare_bug("only log(x) was differentiated, and not log(1 - x)")
    def one_logarithm(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient / input * (self.select_branch(input) == 0),)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.logit(input, self.eps)
