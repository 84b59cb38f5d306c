"""The name of the probable bug: every explanation of a wrong gradient that the catalogue has, or `unknown`."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from service.numerics.faults import backward, places, shares
from service.numerics.faults.fault import BACKWARD, FAULTS, Alteration
from service.numerics.faults.hypothesis import Hypothesis, Match, Target, enough
from service.numerics.faults.scene import Scene
from service.numerics.faults.sweep import gradients_of
from service.numerics.tiles import Array

UNKNOWN = "unknown"
_LEAST_WORK = 2**27
"""Multiply-adds that a diagnosis may always take."""
_OF_A_PASS = 3
"""Work of a reverse sweep, in forward passes."""


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
        name: Target(scene.candidates[name], scene.right(name), scene.precisions[name])
        for name in wrong
        if np.isfinite(scene.right(name)).all()
    }
    found = {name: list(_of_itself(scene, name, target)) for name, target in targets.items()}
    comparable = [name for name in targets if scene.candidates[name].shape == scene.right(name).shape]
    altered, left_out = _alterations(scene, comparable, max(work, _LEAST_WORK))
    for together, made in gradients_of(scene.graph, scene.values, altered, comparable):
        for name in comparable:
            found[name] += _on_the_way_back(scene, name, targets[name], together, made[name])
    digits = _digits_by_mistake(found)
    return {
        name: _accepted(found.get(name, []), digits) or [_unknown(scene, name, mask, left_out)]
        for name, mask in wrong.items()
    }


def _of_itself(scene: Scene, name: str, target: Target) -> Iterator[Match]:
    for fault in FAULTS.values():
        for hypothesis in fault.recognised(scene, name):
            if found := target.match(hypothesis):
                yield found


def _on_the_way_back(
    scene: Scene, name: str, target: Target, alterations: Sequence[Alteration], made: Array
) -> Iterator[Match]:
    """Which of the gradients that come of alterations, (alterations, ...), match."""
    for number in np.flatnonzero(target.near(made)):
        alteration = alterations[int(number)]
        text = f"{scene.told(name)} is just what it would be if {alteration.text()}."
        if found := target.match(Hypothesis(alteration.fault, made[number], text, key=alteration)):
            yield found
    for hypothesis in shares.with_factors(scene, name, alterations, made):
        if found := target.match(hypothesis):
            yield found


def alterations_of(scene: Scene, names: Sequence[str]) -> Iterator[Alteration]:
    """Every wrong backward pass that is known, the likeliest first."""
    yield from backward.mutants(scene, names)
    for fault in BACKWARD.values():
        yield from fault.alterations(scene, names)


def _alterations(scene: Scene, names: Sequence[str], work: int) -> tuple[list[Alteration], bool]:
    """Those that there is time for, and whether any was left out."""
    if not names:
        return [], False
    most = max(1, work // (_OF_A_PASS * max(1, scene.graph.cost().work)))
    found = list(islice(alterations_of(scene, names), most + 1))
    return found[:most], len(found) > most


def _digits_by_mistake(found: Mapping[str, Sequence[Match]]) -> dict[Hashable, float]:
    total: dict[Hashable, float] = {}
    for matches in found.values():
        best: dict[Hashable, float] = {}
        for each in matches:
            best[each.key] = max(each.digits, best.get(each.key, 0.0))
        for key, digits in best.items():
            total[key] = total.get(key, 0.0) + digits
    return total


def _accepted(matches: Sequence[Match], together: Mapping[Hashable, float]) -> list[Diagnosis]:
    """What is no chance, each bug once: with the fewest fitted constants, and explaining the most."""
    accepted = [each for each in matches if enough(together[each.key]) and each.digits > 0]
    best: dict[str, Match] = {}
    for each in sorted(accepted, key=lambda each: (each.hypothesis.constants, -together[each.key])):
        best.setdefault(each.hypothesis.fault, each)
    return [Diagnosis(name, each.hypothesis.explanation, each.fit) for name, each in best.items()]


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
