"""Moves of the elements that keep every point within the domain of the loss.

With s the size of the move of an element, F the largest step, and r the largest part of s that a line asks for (1 of
an element that moves alone, `MAX_DEVIATIONS` of a random direction), the element reaches r F s to each side, and by
the rounding of its lattice a little farther. If that crosses a bound, at the distance d on the nearer side and D on the
other, there are two ways:

- to move it by less, the largest power of two with r F s < d, on both sides: the differences stay central, and what the
  loss does toward its bound, as a logarithm does, stays as far away in units of the step as it was;
- to move it to one side alone, the roomier one, as far as s or r F s < D allow.

A smaller move costs digits: noise t of the loss leaves t / (h s) in a derivative. A larger one to one side alone knows
nothing of a loss that has a pole on the bound, as a barrier has: not where the smallest step is farther than the bound.
So of the digits that the datatype has beyond those of an error that must be found (p - log2(1 / k) with k of
`precision.py`) a move may lose half: it may shrink to 2^-19 of what one side allows in float64, 2^-8 in float32, or
as far as the datatype has numbers for the smallest step. Beyond that differences are one-sided, as on a bound they
must be.

A point lies on a bound only where the base does: many a loss has no value on the edge of its domain.
"""

import math
from dataclasses import dataclass

import numpy as np

from service.numerics.blackbox.lattice import compute_lattice_spacing
from service.numerics.blackbox.random_numbers import MAX_DEVIATIONS
from service.numerics.blackbox.schedule import StepSchedule
from service.numerics.core.batching import Array

MAX_LATTICE_SPACING = 0.5
"""Largest distance on the lattice of a datatype, in moves of the smallest step."""
_MOVE_SLACK = 1 + 2.0**-2
"""Farthest reach of an element beyond its move, by the rounding of the move and of its start: a quarter of the smallest
step each, or 1/16 of the largest, in bfloat16."""


@dataclass(frozen=True)
class LossDomain:
    """Bounds of each element, both (elements,); infinite where there is none."""

    low: Array
    high: Array

    def contains_points(self, points: Array) -> Array:
        """Return the mask of the numbers within the domain, (..., elements)."""
        return (self.low <= points) & (points <= self.high)


@dataclass(frozen=True)
class ElementMoves:
    """Sizes and sides of the moves of elements, all (elements,).

    Attributes
    ----------
    move_sizes
        Sizes of the moves, powers of two; 0 where there is no room for a step.
    move_sides
        0 where to both sides; 1 and -1 where only up, only down.
    """

    move_sizes: Array
    move_sides: Array


def find_element_moves(
    values: Array, sizes: Array, domain: LossDomain, schedule: StepSchedule, *, random: bool
) -> ElementMoves:
    """Find how elements are moved within a domain.

    Parameters
    ----------
    values
        The point, within the domain, (elements,).
    sizes
        Sizes of the moves without a domain, powers of two, (elements,).
    random
        True for random directions.
    """
    max_move_fraction = MAX_DEVIATIONS if random else 1.0
    room_above, room_below = domain.high - values, values - domain.low
    reach_per_size = max_move_fraction * schedule.largest_step * _MOVE_SLACK
    central_sizes, one_sided_sizes = (
        np.minimum(sizes, find_power_of_two_below(limit, reach_per_size))
        for limit in (np.minimum(room_above, room_below), np.maximum(room_above, room_below))
    )
    is_central_steppable, is_one_sided_steppable = (
        is_steppable(values, sizes, schedule, max_move_fraction) for sizes in (central_sizes, one_sided_sizes)
    )
    keeps_enough_digits = central_sizes >= one_sided_sizes * 2.0 ** -_count_lost_bits(schedule)
    is_central = is_central_steppable & (keeps_enough_digits | ~is_one_sided_steppable)
    sizes = np.where(is_central, central_sizes, np.where(is_one_sided_steppable, one_sided_sizes, 0.0))
    return ElementMoves(sizes, np.where(is_central | (sizes == 0), 0, np.where(room_above >= room_below, 1, -1)))


def _count_lost_bits(schedule: StepSchedule) -> int:
    """Return the digits that a derivative may lose for being central."""
    precision = schedule.precision
    return int(precision.significand_bits + math.log2(precision.detectable_error)) // 2


def find_power_of_two_below(limit: Array, per_size: float) -> Array:
    """Return the largest powers of two of which `per_size` is less than the room.

    They are infinite where the room is, and 0 where it is 0.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        fraction, exponent = np.frexp(limit / per_size)
        # A fraction is at least 1/2; a power of two itself would be just as much as there is.
        powers = np.ldexp(1.0, exponent - 1 - (fraction == 0.5))
    return np.where(np.isinf(limit), np.inf, np.where(fraction == 0, 0.0, powers))


def is_steppable(values: Array, sizes: Array, schedule: StepSchedule, size_fraction: float = 1.0) -> Array:
    """Return where the datatype has numbers for the smallest step of a move."""
    with np.errstate(over="ignore", invalid="ignore"):
        farthest = np.abs(values) + size_fraction * schedule.largest_step * sizes
        is_spacing_fine = (
            compute_lattice_spacing(farthest, schedule.precision)
            <= MAX_LATTICE_SPACING * schedule.smallest_step * sizes
        )
    return (sizes > 0) & np.isfinite(farthest) & is_spacing_fine
