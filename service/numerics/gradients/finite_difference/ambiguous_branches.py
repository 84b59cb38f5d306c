"""Kinks: points at which rounding leaves the piece of an op ambiguous.

Every piecewise op selects its pieces again, with its inputs moved by their largest errors, and by one unit in the last
place at least, up and down in random patterns. If the piece changes it is ambiguous, and so is the derivative: there
are two one-sided ones, on the pieces to which a small step to either side leads.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.core.interrupts import iterate_interruptibly
from service.numerics.model.graph import Graph, NamedArrays, Node
from service.numerics.model.monte_carlo import compute_root_mean_square
from service.numerics.model.rounding import SAFETY_FACTOR

_MOVE_PATTERNS = 8
_NEARBY_FRACTION, _SMALLEST_MOVE = 2.0**-32, 2.0**-1022


def find_ambiguous_branches(
    graph: Graph, base: Mapping[str, Array], sweeps: Mapping[str, Array], scale: float, generator: np.random.Generator
) -> NamedArrays:
    """Return whether each piece is ambiguous, by piecewise node.

    The booleans have the shape of the branch, (1, ...). Nodes without ambiguous pieces are left out.

    Parameters
    ----------
    graph
        The model, not held to its pieces.
    base, sweeps
        Every leaf and node: as it is, and in sweeps of the rounding model, (SWEEPS + 1, ...) or (1, ...).
    scale
        Size of the errors in units of those in the sweeps.
    generator
        Source of the patterns.
    """
    ambiguous: NamedArrays = {}
    for node in iterate_interruptibly(graph.nodes):
        if not node.op.may_have_pieces or node.op.output_kind != "float":
            continue
        inputs = graph.get_operand_arrays(node, base)
        branch = node.op.select_branch(*inputs)
        if branch is None:
            continue
        input_errors = [
            _bound_input_error(node, position, array, sweeps, scale) for position, array in enumerate(inputs)
        ]
        is_ambiguous = _find_changing_pieces(node, branch, _move_inputs(inputs, input_errors, generator))
        if is_ambiguous.any():
            ambiguous[node.name] = is_ambiguous
    return ambiguous


def has_pieces_nearby(graph: Graph, base: Mapping[str, Array], generator: np.random.Generator) -> bool:
    """Return whether some piece ends within far more than rounding of the point.

    Sweeps, which would tell the errors of the inputs, are not needed: inputs move by 2^-32 of their largest number,
    which is some millions of its roundings.

    Parameters
    ----------
    graph
        The model, not held to its pieces.
    base
        Every leaf and node, (1, ...).
    generator
        Source of the patterns in which inputs move.
    """
    for node in iterate_interruptibly(graph.nodes):
        if not node.op.may_have_pieces or node.op.output_kind != "float":
            continue
        inputs = graph.get_operand_arrays(node, base)
        branch = node.op.select_branch(*inputs)
        if branch is None:
            continue
        moves = [
            None
            if array is None or array.dtype.kind != "f"
            else np.full_like(array, max(_NEARBY_FRACTION * _measure_largest(node, position, array), _SMALLEST_MOVE))
            for position, array in enumerate(inputs)
        ]
        if _find_changing_pieces(node, branch, _move_inputs(inputs, moves, generator)).any():
            return True
    return False


def _measure_largest(node: Node, position: int, array: Array) -> float:
    argument = node.op.measure_argument(position, array)
    return float((np.abs(array) if argument is None else argument).max(initial=0))


def _find_changing_pieces(node: Node, branch: Array, moved_inputs: Sequence[Array | None]) -> Array:
    """Return the pieces, of the shape of the branch, that change with any of the moves of the inputs."""
    moved_branches = node.op.select_branch(*moved_inputs)
    assert moved_branches is not None
    return np.any(node.op.find_changed_pieces(branch, moved_branches), axis=0, keepdims=True)


def _bound_input_error(
    node: Node, position: int, value: Array | None, sweeps: Mapping[str, Array], scale: float
) -> Array | None:
    """Return the largest error of an input, or None for one that does not round."""
    if value is None or value.dtype.kind != "f":
        return None
    operand, argument = node.operands[position], node.op.measure_argument(position, value)
    spacing = np.spacing(np.abs(value) if argument is None else argument)
    values_in_sweeps = sweeps[operand] if isinstance(operand, str) else value
    if values_in_sweeps.shape[0] == 1:
        return spacing
    return np.maximum(
        spacing, SAFETY_FACTOR * scale * compute_root_mean_square(values_in_sweeps[1:] - values_in_sweeps[0])
    )


def _move_inputs(
    inputs: Sequence[Array | None], input_errors: Sequence[Array | None], generator: np.random.Generator
) -> list[Array | None]:
    """Return inputs moved by their errors, (2 patterns + 2, ...).

    They move in random patterns, in the opposite ones, and all of them one way.
    """
    moved_inputs: list[Array | None] = []
    for array, size in zip(inputs, input_errors, strict=True):
        if array is None or size is None:
            moved_inputs.append(array)
            continue
        signs = np.where(generator.random((_MOVE_PATTERNS, *array.shape[1:])) < 0.5, -1.0, 1.0)
        unmoved = np.ones((1, *array.shape[1:]))
        moved_inputs.append(array + size * np.concatenate([signs, -signs, unmoved, -unmoved]))
    return moved_inputs
