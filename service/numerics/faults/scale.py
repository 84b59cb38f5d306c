"""Gradients that are right but for a factor, or cut off."""

from collections.abc import Iterator, Mapping
from typing import ClassVar

import numpy as np

from service.numerics.faults.factors import Factor, known, said
from service.numerics.faults.fault import Fault, Made, fault
from service.numerics.faults.hypothesis import Hypothesis
from service.numerics.faults.scene import Scene
from service.numerics.tiles import Array


@fault
class SignFlipped(Made):
    """The whole gradient has the wrong sign."""

    name: ClassVar[str] = "sign_flipped"
    signature: ClassVar[str] = "c = -g"

    def made(self, scene: Scene, name: str) -> Iterator[Hypothesis]:
        """See `Made`."""
        text = f"{scene.told(name)} is the reference with the opposite sign."
        yield Hypothesis(self.name, -scene.right(name), text)


def projected(candidate: Array, right: Array) -> tuple[float, float]:
    """Factor k of k g next to c by least squares, and norm(c - k g) / norm(c); (0, infinity) where there is none."""
    if candidate.shape != right.shape or not (candidate.any() and right.any()):
        return 0.0, np.inf
    if not (np.isfinite(candidate).all() and np.isfinite(right).all()):
        return 0.0, np.inf
    c_unit, g_unit = np.abs(candidate).max(), np.abs(right).max()
    c, g = (candidate / c_unit).ravel(), (right / g_unit).ravel()
    factor = float(c @ g) / float(g @ g)
    off = c - factor * g
    return factor * float(c_unit / g_unit), float(np.sqrt(off @ off) / np.sqrt(c @ c))


_AS_NEAR = 4.0
"""A known constant is the factor where it is as near as so many of the factor's own error."""
_ROUNDINGS = 8
_INJECTED = 12
"""Factors that a test sees of all that there are."""


@fault
class Scaled(Fault):
    """The gradient is right but for one factor."""

    name: ClassVar[str] = "scaled"
    signature: ClassVar[str] = "c = k g, k snapped to constants of the model where one is as near as rounding allows"

    def recognised(self, scene: Scene, name: str) -> Iterator[Hypothesis]:
        """See `Fault`."""
        right = scene.right(name)
        factor, off = projected(scene.candidates[name], right)
        if not np.isfinite(off) or factor == 0:
            return
        near = max(_ROUNDINGS * scene.precisions[name].unit_roundoff, _AS_NEAR * off)
        fitting = [each for each in known(scene, name) if abs(abs(factor) / each.value - 1) <= near]
        sign = "minus " if factor < 0 else ""
        if fitting:
            value = float(np.copysign(fitting[0].value, factor))
            text = f"{scene.told(name)} is exactly {sign}{said(abs(value))} the reference: {_listed(fitting)}."
            if value not in (1.0, -1.0):
                yield Hypothesis(self.name, value * right, text, key=round(value, 12))
        elif abs(abs(factor) - 1) > near:
            text = (
                f"{scene.told(name)} is {sign}{abs(factor):.6g} times the reference, everywhere: one factor is missing "
                "or too many, and none that this model suggests."
            )
            yield Hypothesis(self.name, factor * right, text, 1, key=f"{factor:.5g}")

    def injected(self, scene: Scene, name: str) -> Iterator[Mapping[str, Array]]:
        """See `Fault`."""
        telling = {each.value for each in known(scene, name) if not each.vague}
        for value in sorted(telling - {1.0})[:: max(1, len(telling) // _INJECTED)]:
            yield {name: value * scene.right(name)}


def _listed(fitting: list[Factor]) -> str:
    fitting = [each for each in fitting if not each.vague] or fitting
    return ", or ".join(dict.fromkeys(each.text for each in fitting[:2]))


@fault
class Clipped(Fault):
    """Large elements were cut off, or all tensors were scaled down together."""

    name: ClassVar[str] = "clipped"
    signature: ClassVar[str] = "c = clip(g, +- max abs(c)); or one factor below 1 for all tensors together"

    def recognised(self, scene: Scene, name: str) -> Iterator[Hypothesis]:
        """See `Fault`."""
        candidate, right = scene.candidates[name], scene.right(name)
        if candidate.shape != right.shape or not np.isfinite(candidate).all():
            return
        most = float(np.max(np.abs(candidate), initial=0))
        made = np.clip(right, -most, most)
        if most > 0 and np.count_nonzero(made != right) > 1:
            text = f"{scene.told(name)} is the reference with every element cut off at +-{most:.6g}."
            yield Hypothesis(self.name, made, text, 1, key=most)
        yield from self._by_norm(scene, name)

    def _by_norm(self, scene: Scene, name: str) -> Iterator[Hypothesis]:
        factors = [projected(candidate, scene.right(each)) for each, candidate in scene.candidates.items()]
        factor, off = projected(scene.candidates[name], scene.right(name))
        near = max(_ROUNDINGS * scene.precisions[name].unit_roundoff, _AS_NEAR * off)
        alike = factor > 0 and all(
            np.isfinite(rest) and abs(each / factor - 1) <= near + _AS_NEAR * rest for each, rest in factors
        )
        norm = float(np.sqrt(sum(np.square(each).sum() for each in scene.candidates.values())))
        if not (alike and factor < 1 - near) or (len(factors) == 1 and not _is_round(norm, near)):
            return
        text = (
            f"every gradient that was given is {factor:.6g} times its reference, so that together their norm is "
            f"{norm:.6g}: they were clipped by their norm."
        )
        yield Hypothesis(self.name, factor * scene.right(name), text, 1, key="norm")

    def injected(self, scene: Scene, name: str) -> Iterator[Mapping[str, Array]]:
        """See `Fault`."""
        right = scene.right(name)
        sizes = np.sort(np.abs(right).ravel())
        if sizes.size > 5 and 0 < sizes[-5] < sizes[-4]:
            yield {name: np.clip(right, -sizes[-5], sizes[-5])}
        if right.size > 1 and right.any():
            yield {name: right / np.sqrt(np.square(right).sum()) * _below(right)}


def _is_round(norm: float, near: float) -> bool:
    """Whether a number is one of those that people write down for a norm."""
    digits = norm / 10.0 ** np.floor(np.log10(norm)) if norm > 0 else 0.0
    return any(abs(digits / each - 1) <= near for each in (1, 2, 2.5, 5, 10))


def _below(right: Array) -> float:
    """A round number below the norm."""
    return float(10.0 ** np.floor(np.log10(np.sqrt(np.square(right).sum())) - 0.1))
