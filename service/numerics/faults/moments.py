"""Normalisation from primitives: a mean or a variance that was taken as a constant."""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import ClassVar

from service.numerics.faults.backward import times
from service.numerics.faults.fault import Alteration, OnTheWayBack, on_the_way_back
from service.numerics.faults.scene import Scene
from service.numerics.graph import Node

_ROOTS = ("sqrt", "rsqrt", "pow")


class _HeldConstant(OnTheWayBack):
    """No gradient comes back through a moment of a tensor."""

    moment: ClassVar[str]

    def alterations(self, scene: Scene, names: Sequence[str]) -> Iterator[Alteration]:
        """See `OnTheWayBack`."""
        nodes = scene.graph.downstream(names)
        means = [node for node in nodes if _is_mean(scene, node)]
        variances = [node for node in nodes if _is_variance(scene, node)]
        for node in self.own(means, variances):
            yield self._held(scene, [node])
        if means and variances:
            yield self._held(scene, [*means, *variances])

    def own(self, means: list[Node], variances: list[Node]) -> list[Node]:
        """Those of the two that this bug is about."""
        raise NotImplementedError

    def _held(self, scene: Scene, nodes: Sequence[Node]) -> Alteration:
        told = " and ".join(scene.shown(node.name) for node in nodes)
        text = f"the {self.moment} was taken as a constant: nothing came back through {told}"
        return Alteration(self.name, {node.name: partial(times, 0, [0]) for node in nodes}, lambda: text)


@on_the_way_back
class MeanHeldConstant(_HeldConstant):
    """The mean that is taken away from a tensor."""

    name: ClassVar[str] = "missing_mean_path"
    signature: ClassVar[str] = "the mean was taken as a constant, though it depends on the input"
    moment: ClassVar[str] = "mean"

    def own(self, means: list[Node], variances: list[Node]) -> list[Node]:
        """See `_HeldConstant`."""
        return means


@on_the_way_back
class VarianceHeldConstant(_HeldConstant):
    """The variance by whose root a tensor is divided."""

    name: ClassVar[str] = "missing_variance_path"
    signature: ClassVar[str] = "the variance was taken as a constant, though it depends on the input"
    moment: ClassVar[str] = "variance"

    def own(self, means: list[Node], variances: list[Node]) -> list[Node]:
        """See `_HeldConstant`."""
        return variances


def _is_mean(scene: Scene, node: Node) -> bool:
    """Whether a mean is taken away from what it is the mean of."""
    return node.op.name == "mean" and any(
        user.op.name == "sub" and user.operands[:2] == (node.operands[0], node.name)
        for user, _ in scene.uses(node.name)
    )


def _is_variance(scene: Scene, node: Node) -> bool:
    """Whether the root of a variance, or of a mean of squares, is taken, a small number added before or not."""
    if node.op.name != "var" and not (node.op.name == "mean" and _is_square(scene, node.sources[0])):
        return False
    users = [user for user, _ in scene.uses(node.name)]
    users += [further for user in users if user.op.name == "add" for further, _ in scene.uses(user.name)]
    return any(user.op.name in _ROOTS for user in users)


def _is_square(scene: Scene, name: str) -> bool:
    node = next((each for each in scene.graph.nodes if each.name == name), None)
    if node is None:
        return False
    return node.op.name == "pow" or (node.op.name == "mul" and node.operands[0] == node.operands[1])
