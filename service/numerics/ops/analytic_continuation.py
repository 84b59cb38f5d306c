"""Functions of real arrays that a complex step may pass through.

On complex arrays they are the analytic continuation. NumPy's own functions do not give it: the modulus of a complex
number is not analytic, and neither is an order of complex numbers. Here both go by the real part, which is the point
itself. On real arrays each is NumPy's own function, bit for bit.
"""

from typing import Any, cast

import numpy as np

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
