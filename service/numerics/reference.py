"""What a gradient is judged against: the difference, its bound, and what rounding does to a correct gradient."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from service.numerics.precision import Precision
from service.numerics.tiles import Array

_CANCELLED = 1e6
"""Bound over what rounding leaves, up to which a sum of 0 is one."""
_AGREE = 1e-3
"""Relative difference up to which routes agree, as they hardly do on what rounding made, unless they round alike."""
_ALIKE = 64
"""Units of rounding up to which they may do that."""


def sizes_of(gradients: Sequence[Array], rounding: Array, unit_roundoff: float) -> Array:
    """Sizes of a gradient that several routes have found, 0 where rounding alone may have made them.

    What cancels leaves a fair part of what rounding may be. Where all of a tensor is far below that and yet not 0, it
    has not cancelled but is small, as behind a saturated softmax: its elements have their sizes, and there is nothing
    that could tell them from 0. How far below depends on whether the routes say the same.
    """
    each = np.array([np.where(np.isfinite(gradient), gradient, 0) for gradient in gradients])
    least, most = np.abs(each).min(axis=0), np.abs(each).max(axis=0)
    apart = np.ptp(each, axis=0).max(initial=0) / (most.max(initial=0) or 1)
    small = most.any() and (most <= _part_of_rounding(apart, unit_roundoff) * rounding).all()
    return most if small else np.where(least > rounding, least, 0)


def _part_of_rounding(apart: float, unit_roundoff: float) -> float:
    """Part of what rounding may be up to which a tensor is small, on which routes are that far apart."""
    if apart > _AGREE:
        return 1e-6
    return 1e-3 if apart <= _ALIKE * unit_roundoff else 1


@dataclass(frozen=True)
class Tolerance:
    """A tolerance of the client's: pass if abs(c - g) <= atol + rtol abs(g)."""

    rtol: float
    atol: float


@dataclass(frozen=True)
class Reference:
    """What a gradient is judged against, arrays of one shape.

    Attributes
    ----------
    value, error_bound
        The finite difference and its bound.
    rounding
        What a correct pass in the judged arithmetic may be off by.
    precision
        That arithmetic.
    disputed
        Where the routes disagree among themselves; None while no candidate is judged.
    tolerance
        Replaces bound and rounding, if given.
    left, right
        One-sided derivatives at the kinks, NaN elsewhere; None where there are none.
    conventions
        What the routes make of a kink.
    others
        Sizes by the other routes, 0 where rounding alone may have made them; None if there are none. Where the
        difference came out small within a wide bound, as with a step that is lost in rounding, they tell it from a
        gradient that is.
    exact_to
        What rounding alone would leave in the finite difference with the best of steps; None if that is not known. What
        is 0 within a bound not far above it is 0 because all that it is the sum of cancels.
    out_of_range
        Where a gradient may be infinite or NaN because of the range of its arithmetic; None for nowhere.
    along
        Whether each number belongs to a direction in which the whole tensor moved, and not to an element.
    beyond
        How far outside the one-sided derivatives of a kink a correct gradient may be: 0 for an element, which is on one
        side or on the other, but not for a sum over elements, each of which may be on either.
    """

    value: Array
    error_bound: Array
    rounding: Array
    precision: Precision
    disputed: Array | None = None
    tolerance: Tolerance | None = None
    left: Array | None = None
    right: Array | None = None
    conventions: tuple[Array, ...] = ()
    others: Array | None = None
    exact_to: Array | None = None
    out_of_range: Array | None = None
    along: bool = False
    beyond: float = 0.0

    @property
    def kinks(self) -> Array:
        """Where the derivative is not one."""
        if self.left is None or self.right is None:
            return np.zeros(self.value.shape, np.bool_)
        return np.isfinite(self.left) & np.isfinite(self.right)

    def excuses(self, judged: Array) -> Array:
        """Where a gradient lies between the one-sided derivatives of a kink, or follows a convention there."""
        accepted = self.between(judged, 0.0)
        for convention in self.conventions:
            accepted |= np.abs(judged - convention) <= 2 * self.rounding
        return self.kinks & accepted

    def between(self, judged: Array, beyond: float) -> Array:
        """Where a gradient lies between the one-sided derivatives of a kink, or not farther beyond them."""
        if self.left is None or self.right is None:
            return self.kinks
        low, high = np.minimum(self.left, self.right), np.maximum(self.left, self.right)
        off = self.allowed + beyond
        return self.kinks & (judged >= low - off) & (judged <= high + off)

    def at(self, examined: Array) -> "Reference":
        """The same of some elements, by flat index: arrays of one axis."""

        def some(array: Array | None) -> Any:
            return None if array is None else array.ravel()[examined]

        return Reference(
            some(self.value), some(self.error_bound), some(self.rounding), self.precision, some(self.disputed),
            self.tolerance, some(self.left), some(self.right), tuple(map(some, self.conventions)),
            some(self.others), some(self.exact_to), some(self.out_of_range),
        )  # fmt: skip

    @cached_property
    def allowed(self) -> Array:
        """Largest difference that passes."""
        if self.tolerance is not None:
            return self.tolerance.atol + self.tolerance.rtol * np.abs(self.value)
        return self.error_bound + self.rounding

    @cached_property
    def missing(self) -> Array:
        """Where there is nothing to judge against."""
        return ~(np.isfinite(self.value) & np.isfinite(self.error_bound))

    @cached_property
    def sizes(self) -> Array:
        """Size of each element, 0 where there is nothing to judge against."""
        sizes = np.where(self.missing | self._cancelled, 0, np.abs(self.value))
        return sizes if self.others is None else np.where(self.missing, 0, np.fmax(sizes, self.others))

    @cached_property
    def _cancelled(self) -> Array:
        """Where the summands of the finite difference cancel, or those of the gradient, as far as it can tell."""
        left = self.rounding if self.exact_to is None else np.fmax(self.exact_to, self.rounding)
        return (np.abs(self.value) <= self.error_bound) & (self.error_bound <= _CANCELLED * left)

    @cached_property
    def matters(self) -> Array:
        """Elements whose size is not negligible in their tensor."""
        return self.sizes > self.precision.matters * self.sizes.max()

    @cached_property
    def uncertain(self) -> Array:
        """Where an error that must be found could hide."""
        if self.tolerance is not None:
            return self.error_bound > self.allowed
        return self.matters & (self.allowed > self.precision.detects * self.sizes / 2)
