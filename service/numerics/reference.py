"""What a gradient is judged against: the difference, its bound, and what rounding does to a correct gradient."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from service.numerics.kept import kept
from service.numerics.precision import Precision
from service.numerics.projection import norm
from service.numerics.tiles import Array


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
    size
        Of the whole tensor: its largest element, or its norm where directions were looked at, as the other routes know
        it; 0 where rounding alone may have made all that they have. Where the difference came out small within a wide
        bound, as with a step that is lost in rounding, it tells that from a gradient that is small.
    nothing
        Where nothing of a tensor is known to differ from 0: how far from 0 each number may be to pass as 0, which is
        infinite where the gradient is 0 at other points too, and negative where it may be something that is hidden.
        None stands for negative everywhere.
    out_of_range
        Where the range of its arithmetic alone may keep a gradient from the right number; None for nowhere.
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
    size: float = 0.0
    nothing: Array | None = None
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
            self.size, some(self.nothing), some(self.out_of_range),
        )  # fmt: skip

    @kept
    def allowed(self) -> Array:
        """Largest difference that passes."""
        if self.tolerance is not None:
            return self.tolerance.atol + self.tolerance.rtol * np.abs(self.value)
        return self.error_bound + self.rounding

    @kept
    def missing(self) -> Array:
        """Where there is nothing to judge against."""
        return ~(np.isfinite(self.value) & np.isfinite(self.error_bound))

    @kept
    def _magnitudes(self) -> Array:
        """Size of each difference; at a kink, of what lies farthest from 0 there."""
        if self.left is None or self.right is None:
            return np.abs(self.value)
        return np.where(self.kinks, np.fmax(np.abs(self.left), np.abs(self.right)), np.abs(self.value))

    @property
    def _least_sizes(self) -> Array:
        """Size of each difference; at a kink, of what lies nearest to 0 between the sides."""
        if self.left is None or self.right is None:
            return self._magnitudes
        nearest = np.fmin(np.abs(self.left), np.abs(self.right)) * (self.left * self.right > 0)
        return np.where(self.kinks, nearest, self._magnitudes)

    @kept
    def known(self) -> Array:
        """Size of each difference, 0 where it may be 0 as well."""
        with np.errstate(invalid="ignore"):
            return np.where(~self.missing & (self._magnitudes > self.error_bound), self._magnitudes, 0)

    @kept
    def largest(self) -> float:
        """Size of the tensor, 0 where nothing of it is known to differ from 0.

        Along directions d ~ N(0, I) of a gradient g it is the norm, of which the mean of (d . g)^2 is the square.
        """
        if self.along:
            return self.size or norm(self.known) / math.sqrt(self.known.size)
        return max(self.size, float(self.known.max(initial=0)))

    @kept
    def negligible(self) -> Array:
        """Elements that are small beside the largest of their tensor, whatever they are within what is allowed.

        So are those of which a tolerance of the client's says that they do not count.
        """
        if self.along:
            return np.zeros(self.value.shape, np.bool_)
        with np.errstate(invalid="ignore", over="ignore"):
            small = self._magnitudes + self.allowed <= self.precision.matters * self.largest
            if self.tolerance is not None:
                return small | (self._magnitudes <= 2 * self.allowed)
        return small & (self.largest > 0)

    @kept
    def _sizes(self) -> Array:
        """What an error is relative to: each element, or of directions, of which a small one is chance, the norm."""
        return np.full(self.value.shape, self.largest) if self.along else self._magnitudes

    def undecided(self, judged: Array) -> Array:
        """Where an error that must be found could hide, the sign of what is judged or its absence among them."""
        if self.tolerance is not None:
            return self.error_bound > self.allowed
        with np.errstate(invalid="ignore"):
            hidden = ~self.negligible & (self.allowed > self.precision.detects * self._sizes / 2)
            return hidden & ~self.is_nothing(judged)

    def is_nothing(self, judged: Array) -> Array:
        """Where a gradient is 0 as far as can be told, and what is judged is 0 too."""
        if self.nothing is None or self.largest > 0:
            return np.zeros(self.value.shape, np.bool_)
        with np.errstate(invalid="ignore"):
            return np.abs(judged) <= self.nothing

    def is_absent(self, judged: Array) -> bool:
        """Whether nothing at all is judged where there is a gradient that no rounding makes nothing of.

        The allowance a is six times the root mean square of what each element is off by, so that |a| / 2 is three
        times that of the norm of what all of them are off by, alike or not. At a kink only what lies beyond 0 on both
        sides is known to be there.
        """
        if self.along or self.tolerance is not None or judged.any():
            return False
        rounding = norm(np.where(self.missing, 0, self.rounding))
        surely = np.where(self.known > 0, self._least_sizes - np.where(self.missing, 0, self.error_bound), 0)
        surely = np.maximum(surely, 0)
        return norm(surely) > rounding / 2
