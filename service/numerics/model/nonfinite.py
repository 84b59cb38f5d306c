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
        That made it of finite ones.
    index, value
        Of it, the first in row-major order.
    gradient_name
        What the node handed it back to, as part of its gradient; None where it is a value of the node itself.
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
        Of every leaf and node, of their shapes.
    name
        Whose gradient is asked about; that of any by default.
    """
    return _find_in_values(graph, values) or _find_in_gradients(graph, values, gradients, name)


def _find_in_values(graph: Graph, values: Mapping[str, Array]) -> NonFiniteOrigin | None:
    """Return the first node whose value is not finite while its inputs are."""
    for node in iterate_interruptibly(graph.nodes):
        if not np.isfinite(values[node.name]).all() and all(
            np.isfinite(values[each]).all() for each in node.source_names
        ):
            return _make_origin(node, values[node.name])
    return None


def _find_in_gradients(
    graph: Graph, values: Mapping[str, Array], gradients: Mapping[str, Array], name: str | None
) -> NonFiniteOrigin | None:
    """Return the last node on the way to the name with a non-finite contribution."""
    on_the_way = None if name is None else {name, *(node.name for node in graph.downstream_nodes([name]))}
    tiles = {each: add_batch_axis(value) for each, value in values.items()}
    for node in iterate_interruptibly(reversed(graph.nodes)):
        sources = [each for each in node.source_names if on_the_way is None or each in on_the_way]
        if all(np.isfinite(gradients[each]).all() for each in sources) or not np.isfinite(gradients[node.name]).all():
            continue
        handed_back = node.op.backward(
            add_batch_axis(gradients[node.name]), tiles[node.name], *graph.operand_arrays(node, tiles)
        )
        for operand, each in zip(node.operands, handed_back, strict=True):
            if operand in sources and each is not None and not np.isfinite(each).all():
                return _make_origin(node, each[0], str(operand))
    return None


def _make_origin(node: Node, array: Array, gradient_name: str | None = None) -> NonFiniteOrigin:
    place = int(np.argmin(np.isfinite(array)))
    index = tuple(int(i) for i in np.unravel_index(place, array.shape))
    return NonFiniteOrigin(node, index, float(array[index]), gradient_name)
