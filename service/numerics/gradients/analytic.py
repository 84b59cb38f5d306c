"""The analytic route: backward passes derived by hand, in NumPy."""

from collections.abc import Mapping
from dataclasses import dataclass

from service.numerics.graph import Graph, Node, Observer, Values
from service.numerics.ops.op import Backward, Gradients
from service.numerics.precision import Dtype
from service.numerics.tiles import Array


@dataclass(frozen=True)
class Analytic:
    """Values and gradients of every leaf and node, without the tile axis."""

    values: Values
    gradients: Values


class _RoundedThroughout(Observer):
    """Rounds every result to a dtype narrower than the one that holds it."""

    def __init__(self, dtype: Dtype) -> None:
        self._dtype = dtype

    def forward(self, node: Node, inputs: tuple[Array | None, ...]) -> Array:
        return self._dtype.rounded(node.forward(*inputs))

    def backward(
        self, node: Node, own: Backward, gradient: Array, output: Array, inputs: tuple[Array | None, ...]
    ) -> Gradients:
        results = own(gradient, output, *inputs)
        return tuple(None if result is None else self._dtype.rounded(result) for result in results)

    def terms(self, node: Node, terms: Array, inputs: tuple[Array | None, ...]) -> Array:
        return self._dtype.rounded(terms)

    def operation(self, result: Array) -> Array:
        return self._dtype.rounded(result)


def differentiate(
    graph: Graph,
    leaves: Mapping[str, Array],
    override: Mapping[str, Backward] | None = None,
    dtype: Dtype | None = None,
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
    dtype
        The dtype whose numbers the leaves hold; needed where NumPy has none of its own for it.
    """
    observer = _RoundedThroughout(dtype) if dtype is not None and dtype.wider else None
    values = graph.forward(leaves, observer)
    gradients = graph.reverse(values, override, observer)
    return Analytic(_without_tile(values), _without_tile(gradients))


def _without_tile(arrays: Mapping[str, Array]) -> Values:
    return {name: array[0] for name, array in arrays.items()}
