"""Bugs of what multiplies the gradient on its way: a number that was left out, applied twice, or turned round.

Of a factor v of the gradient at a node a backward pass that leaves it out makes 1 / v of what comes back, one that
applies it twice makes v of it, and one that divides by it where it multiplies 1 / v^2. Of a divisor d the factor is
v = 1 / d. Each is tried at its own node: what multiplies one path of several is no factor of the whole gradient.
Which numbers there are the ops declare: see `service.numerics.ops.multipliers`.
"""

from collections.abc import Iterator, Sequence
from functools import partial
from typing import ClassVar

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.diagnosis.bug import BackwardBug, BackwardOverride, WrongBackward, register_backward_bug
from service.numerics.diagnosis.context import DiagnosisContext
from service.numerics.model.graph import Node
from service.numerics.ops.multipliers import Multiplier, is_telling_value
from service.numerics.ops.op import Gradients

MultiplierAction = tuple[float, str]
"""By what the gradient is multiplied, and what was done, as a clause with {at} for the node."""


@register_backward_bug
class WrongMultiplier(BackwardBug):
    """A number that multiplies the gradient at a node does so once too often, or not at all."""

    name: ClassVar[str] = "scaled"
    signature: ClassVar[str] = "c = k g, or of one share of it, k a number that multiplies the gradient at a node"

    def backward_overrides(self, scene: DiagnosisContext, names: Sequence[str]) -> Iterator[BackwardOverride]:
        """See `OnTheWayBack`."""
        alike: dict[tuple[str, str, str], list[WrongBackward | Node]] = {}
        for node in scene.graph.downstream_nodes(names):
            for multiplier in iterate_multipliers_at(scene, node):
                for by, clause in iterate_multiplier_actions(multiplier, node.name == scene.graph.loss_name):
                    wrong = partial(_run_backward_with_factor, by, multiplier)
                    text = partial(
                        clause.format, at=f"{scene.format_name(node.name)} ({node.op.name}){multiplier.location_note}"
                    )
                    yield BackwardOverride(self.name, {node.name: wrong}, text)
                    if multiplier.kind in ("factor", "division"):
                        action = clause.rpartition("{at} ")[2]
                        alike.setdefault((node.op.name, multiplier.label, action), []).extend((node, wrong))
        yield from self._override_every_node(alike)

    def _override_every_node(
        self, nodes_by_action: dict[tuple[str, str, str], list[WrongBackward | Node]]
    ) -> Iterator[BackwardOverride]:
        """The same at every node of an op, as where the op itself is wrong."""
        for (op, label, action), found in nodes_by_action.items():
            overrides: dict[str, WrongBackward] = {}
            for node, wrong in zip(found[::2], found[1::2], strict=True):
                assert isinstance(node, Node)
                assert not isinstance(wrong, Node)
                overrides[node.name] = wrong
            if len(overrides) > 1:
                text = f"at every {op} the {label.removesuffix(' by')} {action}"
                yield BackwardOverride(self.name, overrides, partial(str, text))


def iterate_multipliers_at(scene: DiagnosisContext, node: Node) -> Iterator[Multiplier]:
    """What multiplies the gradient at a node, as far as it changes it."""
    inputs = scene.graph.operand_arrays(node, scene.values)
    for each in node.op.gradient_multipliers(*inputs):
        reached = each.operand_positions is None or any(
            isinstance(node.operands[at], str) for at in each.operand_positions
        )
        if reached and is_telling_value(each.value) and (each.applies_at is None or each.applies_at.any()):
            yield each


def iterate_multiplier_actions(multiplier: Multiplier, is_loss: bool = False) -> Iterator[MultiplierAction]:
    """What a backward pass may do wrong with a number, the likeliest first."""
    kind, value = multiplier.kind, multiplier.value
    if kind in ("mean", "sum"):
        yield from _count_actions(kind, multiplier.label, value, "the loss" if is_loss else "{at}")
        return
    what = f"the {multiplier.label} {value:.6g} of {{at}}" if kind == "factor" else _describe_divisor(multiplier)
    factor = value if kind == "factor" else 1 / value
    turned = "divided" if kind == "factor" else "multiplied"
    yield 1 / factor, f"{what} was left out"
    yield factor, f"{what} was applied twice"
    yield 1 / factor**2, f"{what} was turned round: it {turned}"
    if factor < 0:
        yield -1 / factor, f"{what} was left out but for its sign"
        yield -factor, f"{what} was applied twice but for its sign"


def _describe_divisor(multiplier: Multiplier) -> str:
    return f"the {multiplier.label} {multiplier.value:.6g} in {{at}}"


def _count_actions(kind: str, counted: str, count: float, location: str) -> Iterator[MultiplierAction]:
    if kind == "mean":
        yield count, f"the sum over {counted} was taken where {location} takes the mean"
        yield 1 / count, f"the mean over {counted} was taken once too often, where {location} takes it"
    else:
        yield 1 / count, f"the mean over {counted} was taken where {location} takes the sum"


def _run_backward_with_factor(scale: float, multiplier: Multiplier, right: Gradients, *arrays: object) -> Gradients:
    """Right results, times a number where it stands."""
    where, positions = multiplier.applies_at, multiplier.operand_positions
    # Made as it is used: an array for each story of each node would be too many.
    factor: Array | float = scale if where is None else np.where(where, scale, 1.0)
    return tuple(
        each if each is None or (positions is not None and at not in positions) else each * factor
        for at, each in enumerate(right)
    )
