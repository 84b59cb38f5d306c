"""Gradients that are right except for too few digits, or too short a range."""

import math
from collections.abc import Iterator, Mapping
from typing import ClassVar

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.core.precision import Precision
from service.numerics.diagnosis.bug import GradientBug, register_gradient_bug
from service.numerics.diagnosis.context import DiagnosisContext
from service.numerics.diagnosis.lower_precisions import list_lower_precisions
from service.numerics.diagnosis.matching import BugHypothesis

_LOG10_OF_2 = 0.30103
_CERTAIN_DIGITS = 99.0
_MAX_ROUNDING_ERROR = 0.1
"""Error as a part of the gradient: with more rounding, small numbers such as 1 and -1 are short and near as well."""
_MAX_ROUNDINGS = 16
"""Roundings of the lower precision in the whole gradient up to which it is tried."""
_MAX_FEW_DIGITS_ERROR = 0.05
"""Error as a part of the gradient that few digits may leave; more would be hardly any digits."""
_HALF_DIGIT_SLACK = 1.001
"""Slack for numbers half a last digit away, which may be rounded either way."""
_MIN_TELLING_BITS = 120
"""Binary digits of a whole gradient, below which three decimal ones may be chance."""


@register_gradient_bug
class LowPrecision(GradientBug):
    """A gradient computed in a lower precision than its declared one."""

    name: ClassVar[str] = "low_precision"
    signature: ClassVar[str] = (
        "every number is one of a lower precision, and right within its rounding; or factors on the way were rounded "
        "to it; or c - g is like the errors of further roundings, in size and place"
    )

    def iterate_hypotheses(self, context: DiagnosisContext, name: str) -> Iterator[BugHypothesis]:
        """Yield the candidate if a lower precision represents it.

        Otherwise yield gradients that were rounded midway.
        """
        candidate, right, precision = (
            context.candidates[name],
            context.get_right_gradient(name),
            context.precisions[name],
        )
        if candidate.shape != right.shape or not np.isfinite(candidate).all():
            return
        error, size = _compute_error_and_gradient_norms(candidate - right, right)
        for lower in list_lower_precisions(precision):
            is_representable = lower.is_representable(candidate).all() and error <= _MAX_ROUNDING_ERROR * size
            # The allowance takes sweeps of its own.
            if (
                is_representable
                and (np.abs(candidate - right) <= context.estimate_rounding_allowance(name, lower)).all()
            ):
                # A number that is short by chance has this many zeros at its end.
                spare_bits = precision.significand_bits - lower.significand_bits
                digits = int(np.count_nonzero(candidate)) * spare_bits * _LOG10_OF_2
                text = (
                    f"{context.describe_gradient(name)} was computed or stored in {lower.name}, and judged as "
                    f"{precision.name}: every element is a number of {lower.name}, and right within its rounding."
                )
                yield BugHypothesis(self.name, candidate, text, known_digits=digits)
                return
        yield from self._iterate_midway_hypotheses(context, name)

    def _iterate_midway_hypotheses(self, context: DiagnosisContext, name: str) -> Iterator[BugHypothesis]:
        """Yield gradients with all digits, whose inputs or factors were rounded."""
        candidate, right = context.candidates[name], context.get_right_gradient(name)
        error, size = _compute_error_and_gradient_norms(candidate - right, right)
        for lower in list_lower_precisions(context.precisions[name]):
            # FP16 has the digits of TF32, and a shorter range.
            if lower.name == "FP16" or error > _MAX_ROUNDINGS * lower.unit_roundoff * size:
                continue
            general = context.compute_reduced_precision_gradients(lower)
            parts: dict[bytes, list[str]] = {}
            for rounded_part, gradients in (*general, *context.compute_single_rounding_gradients(lower)):
                parts.setdefault(gradients[name][0].tobytes(), []).append(rounded_part)
            for numbers, rounded_parts in parts.items():
                text = f"Matches exactly: {', or '.join(rounded_parts)} rounded to {lower.name} on the way."
                gradient = np.frombuffer(numbers, right.dtype).reshape(right.shape)
                yield BugHypothesis(self.name, gradient, text, bug_key=(lower.name, *rounded_parts))

    def inject(self, context: DiagnosisContext, name: str) -> Iterator[Mapping[str, Array]]:
        """Yield gradients rounded at the end, and rounded midway; see `GradientBug`."""
        precision, size = context.precisions[name], context.get_right_gradient(name).size
        for lower in list_lower_precisions(precision):
            if size * (precision.significand_bits - lower.significand_bits) <= 48:
                continue
            yield {name: lower.round_to_nearest(context.get_right_gradient(name))}
            if lower.name == "FP16":
                continue
            yield from (
                {name: gradients[name][0]} for _, gradients in context.compute_reduced_precision_gradients(lower)
            )


@register_gradient_bug
class FewDigits(GradientBug):
    """A gradient that was written with few decimal digits, and read again.

    A number of the size 10^e with k digits has an error of at most 10^(e - k + 1) / 2, and one with d decimals of at
    most 10^-d / 2. The error of each element therefore bounds the number of digits from above, and the shortness of the
    element itself tells it. Each further digit of the arithmetic is one by which it is no chance.
    """

    name: ClassVar[str] = "few_digits"
    signature: ClassVar[str] = "every number has few decimal digits, and is the right number rounded to them"

    def iterate_hypotheses(self, context: DiagnosisContext, name: str) -> Iterator[BugHypothesis]:
        """Yield the candidate if it is the right gradient rounded to few digits."""
        candidate, right, precision = (
            context.candidates[name],
            context.get_right_gradient(name),
            context.precisions[name],
        )
        if candidate.shape != right.shape or not (np.isfinite(candidate).all() and np.isfinite(right).all()):
            return
        error, size = _compute_error_and_gradient_norms(candidate - right, right)
        if not 0 < error <= _MAX_FEW_DIGITS_ERROR * size:
            return
        is_nonzero, exponents = candidate != 0, _find_decimal_exponents(candidate)
        for kind, digit_positions in (("significant digits", exponents), ("decimals", np.full(candidate.shape, -1.0))):
            count = _find_fewest_digits(candidate, right, digit_positions, precision)
            if count is None:
                continue
            digits = np.clip(precision.significand_bits * _LOG10_OF_2 - (exponents - digit_positions + count), 0, None)
            text = (
                f"{context.describe_gradient(name)} was rounded to {count} {kind}: every element is the reference "
                "rounded so. It may have been printed, or stored as text."
            )
            yield BugHypothesis(
                self.name, candidate, text, known_digits=float(digits[is_nonzero & (candidate != right)].sum())
            )
            return

    def inject(self, context: DiagnosisContext, name: str) -> Iterator[Mapping[str, Array]]:
        """Yield the right gradient rounded to three digits; see `GradientBug`."""
        precision, right = context.precisions[name], context.get_right_gradient(name)
        if right.size * precision.significand_bits > _MIN_TELLING_BITS and np.isfinite(right).all():
            yield {name: precision.round_to_nearest(_round_to_decimals(right, _find_decimal_exponents(right), 3))}


def _compute_error_and_gradient_norms(error: Array, right: Array) -> tuple[float, float]:
    """Compute the norms of an error and a gradient.

    The unit keeps the squares in range.
    """
    unit = float(np.max(np.abs(right), initial=0)) or 1.0
    return float(np.linalg.norm(error / unit)), float(np.linalg.norm(right / unit))


def _find_decimal_exponents(values: Array) -> Array:
    """Find the decimal exponents of values; 0 for a value of 0."""
    return np.floor(np.log10(np.abs(values), out=np.zeros(values.shape), where=values != 0))


def _round_to_decimals(values: Array, exponents: Array, count: int) -> Array:
    """Round values to `count` digits, counted from the digit 10^exponents."""
    unit = 10.0 ** (exponents + 1 - count)
    return np.round(values / unit) * unit


def _find_fewest_digits(candidate: Array, right: Array, exponents: Array, precision: Precision) -> int | None:
    """Find the fewest digits to which all elements are rounded, or None.

    Digits count from the digit of the size 10^exponents.
    """
    error = np.abs(candidate - right)
    with np.errstate(divide="ignore"):
        max_count = float(np.min(exponents + 1 - np.log10(2 * error / _HALF_DIGIT_SLACK)))
    fewest = None
    for count in range(min(int(precision.significand_bits * _LOG10_OF_2) - 1, math.floor(max_count)), 1, -1):
        remainder = np.abs(candidate - _round_to_decimals(candidate, exponents, count))
        is_rounded = remainder <= 2 * precision.unit_roundoff * np.abs(candidate)
        if not is_rounded.all():
            break
        fewest = count
    return fewest


class _NonFiniteBug(GradientBug):
    """Elements that are not finite although the reference is."""

    def iterate_hypotheses(self, context: DiagnosisContext, name: str) -> Iterator[BugHypothesis]:
        """Yield the candidate if it is not finite and this bug is the cause."""
        candidate, right = context.candidates[name], context.get_right_gradient(name)
        nonfinite = ~np.isfinite(candidate)
        if not nonfinite.any() or candidate.shape != right.shape or not np.isfinite(right).all():
            return
        origin = find_overflow(context, context.precisions[name])
        if self.is_present(candidate, origin):
            first = tuple(int(index) for index in np.argwhere(nonfinite)[0])
            text = (
                f"{np.count_nonzero(nonfinite)} of {candidate.size} elements of {context.describe_gradient(name)} are "
                f"not finite, the first at index {list(first)}; the reference there is {right[first]:.6g}. "
                f"{self.describe_cause(origin, context)}."
            )
            yield BugHypothesis(self.name, candidate, text, known_digits=_CERTAIN_DIGITS)

    def is_present(self, candidate: Array, overflow_origin: tuple[str, float] | None) -> bool:
        """Tell whether this is the bug, given the origin of an overflow.

        The origin is the name and the number that first leave the range of the arithmetic.
        """
        raise NotImplementedError

    def describe_cause(self, overflow_origin: tuple[str, float] | None, context: DiagnosisContext) -> str:
        """Describe the cause in a sentence without its full stop."""
        raise NotImplementedError


@register_gradient_bug
class OverflowBug(_NonFiniteBug):
    """Numbers on the way that are too large for the arithmetic."""

    name: ClassVar[str] = "overflow"
    signature: ClassVar[str] = "infinities, or numbers on the way beyond the range of the arithmetic"

    def is_present(self, candidate: Array, overflow_origin: tuple[str, float] | None) -> bool:
        """Tell whether numbers overflow, or the candidate is infinite."""
        return overflow_origin is not None or bool(np.isinf(candidate).any())

    def describe_cause(self, overflow_origin: tuple[str, float] | None, context: DiagnosisContext) -> str:
        """Name the overflowing value, or advise where to look; see `_NonFiniteBug`."""
        if overflow_origin is None:
            return "Look for a division by a number near 0, or an exponential of a large number"
        name, number = context.describe_name(overflow_origin[0]), overflow_origin[1]
        return f"The cause: {name} reaches {number:.3g}, beyond the largest number of the arithmetic"

    def inject(self, context: DiagnosisContext, name: str) -> Iterator[Mapping[str, Array]]:
        """Yield the right gradient with one infinity; see `GradientBug`."""
        wrong_gradient = context.get_right_gradient(name).copy()
        wrong_gradient.reshape(-1)[0] = np.inf
        yield {name: wrong_gradient}


@register_gradient_bug
class NotFiniteBug(_NonFiniteBug):
    """Elements that are NaN."""

    name: ClassVar[str] = "not_finite"
    signature: ClassVar[str] = "NaN where g is a number"

    def is_present(self, candidate: Array, overflow_origin: tuple[str, float] | None) -> bool:
        """Tell whether nothing overflows, and the candidate holds NaN alone."""
        return overflow_origin is None and not np.isinf(candidate).any()

    def describe_cause(self, overflow_origin: tuple[str, float] | None, context: DiagnosisContext) -> str:
        """Advise where to look; see `_NonFiniteBug`."""
        return "Look for 0/0, infinity minus infinity, a root or logarithm of a negative number, or unset memory"

    def inject(self, context: DiagnosisContext, name: str) -> Iterator[Mapping[str, Array]]:
        """Yield the right gradient with one NaN; see `GradientBug`."""
        wrong_gradient = context.get_right_gradient(name).copy()
        wrong_gradient.reshape(-1)[-1] = np.nan
        yield {name: wrong_gradient}


def find_overflow(context: DiagnosisContext, precision: Precision) -> tuple[str, float] | None:
    """Find the first leaf or node beyond the range of a precision.

    Return its name and largest number.
    """
    largest = 2.0 ** (1 - precision.min_exponent) * (2 - 2.0 ** (1 - precision.significand_bits))
    for arrays in (context.values, context.gradients):
        for name, array in arrays.items():
            size = float(np.max(np.abs(array), initial=0)) if array.dtype.kind == "f" else 0.0
            if size > largest:
                return name, size
    return None
