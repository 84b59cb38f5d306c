"""A model whose tensors and nodes move along directions."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from service.numerics.core.batching import Array, Shape
from service.numerics.model.graph import Graph, NamedArrays, Node
from service.numerics.ops.directional_move import DirectionalMove


@dataclass(frozen=True)
class MovedModel:
    """A model with moves for some of its tensors and nodes.

    Attributes
    ----------
    graph
        The model.
    move_names
        Name of the leaf of moves, (k,), of each tensor or node.
    moved_names
        Name of the node that has each tensor or node moved.
    """

    graph: Graph
    move_names: Mapping[str, str]
    moved_names: Mapping[str, str]

    def add_moved_arrays(self, arrays: Mapping[str, Array]) -> NamedArrays:
        """Return arrays of the model at rest with those of the moved nodes: they are those of what moves."""
        return {**arrays, **{moved: arrays[name] for name, moved in self.moved_names.items()}}


def add_direction_inputs(
    graph: Graph,
    directions: Mapping[str, Array],
    units: Mapping[str, float] | None = None,
    shared_move: str | None = None,
) -> MovedModel:
    """Return a model whose tensors and nodes move along directions.

    Parameters
    ----------
    graph
        The model.
    directions
        Directions of each tensor or node, (k, *shape).
    units
        Unit of the moves of each tensor or node; 1 by default.
    shared_move
        Name of one leaf of moves for all of them together; by default each has its own.
    """
    units = units or {}
    shared_name = None if shared_move is None else _make_unused_name(shared_move, graph)
    move_names = {name: shared_name or _make_unused_name(f"{name} moves", graph) for name in directions}
    moved_names = {name: _make_unused_name(f"{name} moved", graph) for name in directions}
    move_nodes = [
        Node(
            moved_names[name],
            DirectionalMove(directions=tensor_directions, unit=units.get(name, 1.0)),
            (name, move_names[name]),
        )
        for name, tensor_directions in directions.items()
    ]
    nodes = [
        replace(
            node,
            operands=tuple(
                moved_names.get(operand, operand) if isinstance(operand, str) else operand for operand in node.operands
            ),
        )
        for node in graph.nodes
    ]
    node_names = {node.name for node in graph.nodes}
    leaves = {name: shape for name, shape in graph.shapes.items() if name not in node_names}
    move_shapes: dict[str, Shape] = {
        move_names[name]: (len(tensor_directions),) for name, tensor_directions in directions.items()
    }
    return MovedModel(Graph([*move_nodes, *nodes], leaves | move_shapes, graph.leaf_kinds), move_names, moved_names)


def _make_unused_name(name: str, graph: Graph) -> str:
    while name in graph.shapes:
        name += "'"
    return name
