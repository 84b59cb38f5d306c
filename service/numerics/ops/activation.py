"""Activations: elementwise functions that networks put between their layers."""

import math
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from annotated_types import Gt
from scipy.special import erf, erfc

from service.numerics.core.batching import Array
from service.numerics.ops import analytic_continuation
from service.numerics.ops.elementwise import Cancellation, PiecewiseUnary, UnaryOp
from service.numerics.ops.formula_op import Quantities, UnaryFormula, declare_function_form
from service.numerics.ops.multipliers import Multiplier, declare_factor
from service.numerics.ops.op import Gradients, OpExample, declare_bug, declare_bug_named, register_op
from service.numerics.ops.rounding_errors import Rounding

_SQRT_HALF = math.sqrt(0.5)
_SQRT_2_OVER_PI = math.sqrt(2 / math.pi)
_GELU_CUBIC_COEFFICIENT = 0.044715
_SAFE_EXPONENT, _SAFE_EXPONENT_OF_SINGLE_PRECISION = 700.0, 85.0
"""Exponents below the overflow of an exponential, at 709.8 and 88.7. Half precision computes in the single one."""
_TANH_SATURATION_MARGIN = 8
"""Range beyond the saturation of tanh in which a library may stay a unit below 1: NumPy's does up to 10 in float32."""


class CurvedActivation(UnaryOp):
    """An activation whose derivative differs between its input and its output."""

    @declare_bug("the derivative was taken at the output of the function instead of at its input")
    def activation_derivative_at_output(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient * self.evaluate_derivative(output, self.forward(output)),)


@register_op("tanh")
class Tanh(UnaryFormula, CurvedActivation):
    """Hyperbolic tangent: t = tanh(x), element by element.

    With g = dL/dt, all of shape (...):
        dL/dx = g (1 - t^2) = g sech^2(x) = g 4 e / (1 + e)^2,   e = exp(-2 abs(x))
    The last form is computed: 1 - t^2 has no digits left where t rounds to 1.
    """

    supports_complex_step = True
    quantities: ClassVar[Quantities] = {"t": lambda op, x, y: y}
    backward_form = declare_function_form(
        "g * (1 - t * t)",
        "1 - t * t",
        declared=["g * (1 - t)"],
        alternatives={"input": {"g * t * (1 - t)": "the derivative t (1 - t) of a sigmoid was used"}},
    )

    def forward(self, input: Array) -> Array:
        return np.tanh(input)

    def evaluate_derivative(self, x: Array, y: Array) -> Array:
        e = np.exp(-2 * np.abs(x))
        return 4 * e / np.square(1 + e)

    def backward_by_output(self, gradient: Array, output: Array, *inputs: Array) -> Gradients:
        return (gradient * (1 - output * output),)

    def estimate_derivative_cancellation(self, x: Array, y: Array) -> Cancellation:
        # The textbook's 1 - t^2: a correct backward pass may well be written so.
        return Cancellation(2 * np.square(y), _TANH_SATURATION_MARGIN * self.evaluate_derivative(x, y))

    @declare_bug_named(
        "activation_derivative_at_output", "the formula 1 - t^2 of the output t was applied to the input"
    )
    def apply_output_formula_to_input(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient * (1 - np.square(input)),)

    @declare_bug("1 - t was used for 1 - t^2")
    def output_not_squared(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient * (1 - output),)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.tanh(input)


def sigmoid(x: Array) -> Array:
    """Return 1 / (1 + exp(-x)), without overflow.

    For x < 0 it is computed as exp(x) / (1 + exp(x)).
    """
    e = analytic_continuation.take_absolute_value(x)
    np.negative(e, out=e)
    np.exp(e, out=e)
    is_not_negative = analytic_continuation.take_real_part(x) >= 0
    # For real numbers e is at most 1, and NumPy computes a maximum faster than a choice.
    result = np.where(is_not_negative, x.dtype.type(1), e) if e.dtype.kind == "c" else np.maximum(e, is_not_negative)
    e += 1
    result /= e
    return result


def compute_sigmoid_derivative(x: Array) -> Array:
    """Return s (1 - s) = e / (1 + e)^2 with e = exp(-abs(x)), without cancellation."""
    e = np.exp(-np.abs(x))
    return e / np.square(1 + e)


@register_op("sigmoid")
class Sigmoid(UnaryFormula, CurvedActivation):
    """Logistic function: s = 1 / (1 + exp(-x)), element by element.

    With g = dL/ds, e = exp(-abs(x)), all of shape (...):
        s = 1 / (1 + e) for x >= 0, e / (1 + e) below, which never overflows
        dL/dx = g s (1 - s) = g e / (1 + e)^2
    The last form is computed: 1 - s has no digits left where s rounds to 1.
    """

    numpy_calls = 7
    supports_complex_step = True
    quantities: ClassVar[Quantities] = {"s": lambda op, x, y: y}
    backward_form = declare_function_form(
        "g * s * (1 - s)",
        "s * (1 - s)",
        declared=["g * s"],
        alternatives={"input": {"g * (1 - s * s)": "the derivative 1 - s^2 of a tanh was used"}},
    )

    def forward(self, input: Array) -> Array:
        return sigmoid(input)

    def evaluate_derivative(self, x: Array, y: Array) -> Array:
        return compute_sigmoid_derivative(x)

    def backward_by_output(self, gradient: Array, output: Array, *inputs: Array) -> Gradients:
        return (gradient * output * (1 - output),)

    def estimate_derivative_cancellation(self, x: Array, y: Array) -> Cancellation:
        # The textbook's s (1 - s)
        return Cancellation(np.square(y), compute_sigmoid_derivative(x))

    @declare_bug_named(
        "activation_derivative_at_output", "the formula s (1 - s) of the output s was applied to the input"
    )
    def apply_output_formula_to_input(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient * input * (1 - input),)

    @declare_bug("the factor s alone was used for s (1 - s)")
    def only_one_factor(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient * output,)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.sigmoid(input)


@register_op("silu")
class Silu(UnaryFormula, CurvedActivation):
    """Sigmoid linear unit: y = x s with s = sigmoid(x), dL/dx = g s (1 + x (1 - s))."""

    numpy_calls = 8
    supports_complex_step = True
    quantities: ClassVar[Quantities] = {"s": lambda op, x, y: sigmoid(x)}
    backward_form = declare_function_form(
        "g * s * (1 + x * (1 - s))",
        "s * (1 + x * (1 - s))",
        declared=["g * s"],
        spellings={"input": ["g * (s + x * s * (1 - s))", "g * (y + s * (1 - y))"]},
        identities={"y": "x * s"},
        look_alikes={"x": {"y": "the output y stood for x"}, "y": {"x": "the input x stood for y"}},
    )

    def compute_library_function_factor(self, x: Array) -> Array:
        return 1 + np.abs(x)

    def forward(self, input: Array) -> Array:
        return input * sigmoid(input)

    def evaluate_derivative(self, x: Array, y: Array) -> Array:
        # s + x s (1 - s), whose last product does not cancel.
        return sigmoid(x) + x * compute_sigmoid_derivative(x)

    def estimate_derivative_magnitude(self, x: Array, y: Array) -> Array:
        return sigmoid(x) + np.abs(x) * compute_sigmoid_derivative(x)

    def estimate_derivative_cancellation(self, x: Array, y: Array) -> Cancellation:
        # The textbook's s (1 + x (1 - s))
        return Cancellation(np.abs(x) * np.square(sigmoid(x)), np.abs(x) * compute_sigmoid_derivative(x))

    @declare_bug("only the first factor of the product x s(x) was differentiated")
    def product_rule_forgotten(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient * sigmoid(input),)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.nn.functional.silu(input)


@register_op("gelu")
class Gelu(UnaryFormula, CurvedActivation):
    """Gaussian error linear unit: y = x Phi(x), or its approximation by tanh.

    Phi is the normal distribution function. approximate "none":
        Phi(x) = (1 + erf(x / sqrt 2)) / 2,   phi(x) = exp(-x^2 / 2) / sqrt(2 pi)
        dL/dx = g (Phi(x) + x phi(x))
    approximate "tanh":
        Phi = (1 + t) / 2,   t = tanh(v),   v = sqrt(2/pi) (x + 0.044715 x^3)
        dL/dx = g ((1 + t) / 2 + x (1 - t^2) v' / 2),   v' = sqrt(2/pi) (1 + 3 0.044715 x^2)
    """

    numpy_calls = 7
    approximate: Literal["none", "tanh"] = "none"

    supports_complex_step = True
    supports_extended_precision = False
    examples = (OpExample(((3, 4),)), OpExample(((3, 4),), {"approximate": "tanh"}), OpExample(((),)))
    quantities: ClassVar[Quantities] = {
        "Phi": lambda op, x, y: (1 + op._compute_tanh_or_erf_parts(x)[0]) / 2,
        "phi": lambda op, x, y: op._compute_density(x),
        "t": lambda op, x, y: op._compute_tanh_or_erf_parts(x)[0],
        "phi_without_constant": lambda op, x, y: op._compute_density(x) / op._constants[0],
        "phi_of_whole_square": lambda op, x, y: np.exp(-np.square(x)) / math.sqrt(2 * math.pi),
        "phi_without_inner_derivative": lambda op, x, y: op._compute_density(x, 0.0, 1 / _SQRT_2_OVER_PI),
        "phi_with_1_for_3": lambda op, x, y: op._compute_density(x, 1.0),
        "phi_with_2_for_3": lambda op, x, y: op._compute_density(x, 2.0),
    }
    backward_form = declare_function_form(
        "g * (Phi + x * phi)",
        "Phi + x * phi",
        declared=["g * Phi"],
        look_alikes={
            "Phi": {"phi": "the density phi stood for Phi", "t": "t, or erf(x / sqrt 2), stood for Phi = (1 + t) / 2"},
            "phi": {
                "Phi": "Phi stood for its derivative phi",
                "phi_without_constant": "the constant factor of phi was left out",
                "phi_of_whole_square": "exp(-x^2) stood for exp(-x^2 / 2) in phi",
                "phi_without_inner_derivative": "the derivative v' of the argument was left out of phi",
                "phi_with_1_for_3": "the factor 3 of the cube's derivative was left out",
                "phi_with_2_for_3": "the cube's derivative was taken as 2 x^2",
            },
            "x": {"y": "the output y stood for x"},
        },
    )
    # PyTorch's vectorised gelu is off by up to 9 unit roundoffs of the textbook's form, that by tanh by less than 3.
    library_rounding_terms = 24

    def compute_library_function_factor(self, x: Array) -> Array:
        return 1 + np.abs(x)

    def estimate_backward_rounding(self, gradient: Array, output: Array, input: Array) -> tuple[Rounding | None, ...]:
        terms = super().library_rounding_terms if self.approximate == "tanh" else self.library_rounding_terms
        return (Rounding(np.abs(gradient) * self.estimate_derivative_magnitude(input, output), terms),)

    def forward(self, input: Array) -> Array:
        if self.approximate == "tanh":
            return input / 2 * (1 + np.tanh(self._compute_tanh_argument(input)))
        return input / 2 * (1 + erf(input * _SQRT_HALF))

    @staticmethod
    def _compute_tanh_argument(x: Array) -> Array:
        return _SQRT_2_OVER_PI * (x + _GELU_CUBIC_COEFFICIENT * (x * x * x))

    def _compute_tanh_or_erf_parts(self, x: Array) -> tuple[Array, Array]:
        """Return t = tanh(v) or erf(x / sqrt 2), and x times half its derivative."""
        if self.approximate == "tanh":
            v = self._compute_tanh_argument(x)
            e = np.exp(-2 * np.abs(v))
            argument_derivative = _SQRT_2_OVER_PI * (1 + 3 * _GELU_CUBIC_COEFFICIENT * np.square(x))
            return np.tanh(v), x / 2 * (4 * e / np.square(1 + e)) * argument_derivative
        density = np.exp(-np.square(x) / 2) / math.sqrt(2 * math.pi)
        return erf(x * _SQRT_HALF), x * density

    @property
    def _constants(self) -> tuple[float]:
        """Return the constant factor of the density."""
        return (_SQRT_2_OVER_PI if self.approximate == "tanh" else 1 / math.sqrt(2 * math.pi),)

    def _compute_density(self, x: Array, cube_factor: float = 3.0, scale: float = 1.0) -> Array:
        """Return phi; by tanh (1 - t^2) v' / 2, the derivative of the cube with another factor, times a scale."""
        if self.approximate == "none":
            return np.exp(-np.square(x) / 2) / math.sqrt(2 * math.pi)
        e = np.exp(-2 * np.abs(self._compute_tanh_argument(x)))
        argument_derivative = _SQRT_2_OVER_PI * (1 + cube_factor * _GELU_CUBIC_COEFFICIENT * np.square(x))
        return scale / 2 * (4 * e / np.square(1 + e)) * argument_derivative

    def evaluate_derivative(self, x: Array, y: Array) -> Array:
        t, half_derivative = self._compute_tanh_or_erf_parts(x)
        return (1 + t) / 2 + half_derivative

    def _compute_one_minus_abs(self, x: Array) -> Array:
        """Return 1 - abs(t)."""
        if self.approximate == "tanh":
            e = np.exp(-2 * np.abs(self._compute_tanh_argument(x)))
            return 2 * e / (1 + e)
        return erfc(np.abs(x) * _SQRT_HALF)

    def estimate_value_magnitude(self, x: Array, y: Array) -> Array:
        # The argument of t is off by u of itself.
        return np.abs(y) + np.abs(x * self._compute_tanh_or_erf_parts(x)[1])

    def estimate_value_cancellation(self, x: Array, y: Array) -> Cancellation:
        # 1 + t where t is near -1, in PyTorch too.
        distance_to_one = self._compute_one_minus_abs(x)
        largest_error = _TANH_SATURATION_MARGIN * distance_to_one if self.approximate == "tanh" else distance_to_one
        return Cancellation(np.abs(x) / 2 * (1 - distance_to_one), np.abs(x) / 2 * largest_error)

    def estimate_derivative_magnitude(self, x: Array, y: Array) -> Array:
        t, half_derivative = self._compute_tanh_or_erf_parts(x)
        # The relative error of the exponential is the error of its argument, x^2 / 2 or 2 v.
        argument = 2 * np.abs(self._compute_tanh_argument(x)) if self.approximate == "tanh" else np.square(x)
        return np.abs(1 + t) / 2 + np.abs(half_derivative) * (1 + argument)

    def estimate_derivative_cancellation(self, x: Array, y: Array) -> Cancellation:
        # 1 + t, and for the hyperbolic tangent 1 - t^2 times x v' / 2. PyTorch too loses the last summand beside 1.
        distance_to_one = self._compute_one_minus_abs(x)
        magnitude = (1 - distance_to_one) / 2
        if self.approximate == "tanh":
            argument_derivative = _SQRT_2_OVER_PI * (1 + 3 * _GELU_CUBIC_COEFFICIENT * np.square(x))
            magnitude = magnitude + np.abs(x) * np.square(1 - distance_to_one) * argument_derivative
        largest_error = distance_to_one / 2 + np.abs(self._compute_tanh_or_erf_parts(x)[1])
        return Cancellation(
            magnitude, largest_error * _TANH_SATURATION_MARGIN if self.approximate == "tanh" else largest_error
        )

    @declare_bug_named("wrong_formula", "the derivative of the other approximation was used")
    def derivative_of_the_other_approximation(self, gradient: Array, output: Array, input: Array) -> Gradients:
        other = Gelu(approximate="none" if self.approximate == "tanh" else "tanh")
        return other.backward(gradient, output, input)

    @declare_bug("only the first factor of the product x Phi(x) was differentiated")
    def density_forgotten(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient * output / input,)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.nn.functional.gelu(input, approximate=self.approximate)


@register_op("relu")
class Relu(PiecewiseUnary):
    """Rectified linear unit: y = max(x, 0), dL/dx = g where x > 0, else 0."""

    rounds_nothing = True

    def select_branch(self, input: Array) -> Array:
        return input > 0

    def forward_on_branch(self, branch: Array, input: Array) -> Array:
        # NaN is on neither piece, and stays NaN.
        return np.where(branch | np.isnan(input), input, 0).astype(input.dtype, copy=False)

    def evaluate_derivative(self, x: Array, y: Array) -> Array:
        return (x > 0).astype(x.dtype)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.relu(input)


@register_op("leaky_relu")
class LeakyRelu(UnaryFormula, PiecewiseUnary):
    """Leaky rectified linear unit: y = x where x > 0, else a x.

    a = negative_slope. dL/dx = g, or a g.
    """

    numpy_calls = 3
    negative_slope: float = 0.01

    quantities: ClassVar[Quantities] = {
        "d": lambda op, x, y: op.evaluate_derivative(x, y),
        "d_exchanged": lambda op, x, y: np.where(x > 0, op.negative_slope, 1),
        "d_absolute": lambda op, x, y: np.where(x > 0, 1, -op.negative_slope),
    }
    # The slope is a multiplier of the gradient below 0.
    backward_form = declare_function_form(
        "g * d",
        "d",
        look_alikes={
            "d": {
                "d_exchanged": "the slopes above and below 0 were exchanged",
                "d_absolute": "the slope below 0 had the wrong sign",
            }
        },
        multipliers=("d",),
    )

    def select_branch(self, input: Array) -> Array:
        return input > 0

    def forward_on_branch(self, branch: Array, input: Array) -> Array:
        return np.where(branch, input, input * input.dtype.type(self.negative_slope))

    def evaluate_derivative(self, x: Array, y: Array) -> Array:
        return np.where(x > 0, 1, self.negative_slope).astype(x.dtype)

    def list_gradient_multipliers(self, input: Array) -> Sequence[Multiplier]:
        return [
            declare_factor(self.negative_slope, "slope")._replace(
                applies_at=~self.select_branch(input), location_note=" below 0"
            )
        ]

    def estimate_value_magnitude(self, x: Array, y: Array) -> Array:
        return np.where(x > 0, 0, np.abs(y))

    def estimate_derivative_magnitude(self, x: Array, y: Array) -> Array:
        return np.where(x > 0, 0, abs(self.negative_slope))

    @declare_bug("the slope below 0 was treated as 0")
    def zero_below(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient * (input > 0),)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.nn.functional.leaky_relu(input, self.negative_slope)


@register_op("elu")
class Elu(UnaryFormula, PiecewiseUnary, CurvedActivation):
    """Exponential linear unit: y = x where x > 0, else a (exp(x) - 1).

    a = alpha. dL/dx = g, or g a exp(x).
    """

    numpy_calls = 4
    alpha: float = 1.0

    quantities: ClassVar[Quantities] = {
        "d": lambda op, x, y: op.evaluate_derivative(x, y),
        "d_exchanged": lambda op, x, y: np.where(x > 0, op.alpha * np.exp(x), 1),
        "d_of_one_piece": lambda op, x, y: op.alpha * np.exp(x),
        "d_of_value": lambda op, x, y: np.where(x > 0, 1, y),
        "d_of_value_plus_1": lambda op, x, y: np.where(x > 0, 1, y + 1),
    }
    backward_form = declare_function_form(
        "g * d",
        "d",
        look_alikes={
            "d": {
                "d_exchanged": "the pieces above and below 0 were exchanged",
                "d_of_one_piece": "a exp(x) was used above 0 too",
                "d_of_value": "the output y stood for y + a below 0",
                "d_of_value_plus_1": "y + 1 stood for y + a below 0",
            }
        },
    )
    examples = (OpExample(((3, 4),)), OpExample(((5,),), {"alpha": 0.7}))

    def select_branch(self, input: Array) -> Array:
        return input > 0

    def forward_on_branch(self, branch: Array, input: Array) -> Array:
        # The exponential of the other piece may overflow; the result does not use it.
        with np.errstate(over="ignore"):
            return np.where(branch, input, self.alpha * np.expm1(input)).astype(input.dtype, copy=False)

    def evaluate_derivative(self, x: Array, y: Array) -> Array:
        return np.where(x > 0, 1, self.alpha * np.exp(np.minimum(x, 0))).astype(x.dtype, copy=False)

    def list_gradient_multipliers(self, input: Array) -> Sequence[Multiplier]:
        return [declare_factor(self.alpha)._replace(applies_at=~self.select_branch(input), location_note=" below 0")]

    def estimate_value_magnitude(self, x: Array, y: Array) -> Array:
        return np.where(x > 0, 0, np.abs(y))

    def estimate_derivative_magnitude(self, x: Array, y: Array) -> Array:
        return np.where(x > 0, 0, np.abs(self.evaluate_derivative(x, y)))

    def estimate_derivative_cancellation(self, x: Array, y: Array) -> Cancellation:
        # The textbook's y + a, with the output in place of the input.
        return Cancellation(np.where(x > 0, 0, np.abs(y)), np.abs(self.evaluate_derivative(x, y)))

    @declare_bug("the slope below 0 was treated as 1")
    def slope_of_one(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient,)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.nn.functional.elu(input, self.alpha)


@register_op("softplus")
class Softplus(UnaryFormula, PiecewiseUnary, CurvedActivation):
    """Soft rectifier: y = log(1 + exp(b x)) / b where b x <= threshold, else x.

    b = beta. dL/dx = g sigmoid(b x), or g.
    """

    numpy_calls = 11
    beta: Annotated[float, Gt(0)] = 1.0
    threshold: float = 20.0

    quantities: ClassVar[Quantities] = {
        "s": lambda op, x, y: op.evaluate_derivative(x, y),
        "s_without_b": lambda op, x, y: sigmoid(x),
        "s_of_minus": lambda op, x, y: sigmoid(-op.beta * x),
    }
    backward_form = declare_function_form(
        "g * s",
        "s",
        look_alikes={
            "s": {
                "s_without_b": "beta was left out of the argument of sigmoid",
                "s_of_minus": "1 - sigmoid(b x) stood for sigmoid(b x)",
            }
        },
        alternatives={
            "input": {
                "g * s * (1 - s)": "the derivative s (1 - s) of sigmoid was used",
            }
        },
    )

    examples = (
        OpExample(((3, 4),)),
        OpExample(((6,),), {"beta": 2.5, "threshold": 1.0}),
        OpExample(((5,),), low=-30, high=30),
    )

    @property
    def kink_positions(self) -> tuple[float, ...]:
        return (self.threshold / self.beta,)

    def select_branch(self, input: Array) -> Array:
        return input * input.dtype.type(self.beta) > self.threshold

    def forward_on_branch(self, branch: Array, input: Array) -> Array:
        z = input * input.dtype.type(self.beta)
        # log(1 + exp(z)) = max(z, 0) + log1p(exp(-abs(z)))
        curved_piece = (np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z)))) / input.dtype.type(self.beta)
        return np.where(branch, input, curved_piece)

    def evaluate_derivative(self, x: Array, y: Array) -> Array:
        z = x * x.dtype.type(self.beta)
        return np.where(z > self.threshold, 1, sigmoid(z)).astype(x.dtype, copy=False)

    def estimate_value_magnitude(self, x: Array, y: Array) -> Array:
        # b x is off by u b abs(x), and the result by s times that over b.
        curved_magnitude = np.abs(y) + np.abs(x) * sigmoid(x * self.beta)
        return np.where(self.select_branch(x), 0, curved_magnitude)

    def estimate_derivative_magnitude(self, x: Array, y: Array) -> Array:
        z = x * self.beta
        # s (1 - s) times the error of b x.
        return np.where(self.select_branch(x), 0, sigmoid(z) + np.abs(z) * compute_sigmoid_derivative(z))

    @declare_bug("the sign of the argument was taken wrong")
    def sign_of_the_argument(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient * sigmoid(-input),)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        # PyTorch's derivative is exp(b x) / (exp(b x) + 1), which is NaN where the exponential overflows. From the
        # largest safe exponent on, the function is x to the last digit.
        largest_exponent = _SAFE_EXPONENT if input.dtype == torch.float64 else _SAFE_EXPONENT_OF_SINGLE_PRECISION
        return torch.nn.functional.softplus(input, self.beta, min(self.threshold, largest_exponent))
