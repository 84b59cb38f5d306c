"""Softmax from primitives, exponentials over their sum, with a Jacobian that was cut short."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import ClassVar

from service.numerics.faults.fault import Alteration, OnTheWayBack, Wrong, on_the_way_back
from service.numerics.faults.scene import Scene
from service.numerics.graph import Node
from service.numerics.ops.op import Gradients
from service.numerics.tiles import Array


@on_the_way_back
class DiagonalOnly(OnTheWayBack):
    """Of the Jacobian diag(p) - p p^T what is off the diagonal was left out, or the whole second part."""

    name: ClassVar[str] = "softmax_jacobian_diagonal_only"
    signature: ClassVar[str] = "of the Jacobian of softmax only the diagonal p (1 - p) was taken"

    def alterations(self, scene: Scene, names: Sequence[str]) -> Iterator[Alteration]:
        """See `OnTheWayBack`."""
        sums = {node.name: node.sources[0] for node in scene.graph.nodes if node.op.name == "sum"}
        for node in scene.graph.downstream(names):
            if node.op.name == "div" and sums.get(str(node.operands[1])) == node.operands[0]:
                yield self._at(scene, node, _diagonal, "only the diagonal p (1 - p) was taken")
                yield self._at(scene, node, _first_part, "diag(p) - p p^T, only the first part was taken")

    def _at(self, scene: Scene, node: Node, wrong: Wrong, what: str) -> Alteration:
        text = f"of the Jacobian of the softmax that is {scene.shown(node.name)}, {what}"
        return Alteration(self.name, {node.name: wrong}, partial(str, text))


def _diagonal(right: Gradients, gradient: Array, output: Array, *inputs: Array) -> Gradients:
    return gradient * (1 - output) / inputs[1], 0 * inputs[1]


def _first_part(right: Gradients, gradient: Array, output: Array, *inputs: Array) -> Gradients:
    return gradient / inputs[1], 0 * inputs[1]
