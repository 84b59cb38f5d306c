"""Gradients that were not summed over the axes of a broadcast."""

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
    """Yield axes whose sum leaves `shape`, axes of length 1 aside."""
    if len(given_shape) > _MAX_AXES or int(np.prod(given_shape)) <= int(np.prod(shape)):
        return
    for count in range(1, len(given_shape) + 1):
        for axes in combinations(range(len(given_shape)), count):
            kept_lengths = tuple(length for axis, length in enumerate(given_shape) if axis not in axes)
            if _drop_unit_axes(kept_lengths) == _drop_unit_axes(shape) and any(given_shape[axis] > 1 for axis in axes):
                yield axes


class _MissingSumBug(GradientBug):
    """A gradient that was not summed over the axes of a broadcast."""

    def iterate_hypotheses(self, context: DiagnosisContext, name: str) -> Iterator[BugHypothesis]:
        """Yield the right gradient, compared with sums of the candidate."""
        if not self.is_candidate(context, name):
            return
        candidate, right = context.candidates[name], context.get_right_gradient(name)
        for axes in _iterate_axes_summing_to(candidate.shape, right.shape):
            summed_candidate = candidate.sum(axis=axes).reshape(right.shape)
            axes_text = f"ax{'is' if len(axes) == 1 else 'es'} {', '.join(map(str, axes))}"
            text = (
                f"{context.describe_gradient(name)} was not summed over {axes_text}: it has shape "
                f"{list(candidate.shape)}, and its sum is the reference, of shape {list(right.shape)}. "
                f"{self.cause_text}"
            )
            yield BugHypothesis(self.name, right, text, compared_gradient=summed_candidate)

    cause_text: ClassVar[str]
    """Sentence for the reason why the sum is due."""

    def is_candidate(self, context: DiagnosisContext, name: str) -> bool:
        """Tell whether the name may have this bug."""
        return True

    def inject(self, context: DiagnosisContext, name: str) -> Iterator[Mapping[str, Array]]:
        """Yield the gradients of results that the name was broadcast to."""
        if not self.is_candidate(context, name):
            return
        for node, _ in context.get_uses(name):
            gradient = context.get_right_gradient(node.name)
            for axes in _iterate_axes_summing_to(gradient.shape, context.graph.shapes[name]):
                summed_gradient = gradient.sum(axis=axes).reshape(context.graph.shapes[name])
                if np.allclose(summed_gradient, context.get_right_gradient(name), rtol=1e-9, atol=0):
                    yield {name: gradient}


@register_gradient_bug
class BiasNotSummed(_MissingSumBug):
    """A gradient of a bias that still has the axes of the batch."""

    name: ClassVar[str] = "bias_not_summed"
    signature: ClassVar[str] = "c still has the axes of the batch: summed over them, it is g"
    cause_text: ClassVar[str] = "A bias is used once for each sample, and its gradient is the sum over them."

    def is_candidate(self, context: DiagnosisContext, name: str) -> bool:
        """Tell whether the name is added somewhere, as a bias is."""
        return bool(context.list_slot_names(name) & {"bias"}) or any(
            node.op.name in ("add", "sub") for node, _ in context.get_uses(name)
        )


@register_gradient_bug
class BroadcastNotReduced(_MissingSumBug):
    """A gradient of a broadcast tensor that still has the shape of the result."""

    name: ClassVar[str] = "broadcast_not_reduced"
    signature: ClassVar[str] = "c still has the axes of the broadcast: summed over them, it is g"
    cause_text: ClassVar[str] = "A broadcast tensor is used once for each place, and its gradient is the sum over them."
