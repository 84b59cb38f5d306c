"""The verdict: outcomes for elements, tensors and checks, and what each means.

No absolute tolerance, nothing that grows with the number of elements: an element may be off by the error bound of the
finite difference and by the rounding that a correct pass in its arithmetic may carry, and by nothing else.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from service.numerics.outcome import Cause, Outcome
from service.numerics.projection import Missed
from service.numerics.reference import Reference
from service.numerics.ties import Standing
from service.numerics.tiles import Array, size

MAX_WORST = 10

_CAUSES: tuple[Cause, ...] = tuple(Cause)
_OUTCOMES = np.array([cause.outcome for cause in _CAUSES])


@dataclass(frozen=True)
class Worst:
    """One element, with all that its outcome follows from."""

    index: tuple[int, ...]
    route: str
    reference: float
    judged: float
    error_bound: float
    allowed: float
    ratio: float
    outcome: Outcome


@dataclass(frozen=True)
class WrongElements:
    """So many wrong elements are not among those looked at with `probability`."""

    wrong_elements: int
    probability: float


@dataclass(frozen=True)
class Verdict:
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
    total: int
    counts: Mapping[Outcome, int]
    smallest_detectable_error: float
    worst: tuple[Worst, ...]
    not_examined: int = 0
    negligible: int = 0
    at_kinks: int = 0
    directions: tuple[Worst, ...] | None = None
    missed: Missed | WrongElements | None = None
    nothing: float | None = None


def _causes(judged: Array, reference: Reference, ties: Standing | None = None) -> Array:
    """Cause of each element's outcome, as positions in `Cause`; of several the last that is written counts."""
    with np.errstate(invalid="ignore", over="ignore"):
        exceeds = ~(np.abs(judged - reference.value) <= reference.allowed) & ~reference.excuses(judged)
    if ties is not None:
        exceeds &= ~(ties.excused & reference.kinks)
    causes = np.full(judged.shape, _CAUSES.index(Cause.AGREES))
    undecided, of_candidate = reference.undecided(judged), reference.disputed is not None
    lost = ~np.isfinite(judged) if of_candidate else ~np.isfinite(judged) | exceeds
    for mask, cause in (
        (undecided, Cause.TOO_UNCERTAIN),
        (ties and ties.undecided, Cause.CHOICE_OPEN),
        (undecided if of_candidate and reference.is_absent(judged) else None, Cause.ABSENT),
        (exceeds, Cause.EXCEEDS),
        (ties and exceeds & ties.reachable, Cause.OPEN_AT_KINKS),
        (ties and ~exceeds & ties.impossible, Cause.NO_CHOICE),
        (exceeds & reference.between(judged, reference.beyond) if reference.beyond else None, Cause.OPEN_AT_KINKS),
        (undecided if reference.tolerance is not None else None, Cause.TOLERANCE_TOO_FINE),
        (~np.isfinite(judged), Cause.NOT_FINITE),
        (None if reference.out_of_range is None else lost & reference.out_of_range, Cause.OUT_OF_RANGE),
        (reference.disputed, Cause.ROUTES_DISAGREE),
        (reference.missing | np.isnan(reference.allowed), Cause.NO_REFERENCE),
    ):
        if mask is not None:
            causes[mask] = _CAUSES.index(cause)
    return causes


def failing(judged: Array, reference: Reference, ties: Standing | None = None) -> Array:
    """Which elements fail."""
    return _OUTCOMES[_causes(judged, reference, ties)] == Outcome.FAIL


def judge(
    judged: Mapping[str, Array],
    reference: Reference,
    examined: Array | None = None,
    most: int = MAX_WORST,
    ties: Mapping[str, Standing] | None = None,
) -> Verdict:
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
        return _of_some(judged, reference, examined, ties)
    causes = {route: _causes(values.astype(np.float64), reference, ties.get(route)) for route, values in judged.items()}
    outcomes = np.max([_OUTCOMES[each] for each in causes.values()], axis=0)
    counts = {outcome: int(np.count_nonzero(outcomes == outcome)) for outcome in Outcome}
    passed = outcomes == Outcome.PASS
    nothing = np.all([reference.is_nothing(values) for values in judged.values()], axis=0) & passed
    promised = passed & ~reference.negligible & ~nothing & ~reference.kinks
    return Verdict(
        outcome=Outcome(int(outcomes.max())),
        reason=_reason(causes, reference.along),
        total=reference.value.size,
        counts=counts,
        smallest_detectable_error=_detectable(reference, promised),
        worst=_worst(judged, causes, reference, most),
        negligible=int(np.count_nonzero(reference.negligible & passed)),
        at_kinks=int(np.count_nonzero(reference.kinks & ~reference.negligible & passed)),
        nothing=float(reference.allowed[nothing].max()) if nothing.any() else None,
    )


def _of_some(
    judged: Mapping[str, Array], reference: Reference, examined: Array, ties: Mapping[str, Standing]
) -> Verdict:
    some = {route: values.ravel()[examined] for route, values in judged.items()}
    found = judge(some, reference.at(examined), ties={route: each.at(examined) for route, each in ties.items()})
    shape, total = reference.value.shape, reference.value.size
    worst = tuple(replace(each, index=index_of(int(examined[each.index[0]]), shape)) for each in found.worst)
    return replace(
        found,
        reason=found.reason + _worth_of_sample(examined.size, total),
        worst=worst,
        total=total,
        not_examined=total - examined.size,
        missed=WrongElements(1, 1 - examined.size / total),
    )


def _worth_of_sample(looked_at: int, total: int) -> str:
    if looked_at == total:
        return ""
    return (
        f" {looked_at} of {total} elements, taken at random, were looked at: a single wrong one is missed with "
        f"probability {1 - looked_at / total:.3g}."
    )


def index_of(flat: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    """Index of an element, of its flat index."""
    return tuple(int(i) for i in np.unravel_index(flat, shape))


def of_another_shape(given: tuple[int, ...], expected: tuple[int, ...]) -> Verdict:
    """Judge a candidate whose shape is not that of what it should be the gradient of."""
    meaning = Cause.SHAPE_DIFFERS.meaning
    total = size(expected)
    return Verdict(
        outcome=Outcome.FAIL,
        reason=f"The candidate has {meaning.cause}: {list(given)} instead of {list(expected)}. {meaning.remedy}",
        total=total,
        counts={Outcome.PASS: 0, Outcome.INCONCLUSIVE: 0, Outcome.FAIL: total},
        smallest_detectable_error=np.inf,
        worst=(),
    )


def overall(outcomes: list[Outcome]) -> Outcome:
    """Outcome of several gradients: fail over inconclusive over pass."""
    return max(outcomes)


def _reason(causes: Mapping[str, Array], along: bool) -> str:
    """Name the first cause, of those that led to the outcome, by route."""
    what = "directions" if along else "elements"
    worst = max(int(_OUTCOMES[each].max()) for each in causes.values())
    parts: list[str] = []
    for route, each in causes.items():
        leading = [i for i in np.unique(each) if _OUTCOMES[i] == worst]
        if leading and worst != Outcome.PASS:
            meaning = _CAUSES[int(leading[0])].meaning
            count = int(np.count_nonzero(each == leading[0]))
            remedy = meaning.remedy_along if along and meaning.remedy_along else meaning.remedy
            parts.append(f"{count} of {each.size} {what} of the {route} gradient: {meaning.cause}. {remedy}")
    return " ".join(parts) or f"Every {what[:-1]} is {Cause.AGREES.meaning.cause}."


def _detectable(reference: Reference, promised: Array) -> float:
    """Relative error that is found in each of some elements, whatever of those that pass it is made in.

    What passes is within `allowed` of the difference, and so is the gradient: each is abs(D) - allowed at least. From
    where it is it may move by 2 allowed and pass, if it was off by as much on the other side.
    """
    if not promised.any():
        return np.inf
    allowed, least = reference.allowed[promised], np.abs(reference.value[promised]) - reference.allowed[promised]
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        return float(np.where(least > 0, 2 * _MORE * allowed / least, np.inf).max())


_MORE = 1 + 2.0**-40
"""What is at its limit passes."""


def _worst(
    judged: Mapping[str, Array], causes: Mapping[str, Array], reference: Reference, most: int
) -> tuple[Worst, ...]:
    """Return the worst elements: failing ones first, then by ratio; NaN before all numbers."""
    found: list[tuple[bool, float, Worst]] = []
    for route, values in judged.items():
        values = values.astype(np.float64)
        ratios = _ratios(values, reference)
        fails = _OUTCOMES[causes[route]] == Outcome.FAIL
        ranks = np.where(np.isnan(ratios), np.inf, ratios)
        for flat in np.lexsort((-ranks.ravel(), ~fails.ravel()))[:most]:
            index = index_of(int(flat), values.shape)
            worst = Worst(
                index=index,
                route=route,
                reference=float(reference.value[index]),
                judged=float(values[index]),
                error_bound=float(reference.error_bound[index]),
                allowed=float(reference.allowed[index]),
                ratio=float(ratios[index]),
                outcome=_CAUSES[int(causes[route][index])].outcome,
            )
            found.append((not fails[index], -float(ranks[index]), worst))
    found.sort(key=lambda each: each[:2])
    return tuple(worst for _, _, worst in found[:most])


def _ratios(judged: Array, reference: Reference) -> Array:
    """abs(judged - reference) / allowed; 0 where both are 0."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        difference = np.abs(judged - reference.value)
        return np.where(difference == 0, 0.0, difference / reference.allowed)
