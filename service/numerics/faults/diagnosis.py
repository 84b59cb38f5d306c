"""The name of the probable bug: every explanation of a wrong gradient that the catalogue has, or `unknown`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from service.numerics.faults import backward, places, shares
from service.numerics.faults.fault import BACKWARD, FAULTS, Alteration
from service.numerics.faults.hypothesis import Hypothesis, Match, Target
from service.numerics.faults.scene import Scene
from service.numerics.faults.sweep import Affordable, gradients_of
from service.numerics.faults.telling import Diagnosis, Evidence, told
from service.numerics.pausing import OutOfTimeError, pausing
from service.numerics.tiles import Array

UNKNOWN = "unknown"
_LEAST_WORK = 2**29
"""Multiply-adds that a diagnosis may always take."""
_SOME_LEFT_OUT = " Not every wrong backward pass of so large a model was tried."
_OUT_OF_TIME = " Not every bug was tried: the time of the request was over."

NO_TIME = Diagnosis(UNKNOWN, "No bug was looked for: the time of the request was over.", np.nan)
"""What is said where nothing could be tried."""


def diagnose(scene: Scene, wrong: Mapping[str, Array], work: int = 0) -> dict[str, list[Diagnosis]]:
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
        name: Target(each, scene.right(name), scene.precisions[name])
        for name, each in scene.candidates.items()
        if np.isfinite(scene.right(name)).all()
    }
    found: dict[str, list[Match]] = {name: [] for name in wrong if name in targets}
    suspects = [name for name in found if scene.candidates[name].shape == scene.right(name).shape]
    altered = Affordable(scene.graph, alterations_of(scene, suspects), max(work, _LEAST_WORK))
    left_out = ""
    try:
        # One by one: what has been found stays found where the time is over.
        for name, match in _matches(scene, targets, altered, list(found), suspects):
            found[name].append(match)
        left_out = _SOME_LEFT_OUT if altered.left_out else ""
    except OutOfTimeError:
        left_out = _OUT_OF_TIME
    evidence = Evidence(found)
    return {
        name: _ended(told(found.get(name, []), evidence, scene.precisions[name].unit_roundoff), left_out)
        or [_unknown(scene, name, mask, left_out)]
        for name, mask in wrong.items()
    }


def _matches(
    scene: Scene, targets: Mapping[str, Target], altered: Affordable, names: Sequence[str], suspects: Sequence[str]
) -> Iterator[tuple[str, Match]]:
    """What explains each of the names, and of the suspects, which have the right shape, on the way back too."""
    for name in names:
        for match in _of_itself(scene, name, targets[name]):
            yield name, match
    comparable = [name for name in targets if scene.candidates[name].shape == scene.right(name).shape]
    for together, made in gradients_of(scene.graph, scene.values, altered, comparable):
        swept = _Swept(scene, targets, [name for name in comparable if name not in names], together, made)
        for name in suspects:
            for match in swept.matches(name):
                yield name, match


def _of_itself(scene: Scene, name: str, target: Target) -> Iterator[Match]:
    for fault in pausing(FAULTS.values()):
        for hypothesis in pausing(fault.recognised(scene, name)):
            if found := target.match(hypothesis):
                yield found


@dataclass(frozen=True)
class _Swept:
    """Gradients that come of alterations, (alterations, ...) by name, and the names that are known not to be wrong."""

    scene: Scene
    targets: Mapping[str, Target]
    right: Sequence[str]
    alterations: Sequence[Alteration]
    made: Mapping[str, Array]

    def matches(self, name: str) -> Iterator[Match]:
        """Which of them match what was sent."""
        scene, made, target = self.scene, self.made[name], self.targets[name]
        for number in pausing(map(int, np.flatnonzero(target.near(made)))):
            alteration = self.alterations[number]
            hypothesis = Hypothesis(
                alteration.fault,
                made[number],
                f"{scene.told(name)} is",
                key=alteration,
                story=alteration.text(),
                spared=self._spared(number),
            )
            if found := target.match(hypothesis):
                yield found
        for number, hypothesis in shares.with_factors(scene, name, self.alterations, made):
            if found := target.match(replace(hypothesis, spared=self._spared(number))):
                yield found

    def _spared(self, number: int) -> tuple[str, ...]:
        """Gradients that the alteration changes, and that came unchanged."""
        return tuple(
            self.scene.told(name)
            for name in self.right
            if not self.targets[name].near(self.made[name][number : number + 1])[0]
        )


def alterations_of(scene: Scene, names: Sequence[str]) -> Iterator[Alteration]:
    """Every wrong backward pass that is known, the likeliest first."""
    if not names:
        return
    yield from backward.mutants(scene, names)
    for fault in BACKWARD.values():
        yield from fault.alterations(scene, names)


def _ended(accepted: list[Diagnosis], left_out: str) -> list[Diagnosis]:
    """What was found, and behind it that there was no time for more."""
    if not accepted or left_out != _OUT_OF_TIME:
        return accepted
    return [*accepted[:-1], replace(accepted[-1], explanation=accepted[-1].explanation + left_out)]


def _unknown(scene: Scene, name: str, wrong: Array, left_out: str) -> Diagnosis:
    candidate, right = scene.candidates[name], scene.right(name)
    if candidate.shape != right.shape:
        text = (
            f"{scene.told(name)} has shape {list(candidate.shape)} instead of {list(right.shape)}, and no sum over its "
            "axes and no order of them is the reference."
        )
    else:
        text = f"No bug that is known here explains {scene.told(name)}: {places.described(wrong)}."
    return Diagnosis(UNKNOWN, text + left_out, _distance(candidate, right))


def _distance(candidate: Array, right: Array) -> float:
    if candidate.shape != right.shape or not (np.isfinite(candidate).all() and np.isfinite(right).all()):
        return np.nan
    unit = max(float(np.max(np.abs(each), initial=0)) for each in (candidate, right)) or 1.0
    off, *sizes = (float(np.sqrt(np.square(each / unit).sum())) for each in (candidate - right, candidate, right))
    return off / sum(sizes) if any(sizes) else 0.0
