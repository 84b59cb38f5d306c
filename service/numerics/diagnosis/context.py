"""The context of a diagnosis.

The model at its point, its right gradients, and the client's candidates.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.core.cached_attribute import cached_attribute
from service.numerics.core.interrupts import iterate_interruptibly
from service.numerics.core.precision import Precision
from service.numerics.core.recipe import Recipe, RecipeKey, make_uniform_recipe
from service.numerics.diagnosis.reduced_precision import (
    iterate_reduced_precision_gradients,
    iterate_single_rounding_gradients,
)
from service.numerics.model.graph import Graph, NamedArrays, Node
from service.numerics.model.rounding import Allowances, estimate_recipe_allowances

_MAX_ROUNDED_PLACES = 100
"""Values and gradients of a model up to which the rounding of each of them is tried."""
MAX_KEPT_ELEMENTS = 2**22
"""Elements of gradients, or of their allowances, that a diagnosis keeps at the most."""


@dataclass(frozen=True)
class DiagnosisContext:
    """All inputs of a bug.

    Attributes
    ----------
    graph
        The model.
    values
        Leaves and nodes in float64, shape (1, ...), by name.
    gradients
        Right gradients, shape (1, ...), by name.
    candidates
        The client's gradients in float64, of any shape, by name.
    precisions
        Arithmetics of the candidates, by name.
    judged_names
        Names whose gradients are judged.
    seed
        Seed of all random numbers, 0 by default.
    format_name
        Function that formats a name for a sentence; `str` by default.
    recipes
        Recipes of the candidates that have one, by name; the others have one arithmetic for everything.
    """

    graph: Graph
    values: Mapping[str, Array]
    gradients: Mapping[str, Array]
    candidates: Mapping[str, Array]
    precisions: Mapping[str, Precision]
    judged_names: tuple[str, ...]
    seed: int = 0
    format_name: Callable[[str], str] = str
    recipes: Mapping[str, Recipe] = field(default_factory=lambda: MappingProxyType({}))

    def get_recipe(self, name: str) -> Recipe:
        """Return the recipe of a candidate."""
        return self.recipes[name] if name in self.recipes else make_uniform_recipe(self.precisions[name])

    @property
    def candidate_size(self) -> int:
        """Return the number of elements of all candidates."""
        return sum(candidate.size for candidate in self.candidates.values())

    def get_right_gradient(self, name: str) -> Array:
        """Return the right gradient of a name, of the shape of its tensor."""
        return self.gradients[name][0]

    def describe_gradient(self, name: str) -> str:
        """Describe the gradient of a name for a sentence."""
        return f"dL/d{self.describe_name(name)}"

    def describe_name(self, name: str) -> str:
        """Describe a tensor, a node or a step of a composite node for a sentence."""
        return self.graph.describe_name(name, self.format_name)

    def describe_node(self, node: Node) -> str:
        """Describe a node, or a step of a composite one, with its op for a sentence."""
        return self.graph.describe_node(node, self.format_name)

    def describe_function(self, node: Node) -> str:
        """Describe the function at a node for a sentence: "tanh at h"."""
        if node.name in self.graph.composite_names:
            return self.describe_node(node)
        return f"{node.op.name} at {self.format_name(node.name)}"

    def get_uses(self, name: str) -> tuple[tuple[Node, int], ...]:
        """Return the nodes that read a name, each with the operand's position.

        The order is that of evaluation.
        """
        return self._uses_by_name.get(name, ())

    @cached_attribute
    def _uses_by_name(self) -> dict[str, tuple[tuple[Node, int], ...]]:
        uses_by_name: dict[str, list[tuple[Node, int]]] = {}
        for node in self.graph.nodes:
            for position, operand in enumerate(node.operands):
                if isinstance(operand, str) and operand not in self.graph.leaf_kinds:
                    uses_by_name.setdefault(operand, []).append((node, position))
        return {name: tuple(uses) for name, uses in uses_by_name.items()}

    def list_slot_names(self, name: str) -> set[str]:
        """Return the names of the slots that take a name."""
        return {node.operand_slots[position].name for node, position in self.get_uses(name)}

    def estimate_rounding_allowance(self, name: str, precision: Precision) -> Array:
        """Return the allowed error of a correct gradient in an arithmetic."""
        return self.estimate_recipe_allowances(make_uniform_recipe(precision))[name].elements

    def estimate_recipe_allowances(self, recipe: Recipe) -> Mapping[str, Allowances]:
        """Return the allowed errors of correct gradients by a recipe, for all candidates."""
        if recipe.key not in self._allowance_cache:
            self._allowance_cache[recipe.key] = estimate_recipe_allowances(
                self.graph, self.leaves, recipe, self.seed, self.candidates
            )
        return self._allowance_cache[recipe.key]

    def compute_reduced_precision_gradients(self, precision: Precision) -> tuple[tuple[str, NamedArrays], ...]:
        """Return gradients with rounding on the way, and the rounded part in words."""
        if precision.name not in self._reduced_precision_cache:
            with np.errstate(all="ignore"):
                self._reduced_precision_cache[precision.name] = tuple(
                    iterate_reduced_precision_gradients(self.graph, self.leaves, precision)
                )
        return self._reduced_precision_cache[precision.name]

    def compute_single_rounding_gradients(self, precision: Precision) -> tuple[tuple[str, NamedArrays], ...]:
        """Return gradients with the rounding of one value or gradient, and it in words; none for a large model."""
        if precision.name not in self._single_rounding_cache:
            passes = 2 * len(self.graph.nodes)
            is_small = passes <= _MAX_ROUNDED_PLACES and passes * self.candidate_size <= MAX_KEPT_ELEMENTS
            with np.errstate(all="ignore"):
                self._single_rounding_cache[precision.name] = tuple(
                    (
                        f"{'the gradient at ' if is_gradient else ''}{self.describe_name(name)} was",
                        {candidate: gradients[candidate] for candidate in self.candidates},
                    )
                    for name, is_gradient, gradients in iterate_interruptibly(
                        iterate_single_rounding_gradients(self.graph, self.values, precision) if is_small else ()
                    )
                )
        return self._single_rounding_cache[precision.name]

    @cached_attribute
    def _single_rounding_cache(self) -> dict[str, tuple[tuple[str, NamedArrays], ...]]:
        return {}

    @cached_attribute
    def _reduced_precision_cache(self) -> dict[str, tuple[tuple[str, NamedArrays], ...]]:
        return {}

    @cached_attribute
    def leaves(self) -> NamedArrays:
        """Return the tensors and weights."""
        nodes = {node.name for node in self.graph.nodes}
        return {name: value for name, value in self.values.items() if name not in nodes}

    @cached_attribute
    def _allowance_cache(self) -> dict[RecipeKey, dict[str, Allowances]]:
        return {}

    @cached_attribute
    def vectors_by_name(self) -> Mapping[str, Array]:
        """Return the values that are vectors of more than one finite number, by name."""
        squeezed = {name: value[0].squeeze() for name, value in self.values.items() if value.dtype.kind == "f"}
        return {
            name: value
            for name, value in squeezed.items()
            if value.ndim == 1 and value.size > 1 and np.isfinite(value).all()
        }
