"""Trigonometric functions and their inverses, element by element."""

import math

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.ops.op import Gradients, OpExample, SensitiveArgument, declare_bug, register_op
from service.numerics.ops.pointwise import AnalyticUnary

BOUNDED_EXAMPLES = (
    OpExample(((3, 4),), low=-0.9, high=0.9),
    OpExample(((),), low=0.2, high=0.7),
    OpExample(((5,),), low=0.9, high=0.999),
)
"""Examples of a function that is defined between -1 and 1."""


@register_op("tan")
class Tan(AnalyticUnary):
    """Tangent: y = tan(x), dL/dx = g (1 + y^2)."""

    numpy_function = np.tan

    def get_sensitive_argument(self, input: Array) -> SensitiveArgument:
        return SensitiveArgument(input)

    def evaluate_derivative(self, x: Array, y: Array) -> Array:
        return 1 + np.square(y)

    @declare_bug("the formula 1 + y^2 of the output y was applied to the input")
    def output_formula_of_input(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient * (1 + np.square(input)),)

    @declare_bug("the sign was that of the hyperbolic tangent, 1 - y^2")
    def hyperbolic_slope(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient * (1 - np.square(output)),)


def compute_root_of_one_minus_square(x: Array) -> Array:
    """Return sqrt(1 - x^2) as sqrt((1 - x) (1 + x)), without cancellation near 1 and -1."""
    return np.sqrt((1 - x) * (1 + x))


@register_op("asin")
class Asin(AnalyticUnary):
    """Inverse sine: y = asin(x), dL/dx = g / sqrt(1 - x^2).

    1 - x^2 is computed as (1 - x) (1 + x), which keeps its digits near 1 and -1.
    """

    numpy_function = np.arcsin
    examples = BOUNDED_EXAMPLES

    def evaluate_derivative(self, x: Array, y: Array) -> Array:
        return 1 / compute_root_of_one_minus_square(x)

    def estimate_derivative_magnitude(self, x: Array, y: Array) -> Array:
        # The textbook's 1 - x^2 is off by u x^2.
        return np.abs(self.evaluate_derivative(x, y)) / ((1 - x) * (1 + x))

    @declare_bug("the square root was left out")
    def root_forgotten(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient / ((1 - input) * (1 + input)),)

    @declare_bug("the sign under the root was wrong")
    def sign_under_the_root(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient / np.sqrt(1 + np.square(input)),)


@register_op("acos")
class Acos(AnalyticUnary):
    """Inverse cosine: y = acos(x), dL/dx = -g / sqrt(1 - x^2).

    1 - x^2 is computed as (1 - x) (1 + x), which keeps its digits near 1 and -1.
    """

    numpy_function = np.arccos
    examples = BOUNDED_EXAMPLES

    def evaluate_derivative(self, x: Array, y: Array) -> Array:
        return -1 / compute_root_of_one_minus_square(x)

    def estimate_derivative_magnitude(self, x: Array, y: Array) -> Array:
        # The textbook's 1 - x^2 is off by u x^2.
        return np.abs(self.evaluate_derivative(x, y)) / ((1 - x) * (1 + x))

    @declare_bug("the sign was left out")
    def sign_forgotten(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient / compute_root_of_one_minus_square(input),)


@register_op("atan")
class Atan(AnalyticUnary):
    """Inverse tangent: y = atan(x), dL/dx = g / (1 + x^2)."""

    numpy_function = np.arctan

    def evaluate_derivative(self, x: Array, y: Array) -> Array:
        return 1 / (1 + np.square(x))

    @declare_bug("a square root was taken of 1 + x^2")
    def root_too_many(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient / np.sqrt(1 + np.square(input)),)

    @declare_bug("the input was not squared")
    def square_forgotten(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient / (1 + np.abs(input)),)


_SINC_SERIES_LIMIT = 0.8
"""Largest argument z at which the series of the slope is used: its last term there is below 1e-17 of the first."""
_SINC_SERIES = tuple((-1) ** k * 2 * k / math.factorial(2 * k + 1) for k in range(1, 10))
"""Coefficients of z, z^3, ... of the derivative of sin(z) / z."""


def _bound_phase_effect(slope: Array, z: Array) -> Array:
    """Bound the effect of the error of a phase z on its sine or cosine, in units of that error.

    The phase is off by d = u |z|, and its sine by |cos(z)| d + d^2 / 2 at most, and by d. For any u up to 2^-8 the
    second part is below 2^-9 |z| d.
    """
    return np.minimum(1, np.abs(slope) + 2.0**-9 * np.abs(z))


@register_op("sinc")
class Sinc(AnalyticUnary):
    """Normalised cardinal sine: y = sin(z) / z with z = pi x, and 1 at 0.

    dL/dx = g (cos(z) - y) / x, and 0 at 0.
    Near 0 the difference cancels. There the slope is the series pi sum (-1)^k 2 k z^(2k-1) / (2k+1)!, k = 1, 2, ...
    """

    numpy_calls = 5

    def get_sensitive_argument(self, input: Array) -> SensitiveArgument:
        return SensitiveArgument(math.pi * input)

    def forward(self, input: Array) -> Array:
        z = math.pi * input
        return np.where(z == 0, 1, np.sin(z) / np.where(z == 0, 1, z)).astype(input.dtype, copy=False)

    def evaluate_derivative(self, x: Array, y: Array) -> Array:
        z = math.pi * x
        is_near = np.abs(z) < _SINC_SERIES_LIMIT
        square, series = np.square(np.where(is_near, z, 0)), np.zeros_like(z)
        for coefficient in reversed(_SINC_SERIES):
            series = series * square + coefficient
        far = (np.cos(z) - y) / np.where(is_near, 1, x)
        return np.where(is_near, math.pi * z * series, far).astype(x.dtype, copy=False)

    def estimate_value_magnitude(self, x: Array, y: Array) -> Array:
        z = math.pi * x
        return np.abs(y) + _bound_phase_effect(np.cos(z), z)

    def estimate_derivative_magnitude(self, x: Array, y: Array) -> Array:
        # The textbook's difference, in PyTorch too, with the error of z in its cosine.
        z = math.pi * x
        phase_effect = np.abs(z) * _bound_phase_effect(np.sin(z), z)
        return (np.abs(np.cos(z)) + np.abs(y) + phase_effect) / np.where(x == 0, np.inf, np.abs(x))

    @declare_bug("only the sine was differentiated, and not the division by z")
    def quotient_rule_forgotten(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient * np.cos(math.pi * input) / np.where(input == 0, 1, input),)

    @declare_bug("the factor pi of the argument was left out")
    def pi_forgotten(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient * self.evaluate_derivative(input, output) / math.pi,)


@register_op("deg2rad")
class Deg2rad(AnalyticUnary):
    """Degrees as radians: y = x pi / 180, dL/dx = g pi / 180."""

    numpy_function = np.deg2rad

    def forward(self, input: Array) -> Array:
        return input * input.dtype.type(math.pi / 180)

    def evaluate_derivative(self, x: Array, y: Array) -> Array:
        return np.full_like(x, math.pi / 180)

    @declare_bug("degrees and radians were exchanged: the factor was 180 / pi")
    def inverse_factor(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient * (180 / math.pi),)


@register_op("rad2deg")
class Rad2deg(AnalyticUnary):
    """Radians as degrees: y = 180 x / pi, dL/dx = 180 g / pi."""

    def forward(self, input: Array) -> Array:
        return input * input.dtype.type(180 / math.pi)

    def evaluate_derivative(self, x: Array, y: Array) -> Array:
        return np.full_like(x, 180 / math.pi)

    @declare_bug("degrees and radians were exchanged: the factor was pi / 180")
    def inverse_factor(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient * (math.pi / 180),)
