"""Functions of one tensor that are constant between jumps, and the fraction that they leave.

Their derivative is that of the piece, as in PyTorch: a jump has none. If rounding decides on which side of a jump an
element lies, its value is uncertain, and so are the gradients that depend on it.
"""

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Le

from service.numerics.core.batching import Array
from service.numerics.ops.elementwise import PiecewiseUnary
from service.numerics.ops.jumps import JumpingOp, bound_moves
from service.numerics.ops.op import Gradients, OpExample, declare_bug, declare_bug_named, register_op
from service.numerics.ops.rounding_errors import ErrorModel, Rounding
from service.numerics.ops.subgradient_choices import SubgradientChoices

_MOST_DECIMALS = 308
"""Places whose power of 10 float64 has."""
_STEP_EXAMPLES = (
    OpExample(((3, 4),), low=-4, high=4),
    OpExample(((),), low=0.65, high=0.95),
    OpExample(((5,),), low=-8, high=8),
)


class StepFunction(JumpingOp, PiecewiseUnary):
    """A function that is constant on its pieces: dL/dx = 0."""

    rounds_nothing = True
    examples = _STEP_EXAMPLES

    def list_subgradient_choices(self, input_errors: Sequence[Array | None], input: Array) -> SubgradientChoices | None:
        """Return None: a jump has no choice of slopes."""
        return None

    def forward_on_branch(self, branch: Array, input: Array) -> Array:
        return branch + np.zeros_like(input)

    def evaluate_derivative(self, x: Array, y: Array) -> Array:
        return np.zeros_like(x)

    def estimate_rounding_on_branch(self, branch: Array, output: Array, input: Array) -> Rounding | None:
        return self.estimate_forward_rounding(output, input)

    def not_chained(self, gradient: Array, output: Array, input: Array) -> Gradients:
        """Return the gradient itself: a derivative of 0 needs no factor."""
        return self.backward(gradient, output, input)

    @declare_bug_named(
        "missing_activation_derivative", "the gradient was passed on as if the function were the identity"
    )
    def missing_activation_derivative(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient,)

    @declare_bug("the gradient was multiplied by the output of the function")
    def times_the_output(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient * output,)


@register_op("sign")
class Sign(StepFunction):
    """Sign: y = -1, 0 or 1. dL/dx = 0, at 0 too."""

    examples = (
        OpExample(((3, 4),), low=-0.6, high=0.6),
        OpExample(((),), low=-0.3, high=-0.1),
        OpExample(((5,),), low=-0.3, high=0.3),
    )

    def select_branch(self, input: Array) -> Array:
        return np.sign(input)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.sign(input)


@register_op("floor")
class Floor(StepFunction):
    """Largest whole number that is not larger: y = floor(x). dL/dx = 0."""

    def select_branch(self, input: Array) -> Array:
        return np.floor(input)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.floor(input)


@register_op("ceil")
class Ceil(StepFunction):
    """Smallest whole number that is not smaller: y = ceil(x). dL/dx = 0."""

    def select_branch(self, input: Array) -> Array:
        return np.ceil(input)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.ceil(input)


@register_op("trunc")
class Trunc(StepFunction):
    """Whole part, towards 0: y = trunc(x). dL/dx = 0."""

    def select_branch(self, input: Array) -> Array:
        return np.trunc(input)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.trunc(input)


@register_op("round")
class Round(StepFunction):
    """Nearest number of `decimals` places: y = round(10^d x) / 10^d, halves to the even neighbour.

    d = decimals, which may be negative. dL/dx = 0.
    """

    numpy_calls = 4
    positional = ("input",)
    decimals: Annotated[int, Ge(-_MOST_DECIMALS), Le(_MOST_DECIMALS)] = 0

    examples = (
        OpExample(((3, 4),), low=-4, high=4),
        OpExample(((),), low=0.2, high=0.45),
        OpExample(((5,),), {"decimals": 1}),
        OpExample(((8,),), {"decimals": -1}, low=-60, high=60),
    )

    def select_branch(self, input: Array) -> Array:
        scale = input.dtype.type(10.0 ** abs(self.decimals))
        return np.rint(input * scale if self.decimals >= 0 else input / scale)

    def forward_on_branch(self, branch: Array, input: Array) -> Array:
        scale = input.dtype.type(10.0 ** abs(self.decimals))
        return (branch / scale if self.decimals >= 0 else branch * scale) + np.zeros_like(input)

    def estimate_forward_rounding(self, output: Array, input: Array) -> Rounding | None:
        return None if self.decimals == 0 else Rounding(np.abs(output), 2)

    def estimate_argument_error(self, errors: ErrorModel, array: Array) -> Array:
        # The product with a power of 10 is rounded before it is compared.
        if self.decimals == 0:
            return np.zeros_like(array)
        return bound_moves(errors, errors(array, 2 * np.abs(array)))

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.round(input, decimals=self.decimals)


@register_op("frac")
class Frac(StepFunction):
    """Fraction, with the sign of x: y = x - trunc(x). dL/dx = g."""

    numpy_calls = 2

    def select_branch(self, input: Array) -> Array:
        return np.trunc(input)

    def forward_on_branch(self, branch: Array, input: Array) -> Array:
        return input - branch

    def evaluate_derivative(self, x: Array, y: Array) -> Array:
        return np.ones_like(x)

    not_chained = PiecewiseUnary.not_chained

    @declare_bug("the fraction was treated as a constant, as the whole part is")
    def missing_activation_derivative(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (0 * gradient,)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.frac(input)
