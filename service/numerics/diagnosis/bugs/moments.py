"""Normalisation from primitives, with a mean or a variance treated as a constant."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import ClassVar

from service.numerics.diagnosis.bug import BackwardBug, BackwardOverride, register_backward_bug
from service.numerics.diagnosis.bugs.backward_paths import multiply_results
from service.numerics.diagnosis.context import DiagnosisContext
from service.numerics.model.graph import Node

_ROOT_OPS = ("sqrt", "rsqrt", "pow")


class _ConstantMoment(BackwardBug):
    """A moment of a tensor through which no gradient comes back."""

    moment_name: ClassVar[str]

    def iterate_overrides(self, context: DiagnosisContext, names: Sequence[str]) -> Iterator[BackwardOverride]:
        """Yield an override for each such moment, and one for all; see `BackwardBug`."""
        nodes = context.graph.list_downstream_nodes(names)
        means = [node for node in nodes if _is_subtracted_mean(context, node)]
        variances = [node for node in nodes if _is_normalising_variance(context, node)]
        for node in self.select_nodes(means, variances):
            yield self._make_override(context, [node])
        if means and variances:
            yield self._make_override(context, [*means, *variances])

    def select_nodes(self, means: list[Node], variances: list[Node]) -> list[Node]:
        """Return the nodes that this bug is about."""
        raise NotImplementedError

    def _make_override(self, context: DiagnosisContext, nodes: Sequence[Node]) -> BackwardOverride:
        names = " and ".join(context.describe_name(node.name) for node in nodes)
        text = f"the {self.moment_name} was treated as a constant: no gradient came back through {names}"
        return BackwardOverride(
            self.name, {node.name: partial(multiply_results, 0, [0]) for node in nodes}, lambda: text
        )


@register_backward_bug
class ConstantMean(_ConstantMoment):
    """The mean that is subtracted from a tensor."""

    name: ClassVar[str] = "missing_mean_path"
    signature: ClassVar[str] = "the mean was treated as a constant, though it depends on the input"
    moment_name: ClassVar[str] = "mean"

    def select_nodes(self, means: list[Node], variances: list[Node]) -> list[Node]:
        """Return the nodes that this bug is about; see `_ConstantMoment`."""
        return means


@register_backward_bug
class ConstantVariance(_ConstantMoment):
    """The variance whose root divides a tensor."""

    name: ClassVar[str] = "missing_variance_path"
    signature: ClassVar[str] = "the variance was treated as a constant, though it depends on the input"
    moment_name: ClassVar[str] = "variance"

    def select_nodes(self, means: list[Node], variances: list[Node]) -> list[Node]:
        """Return the nodes that this bug is about; see `_ConstantMoment`."""
        return variances


def _is_subtracted_mean(context: DiagnosisContext, node: Node) -> bool:
    """Tell whether a mean is subtracted from its own input."""
    return node.op.name == "mean" and any(
        user.op.name == "sub" and user.operands[:2] == (node.operands[0], node.name)
        for user, _ in context.get_uses(node.name)
    )


def _is_normalising_variance(context: DiagnosisContext, node: Node) -> bool:
    """Tell whether a node is a variance, or a mean of squares, under a root.

    A constant may be added under the root.
    """
    if node.op.name != "var" and not (node.op.name == "mean" and _is_square(context, node.source_names[0])):
        return False
    users = [user for user, _ in context.get_uses(node.name)]
    users += [later_user for user in users if user.op.name == "add" for later_user, _ in context.get_uses(user.name)]
    return any(user.op.name in _ROOT_OPS for user in users)


def _is_square(context: DiagnosisContext, name: str) -> bool:
    node = next((node for node in context.graph.nodes if node.name == name), None)
    if node is None:
        return False
    return node.op.name == "pow" or (node.op.name == "mul" and node.operands[0] == node.operands[1])
