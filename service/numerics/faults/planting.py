"""Bugs made on purpose: candidates as they would be with a bug of the catalogue, as far as it shows in a model."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from service.numerics.faults.diagnosis import alterations_of
from service.numerics.faults.fault import BACKWARD, FAULTS
from service.numerics.faults.scene import Scene
from service.numerics.faults.sweep import gradients_of
from service.numerics.ops import REGISTRY
from service.numerics.tiles import Array

_SHOWS = 1e-4
"""Part of the norm of the right gradient by which a wrong one is off, if it is to be told from a rounded one."""
_ALTERATIONS = 2000
"""Most wrong backward passes that are tried."""
_FINE = "low_precision"
"""Of this bug everything is near the right gradient."""


@dataclass(frozen=True)
class Planted:
    """A bug that was made.

    Attributes
    ----------
    fault
        Its name.
    candidate
        The wrong gradients, of whatever shape, by name; the first is the one that it was made for.
    text
        Says what was done.
    """

    fault: str
    candidate: Mapping[str, Array]
    text: str


def catalogue() -> dict[str, str]:
    """What each bug that there is looks like, by name: of single gradients, of the backward pass, of single ops."""
    own = {name: fault.signature for name, fault in (*BACKWARD.items(), *FAULTS.items())}
    of_ops = [(method, mutant) for op in REGISTRY.values() for method, mutant in op.mutants.items()]
    # Of the ways to make one mistake, that which bears its name says best what it is.
    of_ops.sort(key=lambda each: each[0] != each[1].fault)
    return {name: own[name] for name in (*FAULTS, *BACKWARD)} | {
        mutant.fault: mutant.text for _, mutant in reversed(of_ops) if mutant.fault not in own
    }


def planted(scene: Scene, names: Sequence[str], only: str | None = None) -> Iterator[Planted]:
    """Make every bug, in every way in which it shows.

    Parameters
    ----------
    scene
        The model at its point, with a candidate for each name, which stands for the right one.
    names
        Whose gradients the bugs are made for.
    only
        Name of the bug; all if left out.
    """
    yield from of_single_gradients(scene, names, only)
    yield from of_the_backward_pass(scene, names, only)


def of_single_gradients(scene: Scene, names: Sequence[str], only: str | None = None) -> Iterator[Planted]:
    """Make those of one gradient each, as `planted` does; the scene has a candidate for each name."""
    for fault in FAULTS.values():
        if only not in (None, fault.name):
            continue
        for name in names:
            for candidate in fault.injected(scene, name):
                if fault.name == _FINE or all(shows(each, scene.right(at)) for at, each in candidate.items()):
                    yield Planted(fault.name, candidate, f"{scene.told(name)}: {fault.signature}")


def of_the_backward_pass(scene: Scene, names: Sequence[str], only: str | None = None) -> Iterator[Planted]:
    """Make those of the backward pass, as `planted` does, in all gradients that they change."""
    wanted = (each for each in alterations_of(scene, names) if only in (None, each.fault))
    for together, made in gradients_of(scene.graph, scene.values, list(islice(wanted, _ALTERATIONS)), names):
        for tile, alteration in enumerate(together):
            candidate = {name: each[tile] for name, each in made.items() if np.isfinite(each[tile]).all()}
            candidate = {name: each for name, each in candidate.items() if shows(each, scene.right(name))}
            if candidate:
                yield Planted(alteration.fault, candidate, alteration.text())


def shows(candidate: Array, right: Array) -> bool:
    """Whether a wrong gradient is far enough from the right one to say anything."""
    if candidate.shape != right.shape:
        return True
    return bool(np.linalg.norm(candidate - right) >= _SHOWS * np.linalg.norm(right)) or not np.isfinite(candidate).all()
