"""Gradients of a model whose inputs, or the factors of whose products, have fewer digits.

What TF32 is, and what mixed precision does to a weight: factors are rounded, products are added up in full. The result
has all digits, and no way to tell that they are wrong but to do the same.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.core.precision import Precision
from service.numerics.model.graph import Graph, NamedArrays, Node
from service.numerics.ops.op import Gradients

_PRODUCT_OPS = ("linear", "matmul", "einsum", "conv1d", "conv2d", "conv_transpose2d")


def iterate_reduced_precision_gradients(
    graph: Graph, leaves: Mapping[str, Array], precision: Precision
) -> Iterator[tuple[str, NamedArrays]]:
    """Gradients with what was rounded, in words.

    Parameters
    ----------
    graph
        The model.
    leaves
        Every tensor and weight, (1, ...).
    precision
        To which it was rounded.
    """
    rounded = {name: _round_floats(precision, each) for name, each in leaves.items()}
    if all(np.isfinite(each).all() for each in rounded.values()):
        yield "its tensors and weights were", graph.backward(graph.forward(rounded))
    products = [node for node in graph.nodes if node.op.name in _PRODUCT_OPS]
    if products:
        wrong = {node.name: partial(_run_backward_with_rounded_factors, node, precision) for node in products}
        yield (
            "the factors of all products were",
            graph.backward(_run_forward_with_rounded_factors(graph, leaves, precision), wrong),
        )


def _round_floats(precision: Precision, array: Any) -> Any:
    return array if array is None or array.dtype.kind != "f" else precision.round_to_nearest(array)


def _round_factors(node: Node, precision: Precision, inputs: tuple[Any, ...]) -> list[Any]:
    """Operands, with those rounded that are multiplied."""
    return [
        each if slot.name == "bias" else _round_floats(precision, each)
        for slot, each in zip(node.operand_slots, inputs, strict=True)
    ]


def _run_forward_with_rounded_factors(graph: Graph, leaves: Mapping[str, Array], precision: Precision) -> NamedArrays:
    values = dict(leaves)
    for node in graph.nodes:
        inputs: tuple[Any, ...] = graph.operand_arrays(node, values)
        values[node.name] = node.forward(
            *(_round_factors(node, precision, inputs) if node.op.name in _PRODUCT_OPS else inputs)
        )
    return values


def _run_backward_with_rounded_factors(
    node: Node, precision: Precision, gradient: Array, output: Array, *inputs: Any
) -> Gradients:
    short = node.op.backward(_round_floats(precision, gradient), output, *_round_factors(node, precision, inputs))
    if all(slot.name != "bias" or each is None for slot, each in zip(node.operand_slots, short, strict=True)):
        return short
    # What goes to a bias is added up, and multiplied by nothing.
    return *short[:-1], node.op.backward(gradient, output, *inputs)[-1]
