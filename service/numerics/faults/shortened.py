"""Gradients of a model whose inputs, or the factors of whose products, have fewer digits.

What TF32 is, and what mixed precision does to a weight: factors are rounded, products are added up in full. The result
has all digits, and no way to tell that they are wrong but to do the same.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np

from service.numerics.graph import Graph, Node, Values
from service.numerics.ops.op import Gradients
from service.numerics.precision import Precision
from service.numerics.tiles import Array

_PRODUCTS = ("linear", "matmul", "einsum", "conv1d", "conv2d", "conv_transpose2d")


def gradients_in(graph: Graph, leaves: Mapping[str, Array], precision: Precision) -> Iterator[tuple[str, Values]]:
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
    rounded = {name: _rounded(precision, each) for name, each in leaves.items()}
    if all(np.isfinite(each).all() for each in rounded.values()):
        yield "its tensors and weights were", graph.reverse(graph.forward(rounded))
    products = [node for node in graph.nodes if node.op.name in _PRODUCTS]
    if products:
        wrong = {node.name: partial(_backward, node, precision) for node in products}
        yield "the factors of all products were", graph.reverse(_forward(graph, leaves, precision), wrong)


def _rounded(precision: Precision, array: Any) -> Any:
    return array if array is None or array.dtype.kind != "f" else precision.nearest(array)


def _factors(node: Node, precision: Precision, inputs: tuple[Any, ...]) -> list[Any]:
    """Operands, with those rounded that are multiplied."""
    return [
        each if slot.name == "bias" else _rounded(precision, each)
        for slot, each in zip(node.slots, inputs, strict=True)
    ]


def _forward(graph: Graph, leaves: Mapping[str, Array], precision: Precision) -> Values:
    values = dict(leaves)
    for node in graph.nodes:
        inputs: tuple[Any, ...] = graph.inputs(node, values)
        values[node.name] = node.forward(*(_factors(node, precision, inputs) if node.op.name in _PRODUCTS else inputs))
    return values


def _backward(node: Node, precision: Precision, gradient: Array, output: Array, *inputs: Any) -> Gradients:
    short = node.op.backward(_rounded(precision, gradient), output, *_factors(node, precision, inputs))
    if all(slot.name != "bias" or each is None for slot, each in zip(node.slots, short, strict=True)):
        return short
    # What goes to a bias is added up, and multiplied by nothing.
    return *short[:-1], node.op.backward(gradient, output, *inputs)[-1]
