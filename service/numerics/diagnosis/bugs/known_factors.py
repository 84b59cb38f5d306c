"""Factors of a whole gradient that a model suggests, whatever the node: what is known of each, and what it may be of.

What multiplies the gradient at a node is tried there: see `service.numerics.diagnosis.bugs.multipliers`.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from service.numerics.core.batching import count_elements
from service.numerics.diagnosis.context import DiagnosisContext

_ONE_TOLERANCE = 5e-6
_LOSS_SCALE_EXPONENTS = (8, 24)
"""Powers of 2 that are usual; smaller ones have other reasons more often."""
_MAX_NAMES_LISTED = 2
"""Names that are listed of those that have an axis of some length."""


@dataclass(frozen=True)
class KnownFactor:
    """A positive factor of a gradient.

    Attributes
    ----------
    value
        Of it.
    text
        What was done, as a clause; of one that is vague, a fact about the number.
    vague
        Nothing is known to multiply the gradient by it.
    """

    value: float
    explanation: str
    is_vague: bool = False


def iterate_known_factors(scene: DiagnosisContext, name: str) -> Iterator[KnownFactor]:
    """Factors of the gradient with respect to a name, the most telling first."""
    yield from _iterate_use_count_factors(scene, name)
    for power in range(_LOSS_SCALE_EXPONENTS[0], _LOSS_SCALE_EXPONENTS[1] + 1):
        yield KnownFactor(2.0**power, f"a loss scale of 2^{power} was left in")
        yield KnownFactor(2.0**-power, f"a loss scale of 2^{power} was taken out that was not there")
    yield from _iterate_factor_and_reciprocal(2, "2 is the factor of the derivative of a square")
    yield from _iterate_factor_and_reciprocal(255, "by 255 pixels are divided that are meant to be from 0 to 1")
    yield from _iterate_axis_length_factors(scene)


def _iterate_use_count_factors(scene: DiagnosisContext, name: str) -> Iterator[KnownFactor]:
    uses = len(scene.uses_of(name))
    if uses > 1:
        yield KnownFactor(
            1 / uses, f"the mean over the {uses} uses of {scene.format_name(name)} was taken instead of the sum"
        )


def _iterate_axis_length_factors(scene: DiagnosisContext) -> Iterator[KnownFactor]:
    """Of the lengths of axes, of their roots, and of numbers of elements."""
    lengths: dict[int, list[str]] = {}
    counts: dict[int, list[str]] = {}
    for name, shape in scene.graph.shapes.items():
        for length in dict.fromkeys(each for each in shape if each > 1):
            lengths.setdefault(length, []).append(scene.format_name(name))
        if count_elements(shape) > 1:
            counts.setdefault(count_elements(shape), []).append(scene.format_name(name))
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
    more = len(names) - _MAX_NAMES_LISTED
    return ", ".join(names[:_MAX_NAMES_LISTED]) + (f" and {more} more" if more > 0 else "")


def describe_factor(value: float) -> str:
    """A factor in words, to stand before what it multiplies."""
    for number, words in ((value, "{} times"), (1 / value, "1/{} of")):
        if number > 1 and abs(number - round(number)) < 1e-9 * number:
            return words.format(round(number))
    for number, words in ((value**2, "sqrt({}) times"), (1 / value**2, "1/sqrt({}) of")):
        if number > 1 and abs(number - round(number)) < 1e-9 * number:
            return words.format(round(number))
    return f"{format_factor(value)} times"


def format_factor(value: float) -> str:
    """A number, with as many digits as tell its size from 1."""
    off = abs(value) - 1
    if 0 < abs(off) < _ONE_TOLERANCE:
        return f"{'-' if value < 0 else ''}(1 {'+' if off > 0 else '-'} {abs(off):.3g})"
    return f"{value:.6g}"
