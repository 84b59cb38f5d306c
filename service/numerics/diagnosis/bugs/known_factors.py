"""Factors of a whole gradient that a model suggests, whatever the node.

`service.numerics.diagnosis.bugs.multipliers` tries the factors of single nodes.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from service.numerics.core.batching import count_elements
from service.numerics.diagnosis.context import DiagnosisContext
from service.numerics.diagnosis.explanation import format_factor

_LOSS_SCALE_EXPONENTS = (8, 24)
"""Least and largest exponent of the usual powers of 2; smaller ones have other reasons more often."""
_MAX_NAMED_FACTOR = 2.0**53
"""Size from which every number of float64 is whole, so that whole numbers and their roots tell nothing."""
_MAX_NAMES_LISTED = 2
"""Names that an explanation lists of those with an axis of some length."""


@dataclass(frozen=True)
class KnownFactor:
    """A positive factor of a gradient.

    Attributes
    ----------
    value
        Value of the factor.
    explanation
        Clause in the past tense for what was done; of a vague factor, a clause about the number.
    is_vague
        True if nothing in the model is known to multiply the gradient by the factor.
    """

    value: float
    explanation: str
    is_vague: bool = False


def iterate_known_factors(context: DiagnosisContext, name: str) -> Iterator[KnownFactor]:
    """Yield factors of the gradient with respect to a name, the most telling first."""
    yield from _iterate_use_count_factors(context, name)
    for power in range(_LOSS_SCALE_EXPONENTS[0], _LOSS_SCALE_EXPONENTS[1] + 1):
        yield KnownFactor(2.0**power, f"a loss scale of 2^{power} was left in")
        yield KnownFactor(2.0**-power, f"the gradient was divided by a loss scale of 2^{power} that was never applied")
    yield from _iterate_factor_and_reciprocal(2, "the derivative of a square has the factor 2")
    yield from _iterate_factor_and_reciprocal(255, "dividing pixels by 255 brings them between 0 and 1")
    yield from _iterate_axis_length_factors(context)


def _iterate_use_count_factors(context: DiagnosisContext, name: str) -> Iterator[KnownFactor]:
    use_count = len(context.get_uses(name))
    if use_count > 1:
        yield KnownFactor(
            1 / use_count,
            f"the mean over the {use_count} uses of {context.describe_name(name)} was taken instead of the sum",
        )


def _iterate_axis_length_factors(context: DiagnosisContext) -> Iterator[KnownFactor]:
    """Yield the lengths of axes, their roots, and the numbers of elements."""
    lengths: dict[int, list[str]] = {}
    counts: dict[int, list[str]] = {}
    for name, shape in context.graph.shapes.items():
        for length in dict.fromkeys(axis_length for axis_length in shape if axis_length > 1):
            lengths.setdefault(length, []).append(context.describe_name(name))
        if count_elements(shape) > 1:
            counts.setdefault(count_elements(shape), []).append(context.describe_name(name))
    for length, names in lengths.items():
        yield from _iterate_factor_and_reciprocal(length, f"{length} is the length of an axis of {_join_names(names)}")
        if math.isqrt(length) ** 2 != length:
            yield from _iterate_factor_and_reciprocal(
                math.sqrt(length), f"{length} is the length of an axis of {_join_names(names)}"
            )
    for count, names in counts.items():
        yield from _iterate_factor_and_reciprocal(count, f"{count} is the number of elements of {_join_names(names)}")


def _iterate_factor_and_reciprocal(value: float, text: str) -> Iterator[KnownFactor]:
    yield KnownFactor(value, text, is_vague=True)
    yield KnownFactor(1 / value, text, is_vague=True)


def _join_names(names: list[str]) -> str:
    omitted_count = len(names) - _MAX_NAMES_LISTED
    return ", ".join(names[:_MAX_NAMES_LISTED]) + (f" and {omitted_count} more" if omitted_count > 0 else "")


def describe_factor(value: float) -> str:
    """Describe a factor in words that stand before the thing it multiplies."""
    if not 1 / _MAX_NAMED_FACTOR < value < _MAX_NAMED_FACTOR:
        return f"{format_factor(value)} times"
    for number, words in (
        (value, "{} times"),
        (1 / value, "1/{} of"),
        (value**2, "sqrt({}) times"),
        (1 / value**2, "1/sqrt({}) of"),
    ):
        if number > 1 and abs(number - round(number)) < 1e-9 * number:
            return words.format(round(number))
    return f"{format_factor(value)} times"
