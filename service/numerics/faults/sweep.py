"""Gradients of many wrong backward passes at once: each alteration is a tile of one reverse sweep."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from service.numerics.faults.fault import Alteration, Wrong
from service.numerics.graph import Graph, Node
from service.numerics.ops.op import CALL, Backward, Gradients
from service.numerics.tiles import Array, repeated, size

_ELEMENTS = 2**20
"""Of all gradients of the alterations that are swept together."""
_MOST_TOGETHER = 128
_OF_A_PASS = 3
"""Work of a reverse sweep, in forward passes."""


class Effort:
    """Multiply-adds that the sweeps of some alterations take, counted as they are added.

    T alterations that are swept together call each node once: a sweep takes sum_n (CALL + T w_n), where w_n is the
    work of a node in one tile. To it comes a call of its own for each node that an alteration changes, and for each
    wanted gradient what it takes to compare it, which is a share of the elements.

    Parameters
    ----------
    graph
        The model.
    """

    def __init__(self, graph: Graph) -> None:
        calls = CALL * len(graph.nodes)
        self._each = max(0, graph.cost().work - calls) + graph.cost().elements
        self._sweep = calls
        self._of_node = {node.name: graph.cost([node]).work for node in graph.nodes}
        self._length = _together(graph)
        self._count = 0
        self.work = 0

    def add(self, alteration: Alteration) -> None:
        """Count one more."""
        if self._count % self._length == 0:
            self.work += _OF_A_PASS * self._sweep
        self._count += 1
        self.work += _OF_A_PASS * (self._each + sum(self._of_node[name] for name in alteration.overrides))


def _together(graph: Graph) -> int:
    """How many alterations are swept together."""
    every = sum(map(size, graph.shapes.values()))
    return min(_MOST_TOGETHER, max(1, _ELEMENTS // max(1, every)))


def gradients_of(
    graph: Graph, values: Mapping[str, Array], alterations: Sequence[Alteration], names: Sequence[str]
) -> Iterator[tuple[Sequence[Alteration], dict[str, Array]]]:
    """Sweep back with each alteration, so many at a time.

    Parameters
    ----------
    graph
        The model.
    values
        Every leaf and node, (1, ...).
    alterations
        Of its backward pass.
    names
        Whose gradients are asked for.

    Yields
    ------
    tuple
        Alterations, and the gradients that come of each, (alterations, ...) by name.
    """
    length = _together(graph)
    for start in range(0, len(alterations), length):
        together = alterations[start : start + length]
        found = graph.reverse(values, _overrides(graph, together))
        yield together, {name: repeated(found[name], len(together)) for name in names}


def _overrides(graph: Graph, alterations: Sequence[Alteration]) -> dict[str, Backward]:
    by_node: dict[str, dict[int, Wrong]] = {}
    for tile, alteration in enumerate(alterations):
        for name, wrong in alteration.overrides.items():
            by_node.setdefault(name, {})[tile] = wrong
    nodes = {node.name: node for node in graph.nodes}
    return {name: partial(_spliced, nodes[name], wrong, len(alterations)) for name, wrong in by_node.items()}


def _spliced(
    node: Node, wrong: Mapping[int, Wrong], tiles: int, gradient: Array, output: Array, *inputs: Any
) -> Gradients:
    """Backward pass that is wrong in some tiles, (tiles, ...)."""
    right = node.op.backward(gradient, output, *inputs)
    altered = {
        tile: change(
            _of_tile(right, tile), gradient[tile : tile + 1] if len(gradient) > 1 else gradient, output, *inputs
        )
        for tile, change in wrong.items()
    }
    return tuple(
        None if each is None else _joined(each, {tile: results[position] for tile, results in altered.items()}, tiles)
        for position, each in enumerate(right)
    )


def _of_tile(right: Gradients, tile: int) -> Gradients:
    return tuple(None if each is None else each[tile : tile + 1] if len(each) > 1 else each for each in right)


def _joined(right: Array, altered: Mapping[int, Array | None], tiles: int) -> Array:
    joined = np.repeat(right, tiles, axis=0) if len(right) == 1 else right.copy()
    for tile, each in altered.items():
        joined[tile] = 0 if each is None else each[0]
    return joined
