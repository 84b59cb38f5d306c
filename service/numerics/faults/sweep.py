"""Gradients of many wrong backward passes at once: each alteration is a tile of one reverse sweep."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any

import numpy as np

from service.numerics.faults.fault import Alteration, Wrong
from service.numerics.graph import Graph, Node
from service.numerics.ops.op import CALL, Backward, Gradients
from service.numerics.pausing import pausing
from service.numerics.tiles import Array, repeated, size

_ELEMENTS = 2**20
"""Of all gradients of the alterations that are swept together."""
_MOST_TOGETHER = 128
_OF_A_PASS = 3
"""Work of a reverse sweep, in forward passes."""


class Affordable:
    """As many alterations as some work allows, given one by one; at least one.

    T alterations that are swept together make the calls of each node once: a sweep takes sum_n (c_n CALL + T w_n) three
    times, where c_n are the calls of a node, and w_n is its work in one tile. To it come calls of its own for each node
    that an alteration changes, and what it takes to compare the gradients, which is no more than all elements.
    It is counted and not timed, so that the same request gets the same answer.

    Parameters
    ----------
    graph
        The model.
    alterations
        The likeliest first.
    most
        Multiply-adds that all of them together may take.

    Attributes
    ----------
    work
        What those take that were given so far.
    left_out
        Whether there were more.
    """

    def __init__(self, graph: Graph, alterations: Iterable[Alteration], most: int) -> None:
        self._alterations, self._most = alterations, most
        cost = graph.cost()
        self._sweep = _OF_A_PASS * CALL * cost.calls
        self._each = _OF_A_PASS * cost.work + cost.elements
        self._of_node = {node.name: _OF_A_PASS * graph.cost([node]).at_once for node in graph.nodes}
        self._length = _together(graph)
        self.work = 0
        self.left_out = False

    def __iter__(self) -> Iterator[Alteration]:
        """Give them."""
        for number, each in enumerate(self._alterations):
            more = self._each + sum(self._of_node[name] for name in each.overrides)
            more += self._sweep if number % self._length == 0 else 0
            if number and self.work + more > self._most:
                self.left_out = True
                return
            self.work += more
            yield each


def _together(graph: Graph) -> int:
    """How many alterations are swept together."""
    every = sum(map(size, graph.shapes.values()))
    return min(_MOST_TOGETHER, max(1, _ELEMENTS // max(1, every)))


def gradients_of(
    graph: Graph, values: Mapping[str, Array], alterations: Iterable[Alteration], names: Sequence[str]
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
    left, length = iter(alterations), _together(graph)
    while together := list(islice(left, length)):
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
        for tile, change in pausing(wrong.items())
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
