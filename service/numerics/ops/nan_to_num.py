"""Numbers in place of NaN and infinities."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.ops.elementwise import PiecewiseUnary
from service.numerics.ops.op import Gradients, Op, declare_bug, register_op
from service.numerics.ops.subgradient_choices import SubgradientChoices

_LARGEST_NUMBERS = (float(np.finfo(np.float32).max), (2 - 2.0**-7) * 2.0**127, 65504.0)
"""Largest numbers of float32, bfloat16 and float16."""
_IS_NAN, _IS_POSITIVE, _IS_NEGATIVE = 1, 2, 3


@register_op("nan_to_num")
class NanToNum(PiecewiseUnary):
    """Numbers in place of NaN (`nan`) and of the infinities (`posinf`, `neginf`): y = x where x is finite.

    An infinity without a number of its own becomes the largest number of the dtype, with its sign. dL/dx = g where x is
    finite, else 0.
    """

    numpy_calls = 5
    nan: float | None = None
    posinf: float | None = None
    neginf: float | None = None

    rounds_nothing = True

    def round_constants(self, nearest: Callable[[float], float]) -> Op:
        largest = next(number for number in _LARGEST_NUMBERS if nearest(number) == number)
        ends = (largest if self.posinf is None else self.posinf, -largest if self.neginf is None else self.neginf)
        high, low = (end if math.isinf(end) else nearest(end) for end in ends)
        return dataclasses.replace(self, nan=nearest(self.nan or 0.0), posinf=high, neginf=low)

    def select_branch(self, input: Array) -> Array:
        return np.select([np.isnan(input), input == np.inf, input == -np.inf], [_IS_NAN, _IS_POSITIVE, _IS_NEGATIVE], 0)

    def forward_on_branch(self, branch: Array, input: Array) -> Array:
        largest = float(np.finfo(input.dtype).max)
        high, low = (largest if self.posinf is None else self.posinf, -largest if self.neginf is None else self.neginf)
        numbers = [input.dtype.type(number) for number in (self.nan or 0.0, high, low)]
        pieces = [branch == piece for piece in (_IS_NAN, _IS_POSITIVE, _IS_NEGATIVE)]
        return np.select(pieces, numbers, input)

    def evaluate_derivative(self, x: Array, y: Array) -> Array:
        return np.isfinite(x).astype(x.dtype)

    def list_subgradient_choices(self, input_errors: Sequence[Array | None], input: Array) -> SubgradientChoices | None:
        """Return None: a jump has no choice of slopes."""
        return None

    def missing_activation_derivative(self, gradient: Array, output: Array, input: Array) -> Gradients:
        """Return the gradient: at finite numbers the function is the identity."""
        return self.backward(gradient, output, input)

    @declare_bug("the gradient was multiplied by the output of the function")
    def times_the_output(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient * output,)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.nan_to_num(input, self.nan, self.posinf, self.neginf)
