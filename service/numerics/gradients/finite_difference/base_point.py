"""A point of a model: the pieces that hold its nodes, and every value there."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.core.cached_attribute import cached_attribute
from service.numerics.model.graph import Graph, NamedArrays, Node


class MoveLimits(NamedTuple):
    """Limits of the moves of each element that stay near, (1, ...).

    Attributes
    ----------
    limits
        Largest moves: 1, or the element's own size if that is larger.
    smallest_step
        Size that each element must keep: a quarter of its own, 0 for an own size of 1 or less. An element that falls to
        nothing lay next to a pole, at a distance far below the step, from which nothing of its slope is seen.
    unlimited
        Mask of the elements that are not finite, so that no step gives anything; None for none.
    """

    limits: Array
    smallest_step: Array
    unlimited: Array | None


class BasePoint:
    """A model at a point.

    Parameters
    ----------
    graph
        The model, held to its pieces at the point.
    values
        Every leaf and node, (1, ...).
    """

    def __init__(self, graph: Graph, values: Mapping[str, Array]) -> None:
        self.graph = graph
        self.values = values
        self.nodes: dict[str, Node] = {node.name: node for node in graph.nodes}
        self._operand_arrays: dict[str, tuple[Array | None, ...]] = {}
        self._limits: dict[str, MoveLimits] = {}

    def __getstate__(self) -> Mapping[str, object]:
        """Return the point without what is worked out from its values."""
        return {**self.__dict__, "_operand_arrays": {}, "_limits": {}}

    @classmethod
    def from_shapes(cls, graph: Graph, leaves: Mapping[str, Array]) -> "BasePoint":
        """Return a point with the leaves and nodes that are no floats, and shapes alone.

        All other values are zeros that take no memory.
        """
        zero = np.float64(0)
        values: NamedArrays = {name: np.broadcast_to(zero, (1, *shape)) for name, shape in graph.shapes.items()}
        if graph.has_discrete_nodes and not leaves.keys() >= graph.leaf_kinds.keys():
            leaves = {**leaves, **graph.evaluate_discrete_nodes(leaves)}
        return cls(graph, values | {name: leaves[name] for name in graph.leaf_kinds})

    @cached_attribute
    def readers_by_name(self) -> dict[str, tuple[Node, ...]]:
        """Return the nodes that read each name and have a gradient, in order."""
        readers: dict[str, list[Node]] = {name: [] for name in self.graph.shapes}
        for node in self.graph.nodes:
            for source in dict.fromkeys(node.source_names if node.name in self.graph.names_with_gradient else ()):
                readers[source].append(node)
        return {name: tuple(nodes) for name, nodes in readers.items()}

    def move_limits(self, name: str) -> MoveLimits:
        """Return the limits of the moves of each element."""
        if name not in self._limits:
            size = np.abs(self.values[name])
            largest_moves = np.maximum(1, size)
            is_finite = np.isfinite(largest_moves)
            self._limits[name] = MoveLimits(
                largest_moves, np.where(size > 1, size / 4, 0), None if is_finite.all() else ~is_finite
            )
        return self._limits[name]

    def get_operand_arrays(self, node: Node) -> tuple[Array | None, ...]:
        """Return the arrays of a node's operands at the point."""
        if node.name not in self._operand_arrays:
            self._operand_arrays[node.name] = self.graph.get_operand_arrays(node, self.values)
        return self._operand_arrays[node.name]
