"""The origin of numbers that are not finite, in the forward or backward pass."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from service.numerics.core.batching import Array, add_batch_axis
from service.numerics.core.interrupts import iterate_interruptibly
from service.numerics.model.graph import Graph, Node


@dataclass(frozen=True)
class NonFiniteOrigin:
    """The first number that is not finite.

    Attributes
    ----------
    node
        Node that made the number of finite ones.
    index, value
        Index of the number, the first in row-major order.
    gradient_name
        Name whose gradient received the number from the node; None for a value of the node itself.
    """

    node: Node
    index: tuple[int, ...]
    value: float
    gradient_name: str | None = None


def find_origin(
    graph: Graph, values: Mapping[str, Array], gradients: Mapping[str, Array], name: str | None = None
) -> NonFiniteOrigin | None:
    """Find where it begins; None where all is finite.

    Parameters
    ----------
    graph
        The model.
    values, gradients
        Arrays of every leaf and node, of their shapes.
    name
        Whose gradient is asked about; that of any by default.
    """
    return _find_in_values(graph, values) or _find_in_gradients(graph, values, gradients, name)


def _find_in_values(graph: Graph, values: Mapping[str, Array]) -> NonFiniteOrigin | None:
    """Return the first node whose value is not finite while its inputs are."""
    for node in iterate_interruptibly(graph.nodes):
        if not np.isfinite(values[node.name]).all() and all(
            np.isfinite(values[name]).all() for name in node.source_names
        ):
            return _make_origin(node, values[node.name])
    return None


def _find_in_gradients(
    graph: Graph, values: Mapping[str, Array], gradients: Mapping[str, Array], name: str | None
) -> NonFiniteOrigin | None:
    """Return the last node on the way to the name with a non-finite contribution."""
    on_the_way = None if name is None else {name, *(node.name for node in graph.list_downstream_nodes([name]))}
    tiles = {name: add_batch_axis(value) for name, value in values.items()}
    for node in iterate_interruptibly(reversed(graph.nodes)):
        sources = [name for name in node.source_names if on_the_way is None or name in on_the_way]
        if all(np.isfinite(gradients[name]).all() for name in sources) or not np.isfinite(gradients[node.name]).all():
            continue
        handed_back = node.op.backward(
            add_batch_axis(gradients[node.name]), tiles[node.name], *graph.get_operand_arrays(node, tiles)
        )
        for operand, gradient in zip(node.operands, handed_back, strict=True):
            if operand in sources and gradient is not None and not np.isfinite(gradient).all():
                return _make_origin(node, gradient[0], str(operand))
    return None


def _make_origin(node: Node, array: Array, gradient_name: str | None = None) -> NonFiniteOrigin:
    flat_position = int(np.argmin(np.isfinite(array)))
    index = tuple(int(i) for i in np.unravel_index(flat_position, array.shape))
    return NonFiniteOrigin(node, index, float(array[index]), gradient_name)
