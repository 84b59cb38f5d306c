"""Difference quotients of a tensor's elements for a table of steps, with noise.

They are linear in the loss. So quotients of several parts of it add up, element by element and step by step, and so do
quotients that come back through a linear op (`linear_pullback.py`). The extrapolation comes after (`method.py`). It
sees a common error of the parts as it is in the sum.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.gradients.finite_difference.group_sum import GroupSum

UNIT_ROUNDOFF = 2.0**-53
_NOISE_GROWTH = 2.0 ** np.arange(16)[:, None]
"""Growth of the noise by level of a table: half the step, twice the noise."""


@dataclass(frozen=True)
class DifferenceQuotients:
    """Quotients of n elements for steps h, h/2, h/4, ...

    Attributes
    ----------
    values
        Quotients, (levels, n).
    noise
        Noise that the rounding of the differenced terms leaves in the first of them, (n,). It doubles from step to
        step. Parts that are added have independent noise.
    rounding_error
        Rounding error of sums and of their weights in each quotient, (n,), whatever the step.
    """

    values: Array
    noise: Array
    rounding_error: Array

    @property
    def noise_floors(self) -> Array:
        """Return the noise and rounding error of each quotient, (levels, n)."""
        return self.noise * _NOISE_GROWTH[: len(self.values)] + self.rounding_error

    def select_columns(self, elements: Array) -> "DifferenceQuotients":
        """Return the quotients of some elements."""
        return DifferenceQuotients(self.values[:, elements], self.noise[elements], self.rounding_error[elements])

    def fill_columns(self, columns: "QuotientColumns") -> None:
        """Overwrite the quotients of some elements."""
        elements, quotients = columns.elements, columns.quotients
        self.values[:, elements] = quotients.values
        self.noise[elements] = quotients.noise
        self.rounding_error[elements] = quotients.rounding_error


@dataclass(frozen=True)
class QuotientColumns:
    """Quotients of some elements.

    Attributes
    ----------
    elements
        Flat indices of the elements, in rising order.
    quotients
        Their quotients.
    """

    elements: Array
    quotients: DifferenceQuotients


def make_exact_quotients(levels: int, value: float, count: int) -> DifferenceQuotients:
    """Return the quotients of `count` elements that multiply the loss by `value`."""
    return DifferenceQuotients(np.full((levels, count), value), np.zeros(count), np.zeros(count))


def sum_quotients(parts: Sequence[DifferenceQuotients]) -> DifferenceQuotients:
    """Return the quotients of the sum of the parts."""
    total, *other_parts = parts
    for part in other_parts:
        total = DifferenceQuotients(
            total.values + part.values,
            # Squares of tiny values would underflow.
            np.hypot(total.noise, part.noise),
            total.rounding_error
            + part.rounding_error
            + UNIT_ROUNDOFF * (np.abs(total.values[0]) + np.abs(part.values[0])),
        )
    return total


def estimate_sum_rounding(count: int) -> float:
    """Return the typical error of a sum of `count` numbers, over the sum of sizes."""
    return (2 + math.log2(count)) * UNIT_ROUNDOFF


def sum_by_felt_element(felt_elements: Array, rows: Array, count: int) -> Array:
    """Return the sums over all that feels each element, (rows, elements).

    Parameters
    ----------
    felt_elements
        Element that each entry feels.
    rows
        Entries, (rows, ...).
    count
        Number of elements.
    """
    group_sum = GroupSum(felt_elements.ravel(), count + 1)
    sums = [group_sum.sum_row(np.ascontiguousarray(row).ravel()) for row in rows]
    return np.array(sums)[:, :count]


def sum_squares_by_felt_element(felt_elements: Array, values: Array, count: int) -> Array:
    """Return the roots of the sums of squares over all that feels each element.

    Parameters
    ----------
    felt_elements
        Element that each value feels.
    values
        Values, of the same shape.
    count
        Number of elements.
    """
    unit = float(values.max(initial=0))
    if not 0 < unit < np.inf:
        return sum_by_felt_element(felt_elements, values[None], count)[0]
    squares, unsquarable = split_squarable(values, unit)
    roots = unit * np.sqrt(sum_by_felt_element(felt_elements, squares[None], count)[0])
    return roots if unsquarable is None else roots + sum_by_felt_element(felt_elements, unsquarable[None], count)[0]


def split_squarable(values: Array, unit: float) -> tuple[Array, Array | None]:
    """Return squares of values in units, and the sizes without a square, or None.

    The latter are those of values whose squares leave the range of float64, and 0 elsewhere. They are in no units:
    elements of one tensor may lie so far apart that one in units of the other is 0.
    """
    with np.errstate(over="ignore"):
        squares = np.square(values / unit)
    if squares.size and squares.min() >= _SMALLEST_SQUARABLE and squares.max() <= _HUGE_EXPONENT:
        return squares, None
    is_outside = ((squares < _SMALLEST_SQUARABLE) & (values != 0)) | (squares > _HUGE_EXPONENT)
    if not is_outside.any():
        return squares, None
    return np.where(is_outside, 0, squares), np.where(is_outside, np.abs(values), 0)


_SMALLEST_SQUARABLE, _HUGE_EXPONENT = 2.0**-1000, 2.0**1000
