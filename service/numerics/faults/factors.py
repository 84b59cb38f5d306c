"""Factors of a whole gradient that a model suggests, whatever the node: what is known of each, and what it may be of.

What multiplies the gradient at a node is tried there: see `service.numerics.faults.multiplied`.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

from service.numerics.faults.scene import Scene
from service.numerics.tiles import size

_NEAR_ONE = 5e-6
_LOSS_SCALES = (8, 24)
"""Powers of 2 that are usual; smaller ones have other reasons more often."""
_NAMED = 2
"""Names that are listed of those that have an axis of some length."""


@dataclass(frozen=True)
class Factor:
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
    text: str
    vague: bool = False


def known(scene: Scene, name: str) -> Iterator[Factor]:
    """Factors of the gradient with respect to a name, the most telling first."""
    yield from _of_uses(scene, name)
    for power in range(_LOSS_SCALES[0], _LOSS_SCALES[1] + 1):
        yield Factor(2.0**power, f"a loss scale of 2^{power} was left in")
        yield Factor(2.0**-power, f"a loss scale of 2^{power} was taken out that was not there")
    yield from _both(2, "2 is the factor of the derivative of a square")
    yield from _both(255, "by 255 pixels are divided that are meant to be from 0 to 1")
    yield from _of_axes(scene)


def _of_uses(scene: Scene, name: str) -> Iterator[Factor]:
    uses = len(scene.uses(name))
    if uses > 1:
        yield Factor(1 / uses, f"the mean over the {uses} uses of {scene.shown(name)} was taken instead of the sum")


def _of_axes(scene: Scene) -> Iterator[Factor]:
    """Of the lengths of axes, of their roots, and of numbers of elements."""
    lengths: dict[int, list[str]] = {}
    counts: dict[int, list[str]] = {}
    for name, shape in scene.graph.shapes.items():
        for length in dict.fromkeys(each for each in shape if each > 1):
            lengths.setdefault(length, []).append(scene.shown(name))
        if size(shape) > 1:
            counts.setdefault(size(shape), []).append(scene.shown(name))
    for length, names in lengths.items():
        yield from _both(length, f"{length} is the length of an axis of {_listed(names)}")
        if math.isqrt(length) ** 2 != length:
            yield from _both(math.sqrt(length), f"{length} is the length of an axis of {_listed(names)}")
    for count, names in counts.items():
        yield from _both(count, f"{count} is the number of elements of {_listed(names)}")


def _both(value: float, text: str) -> Iterator[Factor]:
    yield Factor(value, text, vague=True)
    yield Factor(1 / value, text, vague=True)


def _listed(names: list[str]) -> str:
    more = len(names) - _NAMED
    return ", ".join(names[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def said(value: float) -> str:
    """A factor in words, to stand before what it multiplies."""
    for number, words in ((value, "{} times"), (1 / value, "1/{} of")):
        if number > 1 and abs(number - round(number)) < 1e-9 * number:
            return words.format(round(number))
    for number, words in ((value**2, "sqrt({}) times"), (1 / value**2, "1/sqrt({}) of")):
        if number > 1 and abs(number - round(number)) < 1e-9 * number:
            return words.format(round(number))
    return f"{digits(value)} times"


def digits(value: float) -> str:
    """A number, with as many digits as tell its size from 1."""
    off = abs(value) - 1
    if 0 < abs(off) < _NEAR_ONE:
        return f"{'-' if value < 0 else ''}(1 {'+' if off > 0 else '-'} {abs(off):.3g})"
    return f"{value:.6g}"
