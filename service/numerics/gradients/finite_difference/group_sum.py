"""Sums by group, in which equal numbers do not round alike.

A running sum of n equal numbers rounds the same way at each of them, so that its error grows with n, and not with the
root of it. NumPy adds contiguous numbers pairwise, with an error that grows with the logarithm of n.
"""

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.core.cached_attribute import cached_attribute

_LONGEST_RUNNING_SUM = 64
"""Numbers of a group up to which a running sum is as good."""


class GroupSum:
    """Sums of rows of numbers by the groups of their columns.

    Parameters
    ----------
    groups
        Group of each column, (columns,).
    count
        Number of groups. The last of them is of no interest, and its running sum may be long.
    """

    def __init__(self, groups: Array, count: int) -> None:
        self._groups = groups
        self._count = count

    def sum_row(self, row: Array) -> Array:
        """Return the sums of a row, (columns,), by group, (count,)."""
        if not self._is_long:
            return np.bincount(self._groups, row, self._count)
        sums = np.zeros(self._count)
        sums[self._present] = np.add.reduceat(row if self._order is None else row[self._order], self._starts)
        return sums

    @cached_attribute
    def _is_long(self) -> bool:
        """Tell whether some group has more numbers than a running sum should."""
        return (
            self._groups.size > _LONGEST_RUNNING_SUM
            and int(np.bincount(self._groups, minlength=self._count)[:-1].max(initial=0)) > _LONGEST_RUNNING_SUM
        )

    @cached_attribute
    def _order(self) -> Array | None:
        """Return the columns group by group, or None if they are in that order."""
        if (self._groups[1:] >= self._groups[:-1]).all():
            return None
        return np.argsort(self._groups, kind="stable")

    @cached_attribute
    def _starts(self) -> Array:
        """Return the position of the first number of each group."""
        ordered = self._groups if self._order is None else self._groups[self._order]
        return np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))

    @cached_attribute
    def _present(self) -> Array:
        """Return the groups that have numbers."""
        return (self._groups if self._order is None else self._groups[self._order])[self._starts]
