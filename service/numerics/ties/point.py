"""The choices that are open at a point, and backward passes that take them.

A tie is one within what rounding in the judged arithmetic may do to the inputs of its node, and within one unit in the
last place at least. Errors are those of the rounding model (`rounding.py`).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from service.numerics.graph import Graph, Node, Values
from service.numerics.kept import kept
from service.numerics.ops.choices import Choices
from service.numerics.ops.op import Backward, Gradients
from service.numerics.precision import Precision
from service.numerics.rounding import SAFETY, MonteCarlo, perturbed_leaves, root_mean_square
from service.numerics.tiles import Array, repeated, size

TILE_ELEMENTS = 2**21
"""Elements of all arrays of the passes that run at once."""


@dataclass(frozen=True)
class Point:
    """A model at a point, float64, and the choices of its nodes, by name, in the order of the backward pass."""

    graph: Graph
    values: Values
    choices: Mapping[str, Choices]

    @kept
    def gradients(self) -> Values:
        """The gradients by the ops' own choices."""
        return self.graph.reverse(self.values)

    @kept
    def nodes(self) -> dict[str, Node]:
        """Nodes by name."""
        return {node.name: node for node in self.graph.nodes}

    @kept
    def tiles(self) -> int:
        """Backward passes that run at once."""
        return max(1, TILE_ELEMENTS // max(1, sum(map(size, self.graph.shapes.values()))))

    def with_weights(self, weights: Mapping[str, Array]) -> Values:
        """Gradients by other weights of the alternatives, (K, n), by node; the op's own where there are none."""
        override = {name: self._adding(name, each) for name, each in weights.items()}
        return self.graph.reverse(self.values, override)

    def _adding(self, name: str, weights: Array) -> Backward:
        node, choices = self.nodes[name], self.choices[name]

        def backward(gradient: Array, output: Array, *inputs: Array | None) -> Gradients:
            own = node.op.backward(gradient, output, *inputs)
            flat = repeated(gradient, max(len(gradient), len(weights))).reshape(-1, size(gradient.shape[1:]))
            change = (weights - choices.weights) * flat[:, choices.outputs]
            return _added(own, choices, change)

        return backward

    def responses(self, seeds: Mapping[str, Array], seen: Callable[[str, Array], None] | None = None) -> Values:
        """What gradients change by when alternatives get more weight, (K, n), by node, to first order.

        `seen` is shown the change of the gradient of each node with choices.
        """
        tiles = len(next(iter(seeds.values())))
        loss = self.values[self.graph.loss]
        override = {name: self._seeding(name, seeds.get(name), seen) for name in self.choices}
        return self.graph.reverse(self.values, override, start=np.zeros((tiles, *loss.shape[1:])))

    def _seeding(self, name: str, seeds: Array | None, seen: Callable[[str, Array], None] | None) -> Backward:
        node, choices = self.nodes[name], self.choices[name]

        def backward(gradient: Array, output: Array, *inputs: Array | None) -> Gradients:
            if seen is not None:
                seen(name, gradient)
            results = node.op.backward(gradient, output, *inputs)
            if seeds is None:
                return results
            upstream = self.gradients[name].ravel()[choices.outputs]
            return _added(results, choices, seeds * upstream)

        return backward

    def held(self, weights: Mapping[str, Array] | None = None) -> dict[str, Backward]:
        """Backward passes of the nodes with choices that take the same weights wherever errors would lead.

        Their own by default; others are (n,), by node.
        """
        given = weights or {}
        return {name: partial(self._held, name, given.get(name, each.weights)) for name, each in self.choices.items()}

    def _held(self, name: str, weights: Array, gradient: Array, output: Array, *inputs: Array | None) -> Gradients:
        choices, node = self.choices[name], self.nodes[name]
        given = list(inputs)
        for position, base in enumerate(self.graph.inputs(node, self.values)):
            at = np.unique(choices.elements[choices.positions == position])
            each = given[position]
            if at.size and base is not None and each is not None:
                fixed = each.reshape(len(each), -1).copy()
                fixed[:, at] = base.reshape(-1)[at]
                given[position] = fixed.reshape(each.shape)
        own = node.op.backward(gradient, output, *given)
        flat = gradient.reshape(len(gradient), size(gradient.shape[1:]))
        return _added(own, choices, (weights - choices.weights) * flat[:, choices.outputs])

    def largest(self) -> list[dict[str, Array]]:
        """Weights by which what choices hand back is as large as it may be, one way and the other, (n,) by node."""
        return [{name: _largest(each, side) for name, each in self.choices.items()} for side in (0, 1)]


def _largest(choices: Choices, side: int) -> Array:
    """All of each alternative, but of two, and of two signs at one element, which would cancel, those of one side."""
    pair: Array = np.bincount(choices.units)[choices.units] == 2
    first: Array = np.append(True, choices.units[1:] != choices.units[:-1]) == bool(side)
    negative: Array = np.bincount(choices.alternatives, choices.coefficients < 0, choices.count) > 0
    both: Array = np.bincount(choices.units, negative) * np.bincount(choices.units, ~negative) > 0
    other: Array = negative == bool(side)
    left_out: Array = (pair & first) | (~pair & both[choices.units] & other)
    return np.where(left_out, 0.0, 1.0)


def _added(results: Gradients, choices: Choices, change: Array) -> Gradients:
    """Results with what a change of the weights times the upstream gradients, (K, n), hands back besides."""
    added: list[Array | None] = []
    for position, result in enumerate(results):
        entries = choices.positions == position
        if result is None or not entries.any():
            added.append(result)
            continue
        total = repeated(result, max(len(result), len(change))).reshape(-1, size(result.shape[1:])).copy()
        parts = change[:, choices.alternatives[entries]] * choices.coefficients[entries]
        np.add.at(total.T, choices.elements[entries], parts.T)
        added.append(total.reshape(-1, *result.shape[1:]))
    return tuple(added)


def found(graph: Graph, leaves: Mapping[str, Array], precisions: Sequence[Precision], seed: int, most: int) -> Point:
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
        for name, each in _errors(graph, leaves, precision, seed).items():
            off[name] = np.maximum(off.get(name, 0.0), each)
    choices: dict[str, Choices] = {}
    for node in reversed(graph.nodes):
        inputs = graph.inputs(node, values)
        reach = [_reach(operand, each, off) for operand, each in zip(node.operands, inputs, strict=True)]
        each = node.op.choices(reach, *inputs)
        if each is not None and each.count <= most:
            choices[node.name] = each
    return Point(graph, values, choices)


def _errors(graph: Graph, leaves: Mapping[str, Array], precision: Precision, seed: int) -> Values:
    """What the values of nodes and leaves may be off by; nothing of those that are exact."""
    observer = MonteCarlo(precision, np.random.default_rng([seed, precision.digits, 0x71E]))
    sweeps = graph.forward(perturbed_leaves(leaves, precision, observer), observer)
    return {
        name: SAFETY * observer.scale * root_mean_square(each[1:] - each[0])[None]
        for name, each in sweeps.items()
        if len(each) > 1
    }


def _reach(operand: object, value: Array | None, off: Mapping[str, Array]) -> Array | None:
    if value is None or value.dtype.kind != "f":
        return None
    spacing = np.spacing(np.abs(value))
    return np.maximum(spacing, off[operand]) if isinstance(operand, str) and operand in off else spacing
