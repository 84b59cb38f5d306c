"""Random numbers of a plan, by a rule of integers that every language computes alike.

A stream of words of 64 bits has a key: the first 8 bytes, little-endian, of the SHA-256 of the text
"seed/purpose/name". Word i = 0, 1, ... is the output of SplitMix64 (Steele, Lea and Flood 2014) for the state
key + (i + 1) gamma: each word follows from its number alone. Its lowest 63 bits are three integers a, b and c of 21
bits, and

    n = 2 (a + b + c) - 3 (2^21 - 1),    d = 2^-21 n                                                                 (1)

is a number of mean 0 and variance 1 - 2^-42. The integer n is odd, so that d is never 0, and has at most 23 bits, so
that float32 holds d. As |d| < 3, no element of a direction lies farther than three deviations out.

Normal numbers would take logarithms or quantiles, which no two libraries round alike. `direction_law.py` derives that
sums of (1) find errors as reliably.

References
----------
G. L. Steele, D. Lea and C. H. Flood, Fast splittable pseudorandom number generators, OOPSLA 2014, p. 453.
"""

import hashlib
from functools import lru_cache
from typing import Literal

import numpy as np

from service.numerics.core.batching import Array

Purpose = Literal["direction", "near", "element", "cotangent"]

_GAMMA, _FIRST_FACTOR, _SECOND_FACTOR = (
    np.uint64(constant) for constant in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)
_FIRST_SHIFT, _SECOND_SHIFT, _THIRD_SHIFT = (np.uint64(bits) for bits in (30, 27, 31))
_FIELD_BITS = 21
_FIELD_MASK = np.uint64(2**_FIELD_BITS - 1)
_MAX_KEPT_NUMBERS, _MAX_KEPT_CHARACTERS = 2**12, 100
"""Numbers, and characters of a name, from which on numbers are not kept for the next request."""
MAX_DEVIATIONS = 3.0
"""Limit of the size of a number, which none reaches."""


def draw_words(seed: int, purpose: Purpose, name: str, first: int, count: int) -> Array:
    """Return words of a stream, uint64, (count,).

    Parameters
    ----------
    seed, purpose, name
        Seed of the plan, purpose of the stream, and name of its tensor or output.
    first
        Number of the first word.
    count
        Number of words.
    """
    key = int.from_bytes(hashlib.sha256(f"{seed}/{purpose}/{name}".encode()).digest()[:8], "little")
    words = np.arange(first + 1, first + count + 1, dtype=np.uint64)
    words *= _GAMMA
    words += np.uint64(key)
    words = (words ^ (words >> _FIRST_SHIFT)) * _FIRST_FACTOR
    words = (words ^ (words >> _SECOND_SHIFT)) * _SECOND_FACTOR
    return words ^ (words >> _THIRD_SHIFT)


def draw_integers(seed: int, purpose: Purpose, name: str, first: int, count: int) -> Array:
    """Return the integers n of (1), int64, (count,); parameters are those of `draw_words`."""
    words = draw_words(seed, purpose, name, first, count)
    fields = [(words >> np.uint64(_FIELD_BITS * position)) & _FIELD_MASK for position in range(3)]
    return 2 * (fields[0] + fields[1] + fields[2]).astype(np.int64) - 3 * (2**_FIELD_BITS - 1)


def draw_numbers(seed: int, purpose: Purpose, name: str, first: int, count: int) -> Array:
    """Return the numbers d of (1), float64, (count,), read-only; parameters are those of `draw_words`."""
    is_kept = count <= _MAX_KEPT_NUMBERS and len(name) <= _MAX_KEPT_CHARACTERS
    return (_draw_numbers if is_kept else _draw_numbers.__wrapped__)(seed, purpose, name, first, count)


@lru_cache(maxsize=64)
def _draw_numbers(seed: int, purpose: Purpose, name: str, first: int, count: int) -> Array:
    """Draw numbers; the checks of a suite have few seeds, names and sizes."""
    numbers = draw_integers(seed, purpose, name, first, count) * 2.0**-_FIELD_BITS
    numbers.flags.writeable = False
    return numbers


_COTANGENT_BITS = 8
"""Significant bits of a cotangent: those of BF16, so that every datatype of a function holds it."""
_SMALLEST_COTANGENT_BITS = 7
"""The smallest size of a cotangent is 2^(7 - 21), the smallest normal number of FP16."""


def draw_cotangents(seed: int, name: str, count: int) -> Array:
    """Return the elements of a cotangent, float64, (count,): numbers (1), cut off after 8 significant bits, none 0."""
    integers = draw_integers(seed, "cotangent", name, 0, count)
    sizes = np.maximum(np.abs(integers), 2**_SMALLEST_COTANGENT_BITS)
    _, lengths = np.frexp(sizes)
    dropped_bits = np.maximum(lengths - _COTANGENT_BITS, 0).astype(np.int64)
    return np.copysign((sizes >> dropped_bits) << dropped_bits, integers) * 2.0**-_FIELD_BITS


def choose_elements(seed: int, name: str, size: int, count: int) -> Array:
    """Return the flat indices of `count` of `size` elements, ascending: those with the smallest words, then indices."""
    if count == size:
        return np.arange(size)
    words = draw_words(seed, "element", name, 0, size)
    return np.sort(np.argsort(words, kind="stable")[:count])
