"""Functions of real arrays that a complex step may pass through.

On complex arrays they are the analytic continuation. NumPy's own functions do not give it: the modulus of a complex
number is not analytic, and neither is an order of complex numbers. Here both go by the real part, which is the point
itself. On real arrays each is NumPy's own function, bit for bit.
"""

from typing import Any, cast

import numpy as np
from scipy import special

from service.numerics.core.batching import Array


def take_real_part(x: Array) -> Array:
    """Return the real parts; a real array itself."""
    return cast("Any", x).real


def take_imaginary_part(x: Array) -> Array:
    """Return the imaginary parts."""
    return cast("Any", x).imag


def take_absolute_value(x: Array) -> Array:
    """Return absolute values, x or -x by the sign of the real part, as a new array."""
    return np.where(take_real_part(x) < 0, -x, x) if x.dtype.kind == "c" else np.abs(x)


def take_largest_real_part(x: Array, axes: int | tuple[int, ...]) -> Array:
    """Return the largest real part along axes, which stay with length 1.

    It is a real shift, which the derivative does not see.
    """
    return take_real_part(x).max(axis=axes, keepdims=True)


def log1p(x: Array) -> Array:
    """Return log(1 + x), accurate near 0 for a complex x too.

    NumPy's own loses the real part of a small complex x to rounding.

    Notes
    -----
    With z = 1 + x: log z = log abs(z) + i arg z, and abs(z)^2 = 1 + a (2 + a) + b^2 for x = a + i b. The latter is used
    where it is near 1, and does not overflow.
    """
    if x.dtype.kind != "c":
        return np.log1p(x)
    a, b = take_real_part(x), take_imaginary_part(x)
    is_near = np.maximum(np.abs(a), np.abs(b)) < 1
    excess = np.where(is_near, a * (2 + a) + np.square(b), 0)
    modulus = np.where(is_near, np.log1p(excess) / 2, np.log(np.hypot(1 + a, b)))
    return modulus + 1j * np.arctan2(b, 1 + a)


def raise_to_power(x: Array, exponent: float) -> Array:
    """Return x to a real exponent.

    A whole power of a negative number is taken of its absolute value, away from the cut.
    """
    if x.dtype.kind != "c" or exponent != round(exponent):
        return np.power(x, exponent)
    sign = np.where(take_real_part(x) < 0, -1.0, 1.0)
    return np.power(sign, exponent) * np.power(sign * x, exponent)


def raise_to_powers(x: Array, exponents: Array) -> Array:
    """Return x to exponents of an array of its rank.

    A whole power of a negative number is taken of its absolute value, away from the cut. It is NaN for a fraction,
    and for an exponent that moves. A power of 0 does not move with the exponent.
    """
    if x.dtype.kind != "c" and exponents.dtype.kind != "c":
        return np.power(x, exponents)
    base, powers = take_real_part(x), take_real_part(exponents)
    sign = np.where(base < 0, -1.0, 1.0)
    has_no_value = (base < 0) & ((powers != np.rint(powers)) | (take_imaginary_part(exponents) != 0))
    is_fixed = (x == 0) & (powers >= 0)
    unit_base = np.where(is_fixed, 1, sign * x)
    result = np.power(sign, np.where(has_no_value, 0, powers)) * np.exp(exponents * np.log(unit_base))
    return np.where(has_no_value, np.nan, np.where(is_fixed, powers == 0, result))


def hypot(a: Array, b: Array) -> Array:
    """Return sqrt(a^2 + b^2), without overflow."""
    if a.dtype.kind != "c" and b.dtype.kind != "c":
        return np.hypot(a, b)
    largest = np.maximum(np.abs(take_real_part(a)), np.abs(take_real_part(b)))
    unit = np.where(largest > 0, largest, 1)
    return unit * np.sqrt(np.square(a / unit) + np.square(b / unit))


def logaddexp(a: Array, b: Array) -> Array:
    """Return log(exp(a) + exp(b)), without overflow."""
    if a.dtype.kind != "c" and b.dtype.kind != "c":
        return np.logaddexp(a, b)
    larger = np.where(take_real_part(a) >= take_real_part(b), a, b)
    return larger + log1p(np.exp(-take_absolute_value(a - b)))


def gammaln(x: Array) -> Array:
    """Return log(abs(Gamma(x))).

    Notes
    -----
    Left of 1/2 a complex x is reflected: Gamma(x) Gamma(1 - x) = pi / sin(pi x). The sign of that goes by the real
    part.
    """
    if x.dtype.kind != "c":
        return cast("Array", special.gammaln(x))
    is_left = take_real_part(x) < 0.5
    right: Array = special.loggamma(np.where(is_left, 1 - x, x))
    return np.where(is_left, np.log(np.pi / take_absolute_value(np.sin(np.pi * x))) - right, right)


def erfinv(x: Array) -> Array:
    """Return the inverse of the error function.

    Notes
    -----
    For a complex x these are steps of Newton's method from the value at its real part. Three of them double the digits
    of an imaginary part that is small beside the distance of the real part from 1 and -1.
    """
    if x.dtype.kind != "c":
        return special.erfinv(x)
    y = special.erfinv(take_real_part(x)) + 0j
    for _ in range(3):
        y = y - (special.erf(y) - x) * np.exp(np.square(y)) * (np.sqrt(np.pi) / 2)
    return y
