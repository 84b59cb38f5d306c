"""Sums of the products of an operand with the quotients of an output, and of their errors."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from service.numerics.core.batching import Array, Shape
from service.numerics.core.equal_numbers import count_equal_numbers
from service.numerics.core.interrupts import iterate_interruptibly
from service.numerics.gradients.finite_difference.group_sum import GroupSum
from service.numerics.gradients.finite_difference.quotients import (
    DifferenceQuotients,
    estimate_sum_rounding,
    split_squarable,
)

_UNDERFLOW_UNIT = 2.0**-1073
"""Loss of a product and of its error below the normal numbers together."""


class ProductBlock(NamedTuple):
    """Some of the products in which an operand stands.

    Attributes
    ----------
    shape
        Shape of the output.
    indices, factors
        Flat indices of the operand's elements and their factors, each (products, ...). The axes behind have length 1
        where they do not depend on an axis of the output.
    """

    shape: Shape
    indices: Array
    factors: Array


class QuotientSum:
    """Sums of products with the quotients of an output, for each of `count` elements."""

    def __init__(self, by_output: DifferenceQuotients, count: int) -> None:
        self._count = count
        # Elements with the same quotient are equal, and so are their errors, which then add up.
        if (counts := count_equal_numbers(by_output.values[-1])) is not None:
            by_output = replace(by_output, noise=by_output.noise * np.sqrt(counts))
        unit = float(by_output.noise.max(initial=0))
        self._unit = unit if 0 < unit < np.inf else 1.0
        self._by_output = by_output
        self._sizes = np.abs(by_output.values[0])
        self._rounding = by_output.rounding_error + estimate_sum_rounding(self._sizes.size) * self._sizes

    def sum_quotients(self, factors: Iterable[ProductBlock]) -> DifferenceQuotients:
        """Return the sums of the factors' products with the quotients, by element."""
        levels = len(self._by_output.values)
        sums = np.zeros((levels + 3, self._count))
        for shape, index, factor in iterate_interruptibly(factors):
            squares, unsquarable = split_squarable(factor * self._by_output.noise.reshape(shape), self._unit)
            rows = (
                *(factor * quotients.reshape(shape) for quotients in self._by_output.values),
                np.abs(factor) * self._rounding.reshape(shape),
                squares,
                *(() if unsquarable is None else (unsquarable,)),
            )
            self._accumulate_rows(sums, index, rows)
        # A product may lose as much to underflow.
        underflow_loss = self._sizes.size * _UNDERFLOW_UNIT
        noise = np.sqrt(sums[levels + 1]) * self._unit + sums[levels + 2] + underflow_loss
        return DifferenceQuotients(sums[:levels], noise, sums[levels])

    def sum_errors(self, errors: Iterable[ProductBlock]) -> Array:
        """Return the largest sum of the factors' errors, by element.

        The factors share their upstream nodes, so their errors add up.
        """
        sums = np.zeros((1, self._count))
        # The noise of a quotient near 0 may hide one as large as the noise.
        largest_quotients = self._sizes + self._by_output.noise + self._by_output.rounding_error
        for shape, index, error in iterate_interruptibly(errors):
            self._accumulate_rows(sums, index, (np.abs(error) * largest_quotients.reshape(shape),))
        return sums[0]

    def _accumulate_rows(self, sums: Array, index: Array, rows: Sequence[Array]) -> None:
        # A product is of one element along these axes of the output.
        shared_axes = tuple(axis for axis, length in enumerate(index.shape) if length < rows[0].shape[axis])
        group_sum = GroupSum(index.ravel(), self._count + 1)
        for total, row in zip(sums, rows, strict=False):
            row = np.add.reduce(row, axis=shared_axes) if shared_axes else row
            total += group_sum.sum_row(row.ravel())[:-1]
