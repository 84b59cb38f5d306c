"""From what is decided of each line to the verdict on a tensor, and its reasons in words."""

import numpy as np

from service.numerics.blackbox.advice import suggest_remedy
from service.numerics.blackbox.line_comparison import CAUSES, OUTCOME_BY_CAUSE, LineComparison, compare_candidate
from service.numerics.blackbox.lines import TensorLines, TensorPoint
from service.numerics.blackbox.precision_hint import suggest_lower_precision
from service.numerics.core.batching import Array
from service.numerics.core.precision import PRECISIONS
from service.numerics.verdict.elementwise import (
    MAX_WORST_ELEMENTS,
    ElementResult,
    GradientVerdict,
    SampleMissRate,
    unravel_index,
)
from service.numerics.verdict.outcome import Cause, Outcome
from service.numerics.verdict.projection import compute_norm_detection_limit, euclidean_norm


def make_verdict(
    lines: TensorLines, point: TensorPoint, comparison: LineComparison, gradient: Array, *, deterministic: bool
) -> tuple[GradientVerdict, tuple[ElementResult, ...]]:
    """Put the verdict together, and every line in order.

    Parameters
    ----------
    gradient
        The candidate, float64, (n,).
    deterministic
        Whether the loss was the same each time at the base.
    """
    outcomes, shape = comparison.line_outcomes, point.values.shape
    directions = tuple(
        _make_line_result(lines, comparison, each, outcome, shape) for each, outcome in enumerate(outcomes)
    )
    outcome = max(outcomes)
    random = lines.moved_elements is None
    reason = _explain_outcome(comparison, outcome, random=random, deterministic=deterministic)
    if outcome == Outcome.FAIL:
        reason += _suggest_lower_precision(lines, point, comparison, gradient)
    assemble = _make_directional_verdict if random else _make_elementwise_verdict
    return assemble(lines, comparison, gradient, outcome, reason, directions), directions


def _make_directional_verdict(
    lines: TensorLines,
    comparison: LineComparison,
    gradient: Array,
    outcome: Outcome,
    reason: str,
    directions: tuple[ElementResult, ...],
) -> GradientVerdict:
    """Verdict along random directions: nothing is known of single elements."""
    size = euclidean_norm(np.where(np.isfinite(gradient), gradient, 0.0))
    # What is allowed counts once more: for what may be off unseen beside what is allowed to be.
    slack = (comparison.unnoticed_error + comparison.allowance.allowed_error) * lines.zero_concentration
    known = compute_norm_detection_limit(slack, size, lines.moves.coarseness)
    return GradientVerdict(
        outcome=outcome,
        reason=reason,
        element_count=gradient.size,
        outcome_counts=dict.fromkeys(Outcome, 0),
        smallest_detectable_error=known.relative_l2,
        worst_elements=(),
        unexamined_count=gradient.size,
        direction_results=directions,
        detection_limit=known,
        zero_tolerance=_find_zero_tolerance(
            comparison, np.array([each.outcome == Outcome.PASS for each in directions])
        ),
    )


def _make_elementwise_verdict(
    lines: TensorLines,
    comparison: LineComparison,
    gradient: Array,
    outcome: Outcome,
    reason: str,
    directions: tuple[ElementResult, ...],
) -> GradientVerdict:
    passed = np.array([each.outcome == Outcome.PASS for each in directions])
    order = sorted(directions, key=lambda each: (each.outcome != Outcome.FAIL, -_rank_ratio(each.error_ratio)))
    return GradientVerdict(
        outcome=outcome,
        reason=reason,
        element_count=gradient.size,
        outcome_counts={each: sum(one.outcome == each for one in directions) for each in Outcome},
        smallest_detectable_error=_compute_detectable_error(comparison, passed & ~comparison.is_negligible),
        worst_elements=tuple(order[:MAX_WORST_ELEMENTS]),
        unexamined_count=gradient.size - len(lines),
        negligible_count=int(np.count_nonzero(passed & comparison.is_negligible)),
        zero_tolerance=_find_zero_tolerance(comparison, passed),
        detection_limit=SampleMissRate(1, 1 - len(lines) / gradient.size),
    )


def _find_zero_tolerance(comparison: LineComparison, has_passed: Array) -> float | None:
    """How far from 0 a derivative may be that passes as 0; None where none does."""
    zero = comparison.is_zero & has_passed
    return float(comparison.allowance.allowed_error[zero].max()) if zero.any() else None


def _compute_detectable_error(comparison: LineComparison, is_counted: Array) -> float:
    """Relative error that would have been found in each element that is counted.

    A candidate that is off by -p and passes may be changed by nearly 2 p and pass again, with p what is certain. As p
    itself has a part r of the candidate in it, that is 2 p / (1 - r); twice what is allowed is more but for small r.
    Relative to the derivative or to the candidate, whichever is smaller.
    """
    if not is_counted.any():
        return np.inf
    allowed = comparison.allowance
    with np.errstate(all="ignore"):
        share = comparison.relative_allowance
        most = np.maximum(2 * allowed.allowed_error, 2 * allowed.passing_error / (1 - share))
        sizes = np.minimum(np.abs(comparison.reference.value), np.abs(comparison.candidate_derivatives))
        return float((most[is_counted] / sizes[is_counted]).max() * (1 + 2.0**-40))


def _rank_ratio(ratio: float) -> float:
    return np.inf if np.isnan(ratio) else ratio


def _make_line_result(
    lines: TensorLines, comparison: LineComparison, number: int, outcome: Outcome, shape: tuple[int, ...]
) -> ElementResult:
    reference, judged, allowed = (
        float(each[number])
        for each in (comparison.reference.value, comparison.candidate_derivatives, comparison.allowance.allowed_error)
    )
    off = abs(judged - reference)
    return ElementResult(
        index=(number,) if lines.moved_elements is None else unravel_index(int(lines.moved_elements[number]), shape),
        source="candidate",
        reference=reference,
        judged_value=judged,
        error_bound=float(comparison.reference.bound[number]),
        allowed_error=allowed,
        error_ratio=0.0 if off == 0 else off / allowed if allowed else np.inf,
        outcome=outcome,
    )


def _explain_outcome(comparison: LineComparison, outcome: Outcome, *, random: bool, deterministic: bool) -> str:
    what, causes = "directions" if random else "elements", comparison.cause_positions
    if outcome == Outcome.PASS:
        return f"Every {what[:-1]} is {Cause.AGREES.description.cause}."
    leading = int(next(each for each in np.unique(causes) if OUTCOME_BY_CAUSE[each] == outcome))
    cause, concerned = CAUSES[leading], np.equal(causes, leading)
    said = (
        f"{np.count_nonzero(concerned)} of {causes.size} {what} of the candidate gradient: "
        f"{_describe_cause(cause, comparison, concerned)}"
    )
    return (
        f"{said}. {suggest_remedy(cause, comparison.reference, concerned, random=random, deterministic=deterministic)}"
    )


def _describe_cause(cause: Cause, comparison: LineComparison, concerned_lines: Array) -> str:
    """A cause in words."""
    if cause != Cause.TOO_UNCERTAIN:
        return cause.description.cause
    if (comparison.is_uncertain | comparison.reference.may_have_kink)[concerned_lines].any():
        return f"{cause.description.cause} ({comparison.precision.detectable_error:g}, relative)"
    return "farther from the finite difference than is certain, but no farther than rounding may explain"


def _suggest_lower_precision(
    lines: TensorLines, point: TensorPoint, comparison: LineComparison, gradient: Array
) -> str:
    """Say what else would explain a failure that a lower precision would."""
    if comparison.precision.lower_precision is None or comparison.tolerance is not None:
        return ""
    lower = compare_candidate(
        lines, point, gradient, comparison.reference, PRECISIONS[comparison.precision.lower_precision]
    )
    if Outcome.FAIL in lower.line_outcomes:
        return ""
    return suggest_lower_precision(gradient, comparison.errors, comparison.reference.value, lower.precision)
