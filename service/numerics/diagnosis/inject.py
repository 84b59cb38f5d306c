"""Bugs made on purpose: candidates as they would be with a bug of the catalogue, as far as it shows in a model."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.diagnosis.batched_backward import iterate_overridden_gradients
from service.numerics.diagnosis.bug import BACKWARD_BUGS, GRADIENT_BUGS
from service.numerics.diagnosis.context import DiagnosisContext
from service.numerics.diagnosis.diagnose import iterate_backward_overrides
from service.numerics.ops import OP_REGISTRY

_MIN_VISIBLE_CHANGE = 1e-4
"""Part of the norm of the right gradient by which a wrong one is off, if it is to be told from a rounded one."""
_MAX_BACKWARD_OVERRIDES = 2000
"""Most wrong backward passes that are tried."""
_SUBTLE_BUG = "low_precision"
"""Of this bug everything is near the right gradient."""


@dataclass(frozen=True)
class InjectedBug:
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

    bug_name: str
    candidates: Mapping[str, Array]
    explanation: str


def describe_bugs() -> dict[str, str]:
    """What each bug that there is looks like, by name: of single gradients, of the backward pass, of single ops."""
    own = {name: fault.signature for name, fault in (*BACKWARD_BUGS.items(), *GRADIENT_BUGS.items())}
    of_ops = [(method, mutant) for op in OP_REGISTRY.values() for method, mutant in op.bugs.items()]
    # Of the ways to make one mistake, that which bears its name says best what it is.
    of_ops.sort(key=lambda each: each[0] != each[1].bug_name)
    return {name: own[name] for name in (*GRADIENT_BUGS, *BACKWARD_BUGS)} | {
        mutant.bug_name: mutant.explanation for _, mutant in reversed(of_ops) if mutant.bug_name not in own
    }


def inject_bugs(scene: DiagnosisContext, names: Sequence[str], bug_name: str | None = None) -> Iterator[InjectedBug]:
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
    yield from inject_gradient_bugs(scene, names, bug_name)
    yield from inject_backward_bugs(scene, names, bug_name)


def inject_gradient_bugs(
    scene: DiagnosisContext, names: Sequence[str], bug_name: str | None = None
) -> Iterator[InjectedBug]:
    """Make those of one gradient each, as `planted` does; the scene has a candidate for each name."""
    for fault in GRADIENT_BUGS.values():
        if bug_name not in (None, fault.name):
            continue
        for name in names:
            for candidate in fault.inject(scene, name):
                if fault.name == _SUBTLE_BUG or all(
                    is_visible(each, scene.right_gradient(at)) for at, each in candidate.items()
                ):
                    yield InjectedBug(fault.name, candidate, f"{scene.describe_gradient(name)}: {fault.signature}")


def inject_backward_bugs(
    scene: DiagnosisContext, names: Sequence[str], bug_name: str | None = None
) -> Iterator[InjectedBug]:
    """Make those of the backward pass, as `planted` does, in all gradients that they change."""
    wanted = (each for each in iterate_backward_overrides(scene, names) if bug_name in (None, each.bug_name))
    for together, made in iterate_overridden_gradients(
        scene.graph, scene.values, list(islice(wanted, _MAX_BACKWARD_OVERRIDES)), names
    ):
        for tile, alteration in enumerate(together):
            candidate = {name: each[tile] for name, each in made.items() if np.isfinite(each[tile]).all()}
            candidate = {name: each for name, each in candidate.items() if is_visible(each, scene.right_gradient(name))}
            if candidate:
                yield InjectedBug(alteration.bug_name, candidate, alteration.describe_bug())


def is_visible(candidate: Array, right: Array) -> bool:
    """Whether a wrong gradient is far enough from the right one to say anything."""
    if candidate.shape != right.shape:
        return True
    return (
        bool(np.linalg.norm(candidate - right) >= _MIN_VISIBLE_CHANGE * np.linalg.norm(right))
        or not np.isfinite(candidate).all()
    )
