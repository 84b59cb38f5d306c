"""Norms of vectors whose squares may leave the range of float64."""

import math

import numpy as np

from service.numerics.core.batching import Array

_SMALLEST_SAFE_SQUARE, _LARGEST_SAFE_SQUARE = 2.0**-900, 2.0**1000
"""Sums of squares of which nothing was lost that counts, though some of the squares may have underflowed."""


def is_safe_square(square: float) -> bool:
    """Return whether a sum of squares is one of which nothing was lost that counts."""
    return _SMALLEST_SAFE_SQUARE < square < _LARGEST_SAFE_SQUARE


def euclidean_norm(vector: Array) -> float:
    """Return the Euclidean norm without overflow; not finite if an element is not."""
    flat = vector.ravel()
    # Unlike `@`, `vdot` raises no warning of an overflow, and needs no context that ignores one.
    square = float(np.vdot(flat, flat))
    if is_safe_square(square):
        return math.sqrt(square)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        largest = float(np.abs(flat).max(initial=0))
        if largest == 0 or not math.isfinite(largest):
            return largest
        return largest * math.sqrt(float(np.square(flat / largest).sum()))


def is_finite(array: Array) -> bool:
    """Return whether all numbers of an array are finite."""
    flat = array.ravel()
    # One pass, and two more where a number is not finite or a square overflows.
    return math.isfinite(float(np.vdot(flat, flat))) or bool(np.isfinite(flat).all())
