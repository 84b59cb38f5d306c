"""Special functions of one tensor, element by element."""

import math
from collections.abc import Sequence
from typing import Any, cast

import numpy as np
from scipy import special

from service.numerics.core.batching import Array
from service.numerics.ops import analytic_continuation
from service.numerics.ops.elementwise import Cancellation
from service.numerics.ops.multipliers import Multiplier, declare_factor
from service.numerics.ops.op import Gradients, OpExample, declare_bug, register_op
from service.numerics.ops.pointwise import AnalyticUnary

_TWO_OVER_ROOT_PI = 2 / math.sqrt(math.pi)
_GAMMA_EXAMPLES = (
    OpExample(((3, 4),), low=0.2, high=5),
    OpExample(((),), low=2, high=3),
    OpExample(((5,),), low=-1.8, high=-1.2),
    OpExample(((6,),), low=3, high=40),
)


ANY_MAGNITUDE = 1e30
"""Magnitude beyond any, so that the largest error decides."""


class SpecialFunction(AnalyticUnary):
    """A function that SciPy computes, in double precision."""

    supports_extended_precision = False


@register_op("erfc")
class Erfc(SpecialFunction):
    """Complement of the error function, with all digits of its tail: y = 1 - erf(x).

    dL/dx = -g 2/sqrt(pi) exp(-x^2).
    """

    numpy_function = special.erfc
    examples = (OpExample(((3, 4),)), OpExample(((),)), OpExample(((5,),), low=-4, high=4))

    def evaluate_derivative(self, x: Array, y: Array) -> Array:
        return -_TWO_OVER_ROOT_PI * np.exp(-np.square(x))

    def estimate_derivative_magnitude(self, x: Array, y: Array) -> Array:
        # x^2 is off by u x^2. That is the relative error of its exponential.
        return np.abs(self.evaluate_derivative(x, y)) * (1 + np.square(x))

    def list_gradient_multipliers(self, input: Array) -> Sequence[Multiplier]:
        return [declare_factor(_TWO_OVER_ROOT_PI)]

    @declare_bug("the sign was left out, as for erf")
    def sign_forgotten(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient * _TWO_OVER_ROOT_PI * np.exp(-np.square(input)),)

    @declare_bug("the input was not squared in the exponential")
    def square_forgotten(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (-gradient * _TWO_OVER_ROOT_PI * np.exp(-np.abs(input)),)


@register_op("erfinv")
class Erfinv(SpecialFunction):
    """Inverse of the error function, between -1 and 1: erf(y) = x.

    dL/dx = g sqrt(pi)/2 exp(y^2), since erf'(y) = 2/sqrt(pi) exp(-y^2).
    """

    examples = (
        OpExample(((3, 4),), low=-0.9, high=0.9),
        OpExample(((),), low=0.2, high=0.7),
        OpExample(((5,),), low=0.9, high=0.99),
    )

    def forward(self, input: Array) -> Array:
        return analytic_continuation.erfinv(input)

    def evaluate_derivative(self, x: Array, y: Array) -> Array:
        return np.exp(np.square(y)) / y.dtype.type(_TWO_OVER_ROOT_PI)

    def estimate_value_magnitude(self, x: Array, y: Array) -> Array:
        # PyTorch corrects an approximation by erf(y) - x, which is off by u x.
        return np.abs(y) + np.abs(x) * self.evaluate_derivative(x, y)

    def estimate_derivative_magnitude(self, x: Array, y: Array) -> Array:
        return self.evaluate_derivative(x, y) * (1 + 2 * np.abs(y) * self.estimate_value_magnitude(x, y))

    def list_gradient_multipliers(self, input: Array) -> Sequence[Multiplier]:
        return [declare_factor(1 / _TWO_OVER_ROOT_PI)]

    @declare_bug("the derivative of erf was not inverted: the exponent had the wrong sign")
    def sign_of_the_exponent(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient / _TWO_OVER_ROOT_PI * np.exp(-np.square(output)),)

    @declare_bug("the exponent was the square of the input instead of the output")
    def square_of_the_input(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient / _TWO_OVER_ROOT_PI * np.exp(np.square(input)),)


def compute_sine_of_turns(x: Array) -> Array:
    """Return sin(pi x), with the error of x alone."""
    whole = np.rint(x)
    sign = np.where(np.remainder(whole, 2) == 0, 1, -1).astype(x.dtype)
    return sign * np.sin(x.dtype.type(math.pi) * (x - whole))


def compute_trigamma(x: Array) -> Array:
    """Return the derivative of digamma.

    Left of 1/2 it is that of 1 - x by reflection: trigamma(x) = (pi / sin(pi x))^2 - trigamma(1 - x).
    """
    is_left = x < 0.5
    right: Array = cast("Any", special).zeta(2.0, np.where(is_left, 1 - x, x))
    reflected = np.square(math.pi / np.where(is_left, compute_sine_of_turns(x), 1)) - right
    return np.where(is_left, reflected, right).astype(x.dtype, copy=False)


def estimate_digamma_magnitude(x: Array) -> Array:
    """Return digamma in its textbook form, on absolute values.

    It is a logarithm, with sums of reciprocals for small arguments, and left of 0 with pi cot(pi x), whose argument is
    off by u of itself.
    """
    sine = np.where(x < 0, compute_sine_of_turns(x), 1)
    reflection = np.where(x < 0, math.pi / np.abs(sine) * (1 + np.abs(math.pi * x / sine)), 0)
    return np.abs(np.log(np.abs(x) + 1)) + 5 + np.abs(1 / x) + reflection


def bound_trigamma_rest(x: Array) -> Array:
    """Return the part of trigamma that PyTorch leaves out.

    Its series at x + 6, or at 7 - x left of 1/2, ends before the term 1 / (30 z^9).
    """
    return 1 / (30 * np.power(np.where(x < 0.5, 7 - x, x + 6), 9))


@register_op("lgamma")
class Lgamma(SpecialFunction):
    """Logarithm of the absolute value of the gamma function: y = log(abs(Gamma(x))).

    dL/dx = g digamma(x).
    """

    examples = _GAMMA_EXAMPLES

    def forward(self, input: Array) -> Array:
        return analytic_continuation.gammaln(input)

    def evaluate_derivative(self, x: Array, y: Array) -> Array:
        return special.psi(x)

    def estimate_value_magnitude(self, x: Array, y: Array) -> Array:
        # Left of 0 it is log(pi / abs(sin(pi x))) less the function at 1 - x, with the error of pi x in its sine.
        sine = np.where(x < 0.5, np.abs(compute_sine_of_turns(x)), 1)
        reflection = np.abs(np.log(math.pi / sine)) + np.abs(special.gammaln(1 - x)) + np.abs(math.pi * x / sine)
        return np.abs(y) + np.where(x < 0.5, reflection, 1)

    def estimate_derivative_magnitude(self, x: Array, y: Array) -> Array:
        return estimate_digamma_magnitude(x)

    @declare_bug("the logarithm of x was taken for digamma")
    def logarithm_for_digamma(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient * np.log(np.abs(input)),)

    @declare_bug("the derivative was that of the gamma function itself, without the logarithm")
    def logarithm_forgotten(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient * special.psi(input) * np.exp(output),)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.lgamma(input)


@register_op("digamma")
class Digamma(SpecialFunction):
    """Logarithmic derivative of the gamma function: y = Gamma'(x) / Gamma(x).

    dL/dx = g trigamma(x), the sum of 1 / (x + k)^2 over k = 0, 1, ...
    """

    numpy_function = special.psi
    examples = _GAMMA_EXAMPLES

    def evaluate_derivative(self, x: Array, y: Array) -> Array:
        return compute_trigamma(x)

    def estimate_value_magnitude(self, x: Array, y: Array) -> Array:
        return estimate_digamma_magnitude(x)

    def estimate_derivative_magnitude(self, x: Array, y: Array) -> Array:
        sine = np.where(x < 0.5, compute_sine_of_turns(x), 1)
        reflection = np.where(x < 0.5, np.square(math.pi / sine) * (1 + np.abs(math.pi * x / sine)), 0)
        return np.abs(compute_trigamma(x)) + np.where(x < 0.5, compute_trigamma(np.abs(1 - x)), 0) + reflection

    def estimate_derivative_cancellation(self, x: Array, y: Array) -> Cancellation:
        return Cancellation(np.full_like(x, ANY_MAGNITUDE), bound_trigamma_rest(x))

    @declare_bug("1 / x was taken for trigamma, as for the logarithm")
    def reciprocal_for_trigamma(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient / input,)

    @declare_bug("the gradient was multiplied by the output")
    def slope_of_the_output(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient * output,)
