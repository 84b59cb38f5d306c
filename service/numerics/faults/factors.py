"""Factors that a model suggests, each with the mistake that it comes from."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any, cast

from service.numerics.faults.scene import Scene
from service.numerics.graph import Node, is_index
from service.numerics.tiles import size

_NEAR_ONE = 5e-6
_LARGEST_LOSS_SCALE = 24


@dataclass(frozen=True)
class Factor:
    """A positive factor of a gradient, and what was done, as a clause; `vague` where no node suggests it."""

    value: float
    text: str
    vague: bool = False


def known(scene: Scene, name: str) -> Iterator[Factor]:
    """Factors of the gradient with respect to a name, the most telling first."""
    yield from _of_reduction(scene)
    yield Factor(2, "a factor 2 too many, as of a square, or a share that was added twice")
    yield Factor(0.5, "a factor 2 is missing, as of a square")
    yield from _of_numbers(scene)
    yield from _of_uses(scene, name)
    yield from _of_axes(scene)
    for power in range(3, _LARGEST_LOSS_SCALE + 1):
        yield Factor(2.0**power, f"a loss scale of 2^{power} was left in")
        yield Factor(2.0**-power, f"a loss scale of 2^{power} was taken out that was not there")
    yield Factor(255, "pixels from 0 to 255 were taken where the model has them from 0 to 1")
    yield Factor(1 / 255, "pixels from 0 to 1 were taken where the model has them from 0 to 255")


def _of_reduction(scene: Scene) -> Iterator[Factor]:
    """Of a loss that sums or averages over a batch."""
    node = scene.graph.nodes[-1]
    reduction = getattr(node.op, "reduction", node.op.name)
    shape = scene.graph.shapes.get(node.sources[0], ()) if node.sources else ()
    batch, every = shape[0] if shape else 1, size(shape)
    counts = [(batch, f"the batch (B = {batch})")]
    if 1 < batch < every:
        counts += [(every, f"all {every} elements"), (every // batch, f"the {every // batch} elements of a sample")]
    for count, what in counts:
        if count < 2:
            continue
        if reduction == "mean":
            yield Factor(count, f"the sum over {what} was taken where the loss takes the mean")
            # Of cross-entropy the loss takes the mean over the batch alone.
            yield Factor(1 / count, f"the mean over {what} was taken once too often")
        else:
            yield Factor(1 / count, f"the mean over {what} was taken where the loss takes the sum")
            yield Factor(count, f"it was multiplied by the size of {what}")


def _of_numbers(scene: Scene) -> Iterator[Factor]:
    """Of the numbers that the model itself has: constants, attributes, the scale of attention."""
    for node in scene.graph.nodes:
        where = f"of {scene.shown(node.name)} ({node.op.name})"
        for number in _numbers(scene, node):
            yield Factor(number, f"the factor {number:.6g} {where} was applied twice")
            yield Factor(1 / number, f"the factor {number:.6g} {where} was left out")


def _numbers(scene: Scene, node: Node) -> Iterator[float]:
    constants = [
        each
        for each, slot in zip(node.operands, node.slots, strict=True)
        if isinstance(each, int | float) and not is_index(each, slot)
    ]
    given = [getattr(node.op, each.name) for each in fields(cast("Any", node.op)) if each.name != "eps"]
    if node.op.name == "scaled_dot_product_attention":
        constants.append(1 / math.sqrt(scene.graph.shapes[node.sources[0]][-1]))
    for number in (*constants, *given):
        if isinstance(number, int | float) and not isinstance(number, bool) and 0 < abs(number) < math.inf:
            yield abs(float(number))


def _of_uses(scene: Scene, name: str) -> Iterator[Factor]:
    uses = len(scene.uses(name))
    if uses > 1:
        yield Factor(1 / uses, f"the mean over its {uses} uses was taken instead of the sum")


def _of_axes(scene: Scene) -> Iterator[Factor]:
    """Of the lengths of axes, their products and roots."""
    lengths = {length: None for shape in scene.graph.shapes.values() for length in shape if length > 1}
    for length in lengths:
        yield Factor(length, f"a sum over an axis of {length} was taken where a mean is meant", vague=True)
        yield Factor(1 / length, f"a mean over an axis of {length} was taken where a sum is meant", vague=True)
    for length in (each for each in lengths if math.isqrt(each) ** 2 != each):
        yield Factor(math.sqrt(length), f"a factor 1/sqrt({length}) is missing", vague=True)
        yield Factor(1 / math.sqrt(length), f"a factor 1/sqrt({length}) was applied that is not there", vague=True)
    for count in {size(shape): None for shape in scene.graph.shapes.values() if size(shape) > 1}:
        yield Factor(count, f"a sum over {count} elements was taken where a mean is meant", vague=True)
        yield Factor(1 / count, f"a mean over {count} elements was taken where a sum is meant", vague=True)


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
