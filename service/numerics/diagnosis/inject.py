"""Injected bugs: candidates with a bug of the catalogue that shows in a model."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.diagnosis.batched_backward import iterate_overridden_gradients
from service.numerics.diagnosis.bugs import BACKWARD_BUGS, GRADIENT_BUGS
from service.numerics.diagnosis.context import DiagnosisContext
from service.numerics.diagnosis.diagnose import iterate_backward_overrides
from service.numerics.ops import OP_REGISTRY
from service.numerics.ops.backward_form import GENERATED_BUGS
from service.numerics.ops.op import STEP_OPS

_MIN_VISIBLE_CHANGE = 1e-4
"""Error of an injected gradient, as a part of the right one's norm, that rounding cannot explain."""
_MAX_BACKWARD_OVERRIDES = 2000
"""Wrong backward passes that are tried at most."""
_SUBTLE_BUG = "low_precision"
"""The bug all of whose gradients are near the right one."""


@dataclass(frozen=True)
class InjectedBug:
    """A bug that was injected.

    Attributes
    ----------
    bug_name
        Name of the bug.
    candidates
        Wrong gradients, of any shape, by name, the target of the injection first.
    explanation
        Clause for what was done.
    """

    bug_name: str
    candidates: Mapping[str, Array]
    explanation: str


def describe_bugs() -> dict[str, str]:
    """Describe every bug by name.

    The bugs of single gradients, of the backward pass and of single ops are in it.
    """
    signatures = {name: bug.signature for name, bug in (*BACKWARD_BUGS.items(), *GRADIENT_BUGS.items())}
    op_bugs = [
        (method, op_bug)
        for op in (*OP_REGISTRY.values(), *STEP_OPS.values())
        for method, op_bug in op.bugs.items()
        if not op_bug.is_generated
    ]
    # Several methods may make one bug; the method with the name of the bug describes it best.
    op_bugs.sort(key=lambda item: item[0] != item[1].bug_name)
    return (
        {name: signatures[name] for name in (*GRADIENT_BUGS, *BACKWARD_BUGS)}
        | {op_bug.bug_name: op_bug.explanation for _, op_bug in reversed(op_bugs) if op_bug.bug_name not in signatures}
        | dict(GENERATED_BUGS)
    )


def inject_bugs(context: DiagnosisContext, names: Sequence[str], bug_name: str | None = None) -> Iterator[InjectedBug]:
    """Inject every bug, in every way in which it shows.

    Parameters
    ----------
    context
        The model at its point, with a candidate for each name that stands for the right gradient.
    names
        Names of the gradients to inject bugs into.
    bug_name
        Name of the bug; all bugs by default.
    """
    yield from inject_gradient_bugs(context, names, bug_name)
    yield from inject_backward_bugs(context, names, bug_name)


def inject_gradient_bugs(
    context: DiagnosisContext, names: Sequence[str], bug_name: str | None = None
) -> Iterator[InjectedBug]:
    """Inject the bugs of single gradients, as `inject_bugs` does.

    The context has a candidate for each name.
    """
    for bug in GRADIENT_BUGS.values():
        if bug_name not in (None, bug.name):
            continue
        for name in names:
            for candidates in bug.inject(context, name):
                if bug.name == _SUBTLE_BUG or all(
                    is_visible(candidate, context.get_right_gradient(candidate_name))
                    for candidate_name, candidate in candidates.items()
                ):
                    yield InjectedBug(bug.name, candidates, f"{context.describe_gradient(name)}: {bug.signature}")


def inject_backward_bugs(
    context: DiagnosisContext, names: Sequence[str], bug_name: str | None = None
) -> Iterator[InjectedBug]:
    """Inject the bugs of the backward pass into all gradients that they change."""
    overrides = (
        override for override in iterate_backward_overrides(context, names) if bug_name in (None, override.bug_name)
    )
    for batch, gradients in iterate_overridden_gradients(
        context.graph, context.values, list(islice(overrides, _MAX_BACKWARD_OVERRIDES)), names
    ):
        for tile, override in enumerate(batch):
            candidates = {
                name: gradient[tile]
                for name, gradient in gradients.items()
                if np.isfinite(gradient[tile]).all() and is_visible(gradient[tile], context.get_right_gradient(name))
            }
            if candidates:
                yield InjectedBug(override.bug_name, candidates, override.describe_bug())


def is_visible(candidate: Array, right: Array) -> bool:
    """Tell whether a wrong gradient is far enough from the right one for a diagnosis."""
    if candidate.shape != right.shape:
        return True
    return (
        bool(np.linalg.norm(candidate - right) >= _MIN_VISIBLE_CHANGE * np.linalg.norm(right))
        or not np.isfinite(candidate).all()
    )
