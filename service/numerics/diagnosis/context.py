"""Where a bug is looked for: the model at its point, its right gradients, and what the client sent."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.core.cached_attribute import cached_attribute
from service.numerics.core.precision import Precision
from service.numerics.diagnosis.reduced_precision import iterate_reduced_precision_gradients
from service.numerics.model.graph import Graph, NamedArrays, Node
from service.numerics.model.rounding import estimate_rounding_allowances


@dataclass(frozen=True)
class DiagnosisContext:
    """Everything that a fault may look at.

    Attributes
    ----------
    graph
        The model.
    values
        Every leaf and node in float64, (1, ...).
    gradients
        The right gradient with respect to each, (1, ...).
    candidates
        The client's gradients in float64, of whatever shape, by name.
    precisions
        The arithmetic in which each candidate was computed.
    names
        Everything whose gradient is judged.
    seed
        All that is random follows from it.
    shown
        How a name stands in a sentence.
    """

    graph: Graph
    values: Mapping[str, Array]
    gradients: Mapping[str, Array]
    candidates: Mapping[str, Array]
    precisions: Mapping[str, Precision]
    judged_names: tuple[str, ...]
    seed: int = 0
    format_name: Callable[[str], str] = str

    def right_gradient(self, name: str) -> Array:
        """Right gradient, of the shape of what it belongs to."""
        return self.gradients[name][0]

    def describe_gradient(self, name: str) -> str:
        """How the gradient of a name stands in a sentence."""
        return f"dL/d{self.format_name(name)}"

    def uses_of(self, name: str) -> tuple[tuple[Node, int], ...]:
        """Each node that reads a name, with the position of the operand, in order of evaluation."""
        return self._uses_by_name.get(name, ())

    @cached_attribute
    def _uses_by_name(self) -> dict[str, tuple[tuple[Node, int], ...]]:
        found: dict[str, list[tuple[Node, int]]] = {}
        for node in self.graph.nodes:
            for position, operand in enumerate(node.operands):
                if isinstance(operand, str) and operand not in self.graph.leaf_kinds:
                    found.setdefault(operand, []).append((node, position))
        return {name: tuple(each) for name, each in found.items()}

    def slot_names_of(self, name: str) -> set[str]:
        """Slots of the ops that a name is given to."""
        return {node.operand_slots[position].name for node, position in self.uses_of(name)}

    def rounding_allowance(self, name: str, precision: Precision) -> Array:
        """What a correct gradient in an arithmetic may be off by."""
        if precision.name not in self._allowance_cache:
            self._allowance_cache[precision.name] = estimate_rounding_allowances(
                self.graph, self._leaves, precision, self.seed, self.candidates
            )
        return self._allowance_cache[precision.name][name]

    def reduced_precision_gradients(self, precision: Precision) -> tuple[tuple[str, NamedArrays], ...]:
        """Gradients with fewer digits on the way, and what was rounded to these."""
        if precision.name not in self._reduced_precision_cache:
            with np.errstate(all="ignore"):
                self._reduced_precision_cache[precision.name] = tuple(
                    iterate_reduced_precision_gradients(self.graph, self._leaves, precision)
                )
        return self._reduced_precision_cache[precision.name]

    @cached_attribute
    def _reduced_precision_cache(self) -> dict[str, tuple[tuple[str, NamedArrays], ...]]:
        return {}

    @cached_attribute
    def _leaves(self) -> NamedArrays:
        nodes = {node.name for node in self.graph.nodes}
        return {name: each for name, each in self.values.items() if name not in nodes}

    @cached_attribute
    def _allowance_cache(self) -> dict[str, NamedArrays]:
        return {}

    @cached_attribute
    def vectors_by_name(self) -> Mapping[str, Array]:
        """What of the model is a vector of more than one finite number, by name."""
        squeezed = {name: each[0].squeeze() for name, each in self.values.items() if each.dtype.kind == "f"}
        return {
            name: each
            for name, each in squeezed.items()
            if each.ndim == 1 and each.size > 1 and np.isfinite(each).all()
        }
