"""Explanations of wrong gradients, which state only proven facts.

A match proves that a bug makes exactly the candidate. It does not prove that the bug was made, if other bugs make the
same. An explanation therefore lists all of those, and then the known fact about the numbers.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.diagnosis.matching import HypothesisMatch, is_beyond_chance

_MAX_ACTIONS_LISTED = 4
"""Actions that an explanation lists; it counts the others."""
_EQUAL_FIT_RATIO = 100.0
"""Ratio of residuals up to which two matches, or a match and a fitted number, fit equally well."""
_CANDIDATE_ROUNDINGS = 64
"""Roundings of the candidate's arithmetic: of two matches with smaller residuals neither is better."""
_ONE_TOLERANCE = 5e-6
"""Distance from 1 below which a number is written as that distance."""


@dataclass(frozen=True)
class BugExplanation:
    """One explanation of a wrong gradient.

    Attributes
    ----------
    bug_name
        Name of the bug.
    explanation
        Sentences: what was done wrong, then the fact that proves it.
    relative_residual
        norm(c - h) / (norm(h) + norm(g)) of the candidate c, the bug's gradient h and the right gradient g.
    """

    bug_name: str
    explanation: str
    relative_residual: float


class BugEvidence:
    """The evidence for each bug, over all gradients.

    The digits of one bug in several tensors count together.

    Parameters
    ----------
    matches_by_name
        Matching hypotheses, by the name of the gradient.
    """

    def __init__(self, matches_by_name: Mapping[str, Sequence[HypothesisMatch]]) -> None:
        self._digits_by_bug: dict[Hashable, dict[str, float]] = {}
        for name, matches in matches_by_name.items():
            for match in matches:
                digits_by_name = self._digits_by_bug.setdefault(match.bug_key, {})
                digits_by_name[name] = max(match.predicted_digits, digits_by_name.get(name, 0.0))

    def sum_digits(self, match: HypothesisMatch) -> float:
        """Return the digits of all gradients that the bug explains."""
        return sum(self._digits_by_bug[match.bug_key].values())

    def count_gradients(self, match: HypothesisMatch) -> int:
        """Return the number of gradients that the bug explains."""
        return len(self._digits_by_bug[match.bug_key])


def explain_matches(
    matches: Sequence[HypothesisMatch], evidence: BugEvidence, unit_roundoff: float
) -> list[BugExplanation]:
    """Explain a gradient by the matches that are no chance, each bug once.

    Fewer fitted constants come first, then more explained gradients. If one bug needs no fitted constant, and changes
    no gradient that came right, then bugs that do either are no explanation.
    """
    # All ops come with it, and scipy: a check of a function has no such matches, and needs neither.
    from service.numerics.ops.backward_form import GENERATED_BUGS

    accepted = [
        match for match in matches if is_beyond_chance(evidence.sum_digits(match)) and match.predicted_digits > 0
    ]
    groups: dict[str, list[HypothesisMatch]] = {}
    for match in accepted:
        groups.setdefault(match.hypothesis.bug_name, []).append(match)
    negligible = _CANDIDATE_ROUNDINGS * unit_roundoff
    chosen_groups = [chosen for group in groups.values() if (chosen := _choose_matches(group, evidence, negligible))]
    chosen_groups.sort(
        key=lambda chosen: (
            *_rank_match(chosen[0], evidence),
            # A name of its own tells more than an edit of a formula.
            chosen[0].hypothesis.bug_name in GENERATED_BUGS,
            -evidence.sum_digits(chosen[0]),
        )
    )
    return [
        _make_explanation(chosen, groups[chosen[0].hypothesis.bug_name])
        for chosen in _keep_equally_good(chosen_groups, negligible)
    ]


def _keep_equally_good(
    match_groups: Sequence[list[HypothesisMatch]], negligible_residual: float
) -> list[list[HypothesisMatch]]:
    """Keep the groups that fit as well as the best with as few constants.

    The first group needs the fewest constants.
    """
    residuals = [group[0].relative_residual for group in match_groups if group[0].hypothesis.known_digits is None]
    limit = max(_EQUAL_FIT_RATIO * min(residuals, default=0.0), negligible_residual)
    fitting = [group for group in match_groups if group[0].relative_residual <= limit]
    if not fitting or fitting[0][0].hypothesis.fitted_constants:
        return fitting
    contradicted = bool(fitting[0][0].hypothesis.unchanged_gradients)
    return [
        group
        for group in fitting
        if not group[0].hypothesis.fitted_constants and bool(group[0].hypothesis.unchanged_gradients) == contradicted
    ]


def _rank_match(match: HypothesisMatch, evidence: BugEvidence) -> tuple[bool, int, int]:
    return (
        bool(match.hypothesis.unchanged_gradients),
        match.hypothesis.fitted_constants,
        -evidence.count_gradients(match),
    )


def _choose_matches(
    group: Sequence[HypothesisMatch], evidence: BugEvidence, negligible_residual: float
) -> list[HypothesisMatch]:
    """Choose the matches of one bug that explain equally well.

    Those with an action, or else the facts.
    """
    best = min(match.relative_residual for match in group)
    fitting = [match for match in group if match.relative_residual <= max(_EQUAL_FIT_RATIO * best, negligible_residual)]
    preferred = [
        match
        for match in fitting
        if match.hypothesis.possible_action is not None and not match.hypothesis.unchanged_gradients
    ]
    preferred = preferred or [match for match in fitting if match.hypothesis.possible_action is None] or fitting
    first_rank = min(_rank_match(match, evidence) for match in preferred)
    equal_matches = [match for match in preferred if _rank_match(match, evidence) == first_rank]
    smallest_residual = min(match.relative_residual for match in equal_matches)
    return [
        match
        for match in equal_matches
        if match.relative_residual <= max(_EQUAL_FIT_RATIO * smallest_residual, negligible_residual)
    ]


def _make_explanation(chosen: Sequence[HypothesisMatch], group: Sequence[HypothesisMatch]) -> BugExplanation:
    first = chosen[0].hypothesis
    actions = list(
        dict.fromkeys(
            match.hypothesis.possible_action for match in chosen if match.hypothesis.possible_action is not None
        )
    )
    if actions:
        facts = (f"{match.hypothesis.explanation}." for match in group if match.hypothesis.fallback_ending)
        sentences = [f"Matches exactly: {_join_actions(actions)}.", next(facts, "")]
    elif first.fallback_ending:
        sentences = [f"{first.explanation}: {first.fallback_ending}"]
    else:
        sentences = [first.explanation]
    sentences += _describe_unchanged(first.unchanged_gradients)
    return BugExplanation(first.bug_name, " ".join(filter(None, sentences)), chosen[0].relative_residual)


def _join_actions(actions: Sequence[str]) -> str:
    omitted_count = len(actions) - _MAX_ACTIONS_LISTED
    if omitted_count <= 1:
        return ", or ".join(actions)
    return ", or ".join(
        (*actions[:_MAX_ACTIONS_LISTED], f"one of {omitted_count} more bugs was made with the same gradient")
    )


def _describe_unchanged(names: Sequence[str]) -> Iterator[str]:
    if names:
        omission_note = f" and {len(names) - 1} more" if len(names) > 1 else ""
        yield f"But the same bug would change {names[0]}{omission_note} too, and your candidate does not show that."


def format_factor(value: float) -> str:
    """Format a number with enough digits to tell its size from 1."""
    excess = abs(value) - 1
    if 0 < abs(excess) < _ONE_TOLERANCE:
        return f"{'-' if value < 0 else ''}(1 {'+' if excess > 0 else '-'} {abs(excess):.3g})"
    return f"{value:.6g}"


def measure_relative_distance(candidate: Array, right: Array) -> float:
    """Return norm(c - g) / (norm(c) + norm(g)) of a candidate c and the right gradient g.

    It is NaN for two shapes, and beside numbers that are not finite.
    """
    if candidate.shape != right.shape or not (np.isfinite(candidate).all() and np.isfinite(right).all()):
        return np.nan
    unit = max(float(np.max(np.abs(array), initial=0)) for array in (candidate, right)) or 1.0
    error, *sizes = (float(np.sqrt(np.square(array / unit).sum())) for array in (candidate - right, candidate, right))
    return error / sum(sizes) if any(sizes) else 0.0
