"""Gradients of many wrong backward passes at once: each alteration is a tile of one reverse sweep."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any

import numpy as np

from service.numerics.core.batching import Array, broadcast_batch, count_elements
from service.numerics.core.interrupts import iterate_interruptibly
from service.numerics.diagnosis.bug import BackwardOverride, WrongBackward
from service.numerics.model.graph import Graph, Node
from service.numerics.ops.op import WORK_PER_CALL, BackwardPass, Gradients

_MAX_BATCH_ELEMENTS = 2**20
"""Of all gradients of the alterations that are swept together."""
_MAX_BATCH_SIZE = 128
_BACKWARD_WORK_RATIO = 3
"""Work of a reverse sweep, in forward passes."""


class AffordableOverrides:
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

    def __init__(self, graph: Graph, backward_overrides: Iterable[BackwardOverride], max_work: int) -> None:
        self._backward_overrides, self._max_work = backward_overrides, max_work
        cost = graph.estimate_cost()
        self._work_per_batch = _BACKWARD_WORK_RATIO * WORK_PER_CALL * cost.calls
        self._work_per_override = _BACKWARD_WORK_RATIO * cost.work + cost.largest_array
        self._work_by_node = {
            node.name: _BACKWARD_WORK_RATIO * graph.estimate_cost([node]).total_work for node in graph.nodes
        }
        self._batch_size = _choose_batch_size(graph)
        self.work_done = 0
        self.is_incomplete = False

    def __iter__(self) -> Iterator[BackwardOverride]:
        """Give them."""
        for number, each in enumerate(self._backward_overrides):
            more = self._work_per_override + sum(self._work_by_node[name] for name in each.wrong_backward_by_node)
            more += self._work_per_batch if number % self._batch_size == 0 else 0
            if number and self.work_done + more > self._max_work:
                self.is_incomplete = True
                return
            self.work_done += more
            yield each


def _choose_batch_size(graph: Graph) -> int:
    """How many alterations are swept together."""
    every = sum(map(count_elements, graph.shapes.values()))
    return min(_MAX_BATCH_SIZE, max(1, _MAX_BATCH_ELEMENTS // max(1, every)))


def iterate_overridden_gradients(
    graph: Graph, values: Mapping[str, Array], backward_overrides: Iterable[BackwardOverride], names: Sequence[str]
) -> Iterator[tuple[Sequence[BackwardOverride], dict[str, Array]]]:
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
    left, length = iter(backward_overrides), _choose_batch_size(graph)
    while together := list(islice(left, length)):
        found = graph.backward(values, _batch_overrides(graph, together))
        yield together, {name: broadcast_batch(found[name], len(together)) for name in names}


def _batch_overrides(graph: Graph, backward_overrides: Sequence[BackwardOverride]) -> dict[str, BackwardPass]:
    by_node: dict[str, dict[int, WrongBackward]] = {}
    for tile, alteration in enumerate(backward_overrides):
        for name, wrong in alteration.wrong_backward_by_node.items():
            by_node.setdefault(name, {})[tile] = wrong
    nodes = {node.name: node for node in graph.nodes}
    return {
        name: partial(_splice_backward, nodes[name], wrong, len(backward_overrides)) for name, wrong in by_node.items()
    }


def _splice_backward(
    node: Node, wrong: Mapping[int, WrongBackward], tiles: int, gradient: Array, output: Array, *inputs: Any
) -> Gradients:
    """Backward pass that is wrong in some tiles, (tiles, ...)."""
    right = node.op.backward(gradient, output, *inputs)
    altered = {
        tile: change(
            _select_batch_entry(right, tile),
            gradient[tile : tile + 1] if len(gradient) > 1 else gradient,
            output,
            *inputs,
        )
        for tile, change in iterate_interruptibly(wrong.items())
    }
    return tuple(
        None
        if each is None
        else _join_batch_entries(each, {tile: results[position] for tile, results in altered.items()}, tiles)
        for position, each in enumerate(right)
    )


def _select_batch_entry(right: Gradients, tile: int) -> Gradients:
    return tuple(None if each is None else each[tile : tile + 1] if len(each) > 1 else each for each in right)


def _join_batch_entries(right: Array, altered: Mapping[int, Array | None], tiles: int) -> Array:
    joined = np.repeat(right, tiles, axis=0) if len(right) == 1 else right.copy()
    for tile, each in altered.items():
        joined[tile] = 0 if each is None else each[0]
    return joined
