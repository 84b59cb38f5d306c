"""The comparison of a candidate with the differences along each line of a tensor.

A line fails beyond the allowed error. It passes within the passing error (allowance.py), except in two cases, in which
it is not decided:

- an error that must be found could pass, with m and k of `precision.py`: of an element where more is allowed than k / 2
  of its derivative D and than m times the tensor's largest; along a random direction, whose own size is chance, where
  more is certain than k |c| / 2;
- what is allowed is no less than the derivative of an element, whose sign or absence then does not show.

A line of which one of these is so is not called wrong within four times what is allowed either: there the loss is too
noisy for its differences to be more than an indication. Neither is one along which the loss may have a kink, of which
no bound is known that holds beside noise: the difference is the mean of both sides there, and what agrees with it
passes. Nor is a 0 beside a staircase (staircase.py).

**Negligible** is an element, with s the sizes of the moves, of which

    (|D_i| + allowed_i) s_i <= m max_j (|D_j| - allowed_j) s_j                                                       (1)

with m = `negligible_fraction`. It passes within the allowed error, and no promise covers it. So does an element that is
**zero**, as far as its loss and its candidate show (zero_lines.py). No other passes whose derivative is hidden: a
candidate of which nothing is known is not decided, however small it is beside the loss.
"""

from dataclasses import dataclass, replace

import numpy as np

from service.numerics.blackbox import allowance
from service.numerics.blackbox.allowance import CandidateAllowance, choose_allowed_roundoffs
from service.numerics.blackbox.central_derivatives import DirectionalDerivatives
from service.numerics.blackbox.extrapolation import CERTAIN_DEVIATIONS
from service.numerics.blackbox.kinks import LossShape
from service.numerics.blackbox.lines import TensorLines, TensorPoint
from service.numerics.blackbox.zero_lines import are_lines_zero, sum_effects
from service.numerics.core.batching import Array
from service.numerics.core.cached_attribute import cached_attribute
from service.numerics.core.precision import Precision
from service.numerics.core.vector_norms import euclidean_norm
from service.numerics.verdict.outcome import Cause, Outcome, assign_causes, find_outcomes
from service.numerics.verdict.reference import Tolerance

_UNCERTAIN_MARGIN = 4.0
_LEAST_EXPONENT = -(2**20)
"""Exponent of 0 beside those of numbers."""
# NumPy compares with a member of an enumeration in twenty times the time.
_STAIRS = int(LossShape.STAIRS)


@dataclass(frozen=True)
class LineComparison:
    """A candidate held against differences.

    Attributes
    ----------
    reference, allowance
        Derivatives along the lines, and the candidate's own with its allowance.
    is_uncertain
        Mask of the lines that could hide an error that a check must find, (..., k).
    is_negligible, is_zero
        Masks of the lines that pass without a promise, and of those among them that pass as 0, (..., k).
    precision, tolerance
        Arithmetic of the candidate, and the tolerance that replaces the allowance; None if there is none.
    """

    reference: DirectionalDerivatives
    allowance: CandidateAllowance
    is_uncertain: Array
    is_negligible: Array
    is_zero: Array
    precision: Precision
    tolerance: Tolerance | None = None

    @property
    def candidate_derivatives(self) -> Array:
        """The candidate along each line, (..., k)."""
        return self.allowance.candidate_derivatives

    @property
    def relative_allowance(self) -> float:
        """Part of the candidate that it may be off by itself."""
        return (
            0.0
            if self.tolerance is not None
            else choose_allowed_roundoffs(self.precision) * self.precision.unit_roundoff
        )

    @cached_attribute
    def errors(self) -> Array:
        """Error of the candidate along each line, (..., k)."""
        with np.errstate(invalid="ignore", over="ignore"):
            return np.abs(self.candidate_derivatives - self.reference.value)

    @cached_attribute
    def not_wrong_error(self) -> Array:
        """Largest error of a line that is not called wrong, (..., k)."""
        if self.tolerance is not None:
            return self.allowance.allowed_error
        margins = np.where(self.is_uncertain | self.reference.may_have_kink, _UNCERTAIN_MARGIN, 1.0)
        max_errors = np.maximum(
            margins * self.allowance.allowed_error, self.allowance.allowed_error + self.allowance.doubtful_error
        )
        return np.where((self.reference.loss_shape == _STAIRS) & (self.candidate_derivatives == 0), np.inf, max_errors)

    @cached_attribute
    def passing_error(self) -> Array:
        """Largest error of a line that passes, (..., k)."""
        return np.where(self.is_negligible, self.allowance.allowed_error, self.allowance.passing_error)

    @cached_attribute
    def unnoticed_error(self) -> Array:
        """Largest error of a line that goes unnoticed, (..., k).

        Such a line is not called wrong or, if it is decided, passes.
        """
        return np.where(self.is_uncertain | self.reference.may_have_kink, self.not_wrong_error, self.passing_error)

    @property
    def is_hidden_by_noise(self) -> Array:
        """Mask of the lines whose derivative does not show, for the most part because of noise, (..., k)."""
        noise_error = CERTAIN_DEVIATIONS * self.reference.deviation
        return (np.abs(self.reference.value) <= self.allowance.allowed_error) & (noise_error > self.reference.bound / 2)

    @cached_attribute
    def cause_positions(self) -> Array:
        """Cause of each line, as positions in `CAUSES`, (..., k)."""
        errors, allowed_errors = self.errors, self.allowance.allowed_error
        uncertain_cause = Cause.TOO_UNCERTAIN if self.tolerance is None else Cause.TOLERANCE_TOO_FINE
        return assign_causes(
            self.candidate_derivatives.shape,
            (
                (~(errors <= self.passing_error), Cause.TOO_UNCERTAIN),
                (self.is_uncertain, uncertain_cause),
                (~(errors <= self.not_wrong_error), Cause.EXCEEDS_ALLOWED_ERROR),
                (self.is_uncertain if self.tolerance is not None else None, uncertain_cause),
                (~np.isfinite(self.candidate_derivatives), Cause.NOT_FINITE),
                (~np.isfinite(self.reference.value) | ~np.isfinite(allowed_errors), Cause.NO_REFERENCE),
            ),
        )

    @cached_attribute
    def line_outcomes(self) -> list[Outcome]:
        """Outcome of each line."""
        return [Outcome(int(outcome)) for outcome in find_outcomes(self.cause_positions)]

    @cached_attribute
    def error_ratios(self) -> Array:
        """Errors in units of the allowed error, (..., k); infinite where that is not known."""
        with np.errstate(all="ignore"):
            ratios = self.errors / self.allowance.allowed_error
        return np.where(np.isnan(ratios), np.where(self.errors == 0, 0.0, np.inf), ratios)


def compare_candidate(
    lines: TensorLines,
    point: TensorPoint,
    gradient: Array,
    reference: DirectionalDerivatives,
    precision: Precision,
    tolerance: Tolerance | None = None,
    other_effect: float = 0.0,
) -> LineComparison:
    """Hold a candidate, float64, against the derivatives of its tensor.

    Parameters
    ----------
    gradient
        Gradient of the loss, (n,); or, of moves of single elements, gradients of several functions, (..., n).
    reference
        Derivatives of the loss, (..., k).
    other_effect
        Largest certain effect of another tensor on the loss; 0 if there is none.
    """
    finite = np.where(np.isfinite(gradient), gradient, 0.0)
    if lines.moved_elements is None:
        candidate_allowance = allowance.compute_direction_allowance(
            lines, point, gradient, reference, precision, tolerance
        )
        gradient_norm, scale = euclidean_norm(finite), np.array([point.scale])
        effects = sum_effects(finite, scale, np.array([gradient_norm]), scale)
        is_zero = are_lines_zero(candidate_allowance, effects, point, reference, precision, other_effect)
        comparison = _compare_directions(candidate_allowance, gradient_norm, reference, precision, is_zero)
    else:
        candidate_allowance = allowance.compute_element_allowance(
            lines, point, gradient, reference, precision, tolerance
        )
        magnitudes = allowance.compute_move_magnitudes(lines, point)
        effects = sum_effects(
            finite, magnitudes, candidate_allowance.candidate_derivatives, candidate_allowance.move_sizes
        )
        is_zero = are_lines_zero(candidate_allowance, effects, point, reference, precision, other_effect)
        comparison = _compare_elements(candidate_allowance, reference, precision, is_zero)
    return _apply_tolerance(comparison, tolerance)


def compare_tangents(
    lines: TensorLines,
    point: TensorPoint,
    products: Array,
    reference: DirectionalDerivatives,
    precision: Precision,
    tolerance: Tolerance | None = None,
) -> LineComparison:
    """Hold products of a Jacobian with the directions, (m, k), against the derivatives, (m, k)."""
    if lines.moved_elements is None:
        candidate_allowance = allowance.compute_tangent_allowance(lines, products, reference, precision, tolerance)
        row_sizes, scale = allowance.measure_row_sizes(products)[:, None], np.array([point.scale])
        # The elements of a row are not known, but no more than their norm allows.
        largest_sum = np.sqrt(point.values.size) * row_sizes
        effects = sum_effects(largest_sum, scale, row_sizes, scale)
        is_zero = are_lines_zero(candidate_allowance, effects, point, reference, precision)
        comparison = _compare_directions(candidate_allowance, row_sizes, reference, precision, is_zero)
    else:
        candidate_allowance = allowance.compute_sample_allowance(
            lines, point, products, reference, precision, tolerance
        )
        judged, sizes = candidate_allowance.candidate_derivatives, candidate_allowance.move_sizes
        # The other elements are taken to be as large.
        effects = sum_effects(judged * (point.values.size / len(lines)), sizes, judged, sizes)
        is_zero = are_lines_zero(candidate_allowance, effects, point, reference, precision)
        comparison = _compare_elements(candidate_allowance, reference, precision, is_zero)
    return _apply_tolerance(comparison, tolerance)


def _apply_tolerance(comparison: LineComparison, tolerance: Tolerance | None) -> LineComparison:
    if tolerance is None:
        return comparison
    no_lines = np.zeros(comparison.candidate_derivatives.shape, bool)
    return replace(
        comparison,
        is_uncertain=comparison.reference.bound > comparison.allowance.allowed_error,
        is_negligible=no_lines,
        is_zero=no_lines,
        tolerance=tolerance,
    )


def _compare_elements(
    candidate_allowance: CandidateAllowance, reference: DirectionalDerivatives, precision: Precision, is_zero: Array
) -> LineComparison:
    with np.errstate(all="ignore"):
        sizes = np.where(np.isfinite(reference.value), np.abs(reference.value), 0.0)
        effects, allowed_effects = _compute_effects(
            sizes, candidate_allowance.allowed_error, candidate_allowance.move_sizes
        )
        certain_effects = effects - allowed_effects
        largest_effect = certain_effects.max(axis=-1, initial=0.0, where=np.isfinite(certain_effects), keepdims=True)
        is_negligible = (effects + allowed_effects <= precision.negligible_fraction * largest_effect) | is_zero
        decidable_errors = np.maximum(
            precision.detectable_error * effects / 2, precision.negligible_fraction * largest_effect
        )
        is_uncertain = (
            (allowed_effects > decidable_errors) | (candidate_allowance.allowed_error >= sizes)
        ) & ~is_negligible
    return LineComparison(reference, candidate_allowance, is_uncertain, is_negligible, is_zero, precision)


def _compute_effects(sizes: Array, allowed_errors: Array, move_sizes: Array) -> tuple[Array, Array]:
    """Return sizes and allowed errors times the moves, in units of a power of two near the largest effect of a size.

    The products need not be numbers of float64.
    """
    move_fractions, move_exponents = np.frexp(move_sizes)
    _, exponents = np.frexp(sizes)
    exponents = np.where(sizes > 0, exponents + move_exponents, _LEAST_EXPONENT).max(axis=-1, keepdims=True)
    exponents = np.where(exponents == _LEAST_EXPONENT, 0, exponents)
    effects, allowed_effects = (
        np.ldexp(values * move_fractions, move_exponents - exponents) for values in (sizes, allowed_errors)
    )
    return effects, allowed_effects


def _compare_directions(
    candidate_allowance: CandidateAllowance,
    gradient_norm: Array | float,
    reference: DirectionalDerivatives,
    precision: Precision,
    is_zero: Array,
) -> LineComparison:
    """Compare along random directions, given the norm of each gradient, (..., 1); zero if all of them are."""
    is_zero = np.broadcast_to(is_zero.all(axis=-1, keepdims=True), candidate_allowance.candidate_derivatives.shape)
    is_uncertain = (candidate_allowance.passing_error > precision.detectable_error * gradient_norm / 2) & ~is_zero
    return LineComparison(reference, candidate_allowance, is_uncertain, is_zero, is_zero, precision)
