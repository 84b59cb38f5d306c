"""The step scale of a tensor: how far its elements may move until something downstream moves by its own size."""

import numpy as np

from service.numerics.core.batching import MAX_TILE_ELEMENTS, Array, broadcast_batch
from service.numerics.core.interrupts import iterate_interruptibly
from service.numerics.gradients.finite_difference.downstream import DownstreamGraph
from service.numerics.model.graph import NamedArrays

_SEARCH_DIRECTIONS = 2
_STEP_EXPONENTS = np.arange(16, -45, -2)
_CALM_STEPS_BELOW = 2
"""Smaller steps that must be calm too."""
_STEPS_PER_EVALUATION = 2 + _CALM_STEPS_BELOW
"""Steps that are tried together: most often the first or the second of these will do."""
_DEEPER_SEARCH_FACTOR = 2.0**-60
_SMALLEST_UNIT = 2.0**-1000


def draw_search_directions(count: int, shape: tuple[int, ...], generator: np.random.Generator) -> Array:
    """Random moves of all elements at once, (count, *shape), each element by 1 to 2, up or down.

    The sizes differ so that moves of elements that are multiples of each other do not cancel.
    """
    moves = generator.uniform(-1, 1, (count, *shape))
    moves += np.copysign(1, moves)
    return moves


def measure_element_magnitudes(point: Array) -> Array:
    """Size of each element, a power of two, of the same shape; of zeros the least of the others."""
    _, exponents = np.frexp(point)
    found = np.ldexp(1.0, exponents - 1)
    least = np.min(found, where=point != 0, initial=1.0)
    return np.where((point == 0) | ~np.isfinite(point), least, found)


def find_step_scale(
    suffix: DownstreamGraph, generator: np.random.Generator, element_steps: Array | None = None
) -> float:
    """Largest power of two by which all elements may move at once, in each of some random directions.

    None of them and no unit downstream moves by more than about one, or its own size where that is larger, nor falls
    below a quarter of it then, at this step and at the next smaller ones that are tried. Neither does an argument of a
    function with a scale of its own leave its leeway: the phase of a large number is no better known than the number.
    NaN where none of the steps that are tried is so.

    A point of zeros says nothing of its own scale: there the search goes on to smaller steps until one is calm.

    Parameters
    ----------
    suffix
        What moves.
    generator
        Of the directions.
    parts
        What each element moves by in units of the step, of its shape; 1 by default.
    """
    point = suffix.point.values[suffix.name]
    largest = _find_largest_finite_magnitude(point) if element_steps is None else 1.0
    located = largest > _SMALLEST_UNIT
    unit = 2.0 ** np.floor(np.log2(largest)) if located else 1.0
    along = draw_search_directions(_SEARCH_DIRECTIONS, point.shape[1:], generator)
    responses = suffix.linear_responses(along if element_steps is None else along * element_steps)
    most = _find_largest_useful_step(suffix, responses)
    while True:
        steps = unit * 2.0**_STEP_EXPONENTS
        steps = steps[steps <= most]
        found = _find_first_calm_step(suffix, responses, steps)
        if found < len(steps):
            return float(steps[found])
        if located or unit < _SMALLEST_UNIT:
            # Where some elements lie at the end of what a function takes, the others may still move.
            found = _find_first_calm_step(suffix, responses, steps, ignore_nan=True)
            return float(steps[found]) if found < len(steps) else np.nan
        unit *= _DEEPER_SEARCH_FACTOR


def _find_largest_finite_magnitude(point: Array) -> float:
    """Largest size of the finite elements."""
    sizes = np.abs(point)
    largest = float(sizes.max(initial=0))
    return largest if largest < np.inf else float(np.max(sizes, initial=0, where=np.isfinite(sizes)))


def _find_largest_useful_step(suffix: DownstreamGraph, responses: NamedArrays) -> float:
    """Largest step at which nothing that moves in proportion moves too far: no larger one need be tried."""
    steps = (suffix.point.move_limits(name).limits / np.abs(response) for name, response in responses.items())
    return min(float(np.fmin.reduce(each, axis=None, initial=np.inf)) for each in steps)


def _find_first_calm_step(
    suffix: DownstreamGraph, responses: NamedArrays, steps: Array, *, ignore_nan: bool = False
) -> int:
    """Number of the first step that is calm as are the next; that of all steps where there is none.

    What is no number there is forgiven, or is not.
    """
    length = min(
        _STEPS_PER_EVALUATION, max(1, MAX_TILE_ELEMENTS // (len(responses[suffix.name]) * suffix.widest_array))
    )
    calm = np.zeros(0, dtype=np.bool_)
    for start in range(0, len(steps), length):
        calm = np.concatenate([calm, _are_steps_calm(suffix, responses, steps[start : start + length], ignore_nan)])
        for first in np.flatnonzero(calm):
            if calm[first : first + 1 + _CALM_STEPS_BELOW].all() and len(calm) >= min(
                first + 1 + _CALM_STEPS_BELOW, len(steps)
            ):
                return int(first)
    return len(steps)


def _are_steps_calm(suffix: DownstreamGraph, responses: NamedArrays, steps: Array, ignore_nan: bool) -> Array:
    """Whether at each step nothing moves too far."""
    point, count = suffix.point, len(responses[suffix.name])
    moved = suffix.evaluate_values_at_moves(responses, steps)
    calm = np.ones(len(steps), np.bool_)
    for name, after in iterate_interruptibly(moved.items()):
        near, least, unbounded = point.move_limits(name)
        within = (np.abs(after - point.values[name]) <= near) & (np.abs(after) >= least)
        if ignore_nan:
            within |= np.isnan(after)
        calm &= _holds_in_all_directions(within if unbounded is None else within | unbounded, count, len(steps))
    for strain in suffix.leeway_fractions(moved):
        calm &= _holds_in_all_directions(strain <= 1, count, len(steps))
    return calm


def _holds_in_all_directions(is_within: Array, count: int, steps: int) -> Array | bool:
    """Whether it holds for all directions, of which there are `count`, at each of the steps; one answer for all."""
    # It does as a rule, and what lies in a row is looked at faster.
    if is_within.all():
        return True
    by_step = broadcast_batch(is_within, count * steps).reshape(count, steps, -1)
    return np.logical_and.reduce(np.logical_and.reduce(by_step, axis=2), axis=0)
