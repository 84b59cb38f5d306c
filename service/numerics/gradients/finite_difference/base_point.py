"""A point of a model: where its nodes are held, and every value there."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.core.cached_attribute import cached_attribute
from service.numerics.model.graph import Graph, NamedArrays, Node


class MoveLimits(NamedTuple):
    """How far each element may move and still be near, (1, ...).

    Attributes
    ----------
    near
        By 1, or its own size where that is larger.
    least
        Size that it must keep, a quarter of its own, 0 where that is 1 or less. What falls to nothing lay next to a
        pole, at a distance far below the step: nothing of its slope is seen from there.
    unbounded
        Where an element is not finite, so that nothing is to be had by any step; None for nowhere.
    """

    limits: Array
    smallest_step: Array
    unlimited: Array | None


class BasePoint:
    """A model at a point.

    Parameters
    ----------
    graph
        The model, held to the pieces that it is on there.
    values
        Every leaf and node, (1, ...).
    """

    def __init__(self, graph: Graph, values: Mapping[str, Array]) -> None:
        self.graph = graph
        self.values = values
        self.nodes: dict[str, Node] = {node.name: node for node in graph.nodes}
        self._operand_arrays: dict[str, tuple[Array | None, ...]] = {}
        self._limits: dict[str, MoveLimits] = {}

    @classmethod
    def from_shapes(cls, graph: Graph, leaves: Mapping[str, Array]) -> "BasePoint":
        """A point of which only the leaves that are no floats are known; of all else the shapes alone."""
        nothing = np.float64(0)
        values: NamedArrays = {name: np.broadcast_to(nothing, (1, *shape)) for name, shape in graph.shapes.items()}
        return cls(graph, values | {name: leaves[name] for name in graph.leaf_kinds})

    @cached_attribute
    def readers_by_name(self) -> dict[str, tuple[Node, ...]]:
        """The nodes that read each name, in order."""
        readers: dict[str, list[Node]] = {name: [] for name in self.graph.shapes}
        for node in self.graph.nodes:
            for source in dict.fromkeys(node.source_names):
                readers[source].append(node)
        return {name: tuple(each) for name, each in readers.items()}

    def move_limits(self, name: str) -> MoveLimits:
        """How far each element may move."""
        if name not in self._limits:
            size = np.abs(self.values[name])
            near = np.maximum(1, size)
            finite = np.isfinite(near)
            self._limits[name] = MoveLimits(near, np.where(size > 1, size / 4, 0), None if finite.all() else ~finite)
        return self._limits[name]

    def operand_arrays(self, node: Node) -> tuple[Array | None, ...]:
        """Arrays of a node's operands at the point."""
        if node.name not in self._operand_arrays:
            self._operand_arrays[node.name] = self.graph.operand_arrays(node, self.values)
        return self._operand_arrays[node.name]
