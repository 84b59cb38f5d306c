"""Gradients that are right but for the numbers that were at hand: too few digits, too short a range."""

import math
from collections.abc import Iterator, Mapping
from typing import ClassVar

import numpy as np

from service.numerics.faults.fault import Fault, fault
from service.numerics.faults.hypothesis import Hypothesis
from service.numerics.faults.scene import Scene
from service.numerics.precision import PRECISIONS, Precision
from service.numerics.tiles import Array

_LOG2 = 0.30103
_CERTAIN = 99.0
_LARGEST_ERROR = 0.1
"""Of the gradient: where rounding alone could do more, small numbers such as 1 and -1 are short and near as well."""
_MOST_ROUNDINGS = 16
"""Of the lower precision, in the whole gradient: more are not looked into."""
_FEW = 0.05
"""Of the gradient: what few digits may leave of it; more would be hardly any."""
_HALF = 1.001
"""What is half of a last digit away may be rounded either way."""
_TELLING = 120
"""Binary digits of a whole gradient: of less, three decimal ones are not told from a chance."""


@fault
class LowPrecision(Fault):
    """The gradient was computed in a lower precision than it is said to be."""

    name: ClassVar[str] = "low_precision"
    signature: ClassVar[str] = (
        "every number is one of a lower precision, and off by no more than that one allows; or what was multiplied on "
        "the way was"
    )

    def recognised(self, scene: Scene, name: str) -> Iterator[Hypothesis]:
        """See `Fault`."""
        candidate, right, own = scene.candidates[name], scene.right(name), scene.precisions[name]
        if candidate.shape != right.shape or not np.isfinite(candidate).all():
            return
        off, size = _sizes(candidate - right, right)
        for lower in _below(own):
            short = lower.represents(candidate).all() and off <= _LARGEST_ERROR * size
            # What rounding may do takes sweeps of its own to say.
            if short and (np.abs(candidate - right) <= scene.rounding(name, lower)).all():
                # A number that is short by chance has so many zeros at its end.
                digits = int(np.count_nonzero(candidate)) * (own.digits - lower.digits) * _LOG2
                text = (
                    f"every element of {scene.told(name)} is a number of {lower.name}, and as near to the reference "
                    f"as that precision can come: it was computed or stored in it, and was judged as {own.name}."
                )
                yield Hypothesis(self.name, candidate, text, evidence=digits)
                return
        yield from self._on_the_way(scene, name)

    def _on_the_way(self, scene: Scene, name: str) -> Iterator[Hypothesis]:
        """In full digits, of what was rounded before."""
        candidate, right = scene.candidates[name], scene.right(name)
        off, size = _sizes(candidate - right, right)
        for lower in _below(scene.precisions[name]):
            # FP16 has the digits of TF32, and less room.
            if lower.name == "FP16" or off > _MOST_ROUNDINGS * lower.unit_roundoff * size:
                continue
            for what, gradients in scene.shortened(lower):
                text = f"{scene.told(name)} is just what it would be if {what} rounded to {lower.name} on the way."
                yield Hypothesis(self.name, gradients[name][0], text, key=(lower.name, what))

    def injected(self, scene: Scene, name: str) -> Iterator[Mapping[str, Array]]:
        """See `Fault`."""
        own = scene.precisions[name]
        for lower in (each for each in _below(own) if scene.right(name).size * (own.digits - each.digits) > 48):
            yield {name: lower.nearest(scene.right(name))}
            if lower.name == "FP16":
                continue
            yield from ({name: gradients[name][0]} for _, gradients in scene.shortened(lower))


@fault
class FewDigits(Fault):
    """The gradient was written down with few decimal digits, and read again.

    To k digits a number of the size 10^e is off by 10^(e - k + 1) / 2 at most, and to d decimals by 10^-d / 2: what
    each element is off by says how many there may have been at most, and whether it is short itself how many there
    are. Each digit that its arithmetic has beyond these is one by which it is no chance.
    """

    name: ClassVar[str] = "few_digits"
    signature: ClassVar[str] = "every number has few decimal digits, and is the right one rounded to them"

    def recognised(self, scene: Scene, name: str) -> Iterator[Hypothesis]:
        """See `Fault`."""
        candidate, right, own = scene.candidates[name], scene.right(name), scene.precisions[name]
        if candidate.shape != right.shape or not (np.isfinite(candidate).all() and np.isfinite(right).all()):
            return
        off, size = _sizes(candidate - right, right)
        if not 0 < off <= _FEW * size:
            return
        written, exponents = candidate != 0, _exponents(candidate)
        for kind, places in (("significant digits", exponents), ("decimals", np.full(candidate.shape, -1.0))):
            count = _fewest(candidate, right, places, own)
            if count is None:
                continue
            digits = np.clip(own.digits * _LOG2 - (exponents - places + count), 0, None)
            text = (
                f"every element of {scene.told(name)} is the reference rounded to {count} {kind}, as where it is "
                "printed, or stored as text, with too few of them."
            )
            yield Hypothesis(self.name, candidate, text, evidence=float(digits[written & (candidate != right)].sum()))
            return

    def injected(self, scene: Scene, name: str) -> Iterator[Mapping[str, Array]]:
        """See `Fault`."""
        own, right = scene.precisions[name], scene.right(name)
        if right.size * own.digits > _TELLING and np.isfinite(right).all():
            yield {name: own.nearest(_rounded(right, _exponents(right), 3))}


def _sizes(off: Array, right: Array) -> tuple[float, float]:
    """Norms of an error and of the gradient, in units that keep squares in range."""
    unit = float(np.max(np.abs(right), initial=0)) or 1.0
    return float(np.linalg.norm(off / unit)), float(np.linalg.norm(right / unit))


def _exponents(values: Array) -> Array:
    """Decimal exponents; of 0 it is 0."""
    return np.floor(np.log10(np.abs(values), out=np.zeros(values.shape), where=values != 0))


def _rounded(values: Array, exponents: Array, count: int) -> Array:
    """Values to so many digits from those of the size 10^exponents on."""
    unit = 10.0 ** (exponents + 1 - count)
    return np.round(values / unit) * unit


def _fewest(candidate: Array, right: Array, exponents: Array, own: Precision) -> int | None:
    """Fewest digits, from those of the size 10^exponents on, to which all is rounded; None where it is not."""
    off = np.abs(candidate - right)
    with np.errstate(divide="ignore"):
        most = float(np.min(exponents + 1 - np.log10(2 * off / _HALF)))
    fewest = None
    for count in range(min(int(own.digits * _LOG2) - 1, math.floor(most)), 1, -1):
        left = np.abs(candidate - _rounded(candidate, exponents, count))
        short = left <= 2 * own.unit_roundoff * np.abs(candidate)
        if not short.all():
            break
        fewest = count
    return fewest


def _below(own: Precision) -> list[Precision]:
    """Lower precisions, the lowest first, and of two the narrower one."""
    below = (each for each in PRECISIONS.values() if each.digits < own.digits)
    return sorted(below, key=lambda each: (each.digits, -each.exponent))


class _Nowhere(Fault):
    """Some elements are no finite numbers, where the reference is one."""

    def recognised(self, scene: Scene, name: str) -> Iterator[Hypothesis]:
        """See `Fault`."""
        candidate, right = scene.candidates[name], scene.right(name)
        lost = ~np.isfinite(candidate)
        if not lost.any() or candidate.shape != right.shape or not np.isfinite(right).all():
            return
        begins = beyond_range(scene, scene.precisions[name])
        if self.is_it(candidate, begins):
            first = tuple(int(each) for each in np.argwhere(lost)[0])
            text = (
                f"{np.count_nonzero(lost)} of {candidate.size} elements of {scene.told(name)} are not finite, the "
                f"first at index {list(first)}, where the reference is {right[first]:.6g}: {self.cause(begins, scene)}."
            )
            yield Hypothesis(self.name, candidate, text, evidence=_CERTAIN)

    def is_it(self, candidate: Array, begins: tuple[str, float] | None) -> bool:
        """Whether this is the bug, given where numbers leave the range of the arithmetic."""
        raise NotImplementedError

    def cause(self, begins: tuple[str, float] | None, scene: Scene) -> str:
        """What it comes from, as a clause."""
        raise NotImplementedError


@fault
class Overflow(_Nowhere):
    """Numbers became too large on the way."""

    name: ClassVar[str] = "overflow"
    signature: ClassVar[str] = "infinities, or numbers on the way beyond the range of the arithmetic"

    def is_it(self, candidate: Array, begins: tuple[str, float] | None) -> bool:
        """See `_Nowhere`."""
        return begins is not None or bool(np.isinf(candidate).any())

    def cause(self, begins: tuple[str, float] | None, scene: Scene) -> str:
        """See `_Nowhere`."""
        if begins is None:
            return "look for a division by a number near 0, or an exponential of a large one"
        return f"{scene.shown(begins[0])} reaches {begins[1]:.3g}, beyond the largest number of the arithmetic"

    def injected(self, scene: Scene, name: str) -> Iterator[Mapping[str, Array]]:
        """See `Fault`."""
        wrong = scene.right(name).copy()
        wrong.reshape(-1)[0] = np.inf
        yield {name: wrong}


@fault
class NotFinite(_Nowhere):
    """Some elements are NaN."""

    name: ClassVar[str] = "not_finite"
    signature: ClassVar[str] = "NaN where g is a number"

    def is_it(self, candidate: Array, begins: tuple[str, float] | None) -> bool:
        """See `_Nowhere`."""
        return begins is None and not np.isinf(candidate).any()

    def cause(self, begins: tuple[str, float] | None, scene: Scene) -> str:
        """See `_Nowhere`."""
        return "look for 0/0, infinity less infinity, the root or the logarithm of a negative number, or memory unset"

    def injected(self, scene: Scene, name: str) -> Iterator[Mapping[str, Array]]:
        """See `Fault`."""
        wrong = scene.right(name).copy()
        wrong.reshape(-1)[-1] = np.nan
        yield {name: wrong}


def beyond_range(scene: Scene, precision: Precision) -> tuple[str, float] | None:
    """The first leaf or node whose numbers a precision has not, with the largest of them."""
    largest = 2.0 ** (1 - precision.exponent) * (2 - 2.0 ** (1 - precision.digits))
    for arrays in (scene.values, scene.gradients):
        for name, array in arrays.items():
            most = float(np.max(np.abs(array), initial=0)) if array.dtype.kind == "f" else 0.0
            if most > largest:
                return name, most
    return None
