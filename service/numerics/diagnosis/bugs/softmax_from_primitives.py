"""Softmax from primitives, exponentials over their sum, with a Jacobian that was cut short."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import ClassVar

from service.numerics.core.batching import Array
from service.numerics.diagnosis.bug import BackwardBug, BackwardOverride, WrongBackward, register_backward_bug
from service.numerics.diagnosis.context import DiagnosisContext
from service.numerics.model.graph import Node
from service.numerics.ops.op import Gradients


@register_backward_bug
class SoftmaxDiagonalOnly(BackwardBug):
    """Of the Jacobian diag(p) - p p^T what is off the diagonal was left out, or the whole second part."""

    name: ClassVar[str] = "softmax_jacobian_diagonal_only"
    signature: ClassVar[str] = "of the Jacobian of softmax only the diagonal p (1 - p) was taken"

    def backward_overrides(self, scene: DiagnosisContext, names: Sequence[str]) -> Iterator[BackwardOverride]:
        """See `OnTheWayBack`."""
        sums = {node.name: node.source_names[0] for node in scene.graph.nodes if node.op.name == "sum"}
        for node in scene.graph.downstream_nodes(names):
            if node.op.name == "div" and sums.get(str(node.operands[1])) == node.operands[0]:
                yield self._make_override(scene, node, _run_diagonal_backward, "only the diagonal p (1 - p) was taken")
                yield self._make_override(
                    scene, node, _run_first_term_backward, "diag(p) - p p^T, only the first part was taken"
                )

    def _make_override(
        self, scene: DiagnosisContext, node: Node, wrong: WrongBackward, explanation: str
    ) -> BackwardOverride:
        text = f"of the Jacobian of the softmax that is {scene.format_name(node.name)}, {explanation}"
        return BackwardOverride(self.name, {node.name: wrong}, partial(str, text))


def _run_diagonal_backward(right: Gradients, gradient: Array, output: Array, *inputs: Array) -> Gradients:
    return gradient * (1 - output) / inputs[1], 0 * inputs[1]


def _run_first_term_backward(right: Gradients, gradient: Array, output: Array, *inputs: Array) -> Gradients:
    return gradient / inputs[1], 0 * inputs[1]
