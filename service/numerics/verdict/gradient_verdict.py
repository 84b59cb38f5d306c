"""The verdict engine: from the causes of elements to the verdict on a gradient.

The graph check and the black box find the causes and the allowed errors, each by its own bounds. Counts, reasons, worst
elements and the smallest detectable error follow from those in the same way for both, and stand here alone.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from service.numerics.core.batching import Array, Shape, count_elements, unravel_index
from service.numerics.core.cached_attribute import cached_attribute
from service.numerics.verdict.outcome import CAUSES, Cause, Outcome, find_outcomes
from service.numerics.verdict.projection import NormDetectionLimit
from service.numerics.verdict.repeatability import RepeatSpread
from service.numerics.verdict.scale import ScaleResult

MAX_WORST_ELEMENTS = 10

CauseExplainer = Callable[[Cause, Array], tuple[str, str]]
"""Return the meaning of a cause and its remedy, given the mask of the concerned entries, (k,)."""


@dataclass(frozen=True)
class ElementResult:
    """One element, or direction, with every number that its outcome follows from."""

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
    """The probability that a sample of the elements contains none of some wrong ones."""

    wrong_elements: int
    probability: float


@dataclass(frozen=True)
class GradientVerdict:
    """The verdict on one gradient.

    Attributes
    ----------
    outcome, reason
        Worst outcome over the elements, or over the directions, and its explanation.
    element_count, outcome_counts, unexamined_count
        Number of all elements, of those with each outcome, and of those that were not compared.
    negligible_count
        Passing elements that `smallest_detectable_error` does not cover, because their size is negligible.
    kink_count
        Passing elements at a kink, where any number between the one-sided derivatives passes.
    smallest_detectable_error
        Relative error that would have been found in every other passing element.
    worst_elements
        Elements, the worst first, at most ten.
    direction_results
        Every direction, in order, of a check along directions; None for a check by element.
    detection_limit
        Probability of a missed error; None where every element was compared.
    zero_tolerance
        Largest distance from 0 of an element that passes because the gradient is 0; None where there is none.
    is_joint
        True if each direction moved other tensors too; False by default.
    spread
        Distances between runs of a candidate; None without repeats.
    scale
        Factor of a gradient in low precision; None where it was not judged.
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
    is_joint: bool = False
    scale: ScaleResult | None = None
    spread: RepeatSpread | None = None


@dataclass(frozen=True)
class JudgedEntries:
    """Compared elements of one tensor, or directions through it, arrays of shape (k,).

    Attributes
    ----------
    values, causes
        Judged numbers and positions in `CAUSES`, by the name of the gradient's source.
    reference, error_bound, allowed_error
        Finite differences, their bounds, and the largest error that passes.
    detectable_errors
        Relative error that would have been found in each entry if it passes.
    is_negligible, is_zero, is_kink
        Masks of the entries that no promise covers if they pass: small ones, zeros, and those at a kink.
    tensor_shape
        Shape of the tensor.
    flat_indices
        Flat index of the element of each entry; None where the entries are all elements in order, or directions.
    is_directional
        True if each entry belongs to a direction and not to an element.
    """

    values: Mapping[str, Array]
    causes: Mapping[str, Array]
    reference: Array
    error_bound: Array
    allowed_error: Array
    detectable_errors: Array
    is_negligible: Array
    is_zero: Array
    is_kink: Array
    tensor_shape: Shape
    flat_indices: Array | None = None
    is_directional: bool = False

    @cached_attribute
    def outcomes(self) -> Array:
        """Outcome of each entry: the worst over the sources."""
        return np.max([find_outcomes(causes) for causes in self.causes.values()], axis=0)

    @cached_attribute
    def has_passed(self) -> Array:
        """Mask of the entries that pass by every source."""
        return self.outcomes == Outcome.PASS

    @property
    def unit(self) -> str:
        """Noun for one entry."""
        return "direction" if self.is_directional else "element"

    @cached_attribute
    def error_ratios(self) -> dict[str, Array]:
        """Ratios abs(judged - reference) / allowed by source; 0 for equal numbers."""
        return {source: self._compute_ratios(values) for source, values in self.values.items()}

    def _compute_ratios(self, values: Array) -> Array:
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            errors = np.abs(values - self.reference)
            return np.where(errors == 0, 0.0, errors / self.allowed_error)

    def rank_errors(self, source: str) -> Array:
        """Return the ratios of a source for sorting: NaN comes before all numbers."""
        ratios = self.error_ratios[source]
        return np.where(np.isnan(ratios), np.inf, ratios)

    def make_result(self, source: str, position: int) -> ElementResult:
        """Collect the numbers of one entry."""
        return ElementResult(
            index=self._get_tensor_index(position),
            source=source,
            reference=float(self.reference[position]),
            judged_value=float(self.values[source][position]),
            error_bound=float(self.error_bound[position]),
            allowed_error=float(self.allowed_error[position]),
            error_ratio=float(self.error_ratios[source][position]),
            outcome=CAUSES[int(self.causes[source][position])].outcome,
        )

    def _get_tensor_index(self, position: int) -> tuple[int, ...]:
        if self.is_directional:
            return (position,)
        flat = position if self.flat_indices is None else int(self.flat_indices[position])
        return unravel_index(flat, self.tensor_shape)


def make_empty_verdict() -> GradientVerdict:
    """Return the verdict on a gradient without elements: it passes, and has nothing that could be wrong."""
    return GradientVerdict(
        outcome=Outcome.PASS,
        reason="The tensor has no elements: there is nothing to judge.",
        element_count=0,
        outcome_counts=dict.fromkeys(Outcome, 0),
        smallest_detectable_error=np.inf,
        worst_elements=(),
    )


def combine_outcomes(outcomes: list[Outcome]) -> Outcome:
    """Return the outcome of several gradients: fail over inconclusive over pass."""
    return max(outcomes)


def assemble_elementwise_verdict(
    entries: JudgedEntries, explain_cause: CauseExplainer, max_worst: int = MAX_WORST_ELEMENTS
) -> GradientVerdict:
    """Assemble the verdict on a gradient with compared elements, all or a sample."""
    total, compared_count = count_elements(entries.tensor_shape), entries.reference.size
    is_promised = entries.has_passed & ~entries.is_negligible & ~entries.is_zero & ~entries.is_kink
    return GradientVerdict(
        outcome=Outcome(int(entries.outcomes.max())),
        reason=explain_outcome(entries, explain_cause),
        element_count=total,
        outcome_counts={outcome: int(np.count_nonzero(entries.outcomes == outcome)) for outcome in Outcome},
        smallest_detectable_error=float(entries.detectable_errors[is_promised].max()) if is_promised.any() else np.inf,
        worst_elements=_select_worst(entries, max_worst),
        unexamined_count=total - compared_count,
        negligible_count=int(np.count_nonzero(entries.is_negligible & entries.has_passed)),
        kink_count=int(np.count_nonzero(entries.is_kink & ~entries.is_negligible & entries.has_passed)),
        detection_limit=None if entries.flat_indices is None else SampleMissRate(1, 1 - compared_count / total),
        zero_tolerance=_find_zero_tolerance(entries),
    )


def assemble_directional_verdict(
    entries: JudgedEntries,
    detection_limit: NormDetectionLimit,
    smallest_detectable_error: float,
    explain_cause: CauseExplainer,
) -> GradientVerdict:
    """Assemble the verdict on a gradient that was compared along directions."""
    total = count_elements(entries.tensor_shape)
    return GradientVerdict(
        outcome=Outcome(int(entries.outcomes.max())),
        reason=explain_outcome(entries, explain_cause),
        element_count=total,
        outcome_counts=dict.fromkeys(Outcome, 0),
        smallest_detectable_error=smallest_detectable_error,
        worst_elements=(),
        unexamined_count=total,
        direction_results=list_results(entries),
        detection_limit=detection_limit,
        zero_tolerance=_find_zero_tolerance(entries),
    )


def list_results(entries: JudgedEntries) -> tuple[ElementResult, ...]:
    """Return each entry's result by the source with the worst outcome, then ratio."""
    sources = list(entries.values)
    outcomes = np.stack([find_outcomes(entries.causes[source]) for source in sources])
    ranks = np.stack([entries.rank_errors(source) for source in sources])
    ranks[outcomes < entries.outcomes] = -np.inf
    return tuple(
        entries.make_result(sources[int(source)], position) for position, source in enumerate(ranks.argmax(axis=0))
    )


def explain_outcome(entries: JudgedEntries, explain_cause: CauseExplainer) -> str:
    """Name, for each source, the first of the causes that led to the outcome."""
    outcome = entries.outcomes.max()
    if outcome == Outcome.PASS:
        return explain_pass(entries.unit)
    parts: list[str] = []
    for source, causes in entries.causes.items():
        leading_cause = next((cause for cause in np.unique(causes) if CAUSES[int(cause)].outcome == outcome), None)
        if leading_cause is not None:
            has_cause = causes == leading_cause
            meaning, remedy = explain_cause(CAUSES[int(leading_cause)], has_cause)
            count = int(np.count_nonzero(has_cause))
            parts.append(f"{count} of {causes.size} {entries.unit}s of the {source} gradient: {meaning}. {remedy}")
    return " ".join(parts)


def explain_pass(unit: str) -> str:
    """Return the explanation of a pass of every element, or of every direction."""
    return f"Every {unit} agrees {Cause.AGREES.description.cause}."


def _find_zero_tolerance(entries: JudgedEntries) -> float | None:
    zero = entries.is_zero & entries.has_passed
    return float(entries.allowed_error[zero].max()) if zero.any() else None


def _select_worst(entries: JudgedEntries, max_worst: int) -> tuple[ElementResult, ...]:
    """Return the worst entries: failing ones first, then by ratio."""
    ranked_entries: list[tuple[bool, float, str, int]] = []
    for source in entries.values:
        passes = find_outcomes(entries.causes[source]) != Outcome.FAIL
        ranks = entries.rank_errors(source)
        ranked_entries += [
            (bool(passes[position]), -float(ranks[position]), source, int(position))
            for position in np.lexsort((-ranks, passes))[:max_worst]
        ]
    ranked_entries.sort(key=lambda entry: entry[:2])
    return tuple(entries.make_result(source, position) for _, _, source, position in ranked_entries[:max_worst])
