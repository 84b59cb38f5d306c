"""The verdict: outcomes for elements, tensors and checks, and what each means.

No absolute tolerance, nothing that grows with the number of elements: an element may be off by the error bound of the
finite difference and by the rounding that a correct pass in its arithmetic may carry, and by nothing else.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from service.numerics.core.batching import Array, count_elements
from service.numerics.ties import TieStatus
from service.numerics.verdict.outcome import Cause, Outcome
from service.numerics.verdict.projection import NormDetectionLimit
from service.numerics.verdict.reference import Reference

MAX_WORST_ELEMENTS = 10

_CAUSES: tuple[Cause, ...] = tuple(Cause)
_OUTCOME_BY_CAUSE = np.array([cause.outcome for cause in _CAUSES])


@dataclass(frozen=True)
class ElementResult:
    """One element, with all that its outcome follows from."""

    index: tuple[int, ...]
    source: str
    reference: float
    judged_value: float
    error_bound: float
    allowed_error: float
    error_ratio: float
    outcome: Outcome


@dataclass(frozen=True)
class SampleMissRate:
    """So many wrong elements are not among those looked at with `probability`."""

    wrong_elements: int
    probability: float


@dataclass(frozen=True)
class GradientVerdict:
    """What is to be thought of one gradient.

    Attributes
    ----------
    outcome, reason
        Over its elements, or over the directions.
    total, counts, not_examined
        Of elements.
    negligible
        Elements among those that pass for which `smallest_detectable_error` promises nothing.
    at_kinks
        Elements that pass at a kink, where any number between the one-sided derivatives does.
    smallest_detectable_error
        The relative error that would have been found in any other that passes.
    worst
        Elements, the worst first.
    directions
        Each of them, in order, where whole directions were looked at; None where elements were.
    missed
        How probably an error was missed; None where all was looked at.
    nothing
        How far from 0 at most an element is that passes because the gradient is 0; None where none does.
    """

    outcome: Outcome
    reason: str
    element_count: int
    outcome_counts: Mapping[Outcome, int]
    smallest_detectable_error: float
    worst_elements: tuple[ElementResult, ...]
    unexamined_count: int = 0
    negligible_count: int = 0
    kink_count: int = 0
    direction_results: tuple[ElementResult, ...] | None = None
    detection_limit: NormDetectionLimit | SampleMissRate | None = None
    zero_tolerance: float | None = None


def _find_element_causes(judged: Array, reference: Reference, ties: TieStatus | None = None) -> Array:
    """Cause of each element's outcome, as positions in `Cause`; of several the last that is written counts."""
    with np.errstate(invalid="ignore", over="ignore"):
        exceeds = ~(np.abs(judged - reference.value) <= reference.allowed_error) & ~reference.is_excused_by_kink(judged)
    if ties is not None:
        exceeds &= ~(ties.excused & reference.is_kink)
    causes = np.full(judged.shape, _CAUSES.index(Cause.AGREES))
    undecided, of_candidate = reference.is_undecided(judged), reference.disputed_between_sources is not None
    lost = ~np.isfinite(judged) if of_candidate else ~np.isfinite(judged) | exceeds
    for mask, cause in (
        (undecided, Cause.TOO_UNCERTAIN),
        (ties and ties.undecided, Cause.SUBGRADIENT_UNDECIDED),
        (undecided if of_candidate and reference.is_absent(judged) else None, Cause.GRADIENT_MISSING),
        (exceeds, Cause.EXCEEDS_ALLOWED_ERROR),
        (ties and exceeds & ties.reachable, Cause.OUTSIDE_KINK_SIDES),
        (ties and ~exceeds & ties.impossible, Cause.NO_CONSISTENT_SUBGRADIENT),
        (
            exceeds & reference.is_between_sides(judged, reference.kink_slack) if reference.kink_slack else None,
            Cause.OUTSIDE_KINK_SIDES,
        ),
        (undecided if reference.tolerance is not None else None, Cause.TOLERANCE_TOO_FINE),
        (~np.isfinite(judged), Cause.NOT_FINITE),
        (None if reference.out_of_range is None else lost & reference.out_of_range, Cause.OUT_OF_RANGE),
        (reference.disputed_between_sources, Cause.SOURCES_DISAGREE),
        (reference.is_missing | np.isnan(reference.allowed_error), Cause.NO_REFERENCE),
    ):
        if mask is not None:
            causes[mask] = _CAUSES.index(cause)
    return causes


def find_failing_elements(judged: Array, reference: Reference, ties: TieStatus | None = None) -> Array:
    """Which elements fail."""
    return _OUTCOME_BY_CAUSE[_find_element_causes(judged, reference, ties)] == Outcome.FAIL


def judge_gradient(
    judged: Mapping[str, Array],
    reference: Reference,
    examined: Array | None = None,
    max_worst: int = MAX_WORST_ELEMENTS,
    ties: Mapping[str, TieStatus] | None = None,
) -> GradientVerdict:
    """Judge one gradient, as computed by one route or by several.

    Parameters
    ----------
    judged
        Gradients by the name of their route, each of the reference's shape; an element's outcome is its worst.
    reference
        What they are judged against.
    examined
        Flat indices of the elements that count; all by default.
    most
        How many of the worst are told.
    ties
        Where its elements stand with the choices at ties, by route.
    """
    ties = ties or {}
    if examined is not None:
        return _judge_sample(judged, reference, examined, ties)
    causes = {
        route: _find_element_causes(values.astype(np.float64), reference, ties.get(route))
        for route, values in judged.items()
    }
    outcomes = np.max([_OUTCOME_BY_CAUSE[each] for each in causes.values()], axis=0)
    counts = {outcome: int(np.count_nonzero(outcomes == outcome)) for outcome in Outcome}
    passed = outcomes == Outcome.PASS
    nothing = np.all([reference.is_zero(values) for values in judged.values()], axis=0) & passed
    promised = passed & ~reference.is_negligible & ~nothing & ~reference.is_kink
    return GradientVerdict(
        outcome=Outcome(int(outcomes.max())),
        reason=_explain_causes(causes, reference.is_directional),
        element_count=reference.value.size,
        outcome_counts=counts,
        smallest_detectable_error=_compute_detectable_error(reference, promised),
        worst_elements=_select_worst(judged, causes, reference, max_worst),
        negligible_count=int(np.count_nonzero(reference.is_negligible & passed)),
        kink_count=int(np.count_nonzero(reference.is_kink & ~reference.is_negligible & passed)),
        zero_tolerance=float(reference.allowed_error[nothing].max()) if nothing.any() else None,
    )


def _judge_sample(
    judged: Mapping[str, Array], reference: Reference, examined: Array, ties: Mapping[str, TieStatus]
) -> GradientVerdict:
    some = {route: values.ravel()[examined] for route, values in judged.items()}
    found = judge_gradient(
        some,
        reference.select_elements(examined),
        ties={route: each.select_elements(examined) for route, each in ties.items()},
    )
    shape, total = reference.value.shape, reference.value.size
    worst = tuple(
        replace(each, index=unravel_index(int(examined[each.index[0]]), shape)) for each in found.worst_elements
    )
    return replace(
        found,
        reason=found.reason + _describe_sample_miss_rate(examined.size, total),
        worst_elements=worst,
        element_count=total,
        unexamined_count=total - examined.size,
        detection_limit=SampleMissRate(1, 1 - examined.size / total),
    )


def _describe_sample_miss_rate(examined_count: int, total: int) -> str:
    if examined_count == total:
        return ""
    return (
        f" {examined_count} of {total} elements, taken at random, were looked at: a single wrong one is missed with "
        f"probability {1 - examined_count / total:.3g}."
    )


def unravel_index(flat: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Index of an element, of its flat index."""
    return tuple(int(i) for i in np.unravel_index(flat, shape))


def judge_shape_mismatch(given_shape: tuple[int, ...], expected_shape: tuple[int, ...]) -> GradientVerdict:
    """Judge a candidate whose shape is not that of what it should be the gradient of."""
    meaning = Cause.SHAPE_DIFFERS.description
    total = count_elements(expected_shape)
    return GradientVerdict(
        outcome=Outcome.FAIL,
        reason=f"The candidate has {meaning.cause}: {list(given_shape)} instead of {list(expected_shape)}. {meaning.remedy}",
        element_count=total,
        outcome_counts={Outcome.PASS: 0, Outcome.INCONCLUSIVE: 0, Outcome.FAIL: total},
        smallest_detectable_error=np.inf,
        worst_elements=(),
    )


def combine_outcomes(outcomes: list[Outcome]) -> Outcome:
    """Outcome of several gradients: fail over inconclusive over pass."""
    return max(outcomes)


def _explain_causes(causes: Mapping[str, Array], directional: bool) -> str:
    """Name the first cause, of those that led to the outcome, by route."""
    what = "directions" if directional else "elements"
    worst = max(int(_OUTCOME_BY_CAUSE[each].max()) for each in causes.values())
    parts: list[str] = []
    for route, each in causes.items():
        leading = [i for i in np.unique(each) if _OUTCOME_BY_CAUSE[i] == worst]
        if leading and worst != Outcome.PASS:
            meaning = _CAUSES[int(leading[0])].description
            count = int(np.count_nonzero(each == leading[0]))
            remedy = meaning.directional_remedy if directional and meaning.directional_remedy else meaning.remedy
            parts.append(f"{count} of {each.size} {what} of the {route} gradient: {meaning.cause}. {remedy}")
    return " ".join(parts) or f"Every {what[:-1]} is {Cause.AGREES.description.cause}."


def _compute_detectable_error(reference: Reference, is_promised: Array) -> float:
    """Relative error that is found in each of some elements, whatever of those that pass it is made in.

    What passes is within `allowed` of the difference, and so is the gradient: each is abs(D) - allowed at least. From
    where it is it may move by 2 allowed and pass, if it was off by as much on the other side.
    """
    if not is_promised.any():
        return np.inf
    allowed, least = (
        reference.allowed_error[is_promised],
        np.abs(reference.value[is_promised]) - reference.allowed_error[is_promised],
    )
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        return float(np.where(least > 0, 2 * _JUST_ABOVE_ONE * allowed / least, np.inf).max())


_JUST_ABOVE_ONE = 1 + 2.0**-40
"""What is at its limit passes."""


def _select_worst(
    judged: Mapping[str, Array], causes: Mapping[str, Array], reference: Reference, max_worst: int
) -> tuple[ElementResult, ...]:
    """Return the worst elements: failing ones first, then by ratio; NaN before all numbers."""
    found: list[tuple[bool, float, ElementResult]] = []
    for route, values in judged.items():
        values = values.astype(np.float64)
        ratios = _compute_error_ratios(values, reference)
        fails = _OUTCOME_BY_CAUSE[causes[route]] == Outcome.FAIL
        ranks = np.where(np.isnan(ratios), np.inf, ratios)
        for flat in np.lexsort((-ranks.ravel(), ~fails.ravel()))[:max_worst]:
            index = unravel_index(int(flat), values.shape)
            worst = ElementResult(
                index=index,
                source=route,
                reference=float(reference.value[index]),
                judged_value=float(values[index]),
                error_bound=float(reference.error_bound[index]),
                allowed_error=float(reference.allowed_error[index]),
                error_ratio=float(ratios[index]),
                outcome=_CAUSES[int(causes[route][index])].outcome,
            )
            found.append((not fails[index], -float(ranks[index]), worst))
    found.sort(key=lambda each: each[:2])
    return tuple(worst for _, _, worst in found[:max_worst])


def _compute_error_ratios(judged: Array, reference: Reference) -> Array:
    """abs(judged - reference) / allowed; 0 where both are 0."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        difference = np.abs(judged - reference.value)
        return np.where(difference == 0, 0.0, difference / reference.allowed_error)
