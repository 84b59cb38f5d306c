"""Kinks: where rounding leaves it open on which of its pieces an op is.

Every piecewise op is asked again with its inputs moved by what they may be off by, and by one unit in the last place at
least, up and down in random patterns. Where the piece changes it is ambiguous, and so is the derivative: there are two
one-sided ones, on the pieces that a small step to either side leads to.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.core.interrupts import iterate_interruptibly
from service.numerics.model.graph import Graph, NamedArrays
from service.numerics.model.rounding import SAFETY_FACTOR, root_mean_square

_MOVE_PATTERNS = 8


def find_ambiguous_branches(
    graph: Graph, base: Mapping[str, Array], sweeps: Mapping[str, Array], scale: float, generator: np.random.Generator
) -> NamedArrays:
    """Where the piecewise nodes are ambiguous, by node: truths of the shape of their branch, (1, ...).

    Parameters
    ----------
    graph
        The model, not held to its pieces.
    base, sweeps
        Every leaf and node: as it is, and in sweeps of the rounding model, (SWEEPS + 1, ...) or (1, ...).
    scale
        Size of the errors in units of those in the sweeps.
    generator
        Of the patterns.
    """
    found: NamedArrays = {}
    for node in iterate_interruptibly(graph.nodes):
        inputs = graph.operand_arrays(node, base)
        own = node.op.select_branch(*inputs)
        if own is None:
            continue
        off = [
            _bound_input_error(operand, each, sweeps, scale)
            for operand, each in zip(node.operands, inputs, strict=True)
        ]
        others = node.op.select_branch(*_move_inputs(inputs, off, generator))
        assert others is not None
        differ = np.any((others != own) & ~((others != others) & (own != own)), axis=0, keepdims=True)
        if differ.any():
            found[node.name] = differ
    return found


def _bound_input_error(operand: object, value: Array | None, sweeps: Mapping[str, Array], scale: float) -> Array | None:
    """What an input may be off by; None for what does not round."""
    if value is None or value.dtype.kind != "f":
        return None
    spacing = np.spacing(np.abs(value))
    swept = sweeps[operand] if isinstance(operand, str) else value
    if swept.shape[0] == 1:
        return spacing
    return np.maximum(spacing, SAFETY_FACTOR * scale * root_mean_square(swept[1:] - swept[0]))


def _move_inputs(
    inputs: Sequence[Array | None], input_errors: Sequence[Array | None], generator: np.random.Generator
) -> list[Array | None]:
    """Inputs moved in random patterns, and in the opposite ones, and all of them one way: (2 patterns + 2, ...)."""
    moved: list[Array | None] = []
    for each, size in zip(inputs, input_errors, strict=True):
        if each is None or size is None:
            moved.append(each)
            continue
        signs = np.where(generator.random((_MOVE_PATTERNS, *each.shape[1:])) < 0.5, -1.0, 1.0)
        same = np.ones((1, *each.shape[1:]))
        moved.append(each + size * np.concatenate([signs, -signs, same, -same]))
    return moved
