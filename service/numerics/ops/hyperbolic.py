"""Hyperbolic functions and their inverses, element by element."""

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.ops.op import Gradients, OpExample, declare_bug, register_op
from service.numerics.ops.pointwise import AnalyticUnary
from service.numerics.ops.trigonometric import BOUNDED_EXAMPLES


@register_op("sinh")
class Sinh(AnalyticUnary):
    """Hyperbolic sine: y = sinh(x), dL/dx = g cosh(x)."""

    numpy_function = np.sinh

    def evaluate_derivative(self, x: Array, y: Array) -> Array:
        return np.cosh(x)

    @declare_bug("the derivative was taken as cos(x)")
    def slope_of_the_sine(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient * np.cos(input),)


@register_op("cosh")
class Cosh(AnalyticUnary):
    """Hyperbolic cosine: y = cosh(x), dL/dx = g sinh(x)."""

    numpy_function = np.cosh

    def evaluate_derivative(self, x: Array, y: Array) -> Array:
        return np.sinh(x)

    @declare_bug("the sign was that of the cosine")
    def sign_of_the_cosine(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (-gradient * np.sinh(input),)


@register_op("asinh")
class Asinh(AnalyticUnary):
    """Inverse hyperbolic sine: y = asinh(x), dL/dx = g / sqrt(1 + x^2)."""

    numpy_function = np.arcsinh

    def evaluate_derivative(self, x: Array, y: Array) -> Array:
        return 1 / np.hypot(1, x).astype(x.dtype, copy=False)

    @declare_bug("the square root was left out")
    def root_forgotten(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient / (1 + np.square(input)),)


@register_op("acosh")
class Acosh(AnalyticUnary):
    """Inverse hyperbolic cosine: y = acosh(x) for x >= 1, dL/dx = g / sqrt(x^2 - 1).

    x^2 - 1 is computed as (x - 1) (x + 1), which keeps its digits near 1.
    """

    numpy_function = np.arccosh
    examples = (
        OpExample(((3, 4),), low=1.1, high=4),
        OpExample(((),), low=2, high=3),
        OpExample(((5,),), low=1.001, high=1.1),
    )

    def evaluate_derivative(self, x: Array, y: Array) -> Array:
        return 1 / (np.sqrt(x - 1) * np.sqrt(x + 1))

    def estimate_derivative_magnitude(self, x: Array, y: Array) -> Array:
        # The textbook's x^2 - 1 is off by u x^2.
        return self.evaluate_derivative(x, y) * (1 + x / (x - 1) * (x / (x + 1)))

    @declare_bug("the sign under the root was wrong")
    def sign_under_the_root(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient / np.hypot(1, input),)


@register_op("atanh")
class Atanh(AnalyticUnary):
    """Inverse hyperbolic tangent: y = atanh(x), dL/dx = g / (1 - x^2).

    1 - x^2 is computed as (1 - x) (1 + x), which keeps its digits near 1 and -1.
    """

    numpy_function = np.arctanh
    examples = BOUNDED_EXAMPLES

    def evaluate_derivative(self, x: Array, y: Array) -> Array:
        return 1 / ((1 - x) * (1 + x))

    def estimate_derivative_magnitude(self, x: Array, y: Array) -> Array:
        # The textbook's 1 - x^2 is off by u x^2.
        return np.abs(self.evaluate_derivative(x, y)) / np.abs((1 - x) * (1 + x))

    @declare_bug("the sign was that of the inverse tangent")
    def sign_of_the_square(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient / (1 + np.square(input)),)
