"""Gradients that still have the axes over which they ought to have been summed."""

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import ClassVar

import numpy as np

from service.numerics.faults.fault import Fault, fault
from service.numerics.faults.hypothesis import Hypothesis
from service.numerics.faults.scene import Scene
from service.numerics.tiles import Array, Shape

_MOST_AXES = 8


def _without_ones(shape: Shape) -> Shape:
    return tuple(length for length in shape if length != 1)


def _sums_to(given: Shape, shape: Shape) -> Iterator[tuple[int, ...]]:
    """Axes of a tensor over which a sum leaves `shape`, axes of length 1 aside."""
    if len(given) > _MOST_AXES or int(np.prod(given)) <= int(np.prod(shape)):
        return
    for count in range(1, len(given) + 1):
        for axes in combinations(range(len(given)), count):
            left = tuple(length for axis, length in enumerate(given) if axis not in axes)
            if _without_ones(left) == _without_ones(shape) and any(given[axis] > 1 for axis in axes):
                yield axes


class _NotSummed(Fault):
    """What ought to have been summed over axes that were broadcast is there still."""

    def recognised(self, scene: Scene, name: str) -> Iterator[Hypothesis]:
        """See `Fault`."""
        if not self.concerns(scene, name):
            return
        candidate, right = scene.candidates[name], scene.right(name)
        for axes in _sums_to(candidate.shape, right.shape):
            seen = candidate.sum(axis=axes).reshape(right.shape)
            over = f"ax{'is' if len(axes) == 1 else 'es'} {', '.join(map(str, axes))}"
            text = (
                f"{scene.told(name)} has shape {list(candidate.shape)}; summed over {over} it is the reference, of "
                f"shape {list(right.shape)}: {self.cause}."
            )
            yield Hypothesis(self.name, right, text, seen=seen)

    cause: ClassVar[str]

    def concerns(self, scene: Scene, name: str) -> bool:
        """Whether the name may have this bug."""
        return True

    def injected(self, scene: Scene, name: str) -> Iterator[Mapping[str, Array]]:
        """See `Fault`."""
        if not self.concerns(scene, name):
            return
        for node, _ in scene.uses(name):
            gradient = scene.right(node.name)
            for axes in _sums_to(gradient.shape, scene.graph.shapes[name]):
                summed = gradient.sum(axis=axes).reshape(scene.graph.shapes[name])
                if np.allclose(summed, scene.right(name), rtol=1e-9, atol=0):
                    yield {name: gradient}


@fault
class BiasNotSummed(_NotSummed):
    """The gradient of a bias has the axes of the batch still."""

    name: ClassVar[str] = "bias_not_summed"
    signature: ClassVar[str] = "c has the axes of the batch still: summed over them it is g"
    cause: ClassVar[str] = "a bias is used once for each sample, and its gradient is the sum over them"

    def concerns(self, scene: Scene, name: str) -> bool:
        """See `_NotSummed`."""
        return bool(scene.slots(name) & {"bias"}) or any(node.op.name in ("add", "sub") for node, _ in scene.uses(name))


@fault
class BroadcastNotReduced(_NotSummed):
    """The gradient of a tensor that was broadcast has the shape of the result still."""

    name: ClassVar[str] = "broadcast_not_reduced"
    signature: ClassVar[str] = "c has the axes still along which the tensor was broadcast: summed over them it is g"
    cause: ClassVar[str] = "what is broadcast is used once for each place, and its gradient is the sum over them"
