"""Bugs of the multipliers of a gradient.

A number that was left out, applied twice, or inverted.

Let a node multiply the gradient by a factor v. A backward pass that leaves v out hands back 1 / v times the right
gradient, one that applies it twice hands back v times that, and one that divides by v hands back 1 / v^2 times that. A
divisor d is the factor v = 1 / d. Each number is tried at its own node, since the multiplier of one path of several is
no factor of the whole gradient. The ops declare their numbers: see `service.numerics.ops.multipliers`.
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
"""Factor of the wrong gradient, and a clause for what was done, with {at} for the node."""


@register_backward_bug
class WrongMultiplier(BackwardBug):
    """A multiplier at a node that was left out, applied twice, or inverted."""

    name: ClassVar[str] = "scaled"
    signature: ClassVar[str] = "c = k g, or one share of g times k, k a multiplier of the gradient at a node"

    def iterate_overrides(self, context: DiagnosisContext, names: Sequence[str]) -> Iterator[BackwardOverride]:
        """Yield an override for each multiplier of each node, then of each op."""
        nodes_by_action: dict[tuple[str, str, str], list[WrongBackward | Node]] = {}
        for node in context.graph.list_downstream_nodes(names):
            for multiplier in iterate_multipliers_at(context, node):
                for factor, clause in iterate_multiplier_actions(multiplier, node.name == context.graph.loss_name):
                    wrong_backward = partial(_run_backward_with_factor, factor, multiplier)
                    text = partial(clause.format, at=f"{context.describe_node(node)}{multiplier.location_note}")
                    yield BackwardOverride(self.name, {node.name: wrong_backward}, text)
                    if multiplier.kind in ("factor", "division"):
                        action = clause.rpartition("{at} ")[2]
                        key = (node.op.name, multiplier.label, action)
                        nodes_by_action.setdefault(key, []).extend((node, wrong_backward))
        yield from self._override_every_node(nodes_by_action)

    def _override_every_node(
        self, nodes_by_action: dict[tuple[str, str, str], list[WrongBackward | Node]]
    ) -> Iterator[BackwardOverride]:
        """Yield the same action at every node of an op, as if the op itself was wrong."""
        for (op, label, action), nodes_and_passes in nodes_by_action.items():
            overrides: dict[str, WrongBackward] = {}
            for node, wrong_backward in zip(nodes_and_passes[::2], nodes_and_passes[1::2], strict=True):
                assert isinstance(node, Node)
                assert not isinstance(wrong_backward, Node)
                overrides[node.name] = wrong_backward
            if len(overrides) > 1:
                text = f"at every {op} the {label.removesuffix(' by')} {action}"
                yield BackwardOverride(self.name, overrides, partial(str, text))


def iterate_multipliers_at(context: DiagnosisContext, node: Node) -> Iterator[Multiplier]:
    """Iterate over the numbers that multiply the gradient at a node, and change it."""
    inputs = context.graph.get_operand_arrays(node, context.values)
    for multiplier in node.op.list_gradient_multipliers(*inputs):
        positions, mask = multiplier.operand_positions, multiplier.applies_at
        reaches_operand = positions is None or any(isinstance(node.operands[position], str) for position in positions)
        if reaches_operand and is_telling_value(multiplier.value) and (mask is None or mask.any()):
            yield multiplier


def iterate_multiplier_actions(multiplier: Multiplier, is_loss: bool = False) -> Iterator[MultiplierAction]:
    """Iterate over the wrong uses of a multiplier, the likeliest first."""
    kind, value = multiplier.kind, multiplier.value
    if kind in ("mean", "sum"):
        yield from _count_actions(kind, multiplier.label, value, "the loss" if is_loss else "{at}")
        return
    number = f"the {multiplier.label} {value:.6g} {'of' if kind == 'factor' else 'in'} {{at}}"
    factor = value if kind == "factor" else 1 / value
    wrong_verb = "divided" if kind == "factor" else "multiplied"
    yield 1 / factor, f"{number} was left out"
    yield factor, f"{number} was applied twice"
    yield 1 / factor**2, f"{number} was inverted: it {wrong_verb} the gradient"
    if factor < 0:
        yield -1 / factor, f"{number} was left out except for its sign"
        yield -factor, f"{number} was applied twice except for its sign"


def _count_actions(kind: str, counted: str, count: float, location: str) -> Iterator[MultiplierAction]:
    if kind == "mean":
        yield count, f"the sum over {counted} was taken where {location} takes the mean"
        yield 1 / count, f"the mean over {counted} was taken once too often, where {location} takes it"
    else:
        yield 1 / count, f"the mean over {counted} was taken where {location} takes the sum"


def _run_backward_with_factor(scale: float, multiplier: Multiplier, right: Gradients, *arrays: object) -> Gradients:
    """Scale the right results at the elements and operands of a multiplier."""
    mask, positions = multiplier.applies_at, multiplier.operand_positions
    # Made here and not before: one array for each action of each node would be too many.
    factor: Array | float = scale if mask is None else np.where(mask, scale, 1.0)
    return tuple(
        result if result is None or (positions is not None and position not in positions) else result * factor
        for position, result in enumerate(right)
    )
