"""The choices that are open at a point, and backward passes that take them.

A tie is one within what rounding in the judged arithmetic may do to the inputs of its node, and within one unit in the
last place at least. Errors are those of the rounding model (`rounding.py`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from service.numerics.core.batching import Array, broadcast_batch, count_elements
from service.numerics.core.cached_attribute import cached_attribute
from service.numerics.core.precision import Precision
from service.numerics.model.graph import Graph, NamedArrays, Node
from service.numerics.model.rounding import SAFETY_FACTOR, MonteCarloRounding, perturb_leaves, root_mean_square
from service.numerics.ops.op import BackwardPass, Gradients
from service.numerics.ops.subgradient_choices import SubgradientChoices

MAX_PASS_ELEMENTS = 2**21
"""Elements of all arrays of the passes that run at once."""


@dataclass(frozen=True)
class TiePoint:
    """A model at a point, float64, and the choices of its nodes, by name, in the order of the backward pass."""

    graph: Graph
    values: NamedArrays
    choices_by_node: Mapping[str, SubgradientChoices]

    @cached_attribute
    def own_gradients(self) -> NamedArrays:
        """The gradients by the ops' own choices."""
        return self.graph.backward(self.values)

    @cached_attribute
    def nodes_by_name(self) -> dict[str, Node]:
        """Nodes by name."""
        return {node.name: node for node in self.graph.nodes}

    @cached_attribute
    def batch_size(self) -> int:
        """Backward passes that run at once."""
        return max(1, MAX_PASS_ELEMENTS // max(1, sum(map(count_elements, self.graph.shapes.values()))))

    def gradients_by_weights(self, weights: Mapping[str, Array]) -> NamedArrays:
        """Gradients by other weights of the alternatives, (K, n), by node; the op's own where there are none."""
        override = {name: self._make_weighted_backward(name, each) for name, each in weights.items()}
        return self.graph.backward(self.values, override)

    def _make_weighted_backward(self, name: str, weights: Array) -> BackwardPass:
        node, choices = self.nodes_by_name[name], self.choices_by_node[name]

        def backward(gradient: Array, output: Array, *inputs: Array | None) -> Gradients:
            own = node.op.backward(gradient, output, *inputs)
            flat = broadcast_batch(gradient, max(len(gradient), len(weights))).reshape(
                -1, count_elements(gradient.shape[1:])
            )
            change = (weights - choices.weights) * flat[:, choices.output_indices]
            return _add_weight_change(own, choices, change)

        return backward

    def gradient_responses(
        self, seeds: Mapping[str, Array], observe: Callable[[str, Array], None] | None = None
    ) -> NamedArrays:
        """What gradients change by when alternatives get more weight, (K, n), by node, to first order.

        `seen` is shown the change of the gradient of each node with choices.
        """
        tiles = len(next(iter(seeds.values())))
        loss = self.values[self.graph.loss_name]
        override = {name: self._make_seeded_backward(name, seeds.get(name), observe) for name in self.choices_by_node}
        return self.graph.backward(self.values, override, loss_gradient=np.zeros((tiles, *loss.shape[1:])))

    def _make_seeded_backward(
        self, name: str, seeds: Array | None, observe: Callable[[str, Array], None] | None
    ) -> BackwardPass:
        node, choices = self.nodes_by_name[name], self.choices_by_node[name]

        def backward(gradient: Array, output: Array, *inputs: Array | None) -> Gradients:
            if observe is not None:
                observe(name, gradient)
            results = node.op.backward(gradient, output, *inputs)
            if seeds is None:
                return results
            upstream = self.own_gradients[name].ravel()[choices.output_indices]
            return _add_weight_change(results, choices, seeds * upstream)

        return backward

    def fixed_choice_backwards(self, weights: Mapping[str, Array] | None = None) -> dict[str, BackwardPass]:
        """Backward passes of the nodes with choices that take the same weights wherever errors would lead.

        Their own by default; others are (n,), by node.
        """
        given = weights or {}
        return {
            name: partial(self._backward_with_fixed_choices, name, given.get(name, each.weights))
            for name, each in self.choices_by_node.items()
        }

    def _backward_with_fixed_choices(
        self, name: str, weights: Array, gradient: Array, output: Array, *inputs: Array | None
    ) -> Gradients:
        choices, node = self.choices_by_node[name], self.nodes_by_name[name]
        given = list(inputs)
        for position, base in enumerate(self.graph.operand_arrays(node, self.values)):
            at = np.unique(choices.entry_elements[choices.entry_positions == position])
            each = given[position]
            if at.size and base is not None and each is not None:
                fixed = each.reshape(len(each), -1).copy()
                fixed[:, at] = base.reshape(-1)[at]
                given[position] = fixed.reshape(each.shape)
        own = node.op.backward(gradient, output, *given)
        flat = gradient.reshape(len(gradient), count_elements(gradient.shape[1:]))
        return _add_weight_change(own, choices, (weights - choices.weights) * flat[:, choices.output_indices])

    def extreme_weights(self) -> list[dict[str, Array]]:
        """Weights by which what choices hand back is as large as it may be, one way and the other, (n,) by node."""
        return [
            {name: _choose_extreme_weights(each, side) for name, each in self.choices_by_node.items()}
            for side in (0, 1)
        ]


def _choose_extreme_weights(choices: SubgradientChoices, side: int) -> Array:
    """All of each alternative, but of two, and of two signs at one element, which would cancel, those of one side."""
    pair: Array = np.bincount(choices.units)[choices.units] == 2
    first: Array = np.append(True, choices.units[1:] != choices.units[:-1]) == bool(side)
    negative: Array = (
        np.bincount(choices.entry_alternatives, choices.entry_coefficients < 0, choices.alternative_count) > 0
    )
    both: Array = np.bincount(choices.units, negative) * np.bincount(choices.units, ~negative) > 0
    other: Array = negative == bool(side)
    left_out: Array = (pair & first) | (~pair & both[choices.units] & other)
    return np.where(left_out, 0.0, 1.0)


def _add_weight_change(results: Gradients, choices: SubgradientChoices, change: Array) -> Gradients:
    """Results with what a change of the weights times the upstream gradients, (K, n), hands back besides."""
    added: list[Array | None] = []
    for position, result in enumerate(results):
        entries = choices.entry_positions == position
        if result is None or not entries.any():
            added.append(result)
            continue
        total = (
            broadcast_batch(result, max(len(result), len(change))).reshape(-1, count_elements(result.shape[1:])).copy()
        )
        parts = change[:, choices.entry_alternatives[entries]] * choices.entry_coefficients[entries]
        np.add.at(total.T, choices.entry_elements[entries], parts.T)
        added.append(total.reshape(-1, *result.shape[1:]))
    return tuple(added)


def find_tie_point(
    graph: Graph, leaves: Mapping[str, Array], precisions: Sequence[Precision], seed: int, max_alternatives: int
) -> TiePoint:
    """Find the choices that are open to a correct pass in any of some precisions.

    Parameters
    ----------
    graph
        The model.
    leaves
        Every tensor and weight in float64, (1, ...).
    precisions
        The arithmetics judged.
    seed
        All errors follow from it.
    most
        Alternatives up to which a node's are kept; one that has more is left out, and what ties there is not decided.
    """
    values = graph.forward(leaves)
    off: dict[str, Array] = {}
    for precision in precisions:
        for name, each in _estimate_value_errors(graph, leaves, precision, seed).items():
            off[name] = np.maximum(off.get(name, 0.0), each)
    choices: dict[str, SubgradientChoices] = {}
    for node in reversed(graph.nodes):
        inputs = graph.operand_arrays(node, values)
        reach = [_bound_operand_error(operand, each, off) for operand, each in zip(node.operands, inputs, strict=True)]
        each = node.op.subgradient_choices(reach, *inputs)
        if each is not None and each.alternative_count <= max_alternatives:
            choices[node.name] = each
    return TiePoint(graph, values, choices)


def _estimate_value_errors(graph: Graph, leaves: Mapping[str, Array], precision: Precision, seed: int) -> NamedArrays:
    """What the values of nodes and leaves may be off by; nothing of those that are exact."""
    observer = MonteCarloRounding(precision, np.random.default_rng([seed, precision.significand_bits, 0x71E]))
    sweeps = graph.forward(perturb_leaves(leaves, precision, observer), observer)
    return {
        name: SAFETY_FACTOR * observer.spread_scale * root_mean_square(each[1:] - each[0])[None]
        for name, each in sweeps.items()
        if len(each) > 1
    }


def _bound_operand_error(operand: object, value: Array | None, value_errors: Mapping[str, Array]) -> Array | None:
    if value is None or value.dtype.kind != "f":
        return None
    spacing = np.spacing(np.abs(value))
    return (
        np.maximum(spacing, value_errors[operand]) if isinstance(operand, str) and operand in value_errors else spacing
    )
