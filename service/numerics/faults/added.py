"""Gradients with something added that belongs elsewhere, or with nothing left."""

from collections.abc import Iterator, Mapping
from typing import ClassVar

import numpy as np

from service.numerics.faults.fault import Fault, Made, fault
from service.numerics.faults.hypothesis import Hypothesis
from service.numerics.faults.scale import projected
from service.numerics.faults.scene import Scene
from service.numerics.tiles import Array

_CERTAIN = 99.0
_USUAL = (1e-4, 5e-4, 1e-2, 0.1)


class _Decay(Fault):
    """A multiple of the tensor itself was added to its gradient."""

    sign: ClassVar[float]
    cause: ClassVar[str]

    def recognised(self, scene: Scene, name: str) -> Iterator[Hypothesis]:
        """See `Fault`."""
        candidate, right, own = scene.candidates[name], scene.right(name), scene.values[name][0]
        if candidate.shape != right.shape or not own.any():
            return
        factor, _ = projected(candidate - right, own)
        if factor * self.sign > 0:
            text = (
                f"{scene.told(name)} is the reference {'plus' if factor > 0 else 'less'} {abs(factor):.6g} times "
                f"{scene.shown(name)} itself: {self.cause}."
            )
            yield Hypothesis(self.name, right + factor * own, text, 1, key=f"{factor:.5g}")

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
    cause: ClassVar[str] = "weight decay is in the gradient and not in the loss, or twice"


@fault
class WeightDecayMissingSign(_Decay):
    """Weight decay has the wrong sign, or was left out."""

    name: ClassVar[str] = "weight_decay_missing_sign"
    signature: ClassVar[str] = "c - g = -k w, k > 0"
    sign: ClassVar[float] = -1.0
    cause: ClassVar[str] = "weight decay was taken with the wrong sign, or the loss has it and the gradient has not"


@fault
class Detached(Made):
    """Nothing comes back at all."""

    name: ClassVar[str] = "detached"
    signature: ClassVar[str] = "c = 0 where g is not; or c = the gradient along the remaining paths"

    def made(self, scene: Scene, name: str) -> Iterator[Hypothesis]:
        """See `Made`."""
        text = (
            f"{scene.told(name)} is 0 throughout where the reference is not: it was detached, never written, or reset."
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
        for axis, length in enumerate(right.shape):
            for vector, values in scene.vectors.items():
                if values.size != length or length < 2:
                    continue
                along = values.reshape(-1, *(1,) * (right.ndim - 1 - axis))
                told = f"{scene.told(name)} is the reference"
                what = f"{scene.shown(vector)} along axis {axis}"
                yield self._hypothesis(right * along, f"{told} times {what}: this factor was applied once too often.")
                if values.all():
                    yield self._hypothesis(right / along, f"{told} over {what}: this factor was left out.")

    def _hypothesis(self, made: Array, text: str) -> Hypothesis:
        return Hypothesis(self.name, made, text)
