"""The search for the bug behind a wrong gradient.

Every explanation in the catalogue, or `unknown`.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.core.interrupts import OutOfTimeError, iterate_interruptibly
from service.numerics.diagnosis import error_locations
from service.numerics.diagnosis.batched_backward import AffordableOverrides, iterate_overridden_gradients
from service.numerics.diagnosis.bug import BackwardOverride
from service.numerics.diagnosis.bugs import BACKWARD_BUGS, GRADIENT_BUGS, backward_paths, share_factors
from service.numerics.diagnosis.context import DiagnosisContext
from service.numerics.diagnosis.explanation import (
    BugEvidence,
    BugExplanation,
    explain_matches,
    measure_relative_distance,
)
from service.numerics.diagnosis.matching import BugHypothesis, CandidateMatcher, HypothesisMatch
from service.numerics.diagnosis.other_recipes import explain_by_other_recipes
from service.numerics.diagnosis.screening import OverrideScreen

UNKNOWN_BUG = "unknown"
_MIN_DIAGNOSIS_WORK = 2**29
"""Multiply-adds that any diagnosis may take."""
_MIN_ROUNDING_WORK = 2**31
"""Multiply-adds that the search for further roundings may take, of a gradient that nothing else explains."""
_INCOMPLETE_SEARCH_NOTE = " The model is too large to try every wrong backward pass."
_OUT_OF_TIME_NOTE = " Not every bug was tried: the request ran out of time."

NO_TIME_EXPLANATION = BugExplanation(UNKNOWN_BUG, "No bug was tried: the request ran out of time.", np.nan)
"""Explanation of a gradient for which there was no time to try any bug."""


def diagnose_gradients(
    context: DiagnosisContext, wrong_elements: Mapping[str, Array], work: int = 0
) -> dict[str, list[BugExplanation]]:
    """Explain each wrong gradient.

    Parameters
    ----------
    context
        The model and the candidates.
    wrong_elements
        Mask of the wrong elements of each wrong gradient, by name; all True for a gradient of another shape.
    work
        Multiply-adds that the diagnosis may take if they are more than the minimum; 0 by default.
    """
    matchers = {
        name: CandidateMatcher(candidate, context.get_right_gradient(name), context.precisions[name])
        for name, candidate in context.candidates.items()
        if np.isfinite(context.get_right_gradient(name)).all()
    }
    matches: dict[str, list[HypothesisMatch]] = {name: [] for name in wrong_elements if name in matchers}
    suspects = [name for name in matches if context.candidates[name].shape == context.get_right_gradient(name).shape]
    screen = OverrideScreen(context, suspects, _list_comparable(context, matchers))
    overrides = AffordableOverrides(
        context.graph, iterate_backward_overrides(context, suspects), max(work, _MIN_DIAGNOSIS_WORK), screen
    )
    note = ""
    try:
        # One by one, so that the matches stay when the request runs out of time.
        for name, match in _iterate_matches(context, matchers, overrides, list(matches), suspects):
            matches[name].append(match)
        note = _INCOMPLETE_SEARCH_NOTE if overrides.is_incomplete else ""
    except OutOfTimeError:
        note = _OUT_OF_TIME_NOTE
    evidence = BugEvidence(matches)
    return {
        name: _append_incomplete_note(
            explain_matches(matches.get(name, []), evidence, context.precisions[name].unit_roundoff), note
        )
        or [_explain_without_bug(context, name, mask, note, max(work, _MIN_ROUNDING_WORK))]
        for name, mask in wrong_elements.items()
    }


def _iterate_matches(
    context: DiagnosisContext,
    matchers: Mapping[str, CandidateMatcher],
    backward_overrides: AffordableOverrides,
    names: Sequence[str],
    suspects: Sequence[str],
) -> Iterator[tuple[str, HypothesisMatch]]:
    """Yield the matches of all names, then those with wrong backward passes.

    Only suspects, which have the right shape, are compared with wrong backward passes.
    """
    for name in names:
        for match in _match_gradient_bugs(context, name, matchers[name]):
            yield name, match
    comparable = _list_comparable(context, matchers)
    judged_right = [name for name in comparable if name not in names]
    for overrides, gradients in iterate_overridden_gradients(
        context.graph, context.values, backward_overrides, comparable
    ):
        batch = _BackwardBatch(context, matchers, judged_right, overrides, gradients)
        for name in suspects:
            for match in batch.iterate_matches(name):
                yield name, match


def _list_comparable(context: DiagnosisContext, names: Iterable[str]) -> list[str]:
    """List the names whose candidates have the right shape."""
    return [name for name in names if context.candidates[name].shape == context.get_right_gradient(name).shape]


def _match_gradient_bugs(context: DiagnosisContext, name: str, matcher: CandidateMatcher) -> Iterator[HypothesisMatch]:
    for bug in iterate_interruptibly(GRADIENT_BUGS.values()):
        for hypothesis in iterate_interruptibly(bug.iterate_hypotheses(context, name)):
            if match := matcher.match_hypothesis(hypothesis):
                yield match


@dataclass(frozen=True)
class _BackwardBatch:
    """A batch of overrides with their gradients, shape (overrides, ...), by name."""

    context: DiagnosisContext
    matchers: Mapping[str, CandidateMatcher]
    names_judged_right: Sequence[str]
    backward_overrides: Sequence[BackwardOverride]
    resulting_gradients: Mapping[str, Array]

    def iterate_matches(self, name: str) -> Iterator[HypothesisMatch]:
        """Yield the overrides that match the candidate, then factors on their shares."""
        context, gradients, matcher = self.context, self.resulting_gradients[name], self.matchers[name]
        for number in iterate_interruptibly(map(int, np.flatnonzero(matcher.may_match(gradients)))):
            override = self.backward_overrides[number]
            hypothesis = BugHypothesis(
                override.bug_name,
                gradients[number],
                bug_key=override,
                possible_action=override.describe_bug(),
                unchanged_gradients=self._find_unchanged_candidates(number),
            )
            if match := matcher.match_hypothesis(hypothesis):
                yield match
        for number, hypothesis in share_factors.iterate_share_factors(
            context, name, self.backward_overrides, gradients
        ):
            hypothesis = replace(hypothesis, unchanged_gradients=self._find_unchanged_candidates(number))
            if match := matcher.match_hypothesis(hypothesis):
                yield match

    def _find_unchanged_candidates(self, number: int) -> tuple[str, ...]:
        """Describe gradients that an override changes, unlike their candidates."""
        return tuple(
            self.context.describe_gradient(name)
            for name in self.names_judged_right
            if not self.matchers[name].may_match(self.resulting_gradients[name][number : number + 1])[0]
        )


def iterate_backward_overrides(context: DiagnosisContext, names: Sequence[str]) -> Iterator[BackwardOverride]:
    """Iterate over every known wrong backward pass, the likeliest first."""
    if not names:
        return
    yield from backward_paths.iterate_op_bugs(context, names)
    for bug in BACKWARD_BUGS.values():
        yield from bug.iterate_overrides(context, names)
    yield from backward_paths.iterate_op_bugs(context, names, is_generated=True)
    yield from backward_paths.iterate_composite_bugs(context, names)


def _append_incomplete_note(accepted: list[BugExplanation], incomplete_note: str) -> list[BugExplanation]:
    """Append the note that time ran out to the last explanation."""
    if not accepted or incomplete_note != _OUT_OF_TIME_NOTE:
        return accepted
    return [*accepted[:-1], replace(accepted[-1], explanation=accepted[-1].explanation + incomplete_note)]


def _explain_without_bug(context: DiagnosisContext, name: str, wrong: Array, note: str, work: int) -> BugExplanation:
    """Return the roundings that explain a gradient beside its own, or say that nothing does."""
    try:
        return explain_by_other_recipes(context, name, work) or _make_unknown_explanation(context, name, wrong, note)
    except OutOfTimeError:
        return _make_unknown_explanation(context, name, wrong, _OUT_OF_TIME_NOTE)


def _make_unknown_explanation(
    context: DiagnosisContext, name: str, wrong: Array, incomplete_note: str
) -> BugExplanation:
    candidate, right = context.candidates[name], context.get_right_gradient(name)
    if candidate.shape != right.shape:
        text = (
            f"{context.describe_gradient(name)} has shape {list(candidate.shape)} instead of {list(right.shape)}, and "
            "no sum over its axes and no order of them is the reference."
        )
    else:
        locations = error_locations.describe_locations(wrong)
        text = f"No known bug explains {context.describe_gradient(name)}: {locations}."
    return BugExplanation(UNKNOWN_BUG, text + incomplete_note, measure_relative_distance(candidate, right))
