"""Gradients of a graph's loss at exactly the float64 numbers of its leaves."""

from collections.abc import Iterable, Mapping
from typing import Any

import mpmath
import numpy as np

from service.numerics.graph import Graph, Node
from service.numerics.tiles import Array
from tests.truth import forward, tape
from tests.truth.tape import Tensor

DIGITS = 400
"""So many that 1 - t^2 of a saturated t, or the p - 1 of a confident class, has digits left wherever float64 has."""


def gradients(graph: Graph, leaves: Mapping[str, Array], digits: int = DIGITS) -> dict[str, Array]:
    """Gradient of the loss with respect to every tensor, weight and node of floats, of mpf, (...).

    Parameters
    ----------
    graph
        The model.
    leaves
        Every tensor and weight, float64 or integers, (1, ...).
    digits
        Decimal digits that are carried.
    """
    with mpmath.workdps(digits):
        values = _values(graph, {name: _leaf(leaf) for name, leaf in leaves.items()})
        found = tape.reverse(values[graph.loss])
        return {
            name: found.get(each.number, np.asarray(each.value * 0, dtype=object))
            for name, each in values.items()
            if isinstance(each, Tensor)
        }


def rounded(graph: Graph, leaves: Mapping[str, Array], names: Iterable[str] | None = None) -> dict[str, Array]:
    """The gradients by those names, by all of them if left out, rounded to float64."""
    found = gradients(graph, leaves)
    return {name: found[name].astype(np.float64) for name in (found if names is None else names)}


def loss(graph: Graph, leaves: Mapping[str, Array]) -> Any:
    """The loss, an mpf at the working precision; leaves of floats may be of mpf already, (1, ...)."""
    return _values(graph, {name: _leaf(leaf) for name, leaf in leaves.items()})[graph.loss].value.ravel()[0]


def distance(value: Array, truth: Array, digits: int = DIGITS) -> Array:
    """abs(value - truth), float64, (...), with no rounding but the last; NaN where the value is."""
    with mpmath.workdps(digits), np.errstate(all="ignore"):
        return np.asarray(abs(tape.exact(value) - truth), dtype=np.float64)


def _leaf(leaf: Array) -> Tensor | Array:
    return leaf[0] if leaf.dtype.kind in "ib" else Tensor(tape.exact(leaf[0]))


def _values(graph: Graph, leaves: Mapping[str, Tensor | Array]) -> dict[str, Any]:
    values = dict(leaves)
    for node in graph.nodes:
        values[node.name] = forward.RULES[node.op.name](
            node.op, *(_operand(each, node, values) for each in node.operands)
        )
    return values


def _operand(operand: Any, node: Node, values: Mapping[str, Any]) -> Any:
    """A tensor, an array of integers, or None; a constant is a tensor without axes."""
    if operand is None or isinstance(operand, str):
        return None if operand is None else values[operand]
    return Tensor(tape.exact(np.float64(operand)))
