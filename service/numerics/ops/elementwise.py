"""Functions of one tensor, element by element."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import numpy as np
from scipy.special import erf

from service.numerics.core.batching import Array, Shape
from service.numerics.core.sparsity import drop_missing, take_elementwise_min
from service.numerics.ops import analytic_continuation
from service.numerics.ops.formula_op import Quantities, UnaryFormula, declare_function_form
from service.numerics.ops.multipliers import Multiplier, declare_factor
from service.numerics.ops.op import (
    DependencyLabels,
    Gradients,
    Op,
    OpExample,
    SensitiveArgument,
    declare_bug,
    register_op,
)
from service.numerics.ops.rounding_errors import ErrorModel, Rounding
from service.numerics.ops.subgradient_choices import SubgradientChoices, choose_between_derivatives, merge_choices


class Cancellation(NamedTuple):
    """The error of a difference such as 1 - s, where s was rounded before.

    Attributes
    ----------
    magnitude
        Factor of the difference, times s. The result is off by u times that.
    largest_error
        Upper bound of the error. If s rounds to 1, the whole difference is lost, and no more.
    """

    magnitude: Array
    largest_error: Array


class UnaryOp(Op):
    """A function of one tensor, element by element: y = phi(x), dL/dx = g phi'(x).

    Notes
    -----
    The value is off by u `estimate_value_magnitude`, and the gradient by u g `estimate_derivative_magnitude`. Both are
    magnitudes of the textbook's form without the part that cancels. That part is a `Cancellation` of its own, since it
    is lost at most once. With s = fl(s) and e = 1 - s the textbook's s (1 - s) is off by u s^2, and by s e at most:
    where e < u / 2 the computed s is 1 and the result 0.
    """

    inputs = ("input",)
    examples = (OpExample(((3, 4),)), OpExample(((),)), OpExample(((5,),), low=-8, high=8))
    rounds_nothing: ClassVar[bool] = False
    """True if values and gradients are only copied, changed in sign or left out."""
    library_rounding_terms: ClassVar[int] = 4
    """Terms whose rounding stands for that of a library function, good to some units in the last place."""

    @abstractmethod
    def evaluate_derivative(self, x: Array, y: Array) -> Array:
        """Return phi'(x)."""

    def estimate_derivative_magnitude(self, x: Array, y: Array) -> Array:
        """Return phi'(x) in its textbook form, on absolute values.

        The rounding of the gradient is a part of it.
        """
        return np.abs(self.evaluate_derivative(x, y))

    def estimate_value_magnitude(self, x: Array, y: Array) -> Array:
        """Return phi(x) in its textbook form, on absolute values."""
        return np.abs(y)

    def compute_library_function_factor(self, x: Array) -> Array | float:
        """Return the approximate factor of the library's functions in phi and phi'.

        The default is 1.
        """
        return 1.0

    def estimate_value_cancellation(self, x: Array, y: Array) -> Cancellation | None:
        """Return the cancellation in the textbook form of phi(x), or None."""
        return None

    def estimate_derivative_cancellation(self, x: Array, y: Array) -> Cancellation | None:
        """Return the cancellation in the textbook form of phi'(x), or None."""
        return None

    def infer_output_shape(self, input: Shape) -> Shape:
        return input

    def propagate_dependencies(self, values: DependencyLabels, *inputs: Any) -> Array:
        return take_elementwise_min(*drop_missing(values))

    def backward(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient * self.evaluate_derivative(input, output),)

    def estimate_forward_rounding(self, output: Array, input: Array) -> Rounding | None:
        if self.rounds_nothing:
            return None
        return Rounding(self.estimate_value_magnitude(input, output), self.library_rounding_terms)

    def estimate_backward_rounding(self, gradient: Array, output: Array, input: Array) -> tuple[Rounding | None, ...]:
        if self.rounds_nothing:
            return (None,)
        return (
            Rounding(np.abs(gradient) * self.estimate_derivative_magnitude(input, output), self.library_rounding_terms),
        )

    def forward_with_errors(self, errors: ErrorModel, *inputs: Any) -> Array:
        (x,) = inputs
        output = self.forward(x)
        rounding = self.estimate_forward_rounding(output, x)
        if rounding is None:
            return output
        function_loss = errors.underflow_loss * self.compute_library_function_factor(x)
        value_cancellation = self.estimate_value_cancellation(x, output)
        output = errors(output, rounding.magnitude + function_loss, rounding.term_count)
        if value_cancellation is None:
            return output
        return errors(output, value_cancellation.magnitude, rounding.term_count, value_cancellation.largest_error)

    def backward_with_errors(self, errors: ErrorModel, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        (x,) = inputs
        (by_input,) = self.backward(gradient, output, x)
        (rounding,) = self.estimate_backward_rounding(gradient, output, x)
        if by_input is None or rounding is None:
            return (by_input,)
        # The incoming gradient may scale up again the part that the slope loses below the normal numbers.
        function_loss = np.abs(gradient) * errors.underflow_loss * self.compute_library_function_factor(x)
        by_input = errors(by_input, rounding.magnitude + function_loss, rounding.term_count)
        cancellation = self.estimate_derivative_cancellation(x, output)
        if cancellation is None:
            return (by_input,)
        # Slopes are off alike where the outputs round alike, however the incoming gradients differ.
        slope_errors = errors(
            np.zeros_like(cancellation.magnitude),
            cancellation.magnitude,
            rounding.term_count,
            cancellation.largest_error,
            output,
        )
        return (by_input + gradient * slope_errors,)

    @declare_bug("the derivative was not multiplied by the incoming gradient")
    def not_chained(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (self.evaluate_derivative(input, output) + 0 * gradient,)

    @declare_bug("the derivative of the function was skipped")
    def missing_activation_derivative(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient,)


_POSITIVE_EXAMPLES = (
    OpExample(((3, 4),), low=0.1, high=3),
    OpExample(((),), low=0.5, high=2),
    OpExample(((5,),), low=1e-3, high=50),
)


@register_op("neg")
class Neg(UnaryOp):
    """Negation: y = -x, dL/dx = -g."""

    supports_complex_step = True
    linear_in = MappingProxyType({"input": ()})
    rounds_nothing = True

    def forward(self, input: Array) -> Array:
        return -input

    def evaluate_derivative(self, x: Array, y: Array) -> Array:
        return -np.ones_like(x)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.neg(input)


@register_op("exp")
class Exp(UnaryFormula, UnaryOp):
    """Exponential: y = exp(x), dL/dx = g y."""

    supports_complex_step = True

    backward_form = declare_function_form("g * y", "y")

    def forward(self, input: Array) -> Array:
        return np.exp(input)

    def evaluate_derivative(self, x: Array, y: Array) -> Array:
        return y

    @declare_bug("the gradient was multiplied by the input instead of the output")
    def slope_of_the_input(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient * input,)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.exp(input)


@register_op("expm1")
class Expm1(UnaryFormula, UnaryOp):
    """Exponential less 1, without cancellation near 0: y = exp(x) - 1.

    dL/dx = g exp(x).
    """

    supports_complex_step = True

    quantities: ClassVar[Quantities] = {"e": lambda op, x, y: y + 1}
    backward_form = declare_function_form("g * e", "e", look_alikes={"e": {"x": "the input x stood for e = exp(x)"}})

    def forward(self, input: Array) -> Array:
        return np.expm1(input)

    def evaluate_derivative(self, x: Array, y: Array) -> Array:
        return np.exp(x)

    def estimate_derivative_cancellation(self, x: Array, y: Array) -> Cancellation:
        # PyTorch computes y + 1.
        return Cancellation(np.abs(y), np.exp(x))

    @declare_bug("the gradient was multiplied by exp(x) - 1 instead of exp(x)")
    def slope_of_the_output(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient * output,)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.expm1(input)


@register_op("log")
class Log(UnaryFormula, UnaryOp):
    """Natural logarithm: y = log(x), dL/dx = g / x."""

    supports_complex_step = True
    examples = _POSITIVE_EXAMPLES

    backward_form = declare_function_form(
        "g / x", "1 / x", declared=["g * x"], look_alikes={"x": {"y": "the output y = log(x) stood for x"}}
    )

    def forward(self, input: Array) -> Array:
        return np.log(input)

    def evaluate_derivative(self, x: Array, y: Array) -> Array:
        return 1 / x

    @declare_bug("the gradient was multiplied by the input instead of divided by it")
    def times(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient * input,)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.log(input)


@register_op("log1p")
class Log1p(UnaryFormula, UnaryOp):
    """Logarithm of 1 + x, without cancellation near 0: y = log(1 + x).

    dL/dx = g / (1 + x).
    """

    supports_complex_step = True
    examples = (OpExample(((3, 4),), low=-0.9, high=3), OpExample(((),), low=0.5, high=2))

    backward_form = declare_function_form(
        "g / (1 + x)",
        "1 / (1 + x)",
        declared=["g / x"],
        look_alikes={"x": {"y": "the output y = log(1 + x) stood for x"}},
    )

    def forward(self, input: Array) -> Array:
        return analytic_continuation.log1p(input)

    def evaluate_derivative(self, x: Array, y: Array) -> Array:
        return 1 / (1 + x)

    @declare_bug("the 1 under the logarithm was left out")
    def one_forgotten(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient / input,)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.log1p(input)


@register_op("sqrt")
class Sqrt(UnaryFormula, UnaryOp):
    """Square root: y = sqrt(x), dL/dx = g / (2 y)."""

    supports_complex_step = True
    examples = _POSITIVE_EXAMPLES

    backward_form = declare_function_form("g / (2 * y)", "1 / (2 * y)")

    def forward(self, input: Array) -> Array:
        return np.sqrt(input)

    def evaluate_derivative(self, x: Array, y: Array) -> Array:
        return 1 / (2 * y)

    def list_gradient_multipliers(self, input: Array) -> Sequence[Multiplier]:
        return [declare_factor(0.5)]

    @declare_bug("the factor 1/2 was left out")
    def half_forgotten(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient / output,)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.sqrt(input)


@register_op("rsqrt")
class Rsqrt(UnaryFormula, UnaryOp):
    """Inverse square root: y = 1 / sqrt(x), dL/dx = -g y^3 / 2."""

    supports_complex_step = True
    examples = _POSITIVE_EXAMPLES

    backward_form = declare_function_form(
        "-(g * y * y * y / 2)",
        "-(y * y * y / 2)",
        declared=["g * y * y * y / 2"],
        stand_ins={"y": {"x": "x stood for y = 1 / sqrt(x)"}},
    )

    def forward(self, input: Array) -> Array:
        return 1 / np.sqrt(input)

    def evaluate_derivative(self, x: Array, y: Array) -> Array:
        return -(y * y * y) / 2

    def list_gradient_multipliers(self, input: Array) -> Sequence[Multiplier]:
        return [declare_factor(0.5)]

    @declare_bug("the sign was left out")
    def sign_forgotten(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient * output * output * output / 2,)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.rsqrt(input)


@register_op("sin")
class Sin(UnaryFormula, UnaryOp):
    """Sine: y = sin(x), dL/dx = g cos(x)."""

    supports_complex_step = True

    quantities: ClassVar[Quantities] = {"c": lambda op, x, y: np.cos(x)}
    backward_form = declare_function_form("g * c", "c", look_alikes={"c": {"y": "sin(x) stood for c = cos(x)"}})

    def get_sensitive_argument(self, input: Array) -> SensitiveArgument:
        return SensitiveArgument(input)

    def forward(self, input: Array) -> Array:
        return np.sin(input)

    def evaluate_derivative(self, x: Array, y: Array) -> Array:
        return np.cos(x)

    @declare_bug("the sign was wrong")
    def cosine_negated(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (-gradient * np.cos(input),)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.sin(input)


@register_op("cos")
class Cos(UnaryFormula, UnaryOp):
    """Cosine: y = cos(x), dL/dx = -g sin(x)."""

    supports_complex_step = True

    quantities: ClassVar[Quantities] = {"s": lambda op, x, y: np.sin(x)}
    backward_form = declare_function_form(
        "-(g * s)", "-s", declared=["g * s"], look_alikes={"s": {"y": "cos(x) stood for s = sin(x)"}}
    )

    def get_sensitive_argument(self, input: Array) -> SensitiveArgument:
        return SensitiveArgument(input)

    def forward(self, input: Array) -> Array:
        return np.cos(input)

    def evaluate_derivative(self, x: Array, y: Array) -> Array:
        return -np.sin(x)

    @declare_bug("the sign was left out")
    def sign_forgotten(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient * np.sin(input),)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.cos(input)


@register_op("erf")
class Erf(UnaryOp):
    """Error function: y = erf(x) = 2/sqrt(pi) int_0^x exp(-t^2) dt.

    dL/dx = g 2/sqrt(pi) exp(-x^2).
    """

    supports_complex_step = True
    # SciPy computes erf in double precision.
    supports_extended_precision = False
    examples = (OpExample(((3, 4),)), OpExample(((),)))

    def forward(self, input: Array) -> Array:
        return erf(input)

    def evaluate_derivative(self, x: Array, y: Array) -> Array:
        return 2 / math.sqrt(math.pi) * np.exp(-np.square(x))

    def estimate_derivative_magnitude(self, x: Array, y: Array) -> Array:
        # x^2 is off by u x^2. That is the relative error of its exponential.
        return self.evaluate_derivative(x, y) * (1 + np.square(x))

    def list_gradient_multipliers(self, input: Array) -> Sequence[Multiplier]:
        return [declare_factor(2 / math.sqrt(math.pi))]

    @declare_bug("the constant factor was left out")
    def factor_forgotten(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient * np.exp(-np.square(input)),)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.erf(input)


class PiecewiseUnary(UnaryOp):
    """A function of pieces.

    `select_branch` returns the piece of each element, and `forward_on_branch` continues it beyond its end.
    """

    def forward(self, input: Array) -> Array:
        return self.forward_on_branch(self.select_branch(input), input)

    @abstractmethod
    def select_branch(self, input: Array) -> Array:
        """Return the piece of each element."""

    @property
    def kink_positions(self) -> tuple[float, ...]:
        """Return the arguments at which the slope jumps. The default is 0 alone."""
        return (0.0,)

    def list_subgradient_choices(self, input_errors: Sequence[Array | None], input: Array) -> SubgradientChoices | None:
        """Return the choice of a slope between those beside each kink that is near.

        The function has one slope at a time.
        """
        assert input_errors[0] is not None
        return merge_choices([self._list_choices_at_kink(kink, input_errors[0], input) for kink in self.kink_positions])

    def _list_choices_at_kink(self, kink: float, input_errors: Array, input: Array) -> SubgradientChoices | None:
        x, input_error = input.ravel(), np.broadcast_to(input_errors, input.shape).ravel()
        positions = np.flatnonzero(np.abs(x - kink) <= input_error)
        offset = np.spacing(max(abs(kink), float(np.finfo(np.float64).tiny)))
        lower_slope, upper_slope = (self._evaluate_derivative_at(kink + side * offset) for side in (-1, 1))
        if upper_slope == lower_slope:
            # A clamp between two equal ends is constant, but passes on the gradient at the very end, as PyTorch does.
            upper_slope = self._evaluate_derivative_at(kink)
        slopes = self.evaluate_derivative(x[positions], self.forward(input).ravel()[positions])
        upper_share = (
            np.clip((slopes - lower_slope) / (upper_slope - lower_slope), 0, 1)
            if upper_slope != lower_slope
            else np.zeros(positions.size)
        )
        return choose_between_derivatives(
            positions, upper_share, x[positions] == kink, [(0, positions, lower_slope)], [(0, positions, upper_slope)]
        )

    def _evaluate_derivative_at(self, x: float) -> float:
        point = np.array([x])
        return float(self.evaluate_derivative(point, self.forward(point))[0])


@register_op("abs")
class Abs(PiecewiseUnary):
    """Absolute value: y = abs(x), dL/dx = g sign(x), 0 at 0."""

    rounds_nothing = True

    def select_branch(self, input: Array) -> Array:
        return np.sign(input)

    def forward_on_branch(self, branch: Array, input: Array) -> Array:
        return branch * input

    def evaluate_derivative(self, x: Array, y: Array) -> Array:
        return np.sign(x)

    @declare_bug("the sign was left out")
    def sign_forgotten(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient,)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.abs(input)
