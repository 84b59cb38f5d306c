"""Gradients of a graph's loss at exactly the float64 numbers of its leaves."""

from collections.abc import Iterable, Mapping
from typing import Any

import mpmath
import numpy as np

from service.numerics.core.batching import Array
from service.numerics.model.graph import Graph, Node
from tests.truth import mpf_tape, op_rules
from tests.truth.mpf_tape import MpfTensor

DIGITS = 400
"""So many that 1 - t^2 of a saturated t, or the p - 1 of a confident class, has digits left wherever float64 has."""


def compute_gradients(graph: Graph, leaves: Mapping[str, Array], digits: int = DIGITS) -> dict[str, Array]:
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
        values = _compute_values(graph, {name: _convert_leaf(leaf) for name, leaf in leaves.items()})
        gradients = mpf_tape.backpropagate(values[graph.loss_name])
        return {
            name: gradients.get(value.number, np.asarray(value.value * 0, dtype=object))
            for name, value in values.items()
            if isinstance(value, MpfTensor)
        }


def compute_rounded_gradients(
    graph: Graph, leaves: Mapping[str, Array], names: Iterable[str] | None = None
) -> dict[str, Array]:
    """The gradients by those names, by all of them if left out, rounded to float64."""
    gradients = compute_gradients(graph, leaves)
    return {name: gradients[name].astype(np.float64) for name in (gradients if names is None else names)}


def compute_loss(graph: Graph, leaves: Mapping[str, Array]) -> Any:
    """The loss, an mpf at the working precision; leaves of floats may be of mpf already, (1, ...)."""
    return _compute_values(graph, {name: _convert_leaf(leaf) for name, leaf in leaves.items()})[
        graph.loss_name
    ].value.ravel()[0]


def compute_distance(value: Array, truth: Array, digits: int = DIGITS) -> Array:
    """abs(value - truth), float64, (...), with no rounding but the last; NaN where the value is."""
    with mpmath.workdps(digits), np.errstate(all="ignore"):
        return np.asarray(abs(mpf_tape.to_mpf(value) - truth), dtype=np.float64)


def _convert_leaf(leaf: Array) -> MpfTensor | Array:
    return leaf[0] if leaf.dtype.kind in "ib" else MpfTensor(mpf_tape.to_mpf(leaf[0]))


def _compute_values(graph: Graph, leaves: Mapping[str, MpfTensor | Array]) -> dict[str, Any]:
    values = dict(leaves)
    for node in graph.nodes:
        values[node.name] = op_rules.RULES[node.op.name](
            node.op, *(_get_operand(operand, node, values) for operand in node.operands)
        )
    return values


def _get_operand(operand: Any, node: Node, values: Mapping[str, Any]) -> Any:
    """A tensor, an array of integers, or None; a constant is a tensor without axes."""
    if operand is None or isinstance(operand, str):
        return None if operand is None else values[operand]
    return MpfTensor(mpf_tape.to_mpf(np.float64(operand)))
