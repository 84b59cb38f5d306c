"""Gradients with a foreign term added, a factor missing, or nothing left."""

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
"""Relative distance of a share from a multiple of the tensor, or of a difference from a multiple of the share."""
_USUAL_DECAYS = (1e-4, 5e-4, 1e-2, 0.1)


class _WeightDecayBug(GradientBug):
    """A multiple of the tensor itself that was added to its gradient.

    Let the loss contribute s w to the gradient: the decay lambda w^2 / 2 does so with s = lambda. Then the difference
    k w tells how the decay went wrong: counted twice (k = s), left out (k = -s), or with the wrong sign (k = -2 s).
    """

    decay_sign: ClassVar[float]
    text_without_share: ClassVar[str]
    """Bug in words if the loss has no such share, after "Matches"."""
    texts_by_share_ratio: ClassVar[Mapping[float, str]]
    """Bug in words by k / s, after "Matches"."""

    def iterate_hypotheses(self, context: DiagnosisContext, name: str) -> Iterator[BugHypothesis]:
        """Yield the right gradient plus the fitting multiple of the tensor."""
        candidate, right, tensor = context.candidates[name], context.get_right_gradient(name), context.values[name][0]
        if candidate.shape != right.shape or not tensor.any():
            return
        factor, residual = fit_scale_factor(candidate - right, tensor)
        if factor * self.decay_sign <= 0:
            return
        share = _find_decay_factor_in_loss(context, name)
        tolerance = max(_SHARE_TOLERANCE, compute_factor_tolerance(context, name, residual))
        ratio = (
            None
            if share == 0
            else next((known for known in self.texts_by_share_ratio if abs(factor / share - known) <= tolerance), None)
        )
        if share != 0 and ratio is None:
            return
        factor, constants = (factor, 1) if ratio is None else (ratio * share, 0)
        action = self.text_without_share if ratio is None else self.texts_by_share_ratio[ratio]
        text = (
            f"Matches {action}: {context.describe_gradient(name)} is the reference "
            f"{'plus' if factor > 0 else 'minus'} {abs(factor):.6g} times {context.describe_name(name)}."
        )
        yield BugHypothesis(self.name, right + factor * tensor, text, constants, bug_key=f"{factor:.5g}")

    def inject(self, context: DiagnosisContext, name: str) -> Iterator[Mapping[str, Array]]:
        """Yield the right gradient plus usual decays of the tensor; see `GradientBug`."""
        tensor, right = context.values[name][0], context.get_right_gradient(name)
        ratio = np.max(np.abs(right), initial=0) / max(np.max(np.abs(tensor), initial=0), 1e-300)
        # Smaller decays would not show beside the gradient.
        for factor in (decay for decay in _USUAL_DECAYS if decay > 1e-3 * ratio and tensor.size > 1):
            yield {name: right + self.decay_sign * factor * tensor}


@register_gradient_bug
class WeightDecayAdded(_WeightDecayBug):
    """Weight decay in the gradient that is not in the loss."""

    name: ClassVar[str] = "weight_decay_added"
    signature: ClassVar[str] = "c - g = k w, k > 0"
    decay_sign: ClassVar[float] = 1.0
    text_without_share: ClassVar[str] = "weight decay that is in the gradient but not in the loss"
    texts_by_share_ratio: ClassVar[Mapping[float, str]] = {
        1.0: "the weight decay of the loss counted twice in the gradient"
    }


@register_gradient_bug
class WeightDecayMissingSign(_WeightDecayBug):
    """Weight decay with the wrong sign, or left out."""

    name: ClassVar[str] = "weight_decay_missing_sign"
    signature: ClassVar[str] = "c - g = -k w, k > 0"
    decay_sign: ClassVar[float] = -1.0
    text_without_share: ClassVar[str] = "weight decay with the wrong sign that is in the gradient but not in the loss"
    texts_by_share_ratio: ClassVar[Mapping[float, str]] = {
        -1.0: "the weight decay of the loss left out of the gradient",
        -2.0: "the weight decay of the loss with the wrong sign in the gradient",
    }


def _find_decay_factor_in_loss(context: DiagnosisContext, name: str) -> float:
    """Sum the factors s of all uses that hand back s times the tensor itself."""
    tensor, total = context.values[name][0], 0.0
    for edge in iterate_edges_to(context, name):
        factor, residual = fit_scale_factor(edge.compute_edge_gradient(context), tensor)
        total += factor if residual <= _SHARE_TOLERANCE else 0.0
    return total


@register_gradient_bug
class DetachedGradient(SimulatedBug):
    """A gradient of zeros."""

    name: ClassVar[str] = "detached"
    signature: ClassVar[str] = "c = 0 where g is not; or c = the gradient along the remaining paths"

    def simulate_gradients(self, context: DiagnosisContext, name: str) -> Iterator[BugHypothesis]:
        """Yield zeros, unless the right gradient is 0 as well; see `SimulatedBug`."""
        text = (
            f"{context.describe_gradient(name)} is 0 everywhere, and the reference is not: it was detached, never "
            "written, or reset."
        )
        candidate = context.candidates.get(name)
        if context.get_right_gradient(name).any() and (candidate is None or not candidate.any()):
            yield BugHypothesis(
                self.name, np.zeros(context.get_right_gradient(name).shape), text, known_digits=_CERTAIN_DIGITS
            )


@register_gradient_bug
class ChannelFactorMissing(SimulatedBug):
    """A factor along one axis that was left out, or applied twice."""

    name: ClassVar[str] = "channel_factor_missing"
    signature: ClassVar[str] = "c = g s or g / s along one axis, s a vector of the model"

    def simulate_gradients(self, context: DiagnosisContext, name: str) -> Iterator[BugHypothesis]:
        """Yield the right gradient times and over each vector that fits an axis."""
        right = context.get_right_gradient(name)
        kinds_by_vector = _find_multiplying_vectors(context, name)
        for axis, length in enumerate(right.shape):
            for vector, kinds in kinds_by_vector.items():
                values = context.vectors_by_name[vector]
                if values.size != length:
                    continue
                broadcast_values = values.reshape(-1, *(1,) * (right.ndim - 1 - axis))
                factor = f"{context.describe_name(vector)} along axis {axis}"
                fact = f"{context.describe_gradient(name)} is the reference"
                yield self._make_hypothesis(
                    right * broadcast_values, f"{fact} times {factor}", [_TEXT_WHEN_MULTIPLIED[kind] for kind in kinds]
                )
                if values.all():
                    yield self._make_hypothesis(
                        right / broadcast_values, f"{fact} over {factor}", [_TEXT_WHEN_DIVIDED[kind] for kind in kinds]
                    )

    def _make_hypothesis(self, gradient: Array, fact: str, actions: Sequence[str]) -> BugHypothesis:
        return BugHypothesis(self.name, gradient, fact, fallback_ending=f"{', or '.join(actions)}.")


_TEXT_WHEN_MULTIPLIED: Mapping[MultiplierKind, str] = {
    "factor": "this factor was applied once too often",
    "division": "this divisor was left out",
}
_TEXT_WHEN_DIVIDED: Mapping[MultiplierKind, str] = {
    "factor": "this factor was left out",
    "division": "this divisor was applied once too often",
}


def _find_multiplying_vectors(context: DiagnosisContext, name: str) -> dict[str, list[MultiplierKind]]:
    """Find the vectors that multiply or divide a gradient on its way to a name."""
    kinds: dict[str, list[MultiplierKind]] = {}
    for node in context.graph.list_downstream_nodes([name]):
        for operand, slot in zip(node.operands, node.operand_slots, strict=True):
            kind = node.op.multiplying_slots.get(slot.name)
            if kind is not None and isinstance(operand, str) and operand in context.vectors_by_name:
                known = kinds.setdefault(operand, [])
                known.extend([] if kind in known else [kind])
    return kinds
