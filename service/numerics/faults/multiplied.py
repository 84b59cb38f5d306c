"""Bugs of what multiplies the gradient on its way: a number that was left out, applied twice, or turned round.

Of a factor v of the gradient at a node a backward pass that leaves it out makes 1 / v of what comes back, one that
applies it twice makes v of it, and one that divides by it where it multiplies 1 / v^2. Of a divisor d the factor is
v = 1 / d. Each is tried at its own node: what multiplies one path of several is no factor of the whole gradient.
Which numbers there are the ops declare: see `service.numerics.ops.multiplier`.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import ClassVar

import numpy as np

from service.numerics.faults.fault import Alteration, OnTheWayBack, Wrong, on_the_way_back
from service.numerics.faults.scene import Scene
from service.numerics.graph import Node
from service.numerics.ops.multiplier import Multiplier, is_plain
from service.numerics.ops.op import Gradients
from service.numerics.tiles import Array

Story = tuple[float, str]
"""By what the gradient is multiplied, and what was done, as a clause with {at} for the node."""


@on_the_way_back
class WronglyMultiplied(OnTheWayBack):
    """A number that multiplies the gradient at a node does so once too often, or not at all."""

    name: ClassVar[str] = "scaled"
    signature: ClassVar[str] = "c = k g, or of one share of it, k a number that multiplies the gradient at a node"

    def alterations(self, scene: Scene, names: Sequence[str]) -> Iterator[Alteration]:
        """See `OnTheWayBack`."""
        alike: dict[tuple[str, str, str], list[Wrong | Node]] = {}
        for node in scene.graph.downstream(names):
            for multiplier in multipliers_at(scene, node):
                for by, clause in stories(multiplier, node.name == scene.graph.loss):
                    wrong = partial(_multiplied, by, multiplier)
                    text = partial(clause.format, at=f"{scene.shown(node.name)} ({node.op.name}){multiplier.aside}")
                    yield Alteration(self.name, {node.name: wrong}, text)
                    if multiplier.kind in ("factor", "division"):
                        action = clause.rpartition("{at} ")[2]
                        alike.setdefault((node.op.name, multiplier.label, action), []).extend((node, wrong))
        yield from self._everywhere(alike)

    def _everywhere(self, alike: dict[tuple[str, str, str], list[Wrong | Node]]) -> Iterator[Alteration]:
        """The same at every node of an op, as where the op itself is wrong."""
        for (op, label, action), found in alike.items():
            overrides: dict[str, Wrong] = {}
            for node, wrong in zip(found[::2], found[1::2], strict=True):
                assert isinstance(node, Node)
                assert not isinstance(wrong, Node)
                overrides[node.name] = wrong
            if len(overrides) > 1:
                text = f"at every {op} the {label.removesuffix(' by')} {action}"
                yield Alteration(self.name, overrides, partial(str, text))


def multipliers_at(scene: Scene, node: Node) -> Iterator[Multiplier]:
    """What multiplies the gradient at a node, as far as it changes it."""
    inputs = scene.graph.inputs(node, scene.values)
    for each in node.op.multipliers(*inputs):
        reached = each.positions is None or any(isinstance(node.operands[at], str) for at in each.positions)
        if reached and is_plain(each.value) and (each.where is None or each.where.any()):
            yield each


def stories(multiplier: Multiplier, of_loss: bool = False) -> Iterator[Story]:
    """What a backward pass may do wrong with a number, the likeliest first."""
    kind, value = multiplier.kind, multiplier.value
    if kind in ("mean", "sum"):
        yield from _of_count(kind, multiplier.label, value, "the loss" if of_loss else "{at}")
        return
    what = f"the {multiplier.label} {value:.6g} of {{at}}" if kind == "factor" else _divided(multiplier)
    factor = value if kind == "factor" else 1 / value
    turned = "divided" if kind == "factor" else "multiplied"
    yield 1 / factor, f"{what} was left out"
    yield factor, f"{what} was applied twice"
    yield 1 / factor**2, f"{what} was turned round: it {turned}"
    if factor < 0:
        yield -1 / factor, f"{what} was left out but for its sign"
        yield -factor, f"{what} was applied twice but for its sign"


def _divided(multiplier: Multiplier) -> str:
    return f"the {multiplier.label} {multiplier.value:.6g} in {{at}}"


def _of_count(kind: str, what: str, count: float, where: str) -> Iterator[Story]:
    if kind == "mean":
        yield count, f"the sum over {what} was taken where {where} takes the mean"
        yield 1 / count, f"the mean over {what} was taken once too often, where {where} takes it"
    else:
        yield 1 / count, f"the mean over {what} was taken where {where} takes the sum"


def _multiplied(by: float, multiplier: Multiplier, right: Gradients, *arrays: object) -> Gradients:
    """Right results, times a number where it stands."""
    where, positions = multiplier.where, multiplier.positions
    # Made as it is used: an array for each story of each node would be too many.
    factor: Array | float = by if where is None else np.where(where, by, 1.0)
    return tuple(
        each if each is None or (positions is not None and at not in positions) else each * factor
        for at, each in enumerate(right)
    )
