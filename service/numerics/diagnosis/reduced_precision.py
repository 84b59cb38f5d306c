"""Gradients of a model with rounded inputs, or rounded factors of products.

TF32 and the mixed precision of weights round factors and add up products in full. The result has all digits. Only the
same computation shows that they are wrong.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.core.precision import Precision
from service.numerics.model.graph import Graph, NamedArrays, Node
from service.numerics.ops.op import Gradients

_CONVOLUTIONS = ("conv1d", "conv2d", "conv3d", "conv_transpose2d", "conv_transpose3d")
_PRODUCT_OPS = ("linear", "matmul", "einsum", *_CONVOLUTIONS)


def iterate_reduced_precision_gradients(
    graph: Graph, leaves: Mapping[str, Array], precision: Precision
) -> Iterator[tuple[str, NamedArrays]]:
    """Yield the rounded part in words with the gradients that its rounding makes.

    Parameters
    ----------
    graph
        The model.
    leaves
        Every tensor and weight, (1, ...).
    precision
        Precision of the rounded numbers.
    """
    rounded = {name: _round_floats(precision, leaf) for name, leaf in leaves.items()}
    if all(np.isfinite(leaf).all() for leaf in rounded.values()):
        yield "the tensors and weights were", graph.backward(graph.forward(rounded))
    products = [node for node in graph.nodes if node.op.name in _PRODUCT_OPS]
    if products:
        wrong = {node.name: partial(_run_backward_with_rounded_factors, node, precision) for node in products}
        yield (
            "the factors of all products were",
            graph.backward(_run_forward_with_rounded_factors(graph, leaves, precision), wrong),
        )


def iterate_single_rounding_gradients(
    graph: Graph, values: Mapping[str, Array], precision: Precision
) -> Iterator[tuple[str, bool, NamedArrays]]:
    """Yield the gradients that the rounding of one value makes, and of one gradient, of each node in turn.

    Before them come the name of the node, and whether its gradient is rounded.

    Parameters
    ----------
    graph
        The model.
    values
        Leaves and nodes, (1, ...).
    precision
        Precision of the rounded numbers.
    """
    for node in graph.nodes:
        value = values[node.name]
        if value.dtype.kind != "f":
            continue
        rounded = precision.round_to_nearest(value)
        if np.isfinite(rounded).all() and (rounded != value).any():
            # A program that stores a rounded output reads it again on the way back.
            override = {node.name: node.op.backward_by_output}
            yield node.name, False, graph.backward(graph.forward_downstream(values, {node.name: rounded}), override)
        override = {node.name: partial(_run_backward_with_rounded_gradient, node, precision)}
        yield node.name, True, graph.backward(values, override)


def _run_backward_with_rounded_gradient(
    node: Node, precision: Precision, gradient: Array, output: Array, *inputs: Any
) -> Gradients:
    return node.op.backward(_round_floats(precision, gradient), output, *inputs)


def _round_floats(precision: Precision, array: Any) -> Any:
    return array if array is None or array.dtype.kind != "f" else precision.round_to_nearest(array)


def _round_factors(node: Node, precision: Precision, inputs: tuple[Any, ...]) -> list[Any]:
    """Round the operands that are multiplied."""
    return [
        operand if slot.name == "bias" else _round_floats(precision, operand)
        for slot, operand in zip(node.operand_slots, inputs, strict=True)
    ]


def _run_forward_with_rounded_factors(graph: Graph, leaves: Mapping[str, Array], precision: Precision) -> NamedArrays:
    values = dict(leaves)
    for node in graph.nodes:
        inputs: tuple[Any, ...] = graph.get_operand_arrays(node, values)
        values[node.name] = node.forward(
            *(_round_factors(node, precision, inputs) if node.op.name in _PRODUCT_OPS else inputs)
        )
    return values


def _run_backward_with_rounded_factors(
    node: Node, precision: Precision, gradient: Array, output: Array, *inputs: Any
) -> Gradients:
    rounded = node.op.backward(_round_floats(precision, gradient), output, *_round_factors(node, precision, inputs))
    if all(slot.name != "bias" or result is None for slot, result in zip(node.operand_slots, rounded, strict=True)):
        return rounded
    # The gradient of a bias is a sum without products: nothing is rounded.
    return *rounded[:-1], node.op.backward(gradient, output, *inputs)[-1]
