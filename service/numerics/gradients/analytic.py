"""The analytic gradient: backward passes derived by hand, in NumPy."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from service.numerics.core.batching import Array
from service.numerics.core.precision import ComputeDtype
from service.numerics.model.graph import Graph, NamedArrays, Node, NodeObserver
from service.numerics.ops.op import BackwardPass, Gradients


@dataclass(frozen=True)
class AnalyticResult:
    """Values of every leaf and node, and gradients of every node and of the requested leaves, without the tile axis."""

    values: NamedArrays
    gradients: NamedArrays


class _RoundingObserver(NodeObserver):
    """An observer that rounds every result to a dtype narrower than its storage."""

    def __init__(self, dtype: ComputeDtype) -> None:
        self._dtype = dtype

    def forward(self, node: Node, inputs: tuple[Array | None, ...]) -> Array:
        output = node.forward(*inputs)
        return output if node.op.output_kind != "float" else self._dtype.round_array(output)

    def backward(
        self, node: Node, node_backward: BackwardPass, gradient: Array, output: Array, inputs: tuple[Array | None, ...]
    ) -> Gradients:
        results = node_backward(gradient, output, *inputs)
        return tuple(None if result is None else self._dtype.round_array(result) for result in results)

    def observe_terms(self, node: Node, terms: Array, inputs: tuple[Array | None, ...]) -> Array:
        return self._dtype.round_array(terms)

    def operation(self, result: Array) -> Array:
        return self._dtype.round_array(result)


def differentiate_analytically(
    graph: Graph,
    leaves: Mapping[str, Array],
    backward_overrides: Mapping[str, BackwardPass] | None = None,
    dtype: ComputeDtype | None = None,
    names: Iterable[str] | None = None,
) -> AnalyticResult:
    """Return the gradients of the loss by the ops' backward passes.

    They are in the dtype of the leaves.

    Parameters
    ----------
    graph
        The model.
    leaves
        Every tensor and weight, (1, ...), in one dtype.
    backward_overrides
        Backward passes in place of the ops' own, by node name; none by default.
    dtype
        Dtype of the numbers in the leaves; needed for one that NumPy lacks.
    names
        Leaves to differentiate by, and nodes, which count as requested in any case; all leaves by default.
    """
    observer = _RoundingObserver(dtype) if dtype is not None and dtype.is_storage_wider else None
    values = graph.forward(leaves, observer)
    gradients = (
        graph.backward(values, backward_overrides, observer)
        if names is None or observer is not None or backward_overrides
        else graph.backward_to(values, names)
    )
    return AnalyticResult(_remove_batch_axis(values), _remove_batch_axis(gradients))


def _remove_batch_axis(arrays: Mapping[str, Array]) -> NamedArrays:
    return {name: array[0] for name, array in arrays.items()}
