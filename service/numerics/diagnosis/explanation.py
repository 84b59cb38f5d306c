"""What is said of the mistakes that explain a gradient: each as far as the candidate proves it.

That a mistake makes just what was sent is proven; that it was made is not, where others make the same. So all of those
are told, and what is known of the numbers alone before them.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from service.numerics.diagnosis.matching import HypothesisMatch, is_beyond_chance

_MAX_ACTIONS_LISTED = 4
"""Stories that are told of one mistake; of more their number."""
_EQUAL_FIT_RATIO = 100.0
"""A story is as good as another, or as a number that was fitted, where it is off by no more than so many times."""
_CANDIDATE_ROUNDINGS = 64
"""Of the candidate's arithmetic: of two that are off by less neither is better."""


@dataclass(frozen=True)
class BugExplanation:
    """One explanation of a wrong gradient.

    Attributes
    ----------
    name
        Of the bug.
    explanation
        What was done, as a colleague would say it.
    fit
        norm(c - h) / (norm(h) + norm(g)) of the candidate c, what the bug makes, h, and the right gradient g.
    """

    bug_name: str
    explanation: str
    relative_residual: float


class BugEvidence:
    """What explains which gradients, with how many digits: the same mistake in several tensors counts together.

    Parameters
    ----------
    found
        Hypotheses that fit, by the name of the gradient.
    """

    def __init__(self, matches_by_name: Mapping[str, Sequence[HypothesisMatch]]) -> None:
        self._digits_by_bug: dict[Hashable, dict[str, float]] = {}
        for name, matches in matches_by_name.items():
            for each in matches:
                by_name = self._digits_by_bug.setdefault(each.bug_key, {})
                by_name[name] = max(each.predicted_digits, by_name.get(name, 0.0))

    def total_digits(self, match: HypothesisMatch) -> float:
        """Digits of all gradients that the mistake explains."""
        return sum(self._digits_by_bug[match.bug_key].values())

    def count_gradients(self, match: HypothesisMatch) -> int:
        """How many gradients it explains."""
        return len(self._digits_by_bug[match.bug_key])


def explain_matches(
    matches: Sequence[HypothesisMatch], evidence: BugEvidence, unit_roundoff: float
) -> list[BugExplanation]:
    """Say what is no chance, each bug once: that with the fewest fitted constants first, and explaining the most.

    Where one needs no fitted constant, and changes nothing that came as it should, what does either is no explanation.
    """
    accepted = [each for each in matches if is_beyond_chance(evidence.total_digits(each)) and each.predicted_digits > 0]
    groups: dict[str, list[HypothesisMatch]] = {}
    for each in accepted:
        groups.setdefault(each.hypothesis.bug_name, []).append(each)
    nothing = _CANDIDATE_ROUNDINGS * unit_roundoff
    found = [chosen for group in groups.values() if (chosen := _choose_matches(group, evidence, nothing))]
    found.sort(key=lambda each: (*_rank_match(each[0], evidence), -evidence.total_digits(each[0])))
    found = _keep_equally_good(found, nothing)
    return [_make_explanation(each, groups[each[0].hypothesis.bug_name]) for each in found]


def _keep_equally_good(
    match_groups: Sequence[list[HypothesisMatch]], negligible_residual: float
) -> list[list[HypothesisMatch]]:
    """Those that fit as well as the best does, and need as little: the first has the fewest fitted constants."""
    seen = [each[0].relative_residual for each in match_groups if each[0].hypothesis.known_digits is None]
    limit = max(_EQUAL_FIT_RATIO * min(seen, default=0.0), negligible_residual)
    fitting = [each for each in match_groups if each[0].relative_residual <= limit]
    if not fitting or fitting[0][0].hypothesis.fitted_constants:
        return fitting
    spared = bool(fitting[0][0].hypothesis.unchanged_gradients)
    return [
        each
        for each in fitting
        if not each[0].hypothesis.fitted_constants and bool(each[0].hypothesis.unchanged_gradients) == spared
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
    """Those of one bug that explain the same equally well: its stories, or else what is known of the numbers."""
    best = min(each.relative_residual for each in group)
    fitting = [each for each in group if each.relative_residual <= max(_EQUAL_FIT_RATIO * best, negligible_residual)]
    tales = [
        each
        for each in fitting
        if each.hypothesis.possible_action is not None and not each.hypothesis.unchanged_gradients
    ]
    tales = tales or [each for each in fitting if each.hypothesis.possible_action is None] or fitting
    first = min(_rank_match(each, evidence) for each in tales)
    equal = [each for each in tales if _rank_match(each, evidence) == first]
    least = min(each.relative_residual for each in equal)
    return [each for each in equal if each.relative_residual <= max(_EQUAL_FIT_RATIO * least, negligible_residual)]


def _make_explanation(chosen: Sequence[HypothesisMatch], group: Sequence[HypothesisMatch]) -> BugExplanation:
    first = chosen[0].hypothesis
    stories = list(
        dict.fromkeys(each.hypothesis.possible_action for each in chosen if each.hypothesis.possible_action is not None)
    )
    if not stories:
        text = " ".join(filter(None, (first.explanation, first.fallback_ending)))
    else:
        facts = (each.hypothesis.explanation for each in group if each.hypothesis.fallback_ending)
        text = f"{next(facts, first.explanation)} just what it would be if {_join_actions(stories)}."
    return BugExplanation(
        first.bug_name, " ".join((text, *_describe_unchanged(first.unchanged_gradients))), chosen[0].relative_residual
    )


def _join_actions(stories: Sequence[str]) -> str:
    more = len(stories) - _MAX_ACTIONS_LISTED
    listed = [*stories[:_MAX_ACTIONS_LISTED]]
    if more == 1:
        listed = [*stories]
    elif more > 1:
        listed.append(f"one of {more} more mistakes was made that come to the same")
    return ", or if ".join(listed)


def _describe_unchanged(names: Sequence[str]) -> Iterator[str]:
    if names:
        others = f" and {len(names) - 1} more" if len(names) > 1 else ""
        yield f"Yet {names[0]}{others}, which that would change as well, is not changed by it."
