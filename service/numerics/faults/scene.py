"""Where a bug is looked for: the model at its point, its right gradients, and what the client sent."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from service.numerics.faults.shortened import gradients_in
from service.numerics.graph import Graph, Node, Values
from service.numerics.kept import kept
from service.numerics.precision import Precision
from service.numerics.rounding import allowances
from service.numerics.tiles import Array


@dataclass(frozen=True)
class Scene:
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
    names: tuple[str, ...]
    seed: int = 0
    shown: Callable[[str], str] = str

    def right(self, name: str) -> Array:
        """Right gradient, of the shape of what it belongs to."""
        return self.gradients[name][0]

    def told(self, name: str) -> str:
        """How the gradient of a name stands in a sentence."""
        return f"dL/d{self.shown(name)}"

    def uses(self, name: str) -> tuple[tuple[Node, int], ...]:
        """Each node that reads a name, with the position of the operand, in order of evaluation."""
        return self._uses.get(name, ())

    @kept
    def _uses(self) -> dict[str, tuple[tuple[Node, int], ...]]:
        found: dict[str, list[tuple[Node, int]]] = {}
        for node in self.graph.nodes:
            for position, operand in enumerate(node.operands):
                if isinstance(operand, str) and operand not in self.graph.kinds:
                    found.setdefault(operand, []).append((node, position))
        return {name: tuple(each) for name, each in found.items()}

    def slots(self, name: str) -> set[str]:
        """Slots of the ops that a name is given to."""
        return {node.slots[position].name for node, position in self.uses(name)}

    def rounding(self, name: str, precision: Precision) -> Array:
        """What a correct gradient in an arithmetic may be off by."""
        if precision.name not in self._allowances:
            self._allowances[precision.name] = allowances(
                self.graph, self._leaves, precision, self.seed, self.candidates
            )
        return self._allowances[precision.name][name]

    def shortened(self, precision: Precision) -> tuple[tuple[str, Values], ...]:
        """Gradients with fewer digits on the way, and what was rounded to these."""
        if precision.name not in self._shortened:
            with np.errstate(all="ignore"):
                self._shortened[precision.name] = tuple(gradients_in(self.graph, self._leaves, precision))
        return self._shortened[precision.name]

    @kept
    def _shortened(self) -> dict[str, tuple[tuple[str, Values], ...]]:
        return {}

    @kept
    def _leaves(self) -> Values:
        nodes = {node.name for node in self.graph.nodes}
        return {name: each for name, each in self.values.items() if name not in nodes}

    @kept
    def _allowances(self) -> dict[str, Values]:
        return {}

    @kept
    def vectors(self) -> Mapping[str, Array]:
        """What of the model is a vector of more than one finite number, by name."""
        squeezed = {name: each[0].squeeze() for name, each in self.values.items() if each.dtype.kind == "f"}
        return {
            name: each
            for name, each in squeezed.items()
            if each.ndim == 1 and each.size > 1 and np.isfinite(each).all()
        }
