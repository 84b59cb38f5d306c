"""The step scale of a tensor.

It is the largest move of its elements before something downstream moves by its own size.
"""

import numpy as np

from service.numerics.core.batching import MAX_TILE_ELEMENTS, Array, broadcast_batch
from service.numerics.core.interrupts import iterate_interruptibly
from service.numerics.gradients.finite_difference.downstream import DownstreamGraph
from service.numerics.model.graph import NamedArrays

_SEARCH_DIRECTIONS = 2
_STEP_EXPONENTS = np.arange(16, -45, -2)
_CALM_STEPS_BELOW = 2
"""Number of smaller steps that must be calm too."""
_STEPS_PER_EVALUATION = 2 + _CALM_STEPS_BELOW
"""Steps that are tried together: most often the first or the second will do."""
_DEEPER_SEARCH_FACTOR = 2.0**-60
_SMALLEST_UNIT = 2.0**-1000


def draw_search_directions(count: int, shape: tuple[int, ...], generator: np.random.Generator) -> Array:
    """Return random moves of all elements at once, (count, *shape).

    Each element moves by 1 to 2, up or down. The sizes differ so that moves of elements that are multiples of each
    other do not cancel.
    """
    moves = generator.uniform(-1, 1, (count, *shape))
    moves += np.copysign(1, moves)
    return moves


def measure_element_magnitudes(point: Array) -> Array:
    """Return the size of each element, a power of two, of the same shape.

    Zeros get the least size of the others.
    """
    _, exponents = np.frexp(point)
    magnitudes = np.ldexp(1.0, exponents - 1)
    least_magnitude = np.min(magnitudes, where=point != 0, initial=1.0)
    return np.where((point == 0) | ~np.isfinite(point), least_magnitude, magnitudes)


def find_step_scale(
    downstream: DownstreamGraph, generator: np.random.Generator, element_steps: Array | None = None
) -> float:
    """Return the largest power of two by which all elements may move at once.

    The move is calm, in each of some random directions and at the next smaller steps that are tried too: no element and
    no unit downstream moves by more than about one, or its own size where that is larger, nor falls below a quarter of
    it. An argument of a function with a scale of its own does not leave its leeway: the phase of a large number is no
    better known than the number. The result is NaN if no step is calm.

    A point of zeros has no scale of its own: there the search goes on to smaller steps until one is calm.

    Parameters
    ----------
    downstream
        Nodes downstream of the moving name.
    generator
        Source of the directions.
    element_steps
        Move of each element in units of the step, of its shape; 1 by default.
    """
    point = downstream.point.values[downstream.name]
    largest = _find_largest_finite_magnitude(point) if element_steps is None else 1.0
    has_scale = largest > _SMALLEST_UNIT
    unit = 2.0 ** np.floor(np.log2(largest)) if has_scale else 1.0
    directions = draw_search_directions(_SEARCH_DIRECTIONS, point.shape[1:], generator)
    responses = downstream.compute_linear_responses(directions if element_steps is None else directions * element_steps)
    largest_useful_step = _find_largest_useful_step(downstream, responses)
    while True:
        steps = unit * 2.0**_STEP_EXPONENTS
        steps = steps[steps <= largest_useful_step]
        calm_index = _find_first_calm_step(downstream, responses, steps)
        if calm_index < len(steps):
            return float(steps[calm_index])
        if has_scale or unit < _SMALLEST_UNIT:
            # Some elements may lie at the end of a function's domain, and the others may still move.
            calm_index = _find_first_calm_step(downstream, responses, steps, ignore_nan=True)
            return float(steps[calm_index]) if calm_index < len(steps) else np.nan
        unit *= _DEEPER_SEARCH_FACTOR


def _find_largest_finite_magnitude(point: Array) -> float:
    """Return the largest size of the finite elements."""
    sizes = np.abs(point)
    largest = float(sizes.max(initial=0))
    return largest if largest < np.inf else float(np.max(sizes, initial=0, where=np.isfinite(sizes)))


def _find_largest_useful_step(downstream: DownstreamGraph, responses: NamedArrays) -> float:
    """Return the largest step at which nothing in proportion moves too far.

    The search need not try a larger one.
    """
    steps = (downstream.point.move_limits(name).limits / np.abs(response) for name, response in responses.items())
    return min(float(np.fmin.reduce(largest_steps, axis=None, initial=np.inf)) for largest_steps in steps)


def _find_first_calm_step(
    downstream: DownstreamGraph, responses: NamedArrays, steps: Array, *, ignore_nan: bool = False
) -> int:
    """Return the index of the first calm step, or the number of steps for none.

    The next steps have to be calm as well. `ignore_nan` forgives values that are NaN.
    """
    length = min(
        _STEPS_PER_EVALUATION, max(1, MAX_TILE_ELEMENTS // (len(responses[downstream.name]) * downstream.widest_array))
    )
    is_calm = np.zeros(0, dtype=np.bool_)
    for start in range(0, len(steps), length):
        is_calm = np.concatenate(
            [is_calm, _are_steps_calm(downstream, responses, steps[start : start + length], ignore_nan)]
        )
        for first in np.flatnonzero(is_calm):
            if is_calm[first : first + 1 + _CALM_STEPS_BELOW].all() and len(is_calm) >= min(
                first + 1 + _CALM_STEPS_BELOW, len(steps)
            ):
                return int(first)
    return len(steps)


def _are_steps_calm(downstream: DownstreamGraph, responses: NamedArrays, steps: Array, ignore_nan: bool) -> Array:
    """Return whether at each step nothing moves too far."""
    point, count = downstream.point, len(responses[downstream.name])
    moved_values = downstream.evaluate_values_at_moves(responses, steps)
    is_calm = np.ones(len(steps), np.bool_)
    for name, moved_value in iterate_interruptibly(moved_values.items()):
        limits, smallest_size, unlimited = point.move_limits(name)
        is_within = (np.abs(moved_value - point.values[name]) <= limits) & (np.abs(moved_value) >= smallest_size)
        if ignore_nan:
            is_within |= np.isnan(moved_value)
        is_calm &= _holds_in_all_directions(
            is_within if unlimited is None else is_within | unlimited, count, len(steps)
        )
    for leeway_fraction in downstream.compute_leeway_fractions(moved_values):
        is_calm &= _holds_in_all_directions(leeway_fraction <= 1, count, len(steps))
    return is_calm


def _holds_in_all_directions(is_within: Array, count: int, steps: int) -> Array | bool:
    """Return whether a condition holds for all of `count` directions, at each step."""
    # It does as a rule, and a flat array is checked faster.
    if is_within.all():
        return True
    by_step = broadcast_batch(is_within, count * steps).reshape(count, steps, -1)
    return np.logical_and.reduce(np.logical_and.reduce(by_step, axis=2), axis=0)
