"""Lines whose derivative is 0 as far as loss and candidate show.

With D_i the derivatives and s_i the sizes of the moves, an element may be **zero** where

    |D_i| <= allowed_i,    allowed_i s_i <= 4096 u' L,                                                               (1)

L the size of the loss at the base, or of its change over s by its curvature, and u' the unit roundoff of its format.
The loss then changes over the whole move by no more than rounding. A bound that is made by the rounding of the loss
alone is some 100 u' L / s_i; noise beyond that exceeds (1): a gradient that drowns in it is not 0. Nor is one of
elements that are moved by no more than 8 u themselves, as what is left of 1 - 1 is: over those nothing would be seen to
change.

But (1) alone holds for every gradient that the rounding of a large loss hides: for 1e14 + sin(x), which is known to
1e-2, any candidate of the size of 1 lies within it. So something must show besides that there is nothing to hide:

- **the loss is the same at every point**, to the last bit, and the candidate is exactly 0;

- **terms as large as the loss cancel**, as in the sum of a softmax: it jitters (rounding_jitter.py), and the candidate
  is no more than a backward pass would round such terms by. With u the unit roundoff of the candidate c,

      sum_i |c_i| s_i <= 64 u L,    allowed_i s_i <= L / 1024.                                                       (2)

  The sum is over the whole tensor: of ten thousand elements each may be below the rounding of a loss that they make up
  together. The second keeps away losses of few digits, of which (1) says nothing;

- **its curvature shows**, at a minimum. With k_i the change of the loss over s_i by its curvature, the smallest
  estimate, and m = `negligible_fraction`, no more than 0.01,

      (|D_i| + allowed_i) s_i <= m max_j k_j,    |c_i| s_i <= 64 u max(k_i, sqrt(k_i L)).                            (3)

  The gradient is negligible beside what it changes by over the moves. At a point that is rounded by u s_i it is off by
  u k_i / s_i; and in a sum of squares, where large terms a . r cancel, by u |a| |r|, with |a|^2 s^2 = k and |r|^2 = L;

- **other tensors show** it, with E the largest certain effect |D_j| s_j in one of theirs:

      (|D_i| + allowed_i) s_i <= m E,    sum_i |c_i| s_i <= 64 u L.                                                  (4)

Along random directions all of them have to be zero. The same sum counts there, over the elements of the tensor.
"""

from dataclasses import dataclass

import numpy as np

from service.numerics.blackbox.allowance import CandidateAllowance
from service.numerics.blackbox.central_derivatives import DirectionalDerivatives
from service.numerics.blackbox.lines import TensorPoint
from service.numerics.core.batching import Array
from service.numerics.core.precision import Precision

_ZERO_RESOLUTIONS = 4096.0
_ZERO_CANDIDATE_ROUNDOFFS = 64.0
_MAX_JITTER_FRACTION = 2.0**-10
_MAX_NEGLIGIBLE_FRACTION = 1e-2
_MIN_MOVE_ROUNDOFFS = 8.0
_LEAST_EXPONENT = -(2**20)
"""Exponent of 0 beside those of numbers."""


@dataclass(frozen=True)
class CandidateEffects:
    """Changes of the loss over the moves by candidates, in units of powers of two.

    The products need not be numbers of float64.

    Attributes
    ----------
    elements
        |c_i| s_i of each line, (..., k).
    total
        Their sum over the tensor, (..., 1).
    exponent
        Exponent of the unit, (..., 1).
    are_zero
        Mask of the lines along which the candidate is exactly 0, (..., k).
    """

    elements: Array
    total: Array
    exponent: Array
    are_zero: Array

    def are_elements_within(self, limits: Array) -> Array:
        """Return where an element changes the loss by no more than limits, (..., k)."""
        return self._compare(self.elements, limits)

    def is_total_within(self, limits: Array) -> Array:
        """Return where the tensor changes the loss by no more than limits, (..., k)."""
        return self._compare(self.total, limits)

    def _compare(self, effects: Array, limits: Array) -> Array:
        fractions, exponents = np.frexp(limits)
        return np.ldexp(effects, self.exponent - exponents) <= fractions


def sum_effects(gradient: Array, move_sizes: Array, judged: Array, judged_sizes: Array) -> CandidateEffects:
    """Sum up the effects of a tensor.

    Parameters
    ----------
    gradient, move_sizes
        c of all elements of the tensor, (..., n), and s, which broadcasts to it.
    judged, judged_sizes
        c along the lines, (..., k), and s.
    """
    fractions, exponents = _multiply(gradient, move_sizes)
    judged_fractions, judged_exponents = _multiply(judged, judged_sizes)
    unit = np.maximum(exponents.max(axis=-1, keepdims=True), judged_exponents.max(axis=-1, keepdims=True))
    return CandidateEffects(
        np.ldexp(judged_fractions, judged_exponents - unit),
        np.ldexp(fractions, exponents - unit).sum(axis=-1, keepdims=True),
        unit,
        judged == 0,
    )


def _multiply(numbers: Array, sizes: Array) -> tuple[Array, Array]:
    """Return the fractions and exponents of absolute products."""
    fractions, exponents = np.frexp(np.abs(np.where(np.isfinite(numbers), numbers, 0.0)))
    size_fractions, size_exponents = np.frexp(sizes)
    products = fractions * size_fractions
    return products, np.where(products == 0, _LEAST_EXPONENT, exponents + size_exponents)


def are_lines_zero(
    candidate_allowance: CandidateAllowance,
    effects: CandidateEffects,
    point: TensorPoint,
    reference: DirectionalDerivatives,
    precision: Precision,
    other_effect: float = 0.0,
) -> Array:
    """Return the lines whose derivative is 0 as far as loss and candidate show, (..., k).

    Parameters
    ----------
    other_effect
        E, the largest certain effect of another tensor; 0 if there is none.
    """
    min_move_size = _MIN_MOVE_ROUNDOFFS * min(point.schedule.precision.unit_roundoff, 2.0**-24)
    allowed_effects = candidate_allowance.allowed_error * candidate_allowance.move_sizes
    largest_effects = np.abs(reference.value) * candidate_allowance.move_sizes + allowed_effects
    may_be_zero = (
        (np.abs(reference.value) <= candidate_allowance.allowed_error)
        & (candidate_allowance.move_sizes > min_move_size)
        & (allowed_effects <= _ZERO_RESOLUTIONS * reference.resolution)
    )
    roundoffs = _ZERO_CANDIDATE_ROUNDOFFS * precision.unit_roundoff
    is_total_zero = effects.is_total_within(roundoffs * reference.loss_magnitude)
    does_cancel = (
        reference.has_jitter & is_total_zero & (allowed_effects <= _MAX_JITTER_FRACTION * reference.loss_magnitude)
    )
    fraction = min(precision.negligible_fraction, _MAX_NEGLIGIBLE_FRACTION)
    curvature = reference.least_curvature_effect
    largest_curvature = curvature.max(axis=-1, initial=0.0, where=np.isfinite(curvature), keepdims=True)
    is_minimum = (largest_effects <= fraction * largest_curvature) & effects.are_elements_within(
        roundoffs * np.maximum(curvature, np.sqrt(curvature) * np.sqrt(reference.base_magnitude))
    )
    is_hidden_by_others = (largest_effects <= fraction * other_effect) & is_total_zero
    shows_zero = does_cancel | is_minimum | is_hidden_by_others
    return (may_be_zero & shows_zero) | (reference.is_constant & effects.are_zero)
