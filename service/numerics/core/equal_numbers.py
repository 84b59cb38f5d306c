"""Equal numbers of an array.

An op that computes a number many times over is off by the same error each time, and the errors add up in a sum.
"""

import numpy as np

from service.numerics.core.batching import Array

FEW_EQUAL = 4
"""Equal numbers up to which the error that they share is within the safety factor of independent ones."""

_SMALL_SIZE = 64
"""Numbers up to which a set of Python is faster than calls of NumPy."""

_SORTED_SIZE = 2**12
"""Numbers up to which sorting them is faster than hashing them."""

_HASH_FACTOR = np.uint64(0x9E3779B97F4A7C15)
"""2^64 over the golden ratio: the high bits of a product depend on all bits of a number.

Source: Knuth, The Art of Computer Programming, volume 3 (1998), section 6.4, Fibonacci hashing.
"""

_LEAST_HASH_BITS = 12
"""Bits of a hash at least: a thousand different numbers then hardly ever crowd a slot."""


def find_equal_numbers(array: Array) -> Array | None:
    """Return the number of the group of equal numbers that each belongs to, of the array's shape.

    None stands for few equal ones, but for 0 and infinity, which do not round.
    """
    if find_longest_repeat(array) <= FEW_EQUAL:
        return None
    groups = np.unique(array, return_inverse=True)[1]
    return groups.reshape(array.shape)


def count_equal_numbers(array: Array) -> Array | None:
    """Return how many numbers of an array each of them equals, itself included; None where few are equal."""
    groups = find_equal_numbers(array)
    return None if groups is None else np.bincount(groups.ravel())[groups]


def find_longest_repeat(array: Array) -> int:
    """Return how many numbers of an array are equal at most, but for 0 and what is not finite.

    A few stand as FEW_EQUAL.
    """
    if array.size <= _SMALL_SIZE:
        numbers: list[float] = array.ravel().tolist()
        if len(numbers) - len(set(numbers)) < FEW_EQUAL:
            return FEW_EQUAL
    elif array.size <= _SORTED_SIZE:
        in_order = np.sort(array, axis=None)
        if not (in_order[FEW_EQUAL:] == in_order[:-FEW_EQUAL]).any():
            return FEW_EQUAL
    candidates = _find_candidates(array.ravel())
    ordered = np.sort(candidates[(candidates != 0) & np.isfinite(candidates)])
    if ordered.size <= FEW_EQUAL:
        return FEW_EQUAL
    ends = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1], [True]]))
    return max(FEW_EQUAL, int(np.diff(ends).max()))


def _find_candidates(numbers: Array) -> Array:
    """Return the numbers of which many may be equal: those that share their hash with many.

    Without equal numbers they are so few that sorting them, unlike all numbers, costs next to nothing.
    """
    bits = max(_LEAST_HASH_BITS, int(numbers.size).bit_length())
    hashes = numbers.view(np.uint64) * _HASH_FACTOR
    hashes >>= np.uint64(64 - bits)
    slots = hashes.view(np.int64)
    counts = np.bincount(slots, minlength=1 << bits)
    return numbers[(counts > FEW_EQUAL)[slots]] if counts.max() > FEW_EQUAL else numbers[:0]
