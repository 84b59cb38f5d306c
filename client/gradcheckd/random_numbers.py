"""Random numbers of a plan, made here as a service makes them, by a rule of integers (docs/points.md)."""

import hashlib
from functools import lru_cache
from typing import Any

import numpy as np

from gradcheckd.arrays import Array

_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIXING_STEPS = ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB))
_FIELD_BITS, _COTANGENT_BITS = 21, 8
_SMALLEST_COTANGENT = 2**7
_MAX_KEPT_NUMBERS, _MAX_KEPT_CHARACTERS = 2**12, 100
"""Numbers, and characters of a name, from which on numbers are not kept for the next check."""


def draw_words(seed: int, purpose: str, name: str, count: int) -> Array:
    """Return the first words of a stream, uint64, (count,)."""
    text = f"{seed}/{purpose}/{name}".encode(errors="surrogatepass")
    key = np.frombuffer(hashlib.sha256(text).digest(), "<u8", 1)
    words: Array = np.arange(1, count + 1, dtype=np.uint64) * _GAMMA + key
    for shift, factor in _MIXING_STEPS:
        words = (words ^ (words >> np.uint64(shift))) * np.uint64(factor)
    return words ^ (words >> np.uint64(31))


def draw_integers(seed: int, purpose: str, name: str, count: int) -> Array:
    """Return odd integers of less than 3 * 2^21, int64, (count,)."""
    words: Any = draw_words(seed, purpose, name, count)
    mask = np.uint64(2**_FIELD_BITS - 1)
    total = (words & mask) + (words >> np.uint64(_FIELD_BITS) & mask) + (words >> np.uint64(2 * _FIELD_BITS) & mask)
    return 2 * total.astype(np.int64) - 3 * (2**_FIELD_BITS - 1)


def draw_numbers(seed: int, purpose: str, name: str, count: int) -> Array:
    """Return numbers between -3 and 3 of mean 0 and variance 1, float64, (count,), read-only."""
    is_kept = count <= _MAX_KEPT_NUMBERS and len(name) <= _MAX_KEPT_CHARACTERS
    return (_draw_numbers if is_kept else _draw_numbers.__wrapped__)(seed, purpose, name, count)


@lru_cache(maxsize=64)
def _draw_numbers(seed: int, purpose: str, name: str, count: int) -> Array:
    """Draw numbers; the checks of a suite have few seeds, names and sizes."""
    numbers: Array = draw_integers(seed, purpose, name, count) * 2.0**-_FIELD_BITS
    numbers.flags.writeable = False
    return numbers


def draw_cotangent(seed: int, name: str, count: int) -> Array:
    """Return the elements of a cotangent, of 8 significant bits, float64, (count,)."""
    integers = draw_integers(seed, "cotangent", name, count)
    mantissas, exponents = np.frexp(np.maximum(np.abs(integers), _SMALLEST_COTANGENT))
    kept = np.ldexp(np.floor(np.ldexp(mantissas, _COTANGENT_BITS)), exponents - _COTANGENT_BITS - _FIELD_BITS)
    return np.copysign(kept, integers)
