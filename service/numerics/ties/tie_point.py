"""The choices that are open at a point, and backward passes that take them.

Alternatives tie within the errors of the inputs of their node by rounding in the judged arithmetic, and within one unit
in the last place at least. The errors are those of the rounding model (`rounding.py`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from service.numerics.core.batching import Array, broadcast_batch, count_elements
from service.numerics.core.cached_attribute import cached_attribute
from service.numerics.core.recipe import Recipe
from service.numerics.model.graph import Graph, NamedArrays, Node
from service.numerics.model.monte_carlo import MonteCarloRounding, compute_root_mean_square
from service.numerics.model.recipe_rounding import RecipeRounding
from service.numerics.model.rounding import SAFETY_FACTOR
from service.numerics.ops.op import BackwardPass, Gradients
from service.numerics.ops.subgradient_choices import SubgradientChoices

MAX_PASS_ELEMENTS = 2**21
"""Elements of all arrays of the passes that run at once."""


@dataclass(frozen=True)
class TiePoint:
    """A model at a point, in float64, with the choices of its nodes.

    The choices stand in the order of the backward pass.
    """

    graph: Graph
    values: NamedArrays
    choices_by_node: Mapping[str, SubgradientChoices]

    @cached_attribute
    def own_gradients(self) -> NamedArrays:
        """Gradients by the ops' own choices."""
        return self.graph.backward(self.values)

    @cached_attribute
    def nodes_by_name(self) -> dict[str, Node]:
        """Nodes by name."""
        return {node.name: node for node in self.graph.nodes}

    @cached_attribute
    def batch_size(self) -> int:
        """Backward passes that run at once."""
        return max(1, MAX_PASS_ELEMENTS // max(1, sum(map(count_elements, self.graph.shapes.values()))))

    def compute_gradients_by_weights(self, weights: Mapping[str, Array]) -> NamedArrays:
        """Compute gradients by weights, (K, n) by node, or else by the op's own."""
        override = {name: self._make_weighted_backward(name, node_weights) for name, node_weights in weights.items()}
        return self.graph.backward(self.values, override)

    def _make_weighted_backward(self, name: str, weights: Array) -> BackwardPass:
        node, choices = self.nodes_by_name[name], self.choices_by_node[name]

        def backward(gradient: Array, output: Array, *inputs: Array | None) -> Gradients:
            results = node.op.backward(gradient, output, *inputs)
            flat = broadcast_batch(gradient, max(len(gradient), len(weights))).reshape(
                -1, count_elements(gradient.shape[1:])
            )
            change = (weights - choices.weights) * flat[:, choices.output_indices]
            return _add_weight_change(results, choices, change)

        return backward

    def compute_gradient_responses(
        self, seeds: Mapping[str, Array], observe: Callable[[str, Array], None] | None = None
    ) -> NamedArrays:
        """Return the first-order responses of the gradients to changes of weights.

        Parameters
        ----------
        seeds
            Changes of the weights, shape (K, n), by node.
        observe
            Function that is called with each node with choices and the change of its gradient; None by default.
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

    def list_fixed_choice_backwards(self, weights: Mapping[str, Array] | None = None) -> dict[str, BackwardPass]:
        """Return backward passes of the nodes that take the same weights despite errors.

        Parameters
        ----------
        weights
            Weights of the alternatives, shape (n,), by node; the op's own by default.
        """
        fixed = weights or {}
        return {
            name: partial(self._backward_with_fixed_choices, name, fixed.get(name, choices.weights))
            for name, choices in self.choices_by_node.items()
        }

    def _backward_with_fixed_choices(
        self, name: str, weights: Array, gradient: Array, output: Array, *inputs: Array | None
    ) -> Gradients:
        choices, node = self.choices_by_node[name], self.nodes_by_name[name]
        fixed_inputs = list(inputs)
        for position, base in enumerate(self.graph.get_operand_arrays(node, self.values)):
            elements = np.unique(choices.entry_elements[choices.entry_positions == position])
            operand = fixed_inputs[position]
            if elements.size and base is not None and operand is not None:
                fixed = operand.reshape(len(operand), -1).copy()
                fixed[:, elements] = base.reshape(-1)[elements]
                fixed_inputs[position] = fixed.reshape(operand.shape)
        results = node.op.backward(gradient, output, *fixed_inputs)
        flat = gradient.reshape(len(gradient), count_elements(gradient.shape[1:]))
        return _add_weight_change(results, choices, (weights - choices.weights) * flat[:, choices.output_indices])

    def list_extreme_weights(self) -> list[dict[str, Array]]:
        """Return the weights that hand back the largest gradients, (n,) by node.

        There are two such weights, one for each side.
        """
        return [
            {name: _choose_extreme_weights(choices, side) for name, choices in self.choices_by_node.items()}
            for side in (0, 1)
        ]


def _choose_extreme_weights(choices: SubgradientChoices, side: int) -> Array:
    """Choose all alternatives, but one side of those that would cancel.

    The two of a pair cancel, and so do two signs at one element.
    """
    pair: Array = np.bincount(choices.units)[choices.units] == 2
    first: Array = np.append(True, choices.units[1:] != choices.units[:-1]) == bool(side)
    negative: Array = (
        np.bincount(choices.entry_alternatives, choices.entry_coefficients < 0, choices.alternative_count) > 0
    )
    has_both_signs: Array = np.bincount(choices.units, negative) * np.bincount(choices.units, ~negative) > 0
    is_other_sign: Array = negative == bool(side)
    left_out: Array = (pair & first) | (~pair & has_both_signs[choices.units] & is_other_sign)
    return np.where(left_out, 0.0, 1.0)


def _add_weight_change(results: Gradients, choices: SubgradientChoices, change: Array) -> Gradients:
    """Add the gradients that a change of weights hands back.

    The change, shape (K, n), is multiplied by the upstream gradients.
    """
    changed_results: list[Array | None] = []
    for position, result in enumerate(results):
        entries = choices.entry_positions == position
        if result is None or not entries.any():
            changed_results.append(result)
            continue
        total = (
            broadcast_batch(result, max(len(result), len(change))).reshape(-1, count_elements(result.shape[1:])).copy()
        )
        parts = change[:, choices.entry_alternatives[entries]] * choices.entry_coefficients[entries]
        np.add.at(total.T, choices.entry_elements[entries], parts.T)
        changed_results.append(total.reshape(-1, *result.shape[1:]))
    return tuple(changed_results)


def find_tie_point(
    graph: Graph, leaves: Mapping[str, Array], recipes: Sequence[Recipe], seed: int, max_alternatives: int
) -> TiePoint:
    """Find the choices that are open to a correct pass by any of some recipes.

    Parameters
    ----------
    graph
        The model.
    leaves
        Every tensor and weight in float64, (1, ...).
    recipes
        Recipes of what is judged.
    seed
        Seed of the errors.
    max_alternatives
        Alternatives that a node may have at most. A node with more is left out, and its ties are undecided.
    """
    values = graph.forward(leaves)
    errors: dict[str, Array] = {}
    for recipe in recipes:
        for name, error in _estimate_value_errors(graph, leaves, recipe, seed).items():
            errors[name] = np.maximum(errors.get(name, 0.0), error)
    choices_by_node: dict[str, SubgradientChoices] = {}
    unit = max((recipe.accumulate.unit_roundoff for recipe in recipes), default=0.0)
    for node in reversed(graph.nodes):
        inputs = graph.get_operand_arrays(node, values)
        reach = [_bound_operand_error(node, place, value, errors, unit) for place, value in enumerate(inputs)]
        choices = node.op.list_subgradient_choices(reach, *inputs)
        if choices is not None and choices.alternative_count <= max_alternatives:
            choices_by_node[node.name] = choices
    return TiePoint(graph, values, choices_by_node)


def _estimate_value_errors(graph: Graph, leaves: Mapping[str, Array], recipe: Recipe, seed: int) -> NamedArrays:
    """Estimate the errors of the values that are not exact."""
    generator = np.random.default_rng([seed, recipe.accumulate.significand_bits, 0x71E])
    observer = (
        MonteCarloRounding(recipe.accumulate, generator)
        if recipe.is_uniform
        else RecipeRounding(recipe, graph, generator)
    )
    sweeps = graph.forward(observer.perturb_leaves(leaves), observer)
    return {
        name: SAFETY_FACTOR * observer.spread_scale * compute_root_mean_square(samples[1:] - samples[0])[None]
        for name, samples in sweeps.items()
        if len(samples) > 1 and samples.dtype.kind == "f"
    }


def _bound_operand_error(
    node: Node, position: int, value: Array | None, value_errors: Mapping[str, Array], unit: float
) -> Array | None:
    """Return the largest error of an operand, with that of the sum by which its pieces are told apart."""
    if value is None or value.dtype.kind != "f":
        return None
    operand, argument = node.operands[position], node.op.measure_argument(position, value)
    reach = np.spacing(np.abs(value))
    if argument is not None:
        reach = np.maximum(np.spacing(argument), unit * argument)
    return np.maximum(reach, value_errors[operand]) if isinstance(operand, str) and operand in value_errors else reach
