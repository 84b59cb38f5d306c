"""Gradients of many wrong backward passes at once.

Each override is a tile of one reverse sweep.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any, Protocol

import numpy as np

from service.numerics.core.batching import Array, broadcast_batch, count_elements
from service.numerics.core.interrupts import iterate_interruptibly
from service.numerics.diagnosis.bug import BackwardOverride, WrongBackward
from service.numerics.model.graph import Graph, Node
from service.numerics.ops.op import WORK_PER_CALL, BackwardPass, Gradients

_MAX_BATCH_ELEMENTS = 2**20
"""Elements of all gradients of the overrides in one sweep."""
_MAX_BATCH_SIZE = 128
_BACKWARD_WORK_RATIO = 3
"""Work of a reverse sweep in forward passes."""


class Screen(Protocol):
    """A test of overrides by themselves."""

    def may_match(self, override: BackwardOverride) -> bool:
        """Return whether an override may have made a candidate."""
        ...


class AffordableOverrides:
    """As many overrides as some work allows, yielded one by one; at least one.

    A sweep of T overrides makes the calls of each node once: it takes sum_n (c_n CALL + T w_n) three times, with the
    calls c_n of a node and its work w_n in one tile. Each node that an override changes adds calls of its own, and the
    comparison of the gradients adds no more work than there are elements. The work is counted and not timed, so that
    the same request gets the same answer.

    Parameters
    ----------
    graph
        The model.
    backward_overrides
        Overrides, the likeliest first.
    max_work
        Multiply-adds that all of them together may take.
    screen
        Test that leaves out overrides before any sweep; none by default.

    Attributes
    ----------
    work_done
        Multiply-adds of the overrides yielded so far.
    is_incomplete
        True once the work did not suffice for all overrides.
    """

    def __init__(
        self,
        graph: Graph,
        backward_overrides: Iterable[BackwardOverride],
        max_work: int,
        screen: Screen | None = None,
    ) -> None:
        self._backward_overrides, self._max_work, self._screen = backward_overrides, max_work, screen
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
        """Yield the overrides until their work exceeds the maximum."""
        number = 0
        for override in iterate_interruptibly(self._backward_overrides):
            own_work = sum(self._work_by_node[name] for name in override.wrong_backward_by_node)
            if self._screen is not None and not self._screen.may_match(override):
                self.work_done += own_work
                if self.work_done > self._max_work:
                    self.is_incomplete = True
                    return
                continue
            work = self._work_per_override + own_work
            work += self._work_per_batch if number % self._batch_size == 0 else 0
            if number and self.work_done + work > self._max_work:
                self.is_incomplete = True
                return
            self.work_done += work
            number += 1
            yield override


def _choose_batch_size(graph: Graph) -> int:
    """Choose the number of overrides in one sweep."""
    elements = sum(map(count_elements, graph.shapes.values()))
    return min(_MAX_BATCH_SIZE, max(1, _MAX_BATCH_ELEMENTS // max(1, elements)))


def iterate_overridden_gradients(
    graph: Graph, values: Mapping[str, Array], backward_overrides: Iterable[BackwardOverride], names: Sequence[str]
) -> Iterator[tuple[Sequence[BackwardOverride], dict[str, Array]]]:
    """Sweep back with each override, in batches.

    A wrong pass may divide by zero, and the sweep hands its infinities and NaN on, in its own tile alone.

    Parameters
    ----------
    graph
        The model.
    values
        Leaves and nodes, shape (1, ...), by name.
    backward_overrides
        Overrides of the backward pass.
    names
        Names of the gradients to return.

    Yields
    ------
    tuple
        A batch of overrides, and their gradients, shape (overrides, ...), by name.
    """
    remaining_overrides, batch_size = iter(backward_overrides), _choose_batch_size(graph)
    while batch := list(islice(remaining_overrides, batch_size)):
        with np.errstate(all="ignore"):
            gradients = graph.backward(values, _batch_overrides(graph, batch))
        yield batch, {name: broadcast_batch(gradients[name], len(batch)) for name in names}


def _batch_overrides(graph: Graph, backward_overrides: Sequence[BackwardOverride]) -> dict[str, BackwardPass]:
    by_node: dict[str, dict[int, WrongBackward]] = {}
    for tile, override in enumerate(backward_overrides):
        for name, wrong_backward in override.wrong_backward_by_node.items():
            by_node.setdefault(name, {})[tile] = wrong_backward
    nodes = {node.name: node for node in graph.nodes}
    return {
        name: partial(_splice_backward, nodes[name], wrong_backward, len(backward_overrides))
        for name, wrong_backward in by_node.items()
    }


def _splice_backward(
    node: Node, wrong: Mapping[int, WrongBackward], tiles: int, gradient: Array, output: Array, *inputs: Any
) -> Gradients:
    """Run the backward pass of a node, wrong in some tiles, shape (tiles, ...)."""
    right = node.op.backward(gradient, output, *inputs)
    wrong_results = {
        tile: run_wrong(
            _select_batch_entry(right, tile),
            gradient[tile : tile + 1] if len(gradient) > 1 else gradient,
            output,
            *inputs,
        )
        for tile, run_wrong in iterate_interruptibly(wrong.items())
    }
    return tuple(
        None
        if result is None
        else _join_batch_entries(result, {tile: results[position] for tile, results in wrong_results.items()}, tiles)
        for position, result in enumerate(right)
    )


def _select_batch_entry(right: Gradients, tile: int) -> Gradients:
    return tuple(None if result is None else result[tile : tile + 1] if len(result) > 1 else result for result in right)


def _join_batch_entries(right: Array, wrong_by_tile: Mapping[int, Array | None], tiles: int) -> Array:
    joined_result = np.repeat(right, tiles, axis=0) if len(right) == 1 else right.copy()
    for tile, wrong_result in wrong_by_tile.items():
        joined_result[tile] = 0 if wrong_result is None else wrong_result[0]
    return joined_result
