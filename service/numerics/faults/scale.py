"""Gradients that are right but for a factor, or cut off."""

from collections.abc import Iterable, Iterator, Mapping
from typing import ClassVar

import numpy as np

from service.numerics.faults.factors import Factor, digits, known, said
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
_SAME = 1e-12


def nearness(scene: Scene, name: str, off: float) -> float:
    """What a factor may be off by, relatively, given what of the candidate it leaves over."""
    return max(_ROUNDINGS * scene.precisions[name].unit_roundoff, _AS_NEAR * off)


@fault
class Scaled(Fault):
    """The gradient is right but for one factor."""

    name: ClassVar[str] = "scaled"
    signature: ClassVar[str] = (
        "c = k g, or of one share of it, as where what multiplies the gradient at a node is left out, or applied twice"
    )

    def recognised(self, scene: Scene, name: str) -> Iterator[Hypothesis]:
        """See `Fault`."""
        right = scene.right(name)
        factor, off = projected(scene.candidates[name], right)
        if not np.isfinite(off) or factor == 0:
            return
        near = nearness(scene, name, off)
        sign = "minus " if factor < 0 else ""
        for each, fitting in _by_value(known(scene, name), abs(factor), near).items():
            fact = f"{scene.told(name)} is exactly {sign}{said(each)} the reference:"
            value = float(np.copysign(each, factor))
            tales = [other.text for other in fitting if not other.vague]
            hint = next(other.text for other in fitting) if not tales else ""
            for tale in tales or [None]:
                otherwise = f"one factor is missing or too many; {hint}."
                yield Hypothesis(self.name, value * right, fact, key=round(value, 12), story=tale, otherwise=otherwise)
        if abs(abs(factor) - 1) > near:
            fact = f"{scene.told(name)} is {sign}{digits(abs(factor))} times the reference, everywhere:"
            otherwise = "one factor is missing or too many, and none that this model suggests."
            yield Hypothesis(self.name, factor * right, fact, 1, key=f"{factor:.5g}", otherwise=otherwise)

    def injected(self, scene: Scene, name: str) -> Iterator[Mapping[str, Array]]:
        """See `Fault`."""
        telling = {each.value for each in known(scene, name) if not each.vague}
        for value in sorted(telling - {1.0})[:: max(1, len(telling) // _INJECTED)]:
            yield {name: value * scene.right(name)}


def _by_value(factors: Iterable[Factor], factor: float, near: float) -> dict[float, list[Factor]]:
    """Known factors next to one, by their value; in few digits several are."""
    found: dict[float, list[Factor]] = {}
    for each in factors:
        if abs(factor / each.value - 1) <= near and each.value != 1:
            same = next((value for value in found if abs(value / each.value - 1) < _SAME), each.value)
            found.setdefault(same, []).append(each)
    return found
