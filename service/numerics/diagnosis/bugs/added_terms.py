"""Gradients with something added that belongs elsewhere, or with nothing left."""

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.diagnosis.bug import GradientBug, SimulatedBug, register_gradient_bug
from service.numerics.diagnosis.bugs.backward_paths import iterate_edges_to
from service.numerics.diagnosis.bugs.scaling import compute_factor_tolerance, fit_scale_factor
from service.numerics.diagnosis.context import DiagnosisContext
from service.numerics.diagnosis.matching import BugHypothesis
from service.numerics.ops.multipliers import MultiplierKind

_CERTAIN_DIGITS = 99.0
_SHARE_TOLERANCE = 1e-9
"""How near a share is to a multiple of the tensor, or a difference to one of the share."""
_USUAL_DECAYS = (1e-4, 5e-4, 1e-2, 0.1)


class _WeightDecayBug(GradientBug):
    """A multiple of the tensor itself was added to its gradient.

    Of a loss that has a share s w of the gradient, as the decay lambda w^2 / 2 has with s = lambda, the difference k w
    says what was done: it was taken twice (k = s), left out (k = -s), or taken with the wrong sign (k = -2 s).
    """

    decay_sign: ClassVar[float]
    text_without_share: ClassVar[str]
    """What was done where the loss has no such share."""
    texts_by_share_ratio: ClassVar[Mapping[float, str]]
    """What was done, by k / s."""

    def hypotheses(self, scene: DiagnosisContext, name: str) -> Iterator[BugHypothesis]:
        """See `Fault`."""
        candidate, right, own = scene.candidates[name], scene.right_gradient(name), scene.values[name][0]
        if candidate.shape != right.shape or not own.any():
            return
        factor, off = fit_scale_factor(candidate - right, own)
        if factor * self.decay_sign <= 0:
            return
        share = _find_decay_factor_in_loss(scene, name)
        near = max(_SHARE_TOLERANCE, compute_factor_tolerance(scene, name, off))
        ratio = (
            None
            if share == 0
            else next((each for each in self.texts_by_share_ratio if abs(factor / share - each) <= near), None)
        )
        if share != 0 and ratio is None:
            return
        factor, constants = (factor, 1) if ratio is None else (ratio * share, 0)
        done = self.text_without_share if ratio is None else self.texts_by_share_ratio[ratio]
        text = (
            f"{scene.describe_gradient(name)} is the reference {'plus' if factor > 0 else 'less'} {abs(factor):.6g} times "
            f"{scene.format_name(name)} itself, as where {done}."
        )
        yield BugHypothesis(self.name, right + factor * own, text, constants, bug_key=f"{factor:.5g}")

    def inject(self, scene: DiagnosisContext, name: str) -> Iterator[Mapping[str, Array]]:
        """See `Fault`."""
        own, right = scene.values[name][0], scene.right_gradient(name)
        ratio = np.max(np.abs(right), initial=0) / max(np.max(np.abs(own), initial=0), 1e-300)
        # Large enough to be seen beside the gradient.
        for factor in (each for each in _USUAL_DECAYS if each > 1e-3 * ratio and own.size > 1):
            yield {name: right + self.decay_sign * factor * own}


@register_gradient_bug
class WeightDecayAdded(_WeightDecayBug):
    """Weight decay is in the gradient, and not in the loss."""

    name: ClassVar[str] = "weight_decay_added"
    signature: ClassVar[str] = "c - g = k w, k > 0"
    decay_sign: ClassVar[float] = 1.0
    text_without_share: ClassVar[str] = "weight decay is in the gradient and not in the loss"
    texts_by_share_ratio: ClassVar[Mapping[float, str]] = {
        1.0: "the weight decay that the loss has is in the gradient twice"
    }


@register_gradient_bug
class WeightDecayMissingSign(_WeightDecayBug):
    """Weight decay has the wrong sign, or was left out."""

    name: ClassVar[str] = "weight_decay_missing_sign"
    signature: ClassVar[str] = "c - g = -k w, k > 0"
    decay_sign: ClassVar[float] = -1.0
    text_without_share: ClassVar[str] = "weight decay is in the gradient with the wrong sign, and not in the loss"
    texts_by_share_ratio: ClassVar[Mapping[float, str]] = {
        -1.0: "the weight decay that the loss has is not in the gradient",
        -2.0: "the weight decay that the loss has is in the gradient with the wrong sign",
    }


def _find_decay_factor_in_loss(scene: DiagnosisContext, name: str) -> float:
    """The factor s of what comes back to a tensor from those uses from which it is s times the tensor itself."""
    own, total = scene.values[name][0], 0.0
    for edge in iterate_edges_to(scene, name):
        share = edge.edge_gradient(scene)
        factor, off = fit_scale_factor(share, own)
        total += factor if off <= _SHARE_TOLERANCE else 0.0
    return total


@register_gradient_bug
class DetachedGradient(SimulatedBug):
    """Nothing comes back at all."""

    name: ClassVar[str] = "detached"
    signature: ClassVar[str] = "c = 0 where g is not; or c = the gradient along the remaining paths"

    def simulate_gradients(self, scene: DiagnosisContext, name: str) -> Iterator[BugHypothesis]:
        """See `Made`."""
        text = (
            f"{scene.describe_gradient(name)} is 0 throughout where the reference is not, as where it is detached, never written, "
            "or reset."
        )
        candidate = scene.candidates.get(name)
        if scene.right_gradient(name).any() and (candidate is None or not candidate.any()):
            yield BugHypothesis(
                self.name, np.zeros(scene.right_gradient(name).shape), text, known_digits=_CERTAIN_DIGITS
            )


@register_gradient_bug
class ChannelFactorMissing(SimulatedBug):
    """A factor that differs from channel to channel was left out, or applied twice."""

    name: ClassVar[str] = "channel_factor_missing"
    signature: ClassVar[str] = "c = g s or g / s along one axis, s a vector of the model"

    def simulate_gradients(self, scene: DiagnosisContext, name: str) -> Iterator[BugHypothesis]:
        """See `Made`."""
        right = scene.right_gradient(name)
        kinds = _find_multiplying_vectors(scene, name)
        for axis, length in enumerate(right.shape):
            for vector in (each for each in kinds if scene.vectors_by_name[each].size == length):
                values = scene.vectors_by_name[vector]
                along = values.reshape(-1, *(1,) * (right.ndim - 1 - axis))
                what = f"{scene.format_name(vector)} along axis {axis}"
                fact = f"{scene.describe_gradient(name)} is the reference"
                yield self._make_hypothesis(
                    right * along, f"{fact} times {what}", [_TEXT_WHEN_MULTIPLIED[each] for each in kinds[vector]]
                )
                if values.all():
                    yield self._make_hypothesis(
                        right / along, f"{fact} over {what}", [_TEXT_WHEN_DIVIDED[each] for each in kinds[vector]]
                    )

    def _make_hypothesis(self, gradient: Array, fact: str, action: Sequence[str]) -> BugHypothesis:
        return BugHypothesis(self.name, gradient, f"{fact}:", fallback_ending=f"{', or '.join(action)}.")


_TEXT_WHEN_MULTIPLIED: Mapping[MultiplierKind, str] = {
    "factor": "this factor was applied once too often",
    "division": "this divisor was left out",
}
_TEXT_WHEN_DIVIDED: Mapping[MultiplierKind, str] = {
    "factor": "this factor was left out",
    "division": "this divisor was applied once too often",
}


def _find_multiplying_vectors(scene: DiagnosisContext, name: str) -> dict[str, list[MultiplierKind]]:
    """Vectors of the model that multiply, or divide, a gradient on its way back to a name."""
    kinds: dict[str, list[MultiplierKind]] = {}
    for node in scene.graph.downstream_nodes([name]):
        for operand, slot in zip(node.operands, node.operand_slots, strict=True):
            kind = node.op.multiplying_slots.get(slot.name)
            if kind is not None and isinstance(operand, str) and operand in scene.vectors_by_name:
                known = kinds.setdefault(operand, [])
                known.extend([] if kind in known else [kind])
    return kinds
