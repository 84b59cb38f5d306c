"""What is said of the mistakes that explain a gradient: each as far as the candidate proves it.

That a mistake makes just what was sent is proven; that it was made is not, where others make the same. So all of those
are told, and what is known of the numbers alone before them.
"""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from service.numerics.faults.hypothesis import Match, enough

_TOLD = 4
"""Stories that are told of one mistake; of more their number."""
_AS_GOOD = 100.0
"""A story is as good as another, or as a number that was fitted, where it is off by no more than so many times."""
_ROUNDINGS = 64
"""Of the candidate's arithmetic: of two that are off by less neither is better."""


@dataclass(frozen=True)
class Diagnosis:
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

    name: str
    explanation: str
    fit: float


class Evidence:
    """What explains which gradients, with how many digits: the same mistake in several tensors counts together.

    Parameters
    ----------
    found
        Hypotheses that fit, by the name of the gradient.
    """

    def __init__(self, found: Mapping[str, Sequence[Match]]) -> None:
        self._digits: dict[Hashable, dict[str, float]] = {}
        for name, matches in found.items():
            for each in matches:
                by_name = self._digits.setdefault(each.key, {})
                by_name[name] = max(each.digits, by_name.get(name, 0.0))

    def digits(self, match: Match) -> float:
        """Digits of all gradients that the mistake explains."""
        return sum(self._digits[match.key].values())

    def tensors(self, match: Match) -> int:
        """How many gradients it explains."""
        return len(self._digits[match.key])


def told(matches: Sequence[Match], evidence: Evidence, unit_roundoff: float) -> list[Diagnosis]:
    """Say what is no chance, each bug once: that with the fewest fitted constants first, and explaining the most.

    Where one needs no fitted constant, and changes nothing that came as it should, what does either is no explanation.
    """
    accepted = [each for each in matches if enough(evidence.digits(each)) and each.digits > 0]
    groups: dict[str, list[Match]] = {}
    for each in accepted:
        groups.setdefault(each.hypothesis.fault, []).append(each)
    nothing = _ROUNDINGS * unit_roundoff
    found = [chosen for group in groups.values() if (chosen := _chosen(group, evidence, nothing))]
    found.sort(key=lambda each: (*_rank(each[0], evidence), -evidence.digits(each[0])))
    found = _as_good(found, nothing)
    return [_diagnosis(each, groups[each[0].hypothesis.fault]) for each in found]


def _as_good(found: Sequence[list[Match]], nothing: float) -> list[list[Match]]:
    """Those that fit as well as the best does, and need as little: the first has the fewest fitted constants."""
    seen = [each[0].fit for each in found if each[0].hypothesis.evidence is None]
    limit = max(_AS_GOOD * min(seen, default=0.0), nothing)
    fitting = [each for each in found if each[0].fit <= limit]
    if not fitting or fitting[0][0].hypothesis.constants:
        return fitting
    spared = bool(fitting[0][0].hypothesis.spared)
    return [each for each in fitting if not each[0].hypothesis.constants and bool(each[0].hypothesis.spared) == spared]


def _rank(match: Match, evidence: Evidence) -> tuple[bool, int, int]:
    return bool(match.hypothesis.spared), match.hypothesis.constants, -evidence.tensors(match)


def _chosen(group: Sequence[Match], evidence: Evidence, nothing: float) -> list[Match]:
    """Those of one bug that explain the same equally well: its stories, or else what is known of the numbers."""
    best = min(each.fit for each in group)
    fitting = [each for each in group if each.fit <= max(_AS_GOOD * best, nothing)]
    tales = [each for each in fitting if each.hypothesis.story is not None and not each.hypothesis.spared]
    tales = tales or [each for each in fitting if each.hypothesis.story is None] or fitting
    first = min(_rank(each, evidence) for each in tales)
    equal = [each for each in tales if _rank(each, evidence) == first]
    least = min(each.fit for each in equal)
    return [each for each in equal if each.fit <= max(_AS_GOOD * least, nothing)]


def _diagnosis(chosen: Sequence[Match], group: Sequence[Match]) -> Diagnosis:
    first = chosen[0].hypothesis
    stories = list(dict.fromkeys(each.hypothesis.story for each in chosen if each.hypothesis.story is not None))
    if not stories:
        text = " ".join(filter(None, (first.explanation, first.otherwise)))
    else:
        facts = (each.hypothesis.explanation for each in group if each.hypothesis.otherwise)
        text = f"{next(facts, first.explanation)} just what it would be if {_joined(stories)}."
    return Diagnosis(first.fault, " ".join((text, *_spared(first.spared))), chosen[0].fit)


def _joined(stories: Sequence[str]) -> str:
    more = len(stories) - _TOLD
    listed = [*stories[:_TOLD]]
    if more == 1:
        listed = [*stories]
    elif more > 1:
        listed.append(f"one of {more} more mistakes was made that come to the same")
    return ", or if ".join(listed)


def _spared(names: Sequence[str]) -> Iterator[str]:
    if names:
        others = f" and {len(names) - 1} more" if len(names) > 1 else ""
        yield f"Yet {names[0]}{others}, which that would change as well, is not changed by it."
