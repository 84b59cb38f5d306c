"""The reference of a judgement: difference, bound, and rounding of the gradient."""

import math
from dataclasses import dataclass, fields, replace
from typing import Any, cast

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.core.cached_attribute import cached_attribute
from service.numerics.core.precision import Precision
from service.numerics.core.vector_norms import euclidean_norm

JUST_ABOVE_ONE = 1 + 2.0**-40
"""Factor that takes a detectable error past the limit: a number at its limit passes."""


@dataclass(frozen=True)
class Tolerance:
    """A tolerance of the client's: pass if abs(c - g) <= atol + rtol abs(g)."""

    rtol: float
    atol: float


@dataclass(frozen=True)
class Reference:
    """Differences, bounds and allowances of one tensor, arrays of one shape.

    Attributes
    ----------
    value, error_bound
        Finite differences and their bounds.
    rounding
        Rounding allowance of a correct pass in the judged arithmetic.
    precision
        Judged arithmetic.
    disputed_between_sources
        Mask of the elements at which our own sources disagree; None while no candidate is judged.
    tolerance
        Tolerance that replaces bound and rounding; None by default.
    left_derivative, right_derivative
        One-sided derivatives at the kinks, NaN elsewhere; None if there are no kinks.
    convention_gradients
        Gradients by our own sources, whose conventions pass at a kink.
    peer_magnitude
        Size of the whole tensor by our own sources: its largest element, or its norm for directions. It is 0 if
        rounding alone may have made all of it. It distinguishes a small gradient from a difference that is small
        within a wide bound, as with a step that is lost in rounding.
    zero_tolerance
        Largest distance from 0 at which each number passes as 0, if no element of the tensor is known to differ from
        0. It is infinite where the gradient is 0 at other points too, and negative where rounding may hide a gradient.
        None stands for negative everywhere.
    out_of_range
        Mask of the elements that the range of the arithmetic alone may make wrong; None for nowhere.
    is_directional
        True if each number belongs to a direction of the whole tensor, and not to an element.
    kink_slack
        Largest distance of a correct gradient from the one-sided derivatives of a kink. It is 0 for an element, which
        is on one side or the other, but not for a sum over elements, each of which may be on either side.
    """

    value: Array
    error_bound: Array
    rounding: Array
    precision: Precision
    disputed_between_sources: Array | None = None
    tolerance: Tolerance | None = None
    left_derivative: Array | None = None
    right_derivative: Array | None = None
    convention_gradients: tuple[Array, ...] = ()
    peer_magnitude: float = 0.0
    zero_tolerance: Array | None = None
    out_of_range: Array | None = None
    is_directional: bool = False
    kink_slack: float = 0.0

    @property
    def is_kink(self) -> Array:
        """Mask of the elements whose one-sided derivatives differ."""
        if self.left_derivative is None or self.right_derivative is None:
            return np.zeros(self.value.shape, np.bool_)
        return np.isfinite(self.left_derivative) & np.isfinite(self.right_derivative)

    def is_excused_by_kink(self, judged: Array) -> Array:
        """Return where a gradient is between the sides of a kink, or on a convention."""
        if self.left_derivative is None or self.right_derivative is None:
            return self.is_kink
        is_accepted = self.is_between_sides(judged, 0.0)
        for convention in self.convention_gradients:
            is_accepted |= np.abs(judged - convention) <= 2 * self.rounding
        return self.is_kink & is_accepted

    def is_between_sides(self, judged: Array, slack: float) -> Array:
        """Return where a gradient is between the sides of a kink, or within the slack."""
        if self.left_derivative is None or self.right_derivative is None:
            return self.is_kink
        low, high = (
            np.minimum(self.left_derivative, self.right_derivative),
            np.maximum(self.left_derivative, self.right_derivative),
        )
        max_distance = self.allowed_error + slack
        return self.is_kink & (judged >= low - max_distance) & (judged <= high + max_distance)

    def with_limits(
        self, tolerance: Tolerance | None, out_of_range: Array | None = None, disputed: Array | None = None
    ) -> "Reference":
        """Return the reference with a tolerance and masks of elements; itself where all of them are None."""
        if tolerance is None and out_of_range is None and disputed is None:
            return self
        return replace(self, tolerance=tolerance, out_of_range=out_of_range, disputed_between_sources=disputed)

    def select_elements(self, examined: Array) -> "Reference":
        """Return the reference of some elements, by flat index: every array has one axis."""

        def select(array: Array) -> Array:
            return array.ravel()[examined]

        values: dict[str, Any] = {field.name: getattr(self, field.name) for field in fields(self)}
        selected = {
            name: select(cast("Array", value)) for name, value in values.items() if isinstance(value, np.ndarray)
        }
        return replace(self, **selected, convention_gradients=tuple(map(select, self.convention_gradients)))

    @cached_attribute
    def allowed_error(self) -> Array:
        """Largest error that passes."""
        if self.tolerance is not None:
            return self.tolerance.atol + self.tolerance.rtol * np.abs(self.value)
        return self.error_bound + self.rounding

    @cached_attribute
    def is_missing(self) -> Array:
        """Mask of the elements without a difference or without a bound."""
        return ~(np.isfinite(self.value) & np.isfinite(self.error_bound))

    @cached_attribute
    def _magnitudes(self) -> Array:
        """Size of each difference; at a kink, of what lies farthest from 0 there."""
        if self.left_derivative is None or self.right_derivative is None:
            return np.abs(self.value)
        return np.where(
            self.is_kink, np.fmax(np.abs(self.left_derivative), np.abs(self.right_derivative)), np.abs(self.value)
        )

    @property
    def _least_magnitudes(self) -> Array:
        """Size of each difference; at a kink, of what lies nearest to 0 between the sides."""
        if self.left_derivative is None or self.right_derivative is None:
            return self._magnitudes
        nearest_sides = np.fmin(np.abs(self.left_derivative), np.abs(self.right_derivative)) * (
            self.left_derivative * self.right_derivative > 0
        )
        return np.where(self.is_kink, nearest_sides, self._magnitudes)

    @cached_attribute
    def known_magnitudes(self) -> Array:
        """Size of each difference, 0 where it may be 0 as well."""
        with np.errstate(invalid="ignore"):
            return np.where(~self.is_missing & (self._magnitudes > self.error_bound), self._magnitudes, 0)

    @cached_attribute
    def largest_magnitude(self) -> float:
        """Size of the tensor, 0 where nothing of it is known to differ from 0.

        Along directions d ~ N(0, I) of a gradient g it is the norm, of which the mean of (d . g)^2 is the square.
        """
        if self.is_directional:
            return self.peer_magnitude or euclidean_norm(self.known_magnitudes) / math.sqrt(self.known_magnitudes.size)
        return max(self.peer_magnitude, float(self.known_magnitudes.max(initial=0)))

    @cached_attribute
    def is_negligible(self) -> Array:
        """Mask of the elements that are negligible beside the largest of their tensor.

        They are so by their largest possible size, with the allowed error in it. So are elements at the end of the
        range of their arithmetic, which has no number nearer to them than it allows.

        So are those of which a tolerance of the client's says that they do not count.
        """
        if self.is_directional:
            return np.zeros(self.value.shape, np.bool_)
        with np.errstate(invalid="ignore", over="ignore"):
            is_small = (
                self._magnitudes + self.allowed_error <= self.precision.negligible_fraction * self.largest_magnitude
            )
            if self.tolerance is not None:
                return is_small | (self._magnitudes <= 2 * self.allowed_error)
        return (is_small & (self.largest_magnitude > 0)) | self._is_at_end_of_range

    @property
    def _is_at_end_of_range(self) -> Array:
        """Mask of the elements without a promise that have fewer digits in their arithmetic than a promise takes.

        With their allowances they are below its smallest normal number. They are known to the part of the largest
        element that an error of that must be, or to the smallest number, which is all that there is. The latter needs
        an element that is known to differ from 0 by twice its allowance: nobody could tell another gradient from none.
        """
        if self.precision.is_scaled:
            return np.zeros(self.value.shape, np.bool_)
        largest_sizes = self._magnitudes + self.allowed_error
        is_known = self.allowed_error <= self.precision.detectable_error * self.largest_magnitude / 2
        if (self.known_magnitudes > 2 * self.allowed_error).any():
            is_known |= self.allowed_error <= self.precision.smallest_subnormal
        return self._is_imprecise & is_known & (largest_sizes < 2.0**self.precision.min_exponent)

    @property
    def _is_imprecise(self) -> Array:
        """Mask of the elements of which an error that must be found could hide in the allowance."""
        with np.errstate(invalid="ignore"):
            return self.allowed_error > self.precision.detectable_error * self._error_scale / 2

    @cached_attribute
    def _error_scale(self) -> Array:
        """Scale of a relative error: the element, or the norm for directions."""
        return np.full(self.value.shape, self.largest_magnitude) if self.is_directional else self._magnitudes

    def is_undecided(self, judged: Array) -> Array:
        """Return where an error that must be found could hide.

        A wrong sign and a missing gradient are among such errors.
        """
        if self.tolerance is not None:
            return self.error_bound > self.allowed_error
        return self._is_imprecise & ~self.is_negligible & ~self.is_zero(judged)

    def is_zero(self, judged: Array) -> Array:
        """Return where both the gradient and the judged number are 0, by the evidence."""
        if self.zero_tolerance is None or self.largest_magnitude > 0:
            return np.zeros(self.value.shape, np.bool_)
        with np.errstate(invalid="ignore"):
            return np.abs(judged) <= self.zero_tolerance

    def is_absent(self, judged: Array) -> bool:
        """Return whether the judged gradient is 0 though the true one exceeds rounding.

        The allowance a is six times the root mean square of what each element is off by, so that |a| / 2 is three
        times that of the norm of what all of them are off by, alike or not. At a kink only what lies beyond 0 on both
        sides is known to be there.
        """
        if self.is_directional or self.tolerance is not None or judged.any():
            return False
        rounding = euclidean_norm(np.where(self.is_missing, 0, self.rounding))
        certain_magnitudes = np.where(
            self.known_magnitudes > 0, self._least_magnitudes - np.where(self.is_missing, 0, self.error_bound), 0
        )
        certain_magnitudes = np.maximum(certain_magnitudes, 0)
        return euclidean_norm(certain_magnitudes) > rounding / 2
