"""Gradients that still have the axes over which they ought to have been summed."""

from collections.abc import Iterator, Mapping
from itertools import combinations
from typing import ClassVar

import numpy as np

from service.numerics.core.batching import Array, Shape
from service.numerics.diagnosis.bug import GradientBug, register_gradient_bug
from service.numerics.diagnosis.context import DiagnosisContext
from service.numerics.diagnosis.matching import BugHypothesis

_MAX_AXES = 8


def _drop_unit_axes(shape: Shape) -> Shape:
    return tuple(length for length in shape if length != 1)


def _iterate_axes_summing_to(given_shape: Shape, shape: Shape) -> Iterator[tuple[int, ...]]:
    """Axes of a tensor over which a sum leaves `shape`, axes of length 1 aside."""
    if len(given_shape) > _MAX_AXES or int(np.prod(given_shape)) <= int(np.prod(shape)):
        return
    for count in range(1, len(given_shape) + 1):
        for axes in combinations(range(len(given_shape)), count):
            left = tuple(length for axis, length in enumerate(given_shape) if axis not in axes)
            if _drop_unit_axes(left) == _drop_unit_axes(shape) and any(given_shape[axis] > 1 for axis in axes):
                yield axes


class _MissingSumBug(GradientBug):
    """What ought to have been summed over axes that were broadcast is there still."""

    def hypotheses(self, scene: DiagnosisContext, name: str) -> Iterator[BugHypothesis]:
        """See `Fault`."""
        if not self.is_candidate(scene, name):
            return
        candidate, right = scene.candidates[name], scene.right_gradient(name)
        for axes in _iterate_axes_summing_to(candidate.shape, right.shape):
            seen = candidate.sum(axis=axes).reshape(right.shape)
            over = f"ax{'is' if len(axes) == 1 else 'es'} {', '.join(map(str, axes))}"
            text = (
                f"{scene.describe_gradient(name)} has shape {list(candidate.shape)}; summed over {over} it is the reference, of "
                f"shape {list(right.shape)}: {self.cause_text}."
            )
            yield BugHypothesis(self.name, right, text, compared_gradient=seen)

    cause_text: ClassVar[str]

    def is_candidate(self, scene: DiagnosisContext, name: str) -> bool:
        """Whether the name may have this bug."""
        return True

    def inject(self, scene: DiagnosisContext, name: str) -> Iterator[Mapping[str, Array]]:
        """See `Fault`."""
        if not self.is_candidate(scene, name):
            return
        for node, _ in scene.uses_of(name):
            gradient = scene.right_gradient(node.name)
            for axes in _iterate_axes_summing_to(gradient.shape, scene.graph.shapes[name]):
                summed = gradient.sum(axis=axes).reshape(scene.graph.shapes[name])
                if np.allclose(summed, scene.right_gradient(name), rtol=1e-9, atol=0):
                    yield {name: gradient}


@register_gradient_bug
class BiasNotSummed(_MissingSumBug):
    """The gradient of a bias has the axes of the batch still."""

    name: ClassVar[str] = "bias_not_summed"
    signature: ClassVar[str] = "c has the axes of the batch still: summed over them it is g"
    cause_text: ClassVar[str] = "a bias is used once for each sample, and its gradient is the sum over them"

    def is_candidate(self, scene: DiagnosisContext, name: str) -> bool:
        """See `_NotSummed`."""
        return bool(scene.slot_names_of(name) & {"bias"}) or any(
            node.op.name in ("add", "sub") for node, _ in scene.uses_of(name)
        )


@register_gradient_bug
class BroadcastNotReduced(_MissingSumBug):
    """The gradient of a tensor that was broadcast has the shape of the result still."""

    name: ClassVar[str] = "broadcast_not_reduced"
    signature: ClassVar[str] = "c has the axes still along which the tensor was broadcast: summed over them it is g"
    cause_text: ClassVar[str] = "what is broadcast is used once for each place, and its gradient is the sum over them"
