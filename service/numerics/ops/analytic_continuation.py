"""Functions of real arrays that a complex step may pass through: of complex ones they are the analytic continuation.

What a derivative by a complex step needs is not what NumPy does of itself: the modulus of a complex number is not
analytic, and neither is an order of complex numbers. Here both go by the real part, which is the point itself. On
real arrays each is NumPy's own function, bit for bit.
"""

from typing import Any, cast

import numpy as np

from service.numerics.core.batching import Array


def take_real_part(x: Array) -> Array:
    """Real parts; of a real array itself."""
    return cast("Any", x).real


def take_imaginary_part(x: Array) -> Array:
    """Imaginary parts."""
    return cast("Any", x).imag


def take_absolute_value(x: Array) -> Array:
    """Absolute values, a new array: x or -x, as the sign of its real part says."""
    return np.where(take_real_part(x) < 0, -x, x) if x.dtype.kind == "c" else np.abs(x)


def take_largest_real_part(x: Array, axes: int | tuple[int, ...]) -> Array:
    """Largest real part along axes, which stay with length 1: a real shift, which the derivative does not see."""
    return take_real_part(x).max(axis=axes, keepdims=True)


def log1p(x: Array) -> Array:
    """log(1 + x). NumPy's own loses the real part of a small complex x to rounding.

    With z = 1 + x: log z = log abs(z) + i arg z, and abs(z)^2 = 1 + a (2 + a) + b^2 for x = a + i b; the latter where
    it is near 1, and does not overflow.
    """
    if x.dtype.kind != "c":
        return np.log1p(x)
    a, b = take_real_part(x), take_imaginary_part(x)
    near = np.maximum(np.abs(a), np.abs(b)) < 1
    excess = np.where(near, a * (2 + a) + np.square(b), 0)
    modulus = np.where(near, np.log1p(excess) / 2, np.log(np.hypot(1 + a, b)))
    return modulus + 1j * np.arctan2(b, 1 + a)


def raise_to_power(x: Array, exponent: float) -> Array:
    """x to a real exponent. A whole power of a negative number is taken of its absolute value, away from the cut."""
    if x.dtype.kind != "c" or exponent != round(exponent):
        return np.power(x, exponent)
    sign = np.where(take_real_part(x) < 0, -1.0, 1.0)
    return np.power(sign, exponent) * np.power(sign * x, exponent)
