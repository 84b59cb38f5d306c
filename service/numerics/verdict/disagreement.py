"""Where the three routes disagree among themselves, and which two of them agree.

One of them is wrong there, and that is a fault of this service: nothing that rests on them can be told.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.core.cached_attribute import cached_attribute
from service.numerics.verdict import elementwise
from service.numerics.verdict.reference import Reference

ANALYTIC, AUTOGRAD, DIFFERENCE = "analytic", "autograd", "finite_difference"


@dataclass(frozen=True)
class Partition:
    """So many elements at which two routes agree and a third does not; none of them where no two agree."""

    element_count: int
    agreeing: tuple[str, ...]
    dissenting: tuple[str, ...]


@dataclass(frozen=True)
class Disagreement:
    """Three gradients of one tensor, or their inner products with directions, of one shape.

    Attributes
    ----------
    by_hand, by_torch
        The analytic and the autograd gradient.
    reference
        The finite difference, in the arithmetic of the other two.
    excused
        Where the range of that arithmetic alone keeps them apart, which is no fault; None for nowhere.
    """

    analytic: Array
    autograd: Array
    reference: Reference
    excused_by_range: Array | None = None

    @cached_attribute
    def _sources_differ(self) -> Array:
        """Where the two disagree beyond what both may carry; at a kink each may follow a convention of its own.

        Of two numbers neither is told from the other where no difference could be had: there the digits of the loss
        may be all rounding, as those of the cosine of 1e20, and then what both may carry has no bound either.
        """
        with np.errstate(invalid="ignore"):
            near = np.abs(self.analytic - self.autograd) <= 2 * self.reference.rounding
        untold = self.reference.is_missing & np.isfinite(self.analytic) & np.isfinite(self.autograd)
        apart = ~near & ~self._both_nonfinite_alike & ~self.reference.is_kink & ~untold
        return apart if self.excused_by_range is None else apart & ~self.excused_by_range

    @cached_attribute
    def _both_nonfinite_alike(self) -> Array:
        """Where neither has a number, and both the same infinity, or NaN: an order of operations tells these apart."""
        nan = np.isnan(self.analytic) | np.isnan(self.autograd)
        finite = np.isfinite(self.analytic) | np.isfinite(self.autograd)
        return ~finite & (nan | (self.analytic == self.autograd))

    @cached_attribute
    def _off_difference(self) -> tuple[Array, Array]:
        """Where each is off the finite difference."""
        off = (
            elementwise.find_failing_elements(self.analytic, self.reference),
            elementwise.find_failing_elements(self.autograd, self.reference),
        )
        return (
            off if self.excused_by_range is None else (off[0] & ~self.excused_by_range, off[1] & ~self.excused_by_range)
        )

    @cached_attribute
    def disputed(self) -> Array:
        """Where they disagree."""
        hand, torch = self._off_difference
        return hand | torch | self._sources_differ

    def partition_elements(self, examined: Array | None = None) -> tuple[Partition, ...]:
        """Who agrees with whom, the most elements first; nothing where all agree.

        Parameters
        ----------
        examined
            Flat indices of the elements that count; all by default.
        """
        found = [
            Partition(self._count_examined(mask, examined), agree, alone)
            for mask, agree, alone in self._iterate_partitions()
        ]
        return tuple(sorted((each for each in found if each.element_count), key=lambda each: -each.element_count))

    @staticmethod
    def _count_examined(mask: Array, examined: Array | None) -> int:
        return int(np.count_nonzero(mask if examined is None else mask.ravel()[examined]))

    def _iterate_partitions(self) -> Iterator[tuple[Array, tuple[str, ...], tuple[str, ...]]]:
        hand, torch = self._off_difference
        both = hand & torch
        yield hand & ~torch, (AUTOGRAD, DIFFERENCE), (ANALYTIC,)
        yield torch & ~hand, (ANALYTIC, DIFFERENCE), (AUTOGRAD,)
        yield both & ~self._sources_differ, (ANALYTIC, AUTOGRAD), (DIFFERENCE,)
        yield both & self._sources_differ, (), (ANALYTIC, AUTOGRAD, DIFFERENCE)
        # The difference is near both, and too uncertain to tell which of them is right.
        yield self._sources_differ & ~hand & ~torch, (), (ANALYTIC, AUTOGRAD)
