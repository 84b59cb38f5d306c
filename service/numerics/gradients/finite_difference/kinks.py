"""Kinks: where rounding leaves it open on which of its pieces an op is.

Every piecewise op is asked again with its inputs moved by what they may be off by, and by one unit in the last place at
least, up and down in random patterns. Where the piece changes it is ambiguous, and so is the derivative: there are two
one-sided ones, on the pieces that a small step to either side leads to.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from service.numerics.graph import Graph, Values
from service.numerics.pausing import pausing
from service.numerics.rounding import SAFETY, root_mean_square
from service.numerics.tiles import Array

_PATTERNS = 8


def ambiguous(
    graph: Graph, base: Mapping[str, Array], sweeps: Mapping[str, Array], scale: float, generator: np.random.Generator
) -> Values:
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
    found: Values = {}
    for node in pausing(graph.nodes):
        inputs = graph.inputs(node, base)
        own = node.op.branch(*inputs)
        if own is None:
            continue
        off = [_off(operand, each, sweeps, scale) for operand, each in zip(node.operands, inputs, strict=True)]
        others = node.op.branch(*_moved(inputs, off, generator))
        assert others is not None
        differ = np.any((others != own) & ~((others != others) & (own != own)), axis=0, keepdims=True)
        if differ.any():
            found[node.name] = differ
    return found


def _off(operand: object, value: Array | None, sweeps: Mapping[str, Array], scale: float) -> Array | None:
    """What an input may be off by; None for what does not round."""
    if value is None or value.dtype.kind != "f":
        return None
    spacing = np.spacing(np.abs(value))
    swept = sweeps[operand] if isinstance(operand, str) else value
    if swept.shape[0] == 1:
        return spacing
    return np.maximum(spacing, SAFETY * scale * root_mean_square(swept[1:] - swept[0]))


def _moved(
    inputs: Sequence[Array | None], off: Sequence[Array | None], generator: np.random.Generator
) -> list[Array | None]:
    """Inputs moved in random patterns, and in the opposite ones, and all of them one way: (2 patterns + 2, ...)."""
    moved: list[Array | None] = []
    for each, size in zip(inputs, off, strict=True):
        if each is None or size is None:
            moved.append(each)
            continue
        signs = np.where(generator.random((_PATTERNS, *each.shape[1:])) < 0.5, -1.0, 1.0)
        same = np.ones((1, *each.shape[1:]))
        moved.append(each + size * np.concatenate([signs, -signs, same, -same]))
    return moved
