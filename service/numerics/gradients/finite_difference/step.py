"""The step scale of a tensor: how far its elements may move until something downstream moves by its own size."""

import math
from collections.abc import Mapping

import numpy as np

from service.numerics.gradients.finite_difference.suffix import Suffix
from service.numerics.graph import Values
from service.numerics.tiles import Array, repeated

_DIRECTIONS = (4, 2)
"""Of a narrow suffix, and of one in which each direction moves thousands of units."""
_WIDE = 2**11
_EXPONENTS = np.arange(16, -45, -4)
_BELOW = 2
"""Smaller steps that must be calm too."""
_DEEPER = 2.0**-60
_SMALLEST = 2.0**-1000
_TILE_ELEMENTS = 2**15


def directions(count: int, shape: tuple[int, ...], generator: np.random.Generator) -> Array:
    """Random moves of all elements at once, (count, *shape), each element by 1 to 2, up or down.

    The sizes differ so that moves of elements that are multiples of each other do not cancel.
    """
    sizes = generator.uniform(1, 2, (count, *shape))
    return np.where(generator.random((count, *shape)) < 0.5, -sizes, sizes)


def scale(suffix: Suffix, base: Mapping[str, Array], generator: np.random.Generator) -> float:
    """Largest power of two by which all elements may move at once, in each of some random directions.

    None of them and no unit downstream moves by more than about one, or its own size where that is larger, at this step
    and at the next smaller ones that are tried. What an op reads that oscillates moves by no more than one: the phase
    of a large number is no better known than the number, and NaN is returned where no step keeps it.

    A point of zeros says nothing of its own scale: there the search goes on to smaller steps until one is calm.
    """
    point = base[suffix.name]
    largest = float(np.max(np.abs(point), initial=0))
    located = np.isfinite(largest) and largest > _SMALLEST
    unit = 2.0 ** np.floor(np.log2(largest)) if located else 1.0
    count = _DIRECTIONS[suffix.widest >= _WIDE]
    responses = suffix.responses(directions(count, point.shape[1:], generator))
    while True:
        steps = unit * 2.0**_EXPONENTS
        found, steady = _first_calm(suffix, base, responses, steps)
        if found < len(steps) or located or unit < _SMALLEST:
            break
        unit *= _DEEPER
    if not steady:
        return np.nan
    return float(steps[min(found, len(steps) - 1)])


def _first_calm(suffix: Suffix, base: Mapping[str, Array], responses: Values, steps: Array) -> tuple[int, bool]:
    """Number of the first step that is calm as are the next, and whether the last is steady for what oscillates."""
    length = max(1, _TILE_ELEMENTS // (len(responses[suffix.name]) * suffix.widest))
    calm = steady = np.zeros(0, dtype=np.bool_)
    for start in range(0, len(steps), length):
        more = _calm(suffix, base, responses, steps[start : start + length])
        calm, steady = (np.concatenate(pair) for pair in zip((calm, steady), more, strict=True))
        for first in np.flatnonzero(calm):
            if calm[first : first + 1 + _BELOW].all() and len(calm) >= min(first + 1 + _BELOW, len(steps)):
                return int(first), True
    return len(steps), bool(steady[-1])


def _calm(suffix: Suffix, base: Mapping[str, Array], responses: Values, steps: Array) -> tuple[Array, Array]:
    """Whether at each step nothing moves too far, and whether what is read by ops that oscillate does not."""
    moved = suffix.values(responses, steps)
    count = len(responses[suffix.name])
    calm = np.ones(len(steps), dtype=np.bool_)
    steady = calm.copy()
    for name, after in moved.items():
        before = base[name]
        change = np.abs(after - before)
        calm &= _everywhere(change <= np.maximum(1, np.abs(before)), count, len(steps))
        if name in suffix.phases:
            steady &= _everywhere(change <= 1, count, len(steps))
    return calm & steady, steady


def _everywhere(within: Array, count: int, steps: int) -> Array:
    """Whether it holds for all directions, of which there are `count`, at each of the steps."""
    within = repeated(within, count * steps)
    by_step = within.reshape(-1, steps, math.prod(within.shape[1:]))
    return np.all(by_step, axis=(0, 2), keepdims=True)[0, :, 0]
