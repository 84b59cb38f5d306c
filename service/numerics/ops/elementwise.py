"""Functions of one tensor, element by element."""

import dataclasses
import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import numpy as np
from scipy.special import erf

from service.numerics.core.batching import Array, Shape
from service.numerics.core.sparsity import drop_missing, take_elementwise_min
from service.numerics.ops import analytic_continuation
from service.numerics.ops.multipliers import Multiplier, declare_factor
from service.numerics.ops.op import (
    DependencyLabels,
    Gradients,
    Op,
    OpExample,
    SensitiveArgument,
    ShapeError,
    declare_bug,
    register_op,
)
from service.numerics.ops.rounding_errors import ErrorModel, Rounding
from service.numerics.ops.subgradient_choices import SubgradientChoices, choose_between_derivatives, merge_choices


class Cancellation(NamedTuple):
    """A difference such as 1 - s of an s that was rounded before.

    Attributes
    ----------
    size
        What is multiplied by the difference, times s: it is off by u of that.
    most
        It is never off by more: where s rounds to 1 all of the difference is lost, and that is all.
    """

    magnitude: Array
    largest_error: Array


class UnaryOp(Op):
    """y = phi(x), element by element: dL/dx = g phi'(x), all of one shape (...).

    The value is off by u of `value_size`, and the gradient by u g times `slope_size`, as they are in their textbook
    form without what cancels: that is told apart, since it is lost at most once. With s = fl(s) and e = 1 - s the
    textbook's s (1 - s) is off by u s^2, and by s e at most: where e < u / 2 the computed s is 1 and the result 0.
    """

    inputs = ("input",)
    examples = (OpExample(((3, 4),)), OpExample(((),)), OpExample(((5,),), low=-8, high=8))
    rounds_nothing: ClassVar[bool] = False
    """Nothing rounds: values and gradients are taken as they are, changed in sign, or left out."""
    library_rounding_terms: ClassVar[int] = 4
    """Terms whose rounding stands for that of a library function, good to some units in the last place."""

    @abstractmethod
    def derivative(self, x: Array, y: Array) -> Array:
        """Return phi'(x)."""

    def derivative_magnitude(self, x: Array, y: Array) -> Array:
        """Return phi'(x) in its textbook form, on absolute values: what its rounding is of."""
        return np.abs(self.derivative(x, y))

    def value_magnitude(self, x: Array, y: Array) -> Array:
        """Return phi(x) in its textbook form, on absolute values."""
        return np.abs(y)

    def library_function_factor(self, x: Array) -> Array | float:
        """What the functions of a library are multiplied by in phi and phi', about. Default: nothing."""
        return 1.0

    def value_cancellation(self, x: Array, y: Array) -> Cancellation | None:
        """What cancels in the textbook form of phi(x). Default: nothing."""
        return None

    def derivative_cancellation(self, x: Array, y: Array) -> Cancellation | None:
        """What cancels in the textbook form of phi'(x). Default: nothing."""
        return None

    def output_shape(self, input: Shape) -> Shape:
        return input

    def propagate_dependencies(self, values: DependencyLabels, *inputs: Any) -> Array:
        return take_elementwise_min(*drop_missing(values))

    def backward(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient * self.derivative(input, output),)

    def forward_rounding(self, output: Array, input: Array) -> Rounding | None:
        if self.rounds_nothing:
            return None
        return Rounding(self.value_magnitude(input, output), self.library_rounding_terms)

    def backward_rounding(self, gradient: Array, output: Array, input: Array) -> tuple[Rounding | None, ...]:
        if self.rounds_nothing:
            return (None,)
        return (Rounding(np.abs(gradient) * self.derivative_magnitude(input, output), self.library_rounding_terms),)

    def forward_with_errors(self, errors: ErrorModel, *inputs: Any) -> Array:
        (x,) = inputs
        output = self.forward(x)
        rounding = self.forward_rounding(output, x)
        if rounding is None:
            return output
        lost = errors.underflow_loss * self.library_function_factor(x)
        return self._add_elementwise_errors(errors, output, rounding, lost, self.value_cancellation(x, output))

    def backward_with_errors(self, errors: ErrorModel, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        (x,) = inputs
        (by_input,) = self.backward(gradient, output, x)
        (rounding,) = self.backward_rounding(gradient, output, x)
        if by_input is None or rounding is None:
            return (by_input,)
        # What the slope loses below the normal numbers the gradient that comes in may scale up again.
        lost = np.abs(gradient) * errors.underflow_loss * self.library_function_factor(x)
        return (
            self._add_elementwise_errors(
                errors, by_input, rounding, lost, self.derivative_cancellation(x, output), np.abs(gradient)
            ),
        )

    @staticmethod
    def _add_elementwise_errors(
        errors: ErrorModel,
        result: Array,
        rounding: Rounding,
        lost: Array | float,
        cancelled: Cancellation | None,
        factor: Array | float = 1.0,
    ) -> Array:
        """Result with its errors: those of its rounding, what functions lose, and what cancels, times a factor."""
        result = errors(result, rounding.magnitude + lost, rounding.term_count)
        if cancelled is None:
            return result
        return errors(result, factor * cancelled.magnitude, rounding.term_count, factor * cancelled.largest_error)

    @declare_bug
    def not_chained(self, gradient: Array, output: Array, input: Array) -> Gradients:
        """The derivative was taken, and not multiplied by the gradient that came in."""
        return (self.derivative(input, output) + 0 * gradient,)

    @declare_bug
    def missing_activation_derivative(self, gradient: Array, output: Array, input: Array) -> Gradients:
        """The gradient was handed through without the derivative of the function, as if that were 1."""
        return (gradient,)


_POSITIVE_EXAMPLES = (
    OpExample(((3, 4),), low=0.1, high=3),
    OpExample(((),), low=0.5, high=2),
    OpExample(((5,),), low=1e-3, high=50),
)


@register_op("neg")
class Neg(UnaryOp):
    """y = -x: dL/dx = -g."""

    supports_complex_step = True
    linear_in = MappingProxyType({"input": ()})
    rounds_nothing = True

    def forward(self, input: Array) -> Array:
        return -input

    def derivative(self, x: Array, y: Array) -> Array:
        return -np.ones_like(x)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.neg(input)


@register_op("exp")
class Exp(UnaryOp):
    """y = exp(x): dL/dx = g y."""

    supports_complex_step = True

    def forward(self, input: Array) -> Array:
        return np.exp(input)

    def derivative(self, x: Array, y: Array) -> Array:
        return y

    @declare_bug
    def slope_of_the_input(self, gradient: Array, output: Array, input: Array) -> Gradients:
        """It was multiplied by the input instead of by the output."""
        return (gradient * input,)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.exp(input)


@register_op("expm1")
class Expm1(UnaryOp):
    """y = exp(x) - 1, without cancellation near 0: dL/dx = g exp(x)."""

    supports_complex_step = True

    def forward(self, input: Array) -> Array:
        return np.expm1(input)

    def derivative(self, x: Array, y: Array) -> Array:
        return np.exp(x)

    def derivative_cancellation(self, x: Array, y: Array) -> Cancellation:
        # y + 1, as PyTorch has it
        return Cancellation(np.abs(y), np.exp(x))

    @declare_bug
    def slope_of_the_output(self, gradient: Array, output: Array, input: Array) -> Gradients:
        """It was multiplied by exp(x) - 1 instead of by exp(x)."""
        return (gradient * output,)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.expm1(input)


@register_op("log")
class Log(UnaryOp):
    """y = log(x): dL/dx = g / x."""

    supports_complex_step = True
    examples = _POSITIVE_EXAMPLES

    def forward(self, input: Array) -> Array:
        return np.log(input)

    def derivative(self, x: Array, y: Array) -> Array:
        return 1 / x

    @declare_bug
    def times(self, gradient: Array, output: Array, input: Array) -> Gradients:
        """It was multiplied by the input instead of divided by it."""
        return (gradient * input,)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.log(input)


@register_op("log1p")
class Log1p(UnaryOp):
    """y = log(1 + x), without cancellation near 0: dL/dx = g / (1 + x)."""

    supports_complex_step = True
    examples = (OpExample(((3, 4),), low=-0.9, high=3), OpExample(((),), low=0.5, high=2))

    def forward(self, input: Array) -> Array:
        return analytic_continuation.log1p(input)

    def derivative(self, x: Array, y: Array) -> Array:
        return 1 / (1 + x)

    @declare_bug
    def one_forgotten(self, gradient: Array, output: Array, input: Array) -> Gradients:
        """The 1 under the logarithm was left out."""
        return (gradient / input,)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.log1p(input)


@register_op("sqrt")
class Sqrt(UnaryOp):
    """y = sqrt(x): dL/dx = g / (2 y)."""

    supports_complex_step = True
    examples = _POSITIVE_EXAMPLES

    def forward(self, input: Array) -> Array:
        return np.sqrt(input)

    def derivative(self, x: Array, y: Array) -> Array:
        return 1 / (2 * y)

    def gradient_multipliers(self, input: Array) -> Sequence[Multiplier]:
        return [declare_factor(0.5)]

    @declare_bug
    def half_forgotten(self, gradient: Array, output: Array, input: Array) -> Gradients:
        """The factor 1/2 was left out."""
        return (gradient / output,)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.sqrt(input)


@register_op("rsqrt")
class Rsqrt(UnaryOp):
    """y = 1 / sqrt(x): dL/dx = -g y^3 / 2."""

    supports_complex_step = True
    examples = _POSITIVE_EXAMPLES

    def forward(self, input: Array) -> Array:
        return 1 / np.sqrt(input)

    def derivative(self, x: Array, y: Array) -> Array:
        return -(y * y * y) / 2

    def gradient_multipliers(self, input: Array) -> Sequence[Multiplier]:
        return [declare_factor(0.5)]

    @declare_bug
    def sign_forgotten(self, gradient: Array, output: Array, input: Array) -> Gradients:
        """The sign was left out."""
        return (gradient * output * output * output / 2,)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.rsqrt(input)


@register_op("sin")
class Sin(UnaryOp):
    """y = sin(x): dL/dx = g cos(x)."""

    supports_complex_step = True

    def sensitive_argument(self, input: Array) -> SensitiveArgument:
        return SensitiveArgument(input)

    def forward(self, input: Array) -> Array:
        return np.sin(input)

    def derivative(self, x: Array, y: Array) -> Array:
        return np.cos(x)

    @declare_bug
    def cosine_negated(self, gradient: Array, output: Array, input: Array) -> Gradients:
        """The sign was taken wrong."""
        return (-gradient * np.cos(input),)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.sin(input)


@register_op("cos")
class Cos(UnaryOp):
    """y = cos(x): dL/dx = -g sin(x)."""

    supports_complex_step = True

    def sensitive_argument(self, input: Array) -> SensitiveArgument:
        return SensitiveArgument(input)

    def forward(self, input: Array) -> Array:
        return np.cos(input)

    def derivative(self, x: Array, y: Array) -> Array:
        return -np.sin(x)

    @declare_bug
    def sign_forgotten(self, gradient: Array, output: Array, input: Array) -> Gradients:
        """The sign was left out."""
        return (gradient * np.sin(input),)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.cos(input)


@register_op("erf")
class Erf(UnaryOp):
    """y = erf(x) = 2/sqrt(pi) int_0^x exp(-t^2) dt: dL/dx = g 2/sqrt(pi) exp(-x^2)."""

    supports_complex_step = True
    # SciPy has it in double precision.
    supports_extended_precision = False
    examples = (OpExample(((3, 4),)), OpExample(((),)))

    def forward(self, input: Array) -> Array:
        return erf(input)

    def derivative(self, x: Array, y: Array) -> Array:
        return 2 / math.sqrt(math.pi) * np.exp(-np.square(x))

    def derivative_magnitude(self, x: Array, y: Array) -> Array:
        # x^2 is off by u x^2, and so is its exponential, relatively.
        return self.derivative(x, y) * (1 + np.square(x))

    def gradient_multipliers(self, input: Array) -> Sequence[Multiplier]:
        return [declare_factor(2 / math.sqrt(math.pi))]

    @declare_bug
    def factor_forgotten(self, gradient: Array, output: Array, input: Array) -> Gradients:
        """The constant factor was left out."""
        return (gradient * np.exp(-np.square(input)),)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.erf(input)


@register_op("pow")
class Pow(UnaryOp):
    """y = x^p for a number p: dL/dx = g p x^(p-1), and 0 for p = 0."""

    exponent: float

    supports_complex_step = True
    examples = (
        OpExample(((3, 4),), {"exponent": 2.0}),
        OpExample(((3, 4),), {"exponent": 3}),
        OpExample(((4,),), {"exponent": -1.5}, low=0.2, high=3),
        OpExample(((4,),), {"exponent": 0.5}, low=0.2, high=3),
    )

    def forward(self, input: Array) -> Array:
        return self._power_in_float64(input, self.exponent)

    def derivative(self, x: Array, y: Array) -> Array:
        if self.exponent == 0:
            return np.zeros_like(x)
        return self.exponent * self._power_in_float64(x, self.exponent - 1)

    def value_magnitude(self, x: Array, y: Array) -> Array:
        return np.abs(y) * (1 + self._exponent_rounding(x, float(self.exponent)))

    def derivative_magnitude(self, x: Array, y: Array) -> Array:
        return np.abs(self.derivative(x, y)) * (1 + self._exponent_rounding(x, float(self.exponent - 1)))

    @staticmethod
    def _exponent_rounding(x: Array, exponent: float) -> Array:
        """What the power is off by, relatively and in units of u, if its exponent is rounded to the dtype.

        PyTorch does so. A multiple of 1/4 up to 64 is a number of every dtype.
        """
        if (4 * exponent).is_integer() and abs(exponent) <= 64:
            return np.zeros_like(x)
        absolute = np.abs(x)
        return np.abs(exponent * np.log(np.where(absolute > 0, absolute, 1)))

    @staticmethod
    def _power_in_float64(x: Array, exponent: float) -> Array:
        """In no less than float64: an odd exponent rounded to float32 may be even."""
        return analytic_continuation.raise_to_power(x.astype(np.result_type(x, np.float64)), exponent).astype(x.dtype)

    def gradient_multipliers(self, input: Array) -> Sequence[Multiplier]:
        return [declare_factor(self.exponent, "exponent")]

    @declare_bug
    def exponent_not_reduced(self, gradient: Array, output: Array, input: Array) -> Gradients:
        """The exponent was not reduced by 1."""
        return (gradient * self.exponent * output,)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.pow(input, self.exponent)


class PiecewiseUnary(UnaryOp):
    """A function of pieces: `branch` says on which piece each element is, `along` continues that piece."""

    def forward(self, input: Array) -> Array:
        return self.forward_on_branch(self.select_branch(input), input)

    @abstractmethod
    def select_branch(self, input: Array) -> Array:
        """Piece of each element."""

    @property
    def kink_positions(self) -> tuple[float, ...]:
        """Where the slope jumps. Default: at 0."""
        return (0.0,)

    def subgradient_choices(self, input_errors: Sequence[Array | None], input: Array) -> SubgradientChoices | None:
        """A slope between those beside each kink that is near, of a function with one slope at a time."""
        assert input_errors[0] is not None
        return merge_choices([self._choices_at_kink(kink, input_errors[0], input) for kink in self.kink_positions])

    def _choices_at_kink(self, kink: float, input_errors: Array, input: Array) -> SubgradientChoices | None:
        x, reach = input.ravel(), np.broadcast_to(input_errors, input.shape).ravel()
        places = np.flatnonzero(np.abs(x - kink) <= reach)
        aside = np.spacing(max(abs(kink), float(np.finfo(np.float64).tiny)))
        low, high = (self._derivative_at(kink + side * aside) for side in (-1, 1))
        own = self.derivative(x[places], self.forward(input).ravel()[places])
        share = np.clip((own - low) / (high - low), 0, 1) if high != low else np.zeros(places.size)
        return choose_between_derivatives(places, share, x[places] == kink, [(0, places, low)], [(0, places, high)])

    def _derivative_at(self, x: float) -> float:
        at = np.array([x])
        return float(self.derivative(at, self.forward(at))[0])


@register_op("abs")
class Abs(PiecewiseUnary):
    """y = abs(x): dL/dx = g sign(x), 0 at 0."""

    rounds_nothing = True

    def select_branch(self, input: Array) -> Array:
        return np.sign(input)

    def forward_on_branch(self, branch: Array, input: Array) -> Array:
        return branch * input

    def derivative(self, x: Array, y: Array) -> Array:
        return np.sign(x)

    @declare_bug
    def sign_forgotten(self, gradient: Array, output: Array, input: Array) -> Gradients:
        """The sign was left out."""
        return (gradient,)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.abs(input)


@register_op("clamp")
class Clamp(PiecewiseUnary):
    """y = min(max(x, low), high): dL/dx = g where low <= x <= high, else 0."""

    numpy_calls = 7
    min: float | None = None
    max: float | None = None

    examples = (
        OpExample(((3, 4),), {"min": -1.0, "max": 1}),
        OpExample(((5,),), {"min": 0.3}),
        OpExample(((5,),), {"max": 0.3}),
    )
    rounds_nothing = True

    def output_shape(self, input: Shape) -> Shape:
        if self.min is None and self.max is None:
            raise ShapeError("a min, a max or both")
        return input

    def round_constants(self, nearest: Callable[[float], float]) -> Op:
        low, high = (None if end is None else nearest(end) for end in (self.min, self.max))
        return dataclasses.replace(self, min=low, max=high)

    @property
    def kink_positions(self) -> tuple[float, ...]:
        ends = [end for end in (self.min, self.max) if end is not None]
        return tuple(ends) if len(ends) < 2 or ends[0] < ends[1] else ()

    def select_branch(self, input: Array) -> Array:
        below = np.zeros(input.shape, np.int8) if self.min is None else (input < self.min).astype(np.int8)
        above = np.zeros(input.shape, np.int8) if self.max is None else (input > self.max).astype(np.int8)
        # Where min > max PyTorch gives max.
        return np.where(above > 0, 1, -below)

    def forward_on_branch(self, branch: Array, input: Array) -> Array:
        ends = (0.0 if self.min is None else self.min, 0.0 if self.max is None else self.max)
        low = ends[0] if self.max is None else min(ends)
        return np.select([branch < 0, branch > 0], [low, ends[1]], input).astype(input.dtype, copy=False)

    def derivative(self, x: Array, y: Array) -> Array:
        return (self.select_branch(x) == 0).astype(x.dtype)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.clamp(input, self.min, self.max)
