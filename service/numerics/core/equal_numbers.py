"""Equal numbers of an array.

An op that computes a number many times over is off by the same error each time, and the errors add up in a sum.
"""

import numpy as np

from service.numerics.core.batching import Array

FEW_EQUAL = 4
"""Equal numbers up to which the error that they share is within the safety factor of independent ones."""


def find_equal_numbers(array: Array) -> Array | None:
    """Return the number of the group of equal numbers that each belongs to, of the array's shape.

    None stands for few equal ones, but for 0 and infinity, which do not round.
    """
    ordered = np.sort(array, axis=None)
    last, first = ordered[FEW_EQUAL:], ordered[:-FEW_EQUAL]
    if not ((last == first) & (first != 0) & np.isfinite(first)).any():
        return None
    groups = np.unique(array, return_inverse=True)[1]
    return groups.reshape(array.shape)


def count_equal_numbers(array: Array) -> Array:
    """Return how many numbers of an array each of them equals, itself included; 1 for all where few are equal."""
    groups = find_equal_numbers(array)
    return np.ones(array.shape) if groups is None else np.bincount(groups.ravel())[groups]


def find_longest_repeat(array: Array) -> int:
    """Return how many numbers of an array are equal at most, but for 0 and what is not finite."""
    ordered = np.sort(array, axis=None)
    ordered = ordered[(ordered != 0) & np.isfinite(ordered)]
    ends = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1], [True]]))
    return int(np.diff(ends).max(initial=0)) if ordered.size else 0
