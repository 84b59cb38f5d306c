"""Softmax from primitives, with part of the Jacobian left out.

The primitives are exponentials over their sum.
"""

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
    """A Jacobian diag(p) - p p^T without part of p p^T.

    The part is off the diagonal, or all of p p^T.
    """

    name: ClassVar[str] = "softmax_jacobian_diagonal_only"
    signature: ClassVar[str] = "only the diagonal p (1 - p) of the Jacobian of softmax was used"

    def iterate_overrides(self, context: DiagnosisContext, names: Sequence[str]) -> Iterator[BackwardOverride]:
        """Yield both overrides at each quotient by a sum; see `BackwardBug`."""
        sums = {node.name: node.source_names[0] for node in context.graph.nodes if node.op.name == "sum"}
        for node in context.graph.list_downstream_nodes(names):
            if node.op.name == "div" and sums.get(str(node.operands[1])) == node.operands[0]:
                yield self._make_override(context, node, _run_diagonal_backward, "only the diagonal p (1 - p)")
                yield self._make_override(context, node, _run_first_term_backward, "only the first part diag(p)")

    def _make_override(
        self, context: DiagnosisContext, node: Node, wrong: WrongBackward, used_part: str
    ) -> BackwardOverride:
        text = f"{used_part} of the Jacobian diag(p) - p p^T of the softmax {context.describe_name(node.name)} was used"
        return BackwardOverride(self.name, {node.name: wrong}, partial(str, text))


def _run_diagonal_backward(right: Gradients, gradient: Array, output: Array, *inputs: Array) -> Gradients:
    return gradient * (1 - output) / inputs[1], 0 * inputs[1]


def _run_first_term_backward(right: Gradients, gradient: Array, output: Array, *inputs: Array) -> Gradients:
    return gradient / inputs[1], 0 * inputs[1]
