"""Difference quotients of the elements of a tensor, for a table of steps, and what rounding leaves under them.

They are linear in the loss, so that quotients of several parts of it add up, element by element and step by step, and
so do those that come back through a linear op (`pull.py`). The extrapolation comes after (`method.py`): an error that
the parts have in common is seen there as what it is in the sum.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from service.numerics.core.batching import Array

UNIT_ROUNDOFF = 2.0**-53
_NOISE_GROWTH = 2.0 ** np.arange(16)[:, None]
"""By level of a table: half the step, twice the noise."""


@dataclass(frozen=True)
class DifferenceQuotients:
    """Quotients of n elements for steps h, h/2, h/4, ...

    Attributes
    ----------
    values
        Quotients, (levels, n).
    noise
        What the rounding of the differenced terms leaves in the first of them, (n,); it doubles from step to step. Of
        parts that are added it is independent.
    rounding
        What the rounding of sums, and of what they are weighted by, leaves in each of them, (n,), whatever the step.
    """

    values: Array
    noise: Array
    rounding_error: Array

    @property
    def noise_floors(self) -> Array:
        """What rounding leaves in each, (levels, n)."""
        return self.noise * _NOISE_GROWTH[: len(self.values)] + self.rounding_error

    def add_disjoint(self, other: "DifferenceQuotients") -> "DifferenceQuotients":
        """Add quotients that are 0 where these are not, in place: these are used up."""
        for mine, its in (
            (self.values, other.values),
            (self.noise, other.noise),
            (self.rounding_error, other.rounding_error),
        ):
            np.add(mine, its, out=mine)
        return self


def make_exact_quotients(levels: int, value: float, count: int) -> DifferenceQuotients:
    """Quotients of `count` elements of which the loss is a known multiple."""
    return DifferenceQuotients(np.full((levels, count), value), np.zeros(count), np.zeros(count))


def sum_quotients(parts: Sequence[DifferenceQuotients]) -> DifferenceQuotients:
    """Quotients of the sum of the parts."""
    first, *others = parts
    for each in others:
        first = DifferenceQuotients(
            first.values + each.values,
            # Squares of what is tiny would underflow.
            np.hypot(first.noise, each.noise),
            first.rounding_error
            + each.rounding_error
            + UNIT_ROUNDOFF * (np.abs(first.values[0]) + np.abs(each.values[0])),
        )
    return first


def estimate_sum_rounding(count: int) -> float:
    """What a sum of so many is off by, as a rule, as a part of the sum of their sizes."""
    return (2 + math.log2(count)) * UNIT_ROUNDOFF


def sum_by_felt_element(felt_elements: Array, rows: Array, count: int) -> Array:
    """Sums over what each element is felt by, of (rows, ...) with the element that each feels: (rows, elements)."""
    flat = felt_elements.ravel()
    found = [np.bincount(flat, np.ascontiguousarray(row).ravel(), count + 1) for row in rows]
    return np.array(found)[:, :count]


def sum_squares_by_felt_element(felt_elements: Array, values: Array, count: int) -> Array:
    """Roots of the sums of squares over what each element is felt by, (elements,), of values of the shape of `felt`."""
    unit = float(values.max(initial=0))
    if not 0 < unit < np.inf:
        return sum_by_felt_element(felt_elements, values[None], count)[0]
    squares, rest = split_squarable(values, unit)
    found = unit * np.sqrt(sum_by_felt_element(felt_elements, squares[None], count)[0])
    return found if rest is None else found + sum_by_felt_element(felt_elements, rest[None], count)[0]


def split_squarable(values: Array, unit: float) -> tuple[Array, Array | None]:
    """Squares of values in units, and the size of those whose squares have no place there, 0 elsewhere; None for none.

    The latter are in no units: elements of one tensor may lie so far apart that one in units of the other is 0.
    """
    with np.errstate(over="ignore"):
        squares = np.square(values / unit)
    if squares.size and squares.min() >= _SMALLEST_SQUARABLE and squares.max() <= _HUGE_EXPONENT:
        return squares, None
    outside = ((squares < _SMALLEST_SQUARABLE) & (values != 0)) | (squares > _HUGE_EXPONENT)
    if not outside.any():
        return squares, None
    return np.where(outside, 0, squares), np.where(outside, np.abs(values), 0)


_SMALLEST_SQUARABLE, _HUGE_EXPONENT = 2.0**-1000, 2.0**1000
