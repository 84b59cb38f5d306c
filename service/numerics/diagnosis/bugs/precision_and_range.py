"""Gradients that are right but for the numbers that were at hand: too few digits, too short a range."""

import math
from collections.abc import Iterator, Mapping
from typing import ClassVar

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.core.precision import PRECISIONS, Precision
from service.numerics.diagnosis.bug import GradientBug, register_gradient_bug
from service.numerics.diagnosis.context import DiagnosisContext
from service.numerics.diagnosis.matching import BugHypothesis

_LOG10_OF_2 = 0.30103
_CERTAIN_DIGITS = 99.0
_MAX_ROUNDING_ERROR = 0.1
"""Of the gradient: where rounding alone could do more, small numbers such as 1 and -1 are short and near as well."""
_MAX_ROUNDINGS = 16
"""Of the lower precision, in the whole gradient: more are not looked into."""
_MAX_FEW_DIGITS_ERROR = 0.05
"""Of the gradient: what few digits may leave of it; more would be hardly any."""
_HALF_DIGIT_SLACK = 1.001
"""What is half of a last digit away may be rounded either way."""
_MIN_TELLING_BITS = 120
"""Binary digits of a whole gradient: of less, three decimal ones are not told from a chance."""


@register_gradient_bug
class LowPrecision(GradientBug):
    """The gradient was computed in a lower precision than it is said to be."""

    name: ClassVar[str] = "low_precision"
    signature: ClassVar[str] = (
        "every number is one of a lower precision, and off by no more than that one allows; or what was multiplied on "
        "the way was"
    )

    def hypotheses(self, scene: DiagnosisContext, name: str) -> Iterator[BugHypothesis]:
        """See `Fault`."""
        candidate, right, own = scene.candidates[name], scene.right_gradient(name), scene.precisions[name]
        if candidate.shape != right.shape or not np.isfinite(candidate).all():
            return
        off, size = _compute_error_and_gradient_norms(candidate - right, right)
        for lower in _list_lower_precisions(own):
            short = lower.is_representable(candidate).all() and off <= _MAX_ROUNDING_ERROR * size
            # What rounding may do takes sweeps of its own to say.
            if short and (np.abs(candidate - right) <= scene.rounding_allowance(name, lower)).all():
                # A number that is short by chance has so many zeros at its end.
                digits = (
                    int(np.count_nonzero(candidate)) * (own.significand_bits - lower.significand_bits) * _LOG10_OF_2
                )
                text = (
                    f"every element of {scene.describe_gradient(name)} is a number of {lower.name}, and as near to the reference "
                    f"as that precision can come: it was computed or stored in it, and was judged as {own.name}."
                )
                yield BugHypothesis(self.name, candidate, text, known_digits=digits)
                return
        yield from self._hypotheses_rounded_midway(scene, name)

    def _hypotheses_rounded_midway(self, scene: DiagnosisContext, name: str) -> Iterator[BugHypothesis]:
        """In full digits, of what was rounded before."""
        candidate, right = scene.candidates[name], scene.right_gradient(name)
        off, size = _compute_error_and_gradient_norms(candidate - right, right)
        for lower in _list_lower_precisions(scene.precisions[name]):
            # FP16 has the digits of TF32, and less room.
            if lower.name == "FP16" or off > _MAX_ROUNDINGS * lower.unit_roundoff * size:
                continue
            for what, gradients in scene.reduced_precision_gradients(lower):
                text = f"{scene.describe_gradient(name)} is just what it would be if {what} rounded to {lower.name} on the way."
                yield BugHypothesis(self.name, gradients[name][0], text, bug_key=(lower.name, what))

    def inject(self, scene: DiagnosisContext, name: str) -> Iterator[Mapping[str, Array]]:
        """See `Fault`."""
        own = scene.precisions[name]
        for lower in (
            each
            for each in _list_lower_precisions(own)
            if scene.right_gradient(name).size * (own.significand_bits - each.significand_bits) > 48
        ):
            yield {name: lower.round_to_nearest(scene.right_gradient(name))}
            if lower.name == "FP16":
                continue
            yield from ({name: gradients[name][0]} for _, gradients in scene.reduced_precision_gradients(lower))


@register_gradient_bug
class FewDigits(GradientBug):
    """The gradient was written down with few decimal digits, and read again.

    To k digits a number of the size 10^e is off by 10^(e - k + 1) / 2 at most, and to d decimals by 10^-d / 2: what
    each element is off by says how many there may have been at most, and whether it is short itself how many there
    are. Each digit that its arithmetic has beyond these is one by which it is no chance.
    """

    name: ClassVar[str] = "few_digits"
    signature: ClassVar[str] = "every number has few decimal digits, and is the right one rounded to them"

    def hypotheses(self, scene: DiagnosisContext, name: str) -> Iterator[BugHypothesis]:
        """See `Fault`."""
        candidate, right, own = scene.candidates[name], scene.right_gradient(name), scene.precisions[name]
        if candidate.shape != right.shape or not (np.isfinite(candidate).all() and np.isfinite(right).all()):
            return
        off, size = _compute_error_and_gradient_norms(candidate - right, right)
        if not 0 < off <= _MAX_FEW_DIGITS_ERROR * size:
            return
        written, exponents = candidate != 0, _find_decimal_exponents(candidate)
        for kind, places in (("significant digits", exponents), ("decimals", np.full(candidate.shape, -1.0))):
            count = _find_fewest_digits(candidate, right, places, own)
            if count is None:
                continue
            digits = np.clip(own.significand_bits * _LOG10_OF_2 - (exponents - places + count), 0, None)
            text = (
                f"every element of {scene.describe_gradient(name)} is the reference rounded to {count} {kind}, as where it is "
                "printed, or stored as text, with too few of them."
            )
            yield BugHypothesis(
                self.name, candidate, text, known_digits=float(digits[written & (candidate != right)].sum())
            )
            return

    def inject(self, scene: DiagnosisContext, name: str) -> Iterator[Mapping[str, Array]]:
        """See `Fault`."""
        own, right = scene.precisions[name], scene.right_gradient(name)
        if right.size * own.significand_bits > _MIN_TELLING_BITS and np.isfinite(right).all():
            yield {name: own.round_to_nearest(_round_to_decimals(right, _find_decimal_exponents(right), 3))}


def _compute_error_and_gradient_norms(error: Array, right: Array) -> tuple[float, float]:
    """Norms of an error and of the gradient, in units that keep squares in range."""
    unit = float(np.max(np.abs(right), initial=0)) or 1.0
    return float(np.linalg.norm(error / unit)), float(np.linalg.norm(right / unit))


def _find_decimal_exponents(values: Array) -> Array:
    """Decimal exponents; of 0 it is 0."""
    return np.floor(np.log10(np.abs(values), out=np.zeros(values.shape), where=values != 0))


def _round_to_decimals(values: Array, exponents: Array, count: int) -> Array:
    """Values to so many digits from those of the size 10^exponents on."""
    unit = 10.0 ** (exponents + 1 - count)
    return np.round(values / unit) * unit


def _find_fewest_digits(candidate: Array, right: Array, exponents: Array, precision: Precision) -> int | None:
    """Fewest digits, from those of the size 10^exponents on, to which all is rounded; None where it is not."""
    off = np.abs(candidate - right)
    with np.errstate(divide="ignore"):
        most = float(np.min(exponents + 1 - np.log10(2 * off / _HALF_DIGIT_SLACK)))
    fewest = None
    for count in range(min(int(precision.significand_bits * _LOG10_OF_2) - 1, math.floor(most)), 1, -1):
        left = np.abs(candidate - _round_to_decimals(candidate, exponents, count))
        short = left <= 2 * precision.unit_roundoff * np.abs(candidate)
        if not short.all():
            break
        fewest = count
    return fewest


def _list_lower_precisions(precision: Precision) -> list[Precision]:
    """Lower precisions, the lowest first, and of two the narrower one."""
    below = (each for each in PRECISIONS.values() if each.significand_bits < precision.significand_bits)
    return sorted(below, key=lambda each: (each.significand_bits, -each.min_exponent))


class _NonFiniteBug(GradientBug):
    """Some elements are no finite numbers, where the reference is one."""

    def hypotheses(self, scene: DiagnosisContext, name: str) -> Iterator[BugHypothesis]:
        """See `Fault`."""
        candidate, right = scene.candidates[name], scene.right_gradient(name)
        lost = ~np.isfinite(candidate)
        if not lost.any() or candidate.shape != right.shape or not np.isfinite(right).all():
            return
        begins = find_overflow(scene, scene.precisions[name])
        if self.is_present(candidate, begins):
            first = tuple(int(each) for each in np.argwhere(lost)[0])
            text = (
                f"{np.count_nonzero(lost)} of {candidate.size} elements of {scene.describe_gradient(name)} are not finite, the "
                f"first at index {list(first)}, where the reference is {right[first]:.6g}: {self.describe_cause(begins, scene)}."
            )
            yield BugHypothesis(self.name, candidate, text, known_digits=_CERTAIN_DIGITS)

    def is_present(self, candidate: Array, overflow_origin: tuple[str, float] | None) -> bool:
        """Whether this is the bug, given where numbers leave the range of the arithmetic."""
        raise NotImplementedError

    def describe_cause(self, overflow_origin: tuple[str, float] | None, scene: DiagnosisContext) -> str:
        """What it comes from, as a clause."""
        raise NotImplementedError


@register_gradient_bug
class OverflowBug(_NonFiniteBug):
    """Numbers became too large on the way."""

    name: ClassVar[str] = "overflow"
    signature: ClassVar[str] = "infinities, or numbers on the way beyond the range of the arithmetic"

    def is_present(self, candidate: Array, overflow_origin: tuple[str, float] | None) -> bool:
        """See `_Nowhere`."""
        return overflow_origin is not None or bool(np.isinf(candidate).any())

    def describe_cause(self, overflow_origin: tuple[str, float] | None, scene: DiagnosisContext) -> str:
        """See `_Nowhere`."""
        if overflow_origin is None:
            return "look for a division by a number near 0, or an exponential of a large one"
        return f"{scene.format_name(overflow_origin[0])} reaches {overflow_origin[1]:.3g}, beyond the largest number of the arithmetic"

    def inject(self, scene: DiagnosisContext, name: str) -> Iterator[Mapping[str, Array]]:
        """See `Fault`."""
        wrong = scene.right_gradient(name).copy()
        wrong.reshape(-1)[0] = np.inf
        yield {name: wrong}


@register_gradient_bug
class NotFiniteBug(_NonFiniteBug):
    """Some elements are NaN."""

    name: ClassVar[str] = "not_finite"
    signature: ClassVar[str] = "NaN where g is a number"

    def is_present(self, candidate: Array, overflow_origin: tuple[str, float] | None) -> bool:
        """See `_Nowhere`."""
        return overflow_origin is None and not np.isinf(candidate).any()

    def describe_cause(self, overflow_origin: tuple[str, float] | None, scene: DiagnosisContext) -> str:
        """See `_Nowhere`."""
        return "look for 0/0, infinity less infinity, the root or the logarithm of a negative number, or memory unset"

    def inject(self, scene: DiagnosisContext, name: str) -> Iterator[Mapping[str, Array]]:
        """See `Fault`."""
        wrong = scene.right_gradient(name).copy()
        wrong.reshape(-1)[-1] = np.nan
        yield {name: wrong}


def find_overflow(scene: DiagnosisContext, precision: Precision) -> tuple[str, float] | None:
    """The first leaf or node whose numbers a precision has not, with the largest of them."""
    largest = 2.0 ** (1 - precision.min_exponent) * (2 - 2.0 ** (1 - precision.significand_bits))
    for arrays in (scene.values, scene.gradients):
        for name, array in arrays.items():
            most = float(np.max(np.abs(array), initial=0)) if array.dtype.kind == "f" else 0.0
            if most > largest:
                return name, most
    return None
