"""The analytic route: backward passes derived by hand, in NumPy."""

from collections.abc import Mapping
from dataclasses import dataclass

from service.numerics.graph import Graph, Values
from service.numerics.ops.op import Backward
from service.numerics.tiles import Array


@dataclass(frozen=True)
class Analytic:
    """Values and gradients of every leaf and node, without the tile axis."""

    values: Values
    gradients: Values


def differentiate(
    graph: Graph, leaves: Mapping[str, Array], override: Mapping[str, Backward] | None = None
) -> Analytic:
    """Differentiate the loss in the dtype of the leaves.

    Parameters
    ----------
    graph
        The model.
    leaves
        Every tensor and weight, (1, ...), in one dtype.
    override
        A backward pass to take instead of the op's own, by node name.
    """
    values = graph.forward(leaves)
    gradients = graph.reverse(values, override)
    return Analytic(_without_tile(values), _without_tile(gradients))


def _without_tile(arrays: Mapping[str, Array]) -> Values:
    return {name: array[0] for name, array in arrays.items()}
