"""The name of the probable bug: every explanation of a wrong gradient that the catalogue has, or `unknown`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.core.interrupts import OutOfTimeError, iterate_interruptibly
from service.numerics.diagnosis import error_locations
from service.numerics.diagnosis.batched_backward import AffordableOverrides, iterate_overridden_gradients
from service.numerics.diagnosis.bug import BACKWARD_BUGS, GRADIENT_BUGS, BackwardOverride
from service.numerics.diagnosis.bugs import backward_paths, share_factors
from service.numerics.diagnosis.context import DiagnosisContext
from service.numerics.diagnosis.explanation import BugEvidence, BugExplanation, explain_matches
from service.numerics.diagnosis.matching import BugHypothesis, CandidateMatcher, HypothesisMatch

UNKNOWN_BUG = "unknown"
_MIN_DIAGNOSIS_WORK = 2**29
"""Multiply-adds that a diagnosis may always take."""
_INCOMPLETE_SEARCH_NOTE = " Not every wrong backward pass of so large a model was tried."
_OUT_OF_TIME_NOTE = " Not every bug was tried: the time of the request was over."

NO_TIME_EXPLANATION = BugExplanation(UNKNOWN_BUG, "No bug was looked for: the time of the request was over.", np.nan)
"""What is said where nothing could be tried."""


def diagnose_gradients(
    scene: DiagnosisContext, wrong_elements: Mapping[str, Array], work: int = 0
) -> dict[str, list[BugExplanation]]:
    """Explain each wrong gradient.

    Parameters
    ----------
    scene
        The model and the candidates.
    wrong
        Which elements of each wrong gradient are; of one of another shape all.
    work
        Multiply-adds that it may take, beyond what it always may.
    """
    targets = {
        name: CandidateMatcher(each, scene.right_gradient(name), scene.precisions[name])
        for name, each in scene.candidates.items()
        if np.isfinite(scene.right_gradient(name)).all()
    }
    found: dict[str, list[HypothesisMatch]] = {name: [] for name in wrong_elements if name in targets}
    suspects = [name for name in found if scene.candidates[name].shape == scene.right_gradient(name).shape]
    altered = AffordableOverrides(
        scene.graph, iterate_backward_overrides(scene, suspects), max(work, _MIN_DIAGNOSIS_WORK)
    )
    left_out = ""
    try:
        # One by one: what has been found stays found where the time is over.
        for name, match in _iterate_matches(scene, targets, altered, list(found), suspects):
            found[name].append(match)
        left_out = _INCOMPLETE_SEARCH_NOTE if altered.is_incomplete else ""
    except OutOfTimeError:
        left_out = _OUT_OF_TIME_NOTE
    evidence = BugEvidence(found)
    return {
        name: _append_incomplete_note(
            explain_matches(found.get(name, []), evidence, scene.precisions[name].unit_roundoff), left_out
        )
        or [_make_unknown_explanation(scene, name, mask, left_out)]
        for name, mask in wrong_elements.items()
    }


def _iterate_matches(
    scene: DiagnosisContext,
    matchers: Mapping[str, CandidateMatcher],
    backward_overrides: AffordableOverrides,
    names: Sequence[str],
    suspects: Sequence[str],
) -> Iterator[tuple[str, HypothesisMatch]]:
    """What explains each of the names, and of the suspects, which have the right shape, on the way back too."""
    for name in names:
        for match in _match_gradient_bugs(scene, name, matchers[name]):
            yield name, match
    comparable = [name for name in matchers if scene.candidates[name].shape == scene.right_gradient(name).shape]
    for together, made in iterate_overridden_gradients(scene.graph, scene.values, backward_overrides, comparable):
        swept = _BackwardBatch(scene, matchers, [name for name in comparable if name not in names], together, made)
        for name in suspects:
            for match in swept.iterate_matches(name):
                yield name, match


def _match_gradient_bugs(scene: DiagnosisContext, name: str, matcher: CandidateMatcher) -> Iterator[HypothesisMatch]:
    for fault in iterate_interruptibly(GRADIENT_BUGS.values()):
        for hypothesis in iterate_interruptibly(fault.hypotheses(scene, name)):
            if found := matcher.match_hypothesis(hypothesis):
                yield found


@dataclass(frozen=True)
class _BackwardBatch:
    """Gradients that come of alterations, (alterations, ...) by name, and the names that are known not to be wrong."""

    scene: DiagnosisContext
    matchers: Mapping[str, CandidateMatcher]
    names_judged_right: Sequence[str]
    backward_overrides: Sequence[BackwardOverride]
    resulting_gradients: Mapping[str, Array]

    def iterate_matches(self, name: str) -> Iterator[HypothesisMatch]:
        """Which of them match what was sent."""
        scene, made, target = self.scene, self.resulting_gradients[name], self.matchers[name]
        for number in iterate_interruptibly(map(int, np.flatnonzero(target.may_match(made)))):
            alteration = self.backward_overrides[number]
            hypothesis = BugHypothesis(
                alteration.bug_name,
                made[number],
                f"{scene.describe_gradient(name)} is",
                bug_key=alteration,
                possible_action=alteration.describe_bug(),
                unchanged_gradients=self._unchanged_candidates(number),
            )
            if found := target.match_hypothesis(hypothesis):
                yield found
        for number, hypothesis in share_factors.iterate_share_factors(scene, name, self.backward_overrides, made):
            if found := target.match_hypothesis(
                replace(hypothesis, unchanged_gradients=self._unchanged_candidates(number))
            ):
                yield found

    def _unchanged_candidates(self, number: int) -> tuple[str, ...]:
        """Gradients that the alteration changes, and that came unchanged."""
        return tuple(
            self.scene.describe_gradient(name)
            for name in self.names_judged_right
            if not self.matchers[name].may_match(self.resulting_gradients[name][number : number + 1])[0]
        )


def iterate_backward_overrides(scene: DiagnosisContext, names: Sequence[str]) -> Iterator[BackwardOverride]:
    """Every wrong backward pass that is known, the likeliest first."""
    if not names:
        return
    yield from backward_paths.iterate_op_bugs(scene, names)
    for fault in BACKWARD_BUGS.values():
        yield from fault.backward_overrides(scene, names)


def _append_incomplete_note(accepted: list[BugExplanation], incomplete_note: str) -> list[BugExplanation]:
    """What was found, and behind it that there was no time for more."""
    if not accepted or incomplete_note != _OUT_OF_TIME_NOTE:
        return accepted
    return [*accepted[:-1], replace(accepted[-1], explanation=accepted[-1].explanation + incomplete_note)]


def _make_unknown_explanation(scene: DiagnosisContext, name: str, wrong: Array, incomplete_note: str) -> BugExplanation:
    candidate, right = scene.candidates[name], scene.right_gradient(name)
    if candidate.shape != right.shape:
        text = (
            f"{scene.describe_gradient(name)} has shape {list(candidate.shape)} instead of {list(right.shape)}, and no sum over its "
            "axes and no order of them is the reference."
        )
    else:
        text = f"No bug that is known here explains {scene.describe_gradient(name)}: {error_locations.describe_locations(wrong)}."
    return BugExplanation(UNKNOWN_BUG, text + incomplete_note, _measure_relative_distance(candidate, right))


def _measure_relative_distance(candidate: Array, right: Array) -> float:
    if candidate.shape != right.shape or not (np.isfinite(candidate).all() and np.isfinite(right).all()):
        return np.nan
    unit = max(float(np.max(np.abs(each), initial=0)) for each in (candidate, right)) or 1.0
    off, *sizes = (float(np.sqrt(np.square(each / unit).sum())) for each in (candidate - right, candidate, right))
    return off / sum(sizes) if any(sizes) else 0.0
