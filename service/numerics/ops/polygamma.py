"""The derivatives of digamma.

Notes
-----
For n > 0 and x > 0, psi_n(x) = -(-1)^n n! zeta(n + 1, x), Hurwitz's zeta function. Its sum has a term for each whole
number between x and 0, so that far to the left it would not end. There the reflection serves,

    psi_n(x) = (-1)^n psi_n(1 - x) - d^n/dx^n pi cot(pi x)

With c = cot(pi x), dc/dx = -pi (1 + c^2), so that the last term is pi^(n+1) P_n(c) with P_0 = c and
P_{k+1} = -(1 + c^2) P_k'. All coefficients of one P_n have one sign, and its powers one parity: nothing cancels.

References
----------
Abramowitz and Stegun, Handbook of Mathematical Functions (1964), 6.4.7 and 6.4.10.
"""

import math
from functools import cache
from typing import Annotated, Any, cast

import numpy as np
from annotated_types import Ge, Le
from scipy import special

from service.numerics.core.batching import Array, Shape, count_elements
from service.numerics.ops.analytic_continuation import take_imaginary_part, take_real_part
from service.numerics.ops.elementwise import Cancellation
from service.numerics.ops.op import ComputeCost, Gradients, OpExample, declare_bug, register_op
from service.numerics.ops.pointwise import compute_in_single_precision
from service.numerics.ops.special import ANY_MAGNITUDE, SpecialFunction, bound_trigamma_rest

_FAR_LEFT = -50.0
"""Argument below which PyTorch's sum, of a term for each whole number on the way to 0, is not asked for."""
_MAX_ORDER = 60
_CALLS = 18
"""Calls of NumPy beside those for each order."""


@cache
def list_cotangent_coefficients(n: int) -> tuple[float, ...]:
    """Return the coefficients of P_n, from that of the power n + 1 down to that of the power 0."""
    ascending = [0, 1]
    for _ in range(n):
        slope = [power * number for power, number in enumerate(ascending)][1:]
        raised = [0, 0, *slope]
        ascending = [-a - b for a, b in zip([*slope, 0, 0], raised, strict=True)]
    return tuple(map(float, reversed(ascending)))


def compute_cotangent_of_turns(x: Array) -> Array:
    """Return cot(pi x), with the error of x alone."""
    turns = x.dtype.type(math.pi) * (x - np.rint(x))
    with np.errstate(divide="ignore"):
        return np.cos(turns) / np.sin(turns)


def _compute_reflection(n: int, x: Array) -> Array:
    """Return the n-th derivative of pi cot(pi x), infinite at whole numbers."""
    cotangent = compute_cotangent_of_turns(x)
    leading, *others = list_cotangent_coefficients(n)
    result = np.full_like(x, leading)
    for coefficient in others:
        result = result * cotangent + x.dtype.type(coefficient)
    return result * x.dtype.type(math.pi ** (n + 1))


def compute_polygamma(n: int, x: Array) -> Array:
    """Return the n-th derivative of digamma.

    A complex x goes by the first terms of the Taylor series at its real part. The rest is of the third order in its
    imaginary part, of which a complex step leaves nothing.
    """
    if n == 0:
        return cast("Array", special.psi(x))
    if x.dtype.kind == "c":
        point, offset = take_real_part(x), 1j * take_imaginary_part(x)
        value, slope, curvature = (compute_polygamma(n + order, point) for order in range(3))
        return value + offset * (slope + offset * curvature / 2)
    is_left = x < 0.5
    sign = 1.0 if n % 2 else -1.0
    right: Array = sign * special.gamma(n + 1.0) * cast("Any", special).zeta(n + 1.0, np.where(is_left, 1 - x, x))
    reflected = -sign * right - _compute_reflection(n, np.where(is_left, x, 0.5))
    return np.where(is_left, reflected, right).astype(x.dtype, copy=False)


def _estimate_magnitude(n: int, x: Array) -> Array:
    """Return the size of the terms of psi_n: a sum, a factorial by way of its logarithm, and a reflection left of 1/2.

    The argument of the cotangent is off by u of pi x, and its n-th derivative by as much times the next one.
    """
    is_left = x < 0.5
    right = np.abs(compute_polygamma(n, np.where(is_left, 1 - x, x)))
    left = np.where(is_left, x, 0.5)
    size, slope = (np.abs(_compute_reflection(order, left)) for order in (n, n + 1))
    reflection = np.where(is_left, size + np.abs(left) * slope, 0)
    return ((2 + math.lgamma(n + 1)) * right + (n + 2) * reflection).astype(x.dtype, copy=False)


@register_op("polygamma")
class Polygamma(SpecialFunction):
    """Derivative of digamma, n times: y = d^n/dx^n (Gamma'(x) / Gamma(x)).

    dL/dx = g times the derivative of order n + 1, -(-1)^(n+1) (n + 1)! times the sum of 1 / (x + k)^(n+2) over
    k = 0, 1, ...
    """

    n: Annotated[int, Ge(0), Le(_MAX_ORDER)]

    positional = ("n", "input")
    examples = (
        OpExample(((3, 4),), {"n": 1}, low=0.2, high=5),
        OpExample(((),), {"n": 0}, low=2, high=3),
        OpExample(((5,),), {"n": 2}, low=-1.8, high=-1.2),
        OpExample(((6,),), {"n": 3}, low=3, high=40),
    )

    def forward(self, input: Array) -> Array:
        return compute_polygamma(self.n, input)

    def evaluate_derivative(self, x: Array, y: Array) -> Array:
        return compute_polygamma(self.n + 1, x)

    def estimate_value_magnitude(self, x: Array, y: Array) -> Array:
        return _estimate_magnitude(self.n, x) + np.abs(np.log(np.abs(x))) * (self.n == 0)

    def estimate_derivative_magnitude(self, x: Array, y: Array) -> Array:
        return _estimate_magnitude(self.n + 1, x)

    def estimate_value_cancellation(self, x: Array, y: Array) -> Cancellation | None:
        return Cancellation(np.full_like(x, ANY_MAGNITUDE), bound_trigamma_rest(x)) if self.n == 1 else None

    def estimate_derivative_cancellation(self, x: Array, y: Array) -> Cancellation | None:
        return Cancellation(np.full_like(x, ANY_MAGNITUDE), bound_trigamma_rest(x)) if self.n == 0 else None

    @declare_bug("the gradient was multiplied by the output: the order was not raised")
    def slope_of_the_output(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient * output,)

    @declare_bug("the factor n + 1 of the factorial was left out")
    def factorial_not_raised(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient * self.evaluate_derivative(input, output) / (self.n + 1),)

    def estimate_cost(self, output: Shape, *shapes: Shape | None) -> ComputeCost:
        size, calls = count_elements(output), 1 if self.n == 0 else _CALLS + 2 * self.n
        return ComputeCost(calls * size, size, calls)

    def _differentiate_by_torch(self, torch: Any, x: Any) -> Any:
        # PyTorch's own trigamma has ten digits.
        return torch.special.zeta(2.0, x) if self.n == 1 else torch.polygamma(self.n, x)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        def differentiate(x: Any) -> Any:
            is_far = x < _FAR_LEFT
            ones = torch.ones_like(x)
            near = self._differentiate_by_torch(torch, torch.where(is_far, ones, x))
            if not bool(is_far.any()):
                return near
            turns = math.pi * torch.where(is_far, x - torch.round(x.detach()), 0.5 * ones)
            cotangent, polynomial = torch.cos(turns) / torch.sin(turns), torch.zeros_like(x)
            for coefficient in list_cotangent_coefficients(self.n):
                polynomial = polynomial * cotangent + coefficient
            mirrored = (-1) ** self.n * self._differentiate_by_torch(torch, torch.where(is_far, 1 - x, ones))
            return torch.where(is_far, mirrored - math.pi ** (self.n + 1) * polynomial, near)

        return compute_in_single_precision(torch, differentiate, input)
