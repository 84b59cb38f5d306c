"""Graphs with tensors that have no elements, as graphs without them.

A node without elements is left out: nothing can depend on it. A node with elements that reads one without is the same
node without that operand (`cat`), or it is a number for all inputs: a sum of nothing is 0, its mean NaN, as in PyTorch.
Such a node becomes a constant that reads the tensors behind it, whose gradients by it are 0. So the passes, the
differences and the verdicts meet no array without elements, and each tensor that reaches the loss still does.
"""

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any, ClassVar, cast

import numpy as np

from service.numerics.core.batching import Array, Shape
from service.numerics.core.quoting import quote_name
from service.numerics.model.graph import Graph, InvalidModelError, ModelError, Node, quote_node_name
from service.numerics.ops.op import DependencyLabels, Gradients, Op, OpBug, OpExample, Slot
from service.numerics.ops.rounding_errors import Rounding

_VALUES_OF_NOTHING = {
    "sum": 0.0,
    "mean": np.nan,
    "logsumexp": -np.inf,
    "matmul": 0.0,
    "einsum": 0.0,
    "det": 1.0,
    "logdet": 0.0,
    "slogdet": 0.0,
}
"""Values of ops over no elements, as in PyTorch. The reduction of a loss gives its value."""
_LOSSES_OF_NOTHING = {"sum": 0.0, "mean": np.nan}
_LOSSES_BY_SAMPLE = ("cosine_embedding_loss", "cross_entropy", "nll_loss", "triplet_margin_loss")
"""Losses that sum up within a sample: of no features, a sample has a loss."""
_OPS_BY_SAMPLE = MappingProxyType(
    {
        "conv1d": 3,
        "conv2d": 4,
        "conv3d": 5,
        "conv_transpose2d": 4,
        "conv_transpose3d": 5,
        "max_pool2d": 4,
        "avg_pool2d": 4,
        "scaled_dot_product_attention": 2,
    }
)
"""Ops that take no samples, but no empty ones, and the fewest axes of several samples."""


@dataclass(frozen=True)
class Constant(Op):
    """One number for all elements, whatever the inputs: y = c.

    dL/dx = 0.
    """

    value: float
    shape: Shape

    name: ClassVar[str] = "constant"
    examples: ClassVar[tuple[OpExample, ...]] = ()
    bugs: ClassVar[Mapping[str, OpBug]] = MappingProxyType({})
    inputs: ClassVar[tuple[str, ...]] = ("tensors*",)
    slots: ClassVar[tuple[Slot, ...]] = (Slot("tensors", optional=False, variadic=True, kinds=("float",)),)
    supports_complex_step: ClassVar[bool] = True

    def infer_output_shape(self, *shapes: Shape) -> Shape:
        return self.shape

    def forward(self, *inputs: Array) -> Array:
        return np.full((1, *self.shape), self.value, np.result_type(*inputs))

    def backward(self, gradient: Array, output: Array, *inputs: Array) -> Gradients:
        return tuple(np.zeros_like(x, shape=(len(gradient), *x.shape[1:])) for x in inputs)

    def torch_forward(self, torch: Any, *inputs: Any) -> Any:
        # Sums over no elements, so that the gradients are there, and are 0 beside infinities too.
        nothing = torch.stack([x.flatten()[:0].sum() for x in inputs]).sum()
        return (nothing + self.value).expand(self.shape)

    def estimate_forward_rounding(self, output: Array, *inputs: Array) -> Rounding | None:
        return None

    def estimate_backward_rounding(self, gradient: Array, output: Array, *inputs: Array) -> tuple[Rounding | None, ...]:
        return (None,) * len(inputs)

    def propagate_dependencies(self, values: DependencyLabels, *inputs: Array) -> Array:
        count = max(len(labels) for labels in values if labels is not None)
        return np.full((count, *self.shape), np.inf)


def remove_empty_tensors(graph: Graph) -> Graph:
    """Return the graph without tensors that have no elements; its listed nodes and its shapes stay as they are.

    Raises
    ------
    InvalidModelError
        A node with elements reads a tensor without, and its op does not take it.
    """
    if not any(0 in shape for shape in graph.shapes.values()):
        return graph
    reducer = _Reducer(graph)
    reduced_nodes = {node.name: reducer.reduce(node) for node in graph.nodes}
    if reducer.errors:
        raise InvalidModelError(reducer.errors)
    reduced_graph = copy(graph)
    reduced_graph.nodes = [node for node in reduced_nodes.values() if node is not None]
    reduced_graph.ordered_nodes = _reduce_ordered_nodes(graph, reduced_nodes)
    reduced_graph.shapes = {name: shape for name, shape in graph.shapes.items() if 0 not in shape}
    reduced_graph.empty_shapes = {name: shape for name, shape in graph.shapes.items() if 0 in shape}
    kinds = graph.leaf_kinds
    reduced_graph.leaf_kinds = {name: kind for name, kind in kinds.items() if name in reduced_graph.shapes}
    reduced_graph.empty_kinds = {name: kind for name, kind in kinds.items() if name in reduced_graph.empty_shapes}
    return reduced_graph


def _reduce_ordered_nodes(graph: Graph, reduced_nodes: Mapping[str, Node | None]) -> list[Node]:
    """Return the ordered nodes; a composite node stays whole if each of its steps does."""
    steps: dict[str, list[Node]] = {node.name: [] for node in graph.ordered_nodes}
    for step in graph.nodes:
        steps[graph.get_listed_name(step.name)].append(step)
    ordered_nodes: list[Node] = []
    for node in graph.ordered_nodes:
        reduced_steps = [reduced_nodes[step.name] for step in steps[node.name]]
        if all(reduced is step for reduced, step in zip(reduced_steps, steps[node.name], strict=True)):
            ordered_nodes.append(node)
        else:
            ordered_nodes.extend(reduced for reduced in reduced_steps if reduced is not None)
    return ordered_nodes


def find_value_of_nothing(op: Op) -> float | None:
    """Return the value of each element of the output of an op over no elements; None if it has none."""
    if op.name == "vector_norm":
        order: float | str = cast("Any", op).ord
        return 0.0 if not isinstance(order, str) and 0 < order < np.inf else None
    return _VALUES_OF_NOTHING.get(op.name, _LOSSES_OF_NOTHING.get(getattr(op, "reduction", "none")))


class _Reducer:
    """The nodes of a graph without tensors that have no elements, one after the other."""

    def __init__(self, graph: Graph) -> None:
        self.errors: list[ModelError] = []
        self._graph = graph
        self._read_behind: dict[str, tuple[str, ...]] = {}

    def reduce(self, node: Node) -> Node | None:
        """Return what is left of a node; None if nothing is."""
        shapes = self._graph.shapes
        if not self._has_whole_samples(node):
            self._refuse(node)
            return None
        if 0 in shapes[node.name]:
            self._read_behind[node.name] = self._list_tensors_behind(node)
            return None
        if not any(0 in shapes[name] for name in node.source_names):
            return node
        if node.op.name == "cat":
            return self._join(node)
        value = find_value_of_nothing(node.op)
        if value is None:
            self._refuse(node)
            return None
        behind = self._list_tensors_behind(node)
        return Node(node.name, Constant(value, shapes[node.name]), behind or (0.0,))

    def _has_whole_samples(self, node: Node) -> bool:
        """Tell whether the first axis alone may be 0, for an op whose samples must have elements."""
        sample_losses = node.op.name in _LOSSES_BY_SAMPLE
        if not sample_losses and node.op.name not in _OPS_BY_SAMPLE:
            return True
        fewest_axes = 2 if sample_losses else _OPS_BY_SAMPLE[node.op.name]
        shapes = [shape for shape in self._graph.get_operand_shapes(node) if shape is not None]
        if not any(0 in shape for shape in shapes):
            return True
        return len(shapes[0]) >= fewest_axes and shapes[0][0] == 0 and not any(0 in shape[1:] for shape in shapes)

    def _join(self, node: Node) -> Node | None:
        """Return a `cat` of the operands with elements."""
        shapes = self._graph.shapes
        if any(self._read_behind.get(name) for name in node.source_names):
            # These would no longer reach the loss.
            self._refuse(node)
            return None
        full = tuple(x for x in node.operands if not isinstance(x, str) or 0 not in shapes[x])
        return replace(node, operands=full)

    def _list_tensors_behind(self, node: Node) -> tuple[str, ...]:
        """Return the tensors with elements that a node depends on by those without, and its own inputs."""
        names: list[str] = []
        for name, slot in zip(node.operands, node.operand_slots, strict=True):
            if isinstance(name, str) and "float" in slot.kinds and name not in self._graph.leaf_kinds:
                names.extend(self._read_behind.get(name, ()) if 0 in self._graph.shapes[name] else (name,))
        return tuple(dict.fromkeys(names))

    def _refuse(self, node: Node) -> None:
        shapes = self._graph.shapes
        name = next(name for name in node.source_names if 0 in shapes[name])
        message = (
            f"{self._graph.describe_node(node, quote_node_name)} takes no tensor without elements in this place; "
            f"{quote_name(name)} has shape {list(shapes[name])}"
        )
        self.errors.append(ModelError(message, self._graph.find_position(node.name)))
