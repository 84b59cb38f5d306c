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
from service.numerics.tiles import Array

UNKNOWN = "unknown"
_LEAST_WORK = 2**27
"""Multiply-adds that a diagnosis may always take."""


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
    found = {name: list(_of_itself(scene, name, targets[name])) for name in wrong if name in targets}
    comparable = [name for name in targets if scene.candidates[name].shape == scene.right(name).shape]
    suspects = [name for name in comparable if name in wrong]
    altered = Affordable(scene.graph, alterations_of(scene, suspects), max(work, _LEAST_WORK))
    for together, made in gradients_of(scene.graph, scene.values, altered, comparable):
        swept = _Swept(scene, targets, [name for name in comparable if name not in wrong], together, made)
        for name in suspects:
            found[name] += swept.matches(name)
    evidence = Evidence(found)
    return {
        name: told(found.get(name, []), evidence, scene.precisions[name].unit_roundoff)
        or [_unknown(scene, name, mask, altered.left_out)]
        for name, mask in wrong.items()
    }


def _of_itself(scene: Scene, name: str, target: Target) -> Iterator[Match]:
    for fault in FAULTS.values():
        for hypothesis in fault.recognised(scene, name):
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
        for number in map(int, np.flatnonzero(target.near(made))):
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


def _unknown(scene: Scene, name: str, wrong: Array, left_out: bool) -> Diagnosis:
    candidate, right = scene.candidates[name], scene.right(name)
    if candidate.shape != right.shape:
        text = (
            f"{scene.told(name)} has shape {list(candidate.shape)} instead of {list(right.shape)}, and no sum over its "
            "axes and no order of them is the reference."
        )
    else:
        text = f"No bug that is known here explains {scene.told(name)}: {places.described(wrong)}."
    if left_out:
        text += " Not every wrong backward pass of so large a model was tried."
    return Diagnosis(UNKNOWN, text, _distance(candidate, right))


def _distance(candidate: Array, right: Array) -> float:
    if candidate.shape != right.shape or not (np.isfinite(candidate).all() and np.isfinite(right).all()):
        return np.nan
    unit = max(float(np.max(np.abs(each), initial=0)) for each in (candidate, right)) or 1.0
    off, *sizes = (float(np.sqrt(np.square(each / unit).sum())) for each in (candidate - right, candidate, right))
    return off / sum(sizes) if any(sizes) else 0.0
