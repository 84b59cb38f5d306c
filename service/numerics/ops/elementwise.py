"""Functions of one tensor, element by element."""

import dataclasses
import math
from abc import abstractmethod
from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import numpy as np
from scipy.special import erf

from service.numerics.ops import continued
from service.numerics.ops.choices import Choices, between, merged
from service.numerics.ops.errors import Errors, Rounding
from service.numerics.ops.multiplier import Multiplier, factor
from service.numerics.ops.op import Argument, Case, Gradients, Op, ShapeError, Spreading, mutant, op
from service.numerics.reach import given, joined
from service.numerics.tiles import Array, Shape


class Cancellation(NamedTuple):
    """A difference such as 1 - s of an s that was rounded before.

    Attributes
    ----------
    size
        What is multiplied by the difference, times s: it is off by u of that.
    most
        It is never off by more: where s rounds to 1 all of the difference is lost, and that is all.
    """

    size: Array
    most: Array


class Unary(Op):
    """y = phi(x), element by element: dL/dx = g phi'(x), all of one shape (...).

    The value is off by u of `value_size`, and the gradient by u g times `slope_size`, as they are in their textbook
    form without what cancels: that is told apart, since it is lost at most once. With s = fl(s) and e = 1 - s the
    textbook's s (1 - s) is off by u s^2, and by s e at most: where e < u / 2 the computed s is 1 and the result 0.
    """

    inputs = ("input",)
    cases = (Case(((3, 4),)), Case(((),)), Case(((5,),), low=-8, high=8))
    exact: ClassVar[bool] = False
    """Nothing rounds: values and gradients are taken as they are, changed in sign, or left out."""
    library_terms: ClassVar[int] = 4
    """Terms whose rounding stands for that of a library function, good to some units in the last place."""

    @abstractmethod
    def slope(self, x: Array, y: Array) -> Array:
        """Return phi'(x)."""

    def slope_size(self, x: Array, y: Array) -> Array:
        """Return phi'(x) in its textbook form, on absolute values: what its rounding is of."""
        return np.abs(self.slope(x, y))

    def value_size(self, x: Array, y: Array) -> Array:
        """Return phi(x) in its textbook form, on absolute values."""
        return np.abs(y)

    def factor_of_functions(self, x: Array) -> Array | float:
        """What the functions of a library are multiplied by in phi and phi', about. Default: nothing."""
        return 1.0

    def value_cancelled(self, x: Array, y: Array) -> Cancellation | None:
        """What cancels in the textbook form of phi(x). Default: nothing."""
        return None

    def slope_cancelled(self, x: Array, y: Array) -> Cancellation | None:
        """What cancels in the textbook form of phi'(x). Default: nothing."""
        return None

    def output_shape(self, input: Shape) -> Shape:
        return input

    def spread(self, values: Spreading, *inputs: Any) -> Array:
        return joined(*given(values))

    def backward(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient * self.slope(input, output),)

    def rounding(self, output: Array, input: Array) -> Rounding | None:
        if self.exact:
            return None
        return Rounding(self.value_size(input, output), self.library_terms)

    def backward_rounding(self, gradient: Array, output: Array, input: Array) -> tuple[Rounding | None, ...]:
        if self.exact:
            return (None,)
        return (Rounding(np.abs(gradient) * self.slope_size(input, output), self.library_terms),)

    def forward_with_errors(self, errors: Errors, *inputs: Any) -> Array:
        (x,) = inputs
        output = self.forward(x)
        rounding = self.rounding(output, x)
        if rounding is None:
            return output
        lost = errors.flush * self.factor_of_functions(x)
        return self._off(errors, output, rounding, lost, self.value_cancelled(x, output))

    def backward_with_errors(self, errors: Errors, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        (x,) = inputs
        (by_input,) = self.backward(gradient, output, x)
        (rounding,) = self.backward_rounding(gradient, output, x)
        if by_input is None or rounding is None:
            return (by_input,)
        # What the slope loses below the normal numbers the gradient that comes in may scale up again.
        lost = np.abs(gradient) * errors.flush * self.factor_of_functions(x)
        return (self._off(errors, by_input, rounding, lost, self.slope_cancelled(x, output), np.abs(gradient)),)

    @staticmethod
    def _off(
        errors: Errors,
        result: Array,
        rounding: Rounding,
        lost: Array | float,
        cancelled: Cancellation | None,
        factor: Array | float = 1.0,
    ) -> Array:
        """Result with its errors: those of its rounding, what functions lose, and what cancels, times a factor."""
        result = errors(result, rounding.magnitude + lost, rounding.terms)
        if cancelled is None:
            return result
        return errors(result, factor * cancelled.size, rounding.terms, factor * cancelled.most)

    @mutant
    def not_chained(self, gradient: Array, output: Array, input: Array) -> Gradients:
        """The derivative was taken, and not multiplied by the gradient that came in."""
        return (self.slope(input, output) + 0 * gradient,)

    @mutant
    def missing_activation_derivative(self, gradient: Array, output: Array, input: Array) -> Gradients:
        """The gradient was handed through without the derivative of the function, as if that were 1."""
        return (gradient,)


_POSITIVE = (Case(((3, 4),), low=0.1, high=3), Case(((),), low=0.5, high=2), Case(((5,),), low=1e-3, high=50))


@op("neg")
class Neg(Unary):
    """y = -x: dL/dx = -g."""

    analytic = True
    linear_in = MappingProxyType({"input": ()})
    exact = True

    def forward(self, input: Array) -> Array:
        return -input

    def slope(self, x: Array, y: Array) -> Array:
        return -np.ones_like(x)

    def twin(self, torch: Any, input: Any) -> Any:
        return torch.neg(input)


@op("exp")
class Exp(Unary):
    """y = exp(x): dL/dx = g y."""

    analytic = True

    def forward(self, input: Array) -> Array:
        return np.exp(input)

    def slope(self, x: Array, y: Array) -> Array:
        return y

    @mutant
    def slope_of_the_input(self, gradient: Array, output: Array, input: Array) -> Gradients:
        """It was multiplied by the input instead of by the output."""
        return (gradient * input,)

    def twin(self, torch: Any, input: Any) -> Any:
        return torch.exp(input)


@op("expm1")
class Expm1(Unary):
    """y = exp(x) - 1, without cancellation near 0: dL/dx = g exp(x)."""

    analytic = True

    def forward(self, input: Array) -> Array:
        return np.expm1(input)

    def slope(self, x: Array, y: Array) -> Array:
        return np.exp(x)

    def slope_cancelled(self, x: Array, y: Array) -> Cancellation:
        # y + 1, as PyTorch has it
        return Cancellation(np.abs(y), np.exp(x))

    @mutant
    def slope_of_the_output(self, gradient: Array, output: Array, input: Array) -> Gradients:
        """It was multiplied by exp(x) - 1 instead of by exp(x)."""
        return (gradient * output,)

    def twin(self, torch: Any, input: Any) -> Any:
        return torch.expm1(input)


@op("log")
class Log(Unary):
    """y = log(x): dL/dx = g / x."""

    analytic = True
    cases = _POSITIVE

    def forward(self, input: Array) -> Array:
        return np.log(input)

    def slope(self, x: Array, y: Array) -> Array:
        return 1 / x

    @mutant
    def times(self, gradient: Array, output: Array, input: Array) -> Gradients:
        """It was multiplied by the input instead of divided by it."""
        return (gradient * input,)

    def twin(self, torch: Any, input: Any) -> Any:
        return torch.log(input)


@op("log1p")
class Log1p(Unary):
    """y = log(1 + x), without cancellation near 0: dL/dx = g / (1 + x)."""

    analytic = True
    cases = (Case(((3, 4),), low=-0.9, high=3), Case(((),), low=0.5, high=2))

    def forward(self, input: Array) -> Array:
        return continued.log1p(input)

    def slope(self, x: Array, y: Array) -> Array:
        return 1 / (1 + x)

    @mutant
    def one_forgotten(self, gradient: Array, output: Array, input: Array) -> Gradients:
        """The 1 under the logarithm was left out."""
        return (gradient / input,)

    def twin(self, torch: Any, input: Any) -> Any:
        return torch.log1p(input)


@op("sqrt")
class Sqrt(Unary):
    """y = sqrt(x): dL/dx = g / (2 y)."""

    analytic = True
    cases = _POSITIVE

    def forward(self, input: Array) -> Array:
        return np.sqrt(input)

    def slope(self, x: Array, y: Array) -> Array:
        return 1 / (2 * y)

    def multipliers(self, input: Array) -> Sequence[Multiplier]:
        return [factor(0.5)]

    @mutant
    def half_forgotten(self, gradient: Array, output: Array, input: Array) -> Gradients:
        """The factor 1/2 was left out."""
        return (gradient / output,)

    def twin(self, torch: Any, input: Any) -> Any:
        return torch.sqrt(input)


@op("rsqrt")
class Rsqrt(Unary):
    """y = 1 / sqrt(x): dL/dx = -g y^3 / 2."""

    analytic = True
    cases = _POSITIVE

    def forward(self, input: Array) -> Array:
        return 1 / np.sqrt(input)

    def slope(self, x: Array, y: Array) -> Array:
        return -(y * y * y) / 2

    def multipliers(self, input: Array) -> Sequence[Multiplier]:
        return [factor(0.5)]

    @mutant
    def sign_forgotten(self, gradient: Array, output: Array, input: Array) -> Gradients:
        """The sign was left out."""
        return (gradient * output * output * output / 2,)

    def twin(self, torch: Any, input: Any) -> Any:
        return torch.rsqrt(input)


@op("sin")
class Sin(Unary):
    """y = sin(x): dL/dx = g cos(x)."""

    analytic = True

    def argument(self, input: Array) -> Argument:
        return Argument(input)

    def forward(self, input: Array) -> Array:
        return np.sin(input)

    def slope(self, x: Array, y: Array) -> Array:
        return np.cos(x)

    @mutant
    def cosine_negated(self, gradient: Array, output: Array, input: Array) -> Gradients:
        """The sign was taken wrong."""
        return (-gradient * np.cos(input),)

    def twin(self, torch: Any, input: Any) -> Any:
        return torch.sin(input)


@op("cos")
class Cos(Unary):
    """y = cos(x): dL/dx = -g sin(x)."""

    analytic = True

    def argument(self, input: Array) -> Argument:
        return Argument(input)

    def forward(self, input: Array) -> Array:
        return np.cos(input)

    def slope(self, x: Array, y: Array) -> Array:
        return -np.sin(x)

    @mutant
    def sign_forgotten(self, gradient: Array, output: Array, input: Array) -> Gradients:
        """The sign was left out."""
        return (gradient * np.sin(input),)

    def twin(self, torch: Any, input: Any) -> Any:
        return torch.cos(input)


@op("erf")
class Erf(Unary):
    """y = erf(x) = 2/sqrt(pi) int_0^x exp(-t^2) dt: dL/dx = g 2/sqrt(pi) exp(-x^2)."""

    analytic = True
    # SciPy has it in double precision.
    extended = False
    cases = (Case(((3, 4),)), Case(((),)))

    def forward(self, input: Array) -> Array:
        return erf(input)

    def slope(self, x: Array, y: Array) -> Array:
        return 2 / math.sqrt(math.pi) * np.exp(-np.square(x))

    def slope_size(self, x: Array, y: Array) -> Array:
        # x^2 is off by u x^2, and so is its exponential, relatively.
        return self.slope(x, y) * (1 + np.square(x))

    def multipliers(self, input: Array) -> Sequence[Multiplier]:
        return [factor(2 / math.sqrt(math.pi))]

    @mutant
    def factor_forgotten(self, gradient: Array, output: Array, input: Array) -> Gradients:
        """The constant factor was left out."""
        return (gradient * np.exp(-np.square(input)),)

    def twin(self, torch: Any, input: Any) -> Any:
        return torch.erf(input)


@op("pow")
class Pow(Unary):
    """y = x^p for a number p: dL/dx = g p x^(p-1), and 0 for p = 0."""

    exponent: float

    analytic = True
    cases = (
        Case(((3, 4),), {"exponent": 2.0}),
        Case(((3, 4),), {"exponent": 3}),
        Case(((4,),), {"exponent": -1.5}, low=0.2, high=3),
        Case(((4,),), {"exponent": 0.5}, low=0.2, high=3),
    )

    def forward(self, input: Array) -> Array:
        return self._power(input, self.exponent)

    def slope(self, x: Array, y: Array) -> Array:
        if self.exponent == 0:
            return np.zeros_like(x)
        return self.exponent * self._power(x, self.exponent - 1)

    def value_size(self, x: Array, y: Array) -> Array:
        return np.abs(y) * (1 + self._of_exponent(x, float(self.exponent)))

    def slope_size(self, x: Array, y: Array) -> Array:
        return np.abs(self.slope(x, y)) * (1 + self._of_exponent(x, float(self.exponent - 1)))

    @staticmethod
    def _of_exponent(x: Array, exponent: float) -> Array:
        """What the power is off by, relatively and in units of u, if its exponent is rounded to the dtype.

        PyTorch does so. A multiple of 1/4 up to 64 is a number of every dtype.
        """
        if (4 * exponent).is_integer() and abs(exponent) <= 64:
            return np.zeros_like(x)
        absolute = np.abs(x)
        return np.abs(exponent * np.log(np.where(absolute > 0, absolute, 1)))

    @staticmethod
    def _power(x: Array, exponent: float) -> Array:
        """In no less than float64: an odd exponent rounded to float32 may be even."""
        return continued.power(x.astype(np.result_type(x, np.float64)), exponent).astype(x.dtype)

    def multipliers(self, input: Array) -> Sequence[Multiplier]:
        return [factor(self.exponent, "exponent")]

    @mutant
    def exponent_not_reduced(self, gradient: Array, output: Array, input: Array) -> Gradients:
        """The exponent was not reduced by 1."""
        return (gradient * self.exponent * output,)

    def twin(self, torch: Any, input: Any) -> Any:
        return torch.pow(input, self.exponent)


class Piecewise(Unary):
    """A function of pieces: `branch` says on which piece each element is, `along` continues that piece."""

    def forward(self, input: Array) -> Array:
        return self.along(self.branch(input), input)

    @abstractmethod
    def branch(self, input: Array) -> Array:
        """Piece of each element."""

    @property
    def kinks(self) -> tuple[float, ...]:
        """Where the slope jumps. Default: at 0."""
        return (0.0,)

    def choices(self, off: Sequence[Array | None], input: Array) -> Choices | None:
        """A slope between those beside each kink that is near, of a function with one slope at a time."""
        assert off[0] is not None
        return merged([self._at(kink, off[0], input) for kink in self.kinks])

    def _at(self, kink: float, off: Array, input: Array) -> Choices | None:
        x, reach = input.ravel(), np.broadcast_to(off, input.shape).ravel()
        places = np.flatnonzero(np.abs(x - kink) <= reach)
        aside = np.spacing(max(abs(kink), float(np.finfo(np.float64).tiny)))
        low, high = (self._slope_at(kink + side * aside) for side in (-1, 1))
        own = self.slope(x[places], self.forward(input).ravel()[places])
        share = np.clip((own - low) / (high - low), 0, 1) if high != low else np.zeros(places.size)
        return between(places, share, x[places] == kink, [(0, places, low)], [(0, places, high)])

    def _slope_at(self, x: float) -> float:
        at = np.array([x])
        return float(self.slope(at, self.forward(at))[0])


@op("abs")
class Abs(Piecewise):
    """y = abs(x): dL/dx = g sign(x), 0 at 0."""

    exact = True

    def branch(self, input: Array) -> Array:
        return np.sign(input)

    def along(self, branch: Array, input: Array) -> Array:
        return branch * input

    def slope(self, x: Array, y: Array) -> Array:
        return np.sign(x)

    @mutant
    def sign_forgotten(self, gradient: Array, output: Array, input: Array) -> Gradients:
        """The sign was left out."""
        return (gradient,)

    def twin(self, torch: Any, input: Any) -> Any:
        return torch.abs(input)


@op("clamp")
class Clamp(Piecewise):
    """y = min(max(x, low), high): dL/dx = g where low <= x <= high, else 0."""

    passes = 7
    min: float | None = None
    max: float | None = None

    cases = (Case(((3, 4),), {"min": -1.0, "max": 1}), Case(((5,),), {"min": 0.3}), Case(((5,),), {"max": 0.3}))
    exact = True

    def output_shape(self, input: Shape) -> Shape:
        if self.min is None and self.max is None:
            raise ShapeError("a min, a max or both")
        return input

    def rounded(self, nearest: Callable[[float], float]) -> Op:
        low, high = (None if end is None else nearest(end) for end in (self.min, self.max))
        return dataclasses.replace(self, min=low, max=high)

    @property
    def kinks(self) -> tuple[float, ...]:
        ends = [end for end in (self.min, self.max) if end is not None]
        return tuple(ends) if len(ends) < 2 or ends[0] < ends[1] else ()

    def branch(self, input: Array) -> Array:
        below = np.zeros(input.shape, np.int8) if self.min is None else (input < self.min).astype(np.int8)
        above = np.zeros(input.shape, np.int8) if self.max is None else (input > self.max).astype(np.int8)
        # Where min > max PyTorch gives max.
        return np.where(above > 0, 1, -below)

    def along(self, branch: Array, input: Array) -> Array:
        ends = (0.0 if self.min is None else self.min, 0.0 if self.max is None else self.max)
        low = ends[0] if self.max is None else min(ends)
        return np.select([branch < 0, branch > 0], [low, ends[1]], input).astype(input.dtype, copy=False)

    def slope(self, x: Array, y: Array) -> Array:
        return (self.branch(x) == 0).astype(x.dtype)

    def twin(self, torch: Any, input: Any) -> Any:
        return torch.clamp(input, self.min, self.max)
