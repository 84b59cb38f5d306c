"""The verdict on a tensor in the black box, and its reasons in words."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from service.numerics.blackbox.advice import suggest_remedy
from service.numerics.blackbox.direction_law import bound_hiding_probability
from service.numerics.blackbox.line_comparison import LineComparison, compare_candidate
from service.numerics.blackbox.lines import TensorLines, TensorPoint
from service.numerics.blackbox.precision_hint import suggest_lower_precision
from service.numerics.core.batching import Array, Shape
from service.numerics.core.precision import PRECISIONS, Precision
from service.numerics.core.vector_norms import euclidean_norm
from service.numerics.verdict.gradient_verdict import (
    ElementResult,
    GradientVerdict,
    JudgedEntries,
    assemble_directional_verdict,
    assemble_elementwise_verdict,
    list_results,
)
from service.numerics.verdict.outcome import Cause, Outcome
from service.numerics.verdict.projection import NormDetectionLimit, compute_norm_detection_limit
from service.numerics.verdict.reference import JUST_ABOVE_ONE

_SOURCE = "candidate"


def make_verdict(
    lines: TensorLines, point: TensorPoint, comparison: LineComparison, gradient: Array, *, deterministic: bool
) -> tuple[GradientVerdict, tuple[ElementResult, ...]]:
    """Assemble the verdict, and the result of every line in order.

    Parameters
    ----------
    lines, point
        Lines along which the tensor was moved, and the tensor.
    comparison
        The candidate compared with the differences along the lines.
    gradient
        The candidate, float64, (n,).
    deterministic
        True if the loss was the same each time at the base.
    """
    entries = _list_entries(lines, comparison, point.values.shape)
    explain = _CauseExplainer(comparison, random=entries.is_directional, deterministic=deterministic)
    if entries.is_directional:
        limit = _compute_detection_limit(lines, comparison, gradient)
        verdict = assemble_directional_verdict(entries, limit, limit.relative_l2, explain)
    else:
        verdict = assemble_elementwise_verdict(entries, explain)
    if verdict.outcome == Outcome.FAIL:

        def compare_in(precision: Precision) -> LineComparison:
            return compare_candidate(lines, point, gradient, comparison.reference, precision)

        verdict = replace(verdict, reason=verdict.reason + _suggest_lower_precision(comparison, gradient, compare_in))
    return verdict, verdict.direction_results or list_results(entries)


def make_product_verdict(
    comparison: LineComparison,
    shape: Shape,
    flat_indices: Array,
    compare_in: Callable[[Precision], LineComparison],
    sizes: Array | None = None,
    *,
    deterministic: bool,
) -> tuple[GradientVerdict, JudgedEntries]:
    """Assemble the verdict on products of a Jacobian, or on the Jacobian itself, and its entries.

    Parameters
    ----------
    comparison
        The products compared with the differences, along one axis of entries, (k,).
    shape, flat_indices
        Shape of the tensor of products, and the flat index of each entry in it, (k,).
    compare_in
        Makes the comparison again for products of another precision.
    sizes
        Sizes of the denominators of detectable errors, (k,); by default the derivatives themselves.
    deterministic
        True if every element of the output was the same each time at the base.
    """
    entries = _make_entries(comparison, shape, flat_indices, sizes)
    explain = _CauseExplainer(comparison, random=False, deterministic=deterministic)
    verdict = assemble_elementwise_verdict(entries, explain)
    if verdict.outcome == Outcome.FAIL:
        remark = _suggest_lower_precision(comparison, comparison.candidate_derivatives, compare_in)
        verdict = replace(verdict, reason=verdict.reason + remark)
    return verdict, entries


def _list_entries(lines: TensorLines, comparison: LineComparison, shape: Shape) -> JudgedEntries:
    return _make_entries(comparison, shape, lines.moved_elements)


def _make_entries(
    comparison: LineComparison, shape: Shape, flat_indices: Array | None, sizes: Array | None = None
) -> JudgedEntries:
    return JudgedEntries(
        values={_SOURCE: comparison.candidate_derivatives},
        causes={_SOURCE: comparison.cause_positions},
        reference=comparison.reference.value,
        error_bound=comparison.reference.bound,
        allowed_error=comparison.allowance.allowed_error,
        detectable_errors=_compute_detectable_errors(comparison, sizes),
        is_negligible=comparison.is_negligible,
        is_zero=comparison.is_zero,
        is_kink=np.zeros(comparison.is_zero.shape, np.bool_),
        tensor_shape=shape,
        flat_indices=flat_indices,
        is_directional=flat_indices is None,
    )


def _compute_detection_limit(lines: TensorLines, comparison: LineComparison, gradient: Array) -> NormDetectionLimit:
    gradient_norm = euclidean_norm(np.where(np.isfinite(gradient), gradient, 0.0))
    # The allowed error counts once for an unseen error, and once for the error that is allowed.
    hidden_errors = (comparison.unnoticed_error + comparison.allowance.allowed_error) * lines.zero_concentration
    return compute_norm_detection_limit(hidden_errors, gradient_norm, lines.moves.coarseness, bound_hiding_probability)


def _compute_detectable_errors(comparison: LineComparison, sizes: Array | None) -> Array:
    """Return the relative error that would have been found in each line, (k,).

    Notes
    -----
    A candidate that is off by -p and passes may be changed by nearly 2 p and pass again, where p is the passing error.
    As p itself contains a part r of the candidate, that is 2 p / (1 - r); twice the allowed error is more except for
    small r. The error is relative to the derivative or to the candidate, whichever is smaller, or to the `sizes`.
    """
    candidate_allowance = comparison.allowance
    with np.errstate(all="ignore"):
        largest_hidden_errors = np.maximum(
            2 * candidate_allowance.allowed_error,
            2 * candidate_allowance.passing_error / (1 - comparison.relative_allowance),
        )
        if sizes is None:
            sizes = np.minimum(np.abs(comparison.reference.value), np.abs(comparison.candidate_derivatives))
        return largest_hidden_errors / sizes * JUST_ABOVE_ONE


@dataclass(frozen=True)
class _CauseExplainer:
    """Explains causes of the lines of one comparison."""

    comparison: LineComparison
    random: bool
    deterministic: bool

    def __call__(self, cause: Cause, concerned_lines: Array) -> tuple[str, str]:
        remedy = suggest_remedy(
            cause,
            self.comparison.reference,
            concerned_lines,
            random=self.random,
            deterministic=self.deterministic,
        )
        return _describe_cause(cause, self.comparison, concerned_lines), remedy


def _describe_cause(cause: Cause, comparison: LineComparison, concerned_lines: Array) -> str:
    """Return the meaning of a cause in words."""
    if cause != Cause.TOO_UNCERTAIN:
        return cause.description.cause
    is_hidden = comparison.is_hidden_by_noise & concerned_lines
    if is_hidden.any():
        largest = float(comparison.allowance.allowed_error[is_hidden].max())
        return f"hidden by the noise of the loss: a gradient of up to {largest:.1e} would not show"
    if (comparison.is_uncertain | comparison.reference.may_have_kink)[concerned_lines].any():
        return f"{cause.description.cause} ({comparison.precision.detectable_error:g}, relative)"
    return "farther from the finite difference than is certain, but no farther than rounding may explain"


def _suggest_lower_precision(
    comparison: LineComparison, gradient: Array, compare_in: Callable[[Precision], LineComparison]
) -> str:
    """Say what else would explain a failure that a lower precision would."""
    if comparison.precision.lower_precision is None or comparison.tolerance is not None:
        return ""
    lower_comparison = compare_in(PRECISIONS[comparison.precision.lower_precision])
    if Outcome.FAIL in lower_comparison.line_outcomes:
        return ""
    return suggest_lower_precision(gradient, comparison.errors, comparison.reference.value, lower_comparison.precision)
