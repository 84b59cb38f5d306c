"""The verdict: outcomes for elements, tensors and checks, and what each means.

No absolute tolerance, nothing that grows with the number of elements: an element may be off by the error bound of the
finite difference and by the rounding that a correct pass in its arithmetic may carry, and by nothing else.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from service.numerics.core.batching import Array, count_elements
from service.numerics.ties import TieStatus
from service.numerics.verdict.gradient_verdict import (
    MAX_WORST_ELEMENTS,
    GradientVerdict,
    JudgedEntries,
    assemble_elementwise_verdict,
)
from service.numerics.verdict.outcome import Cause, Outcome, assign_causes, find_outcomes
from service.numerics.verdict.reference import JUST_ABOVE_ONE, Reference


def _find_element_causes(judged: Array, reference: Reference, ties: TieStatus | None = None) -> Array:
    """Return the cause of each element's outcome, as positions in `CAUSES`."""
    with np.errstate(invalid="ignore", over="ignore"):
        exceeds_allowance = ~(
            np.abs(judged - reference.value) <= reference.allowed_error
        ) & ~reference.is_excused_by_kink(judged)
    if ties is not None:
        exceeds_allowance &= ~(ties.excused & reference.is_kink)
    is_undecided, of_candidate = reference.is_undecided(judged), reference.disputed_between_sources is not None
    is_nonfinite = ~np.isfinite(judged) if of_candidate else ~np.isfinite(judged) | exceeds_allowance
    return assign_causes(
        judged.shape,
        (
            (is_undecided, Cause.TOO_UNCERTAIN),
            (ties and ties.undecided, Cause.SUBGRADIENT_UNDECIDED),
            (is_undecided if of_candidate and reference.is_absent(judged) else None, Cause.GRADIENT_MISSING),
            (exceeds_allowance, Cause.EXCEEDS_ALLOWED_ERROR),
            (ties and exceeds_allowance & ties.reachable, Cause.OUTSIDE_KINK_SIDES),
            (ties and ~exceeds_allowance & ties.impossible, Cause.NO_CONSISTENT_SUBGRADIENT),
            (
                exceeds_allowance & reference.is_between_sides(judged, reference.kink_slack)
                if reference.kink_slack
                else None,
                Cause.OUTSIDE_KINK_SIDES,
            ),
            (is_undecided if reference.tolerance is not None else None, Cause.TOLERANCE_TOO_FINE),
            (~np.isfinite(judged), Cause.NOT_FINITE),
            (None if reference.out_of_range is None else is_nonfinite & reference.out_of_range, Cause.OUT_OF_RANGE),
            (reference.disputed_between_sources, Cause.SOURCES_DISAGREE),
            (reference.is_missing | np.isnan(reference.allowed_error), Cause.NO_REFERENCE),
        ),
    )


def find_failing_elements(judged: Array, reference: Reference, ties: TieStatus | None = None) -> Array:
    """Return the mask of the elements that fail."""
    return find_element_outcomes(judged, reference, ties) == Outcome.FAIL


def find_element_outcomes(judged: Array, reference: Reference, ties: TieStatus | None = None) -> Array:
    """Return the outcome of each element."""
    return find_outcomes(_find_element_causes(judged, reference, ties))


def compare_gradients(
    judged: Mapping[str, Array],
    reference: Reference,
    examined: Array | None = None,
    ties: Mapping[str, TieStatus] | None = None,
    tensor_shape: tuple[int, ...] | None = None,
) -> JudgedEntries:
    """Compare the gradients of one tensor with its reference.

    Parameters
    ----------
    judged
        Gradients by the name of their source, each of the reference's shape.
    reference
        Differences and bounds, by element or along directions.
    examined
        Flat indices of the elements that count; all by default.
    ties
        Status of the elements at ties, by source.
    tensor_shape
        Shape of the tensor; that of the reference by default.
    """
    shape, ties = reference.value.shape, ties or {}
    if examined is not None:
        reference = reference.select_elements(examined)
        judged = {source: values.ravel()[examined] for source, values in judged.items()}
        ties = {source: status.select_elements(examined) for source, status in ties.items()}
    values = {source: gradient.astype(np.float64) for source, gradient in judged.items()}
    is_zero = np.all([reference.is_zero(gradient) for gradient in judged.values()], axis=0)
    return JudgedEntries(
        values={source: gradient.ravel() for source, gradient in values.items()},
        causes={
            source: _find_element_causes(gradient, reference, ties.get(source)).ravel()
            for source, gradient in values.items()
        },
        reference=reference.value.ravel(),
        error_bound=reference.error_bound.ravel(),
        allowed_error=reference.allowed_error.ravel(),
        detectable_errors=_compute_detectable_errors(reference).ravel(),
        is_negligible=reference.is_negligible.ravel(),
        is_zero=is_zero.ravel(),
        is_kink=reference.is_kink.ravel(),
        tensor_shape=shape if tensor_shape is None else tensor_shape,
        flat_indices=examined,
        is_directional=reference.is_directional,
    )


def judge_gradient(
    judged: Mapping[str, Array],
    reference: Reference,
    examined: Array | None = None,
    max_worst: int = MAX_WORST_ELEMENTS,
    ties: Mapping[str, TieStatus] | None = None,
) -> GradientVerdict:
    """Judge one gradient by its elements, as computed by one source or by several.

    Parameters
    ----------
    judged
        Gradients by the name of their source, each of the reference's shape; an element has its worst outcome.
    reference
        Differences and bounds by element.
    examined
        Flat indices of the elements that count; all by default.
    max_worst
        Number of the worst elements to report, 10 by default.
    ties
        Status of the elements at ties, by source.
    """
    entries = compare_gradients(judged, reference, examined, ties)
    verdict = assemble_elementwise_verdict(
        entries, lambda cause, _: (cause.description.cause, cause.description.remedy), max_worst
    )
    if examined is None:
        return verdict
    return replace(verdict, reason=verdict.reason + _describe_sample_miss_rate(examined.size, verdict.element_count))


def _describe_sample_miss_rate(examined_count: int, total: int) -> str:
    if examined_count == total:
        return ""
    return (
        f" The check compared {examined_count} of {total} elements, drawn at random: it misses a single wrong element "
        f"with probability {1 - examined_count / total:.3g}."
    )


def judge_shape_mismatch(given_shape: tuple[int, ...], expected_shape: tuple[int, ...]) -> GradientVerdict:
    """Judge a candidate whose shape differs from that of its tensor."""
    meaning = Cause.SHAPE_DIFFERS.description
    total = count_elements(expected_shape)
    return GradientVerdict(
        outcome=Outcome.FAIL,
        reason=(
            f"The candidate has {meaning.cause}: {list(given_shape)} instead of {list(expected_shape)}. "
            f"{meaning.remedy}"
        ),
        element_count=total,
        outcome_counts={Outcome.PASS: 0, Outcome.INCONCLUSIVE: 0, Outcome.FAIL: total},
        smallest_detectable_error=np.inf,
        worst_elements=(),
    )


def _compute_detectable_errors(reference: Reference) -> Array:
    """Return the relative error that a check finds in each passing element.

    Notes
    -----
    A passing number is within `allowed` of the difference D, and so is the gradient: each is abs(D) - allowed at least.
    From there it may move by 2 allowed and pass, if it was off by as much on the other side.
    """
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        min_magnitudes = np.abs(reference.value) - reference.allowed_error
        return np.where(min_magnitudes > 0, 2 * JUST_ABOVE_ONE * reference.allowed_error / min_magnitudes, np.inf)
