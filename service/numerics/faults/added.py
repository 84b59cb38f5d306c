"""Gradients with something added that belongs elsewhere, or with nothing left."""

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar

import numpy as np

from service.numerics.faults.backward import edges_of
from service.numerics.faults.fault import Fault, Made, fault
from service.numerics.faults.hypothesis import Hypothesis
from service.numerics.faults.scale import nearness, projected
from service.numerics.faults.scene import Scene
from service.numerics.ops.multiplier import Kind
from service.numerics.tiles import Array

_CERTAIN = 99.0
_NEAR = 1e-9
"""How near a share is to a multiple of the tensor, or a difference to one of the share."""
_USUAL = (1e-4, 5e-4, 1e-2, 0.1)


class _Decay(Fault):
    """A multiple of the tensor itself was added to its gradient.

    Of a loss that has a share s w of the gradient, as the decay lambda w^2 / 2 has with s = lambda, the difference k w
    says what was done: it was taken twice (k = s), left out (k = -s), or taken with the wrong sign (k = -2 s).
    """

    sign: ClassVar[float]
    alone: ClassVar[str]
    """What was done where the loss has no such share."""
    of_share: ClassVar[Mapping[float, str]]
    """What was done, by k / s."""

    def recognised(self, scene: Scene, name: str) -> Iterator[Hypothesis]:
        """See `Fault`."""
        candidate, right, own = scene.candidates[name], scene.right(name), scene.values[name][0]
        if candidate.shape != right.shape or not own.any():
            return
        factor, off = projected(candidate - right, own)
        if factor * self.sign <= 0:
            return
        share = _share_of_itself(scene, name)
        near = max(_NEAR, nearness(scene, name, off))
        ratio = (
            None if share == 0 else next((each for each in self.of_share if abs(factor / share - each) <= near), None)
        )
        if share != 0 and ratio is None:
            return
        factor, constants = (factor, 1) if ratio is None else (ratio * share, 0)
        done = self.alone if ratio is None else self.of_share[ratio]
        text = (
            f"{scene.told(name)} is the reference {'plus' if factor > 0 else 'less'} {abs(factor):.6g} times "
            f"{scene.shown(name)} itself, as where {done}."
        )
        yield Hypothesis(self.name, right + factor * own, text, constants, key=f"{factor:.5g}")

    def injected(self, scene: Scene, name: str) -> Iterator[Mapping[str, Array]]:
        """See `Fault`."""
        own, right = scene.values[name][0], scene.right(name)
        ratio = np.max(np.abs(right), initial=0) / max(np.max(np.abs(own), initial=0), 1e-300)
        # Large enough to be seen beside the gradient.
        for factor in (each for each in _USUAL if each > 1e-3 * ratio and own.size > 1):
            yield {name: right + self.sign * factor * own}


@fault
class WeightDecayAdded(_Decay):
    """Weight decay is in the gradient, and not in the loss."""

    name: ClassVar[str] = "weight_decay_added"
    signature: ClassVar[str] = "c - g = k w, k > 0"
    sign: ClassVar[float] = 1.0
    alone: ClassVar[str] = "weight decay is in the gradient and not in the loss"
    of_share: ClassVar[Mapping[float, str]] = {1.0: "the weight decay that the loss has is in the gradient twice"}


@fault
class WeightDecayMissingSign(_Decay):
    """Weight decay has the wrong sign, or was left out."""

    name: ClassVar[str] = "weight_decay_missing_sign"
    signature: ClassVar[str] = "c - g = -k w, k > 0"
    sign: ClassVar[float] = -1.0
    alone: ClassVar[str] = "weight decay is in the gradient with the wrong sign, and not in the loss"
    of_share: ClassVar[Mapping[float, str]] = {
        -1.0: "the weight decay that the loss has is not in the gradient",
        -2.0: "the weight decay that the loss has is in the gradient with the wrong sign",
    }


def _share_of_itself(scene: Scene, name: str) -> float:
    """The factor s of what comes back to a tensor from those uses from which it is s times the tensor itself."""
    own, total = scene.values[name][0], 0.0
    for edge in edges_of(scene, name):
        share = edge.share(scene)
        factor, off = projected(share, own)
        total += factor if off <= _NEAR else 0.0
    return total


@fault
class Detached(Made):
    """Nothing comes back at all."""

    name: ClassVar[str] = "detached"
    signature: ClassVar[str] = "c = 0 where g is not; or c = the gradient along the remaining paths"

    def made(self, scene: Scene, name: str) -> Iterator[Hypothesis]:
        """See `Made`."""
        text = (
            f"{scene.told(name)} is 0 throughout where the reference is not, as where it is detached, never written, "
            "or reset."
        )
        candidate = scene.candidates.get(name)
        if scene.right(name).any() and (candidate is None or not candidate.any()):
            yield Hypothesis(self.name, np.zeros(scene.right(name).shape), text, evidence=_CERTAIN)


@fault
class ChannelFactorMissing(Made):
    """A factor that differs from channel to channel was left out, or applied twice."""

    name: ClassVar[str] = "channel_factor_missing"
    signature: ClassVar[str] = "c = g s or g / s along one axis, s a vector of the model"

    def made(self, scene: Scene, name: str) -> Iterator[Hypothesis]:
        """See `Made`."""
        right = scene.right(name)
        kinds = _kinds(scene, name)
        for axis, length in enumerate(right.shape):
            for vector in (each for each in kinds if scene.vectors[each].size == length):
                values = scene.vectors[vector]
                along = values.reshape(-1, *(1,) * (right.ndim - 1 - axis))
                what = f"{scene.shown(vector)} along axis {axis}"
                fact = f"{scene.told(name)} is the reference"
                yield self._hypothesis(right * along, f"{fact} times {what}", [_TIMES[each] for each in kinds[vector]])
                if values.all():
                    yield self._hypothesis(
                        right / along, f"{fact} over {what}", [_OVER[each] for each in kinds[vector]]
                    )

    def _hypothesis(self, made: Array, fact: str, done: Sequence[str]) -> Hypothesis:
        return Hypothesis(self.name, made, f"{fact}:", otherwise=f"{', or '.join(done)}.")


_TIMES: Mapping[Kind, str] = {
    "factor": "this factor was applied once too often",
    "division": "this divisor was left out",
}
_OVER: Mapping[Kind, str] = {
    "factor": "this factor was left out",
    "division": "this divisor was applied once too often",
}


def _kinds(scene: Scene, name: str) -> dict[str, list[Kind]]:
    """Vectors of the model that multiply, or divide, a gradient on its way back to a name."""
    kinds: dict[str, list[Kind]] = {}
    for node in scene.graph.downstream([name]):
        for operand, slot in zip(node.operands, node.slots, strict=True):
            kind = node.op.multiplies.get(slot.name)
            if kind is not None and isinstance(operand, str) and operand in scene.vectors:
                known = kinds.setdefault(operand, [])
                known.extend([] if kind in known else [kind])
    return kinds
