"""Where the three routes disagree among themselves, and which two of them agree.

One of them is wrong there, and that is a fault of this service: nothing that rests on them can be told.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from service.numerics import verdict
from service.numerics.kept import kept
from service.numerics.reference import Reference
from service.numerics.tiles import Array

ANALYTIC, AUTOGRAD, DIFFERENCE = "analytic", "autograd", "finite_difference"


@dataclass(frozen=True)
class Side:
    """So many elements at which two routes agree and a third does not; none of them where no two agree."""

    elements: int
    agree: tuple[str, ...]
    alone: tuple[str, ...]


@dataclass(frozen=True)
class Dispute:
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

    by_hand: Array
    by_torch: Array
    reference: Reference
    excused: Array | None = None

    @kept
    def _apart(self) -> Array:
        """Where the two disagree beyond what both may carry; at a kink each may follow a convention of its own.

        Of two numbers neither is told from the other where no difference could be had: there the digits of the loss
        may be all rounding, as those of the cosine of 1e20, and then what both may carry has no bound either.
        """
        with np.errstate(invalid="ignore"):
            near = np.abs(self.by_hand - self.by_torch) <= 2 * self.reference.rounding
        untold = self.reference.missing & np.isfinite(self.by_hand) & np.isfinite(self.by_torch)
        apart = ~near & ~self._both_lost & ~self.reference.kinks & ~untold
        return apart if self.excused is None else apart & ~self.excused

    @kept
    def _both_lost(self) -> Array:
        """Where neither has a number, and both the same infinity, or NaN: an order of operations tells these apart."""
        nan = np.isnan(self.by_hand) | np.isnan(self.by_torch)
        finite = np.isfinite(self.by_hand) | np.isfinite(self.by_torch)
        return ~finite & (nan | (self.by_hand == self.by_torch))

    @kept
    def _off(self) -> tuple[Array, Array]:
        """Where each is off the finite difference."""
        off = verdict.failing(self.by_hand, self.reference), verdict.failing(self.by_torch, self.reference)
        return off if self.excused is None else (off[0] & ~self.excused, off[1] & ~self.excused)

    @kept
    def places(self) -> Array:
        """Where they disagree."""
        hand, torch = self._off
        return hand | torch | self._apart

    def sides(self, examined: Array | None = None) -> tuple[Side, ...]:
        """Who agrees with whom, the most elements first; nothing where all agree.

        Parameters
        ----------
        examined
            Flat indices of the elements that count; all by default.
        """
        found = [Side(self._count(mask, examined), agree, alone) for mask, agree, alone in self._parties()]
        return tuple(sorted((each for each in found if each.elements), key=lambda each: -each.elements))

    @staticmethod
    def _count(mask: Array, examined: Array | None) -> int:
        return int(np.count_nonzero(mask if examined is None else mask.ravel()[examined]))

    def _parties(self) -> Iterator[tuple[Array, tuple[str, ...], tuple[str, ...]]]:
        hand, torch = self._off
        both = hand & torch
        yield hand & ~torch, (AUTOGRAD, DIFFERENCE), (ANALYTIC,)
        yield torch & ~hand, (ANALYTIC, DIFFERENCE), (AUTOGRAD,)
        yield both & ~self._apart, (ANALYTIC, AUTOGRAD), (DIFFERENCE,)
        yield both & self._apart, (), (ANALYTIC, AUTOGRAD, DIFFERENCE)
        # The difference is near both, and too uncertain to tell which of them is right.
        yield self._apart & ~hand & ~torch, (), (ANALYTIC, AUTOGRAD)
