"""Gradients that were cut off, each element or all together by their norm."""

from collections.abc import Iterable, Iterator, Mapping
from typing import ClassVar

import numpy as np

from service.numerics.faults.fault import Fault, fault
from service.numerics.faults.hypothesis import Hypothesis
from service.numerics.faults.scale import nearness, projected
from service.numerics.faults.scene import Scene
from service.numerics.tiles import Array

_ROUND = (1, 2, 2.5, 3, 4, 5, 10)
"""Digits of the numbers that people write down for a norm."""
_EPSILON = 1e-6
"""What PyTorch adds to a norm before it divides by it."""
_NEAR = (1e-9, 2e-3)
"""At least, for what rounding does to a norm, and at most, since a norm is known better than an element."""
_NOTHING = 1e-10
"""Of the largest gradient: what is smaller may be rounding, of which a factor says nothing."""


@fault
class Clipped(Fault):
    """Large elements were cut off, or tensors were scaled down to a norm."""

    name: ClassVar[str] = "clipped"
    signature: ClassVar[str] = (
        "c = clip(g, +- max abs(c)); or one factor below 1 for all tensors together, or to a round norm"
    )

    def recognised(self, scene: Scene, name: str) -> Iterator[Hypothesis]:
        """See `Fault`."""
        candidate, right = scene.candidates[name], scene.right(name)
        if candidate.shape != right.shape or not np.isfinite(candidate).all():
            return
        most = float(np.max(np.abs(candidate), initial=0))
        made = np.clip(right, -most, most)
        if most > _NOTHING * np.max(np.abs(right), initial=0) and np.count_nonzero(made != right) > 1:
            text = f"{scene.told(name)} is the reference with every element cut off at +-{most:.6g}."
            yield Hypothesis(self.name, made, text, 1, key=most)
        yield from self._by_norm(scene, name)

    def _by_norm(self, scene: Scene, name: str) -> Iterator[Hypothesis]:
        right = scene.right(name)
        factor, off = projected(scene.candidates[name], right)
        if not 0 < factor < 1 - nearness(scene, name, off):
            return
        if (norm := _of_what_came(scene, name, factor)) is not None:
            text = (
                f"every gradient that was given is {factor:.6g} times its reference, so that together their norm is "
                f"{norm:.6g}, as where they are clipped by their norm."
            )
            yield Hypothesis(self.name, factor * right, text, 1, key="norm")
        near = float(np.clip(nearness(scene, name, off), *_NEAR))
        every = {"it": [name], "all gradients": scene.names}
        for whose, names in every.items():
            norm = factor * (full := _norm(scene, names))
            if _is_round(norm * (1 + _EPSILON / full), near) or _is_round(norm, near):
                text = (
                    f"{scene.told(name)} is {factor:.6g} times its reference, which brings the norm of {whose} to "
                    f"{norm:.4g}, as where it is clipped by the norm."
                )
                yield Hypothesis(self.name, factor * right, text, 1, key=f"norm of {whose}")

    def injected(self, scene: Scene, name: str) -> Iterator[Mapping[str, Array]]:
        """See `Fault`."""
        right = scene.right(name)
        sizes = np.sort(np.abs(right).ravel())
        if sizes.size > 5 and 0 < sizes[-5] < sizes[-4]:
            yield {name: np.clip(right, -sizes[-5], sizes[-5])}
        if right.size > 1 and right.any():
            for names in ([name], scene.names):
                norm = _norm(scene, names)
                below = 10.0 ** np.floor(np.log10(norm) - 0.1)
                yield {name: right * (below / norm)}
                yield {name: right * (below / (norm + _EPSILON))}


def _of_what_came(scene: Scene, name: str, factor: float) -> float | None:
    """Norm of all gradients that were given, where there are several and the factor is that of each."""
    largest = max(_norm(scene, [each]) for each in scene.candidates)
    told = [each for each in scene.candidates if _norm(scene, [each]) > _NOTHING * largest]
    for each in told:
        theirs, off = projected(scene.candidates[each], scene.right(each))
        if not (np.isfinite(off) and abs(theirs / factor - 1) <= max(nearness(scene, name, off), _NEAR[0])):
            return None
    return factor * _norm(scene, told) if len(told) > 1 else None


def _norm(scene: Scene, names: Iterable[str]) -> float:
    """Of the right gradients of several names together, squares kept in range."""
    sizes = [np.abs(scene.right(name)) for name in names]
    unit = max((float(np.max(each, initial=0)) for each in sizes), default=0.0)
    if not 0 < unit < np.inf:
        return unit
    return unit * float(np.sqrt(sum(float(np.square(each / unit).sum()) for each in sizes)))


def _is_round(norm: float, near: float) -> bool:
    if not 0 < norm < np.inf:
        return False
    digits = norm / 10.0 ** np.floor(np.log10(norm))
    return any(abs(digits / each - 1) <= near for each in _ROUND)
