"""Normalisation from primitives: a mean or a variance that was taken as a constant."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import ClassVar

from service.numerics.diagnosis.bug import BackwardBug, BackwardOverride, register_backward_bug
from service.numerics.diagnosis.bugs.backward_paths import multiply_results
from service.numerics.diagnosis.context import DiagnosisContext
from service.numerics.model.graph import Node

_ROOT_OPS = ("sqrt", "rsqrt", "pow")


class _ConstantMoment(BackwardBug):
    """No gradient comes back through a moment of a tensor."""

    moment_name: ClassVar[str]

    def backward_overrides(self, scene: DiagnosisContext, names: Sequence[str]) -> Iterator[BackwardOverride]:
        """See `OnTheWayBack`."""
        nodes = scene.graph.downstream_nodes(names)
        means = [node for node in nodes if _is_subtracted_mean(scene, node)]
        variances = [node for node in nodes if _is_normalising_variance(scene, node)]
        for node in self.select_nodes(means, variances):
            yield self._make_override(scene, [node])
        if means and variances:
            yield self._make_override(scene, [*means, *variances])

    def select_nodes(self, means: list[Node], variances: list[Node]) -> list[Node]:
        """Those of the two that this bug is about."""
        raise NotImplementedError

    def _make_override(self, scene: DiagnosisContext, nodes: Sequence[Node]) -> BackwardOverride:
        told = " and ".join(scene.format_name(node.name) for node in nodes)
        text = f"the {self.moment_name} was taken as a constant: nothing came back through {told}"
        return BackwardOverride(
            self.name, {node.name: partial(multiply_results, 0, [0]) for node in nodes}, lambda: text
        )


@register_backward_bug
class ConstantMean(_ConstantMoment):
    """The mean that is taken away from a tensor."""

    name: ClassVar[str] = "missing_mean_path"
    signature: ClassVar[str] = "the mean was taken as a constant, though it depends on the input"
    moment_name: ClassVar[str] = "mean"

    def select_nodes(self, means: list[Node], variances: list[Node]) -> list[Node]:
        """See `_HeldConstant`."""
        return means


@register_backward_bug
class ConstantVariance(_ConstantMoment):
    """The variance by whose root a tensor is divided."""

    name: ClassVar[str] = "missing_variance_path"
    signature: ClassVar[str] = "the variance was taken as a constant, though it depends on the input"
    moment_name: ClassVar[str] = "variance"

    def select_nodes(self, means: list[Node], variances: list[Node]) -> list[Node]:
        """See `_HeldConstant`."""
        return variances


def _is_subtracted_mean(scene: DiagnosisContext, node: Node) -> bool:
    """Whether a mean is taken away from what it is the mean of."""
    return node.op.name == "mean" and any(
        user.op.name == "sub" and user.operands[:2] == (node.operands[0], node.name)
        for user, _ in scene.uses_of(node.name)
    )


def _is_normalising_variance(scene: DiagnosisContext, node: Node) -> bool:
    """Whether the root of a variance, or of a mean of squares, is taken, a small number added before or not."""
    if node.op.name != "var" and not (node.op.name == "mean" and _is_square(scene, node.source_names[0])):
        return False
    users = [user for user, _ in scene.uses_of(node.name)]
    users += [further for user in users if user.op.name == "add" for further, _ in scene.uses_of(user.name)]
    return any(user.op.name in _ROOT_OPS for user in users)


def _is_square(scene: DiagnosisContext, name: str) -> bool:
    node = next((each for each in scene.graph.nodes if each.name == name), None)
    if node is None:
        return False
    return node.op.name == "pow" or (node.op.name == "mul" and node.operands[0] == node.operands[1])
