"""Bugs of the backward pass: derivatives that are wrong at a node, paths that are cut, shares that are lost."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any, ClassVar

import numpy as np

from service.numerics.core.batching import Array, Shape
from service.numerics.diagnosis.bug import BackwardBug, BackwardOverride, WrongBackward, register_backward_bug
from service.numerics.diagnosis.bugs import batch_samples, truncated_backpropagation
from service.numerics.diagnosis.context import DiagnosisContext
from service.numerics.model.graph import Node
from service.numerics.ops.op import Gradients, OpBug

_MAX_USES = 64
"""Of a tensor each of which is tried as the only one: each takes an alteration of all others."""
_SAME_SHARE_TOLERANCE = 1e-12
"""Relatively: what comes back by two ways is the same."""


def iterate_op_bugs(scene: DiagnosisContext, names: Sequence[str]) -> Iterator[BackwardOverride]:
    """Each wrong backward pass that an op knows of, at each node with that op, and at all of them together.

    As of all bugs here: at the nodes that the names reach, since elsewhere it does not show.
    """
    by_op: dict[type[Any], list[Node]] = {}
    for node in scene.graph.downstream_nodes(names):
        by_op.setdefault(type(node.op), []).append(node)
    for op, nodes in by_op.items():
        for op_bug in op.bugs.values():
            if op_bug.is_declared_as_multiplier:
                continue
            where = [node for node in nodes if op_bug.applies(_list_output_and_input_shapes(scene, node))]
            for node in where:
                yield _make_op_bug_override(op_bug, [node], partial(_describe_op_bug_at, scene, node, op_bug))
            if len(where) > 1:
                yield _make_op_bug_override(
                    op_bug, where, partial("at every {} {}".format, op.name, op_bug.explanation)
                )


def _list_output_and_input_shapes(scene: DiagnosisContext, node: Node) -> tuple[Shape | None, ...]:
    """Shapes of the output and of the inputs of a node; None for what is left out."""
    inputs = (
        scene.graph.shapes[each] if isinstance(each, str) else None if each is None else () for each in node.operands
    )
    return scene.graph.shapes[node.name], *inputs


def _make_op_bug_override(op_bug: OpBug, nodes: Sequence[Node], text: Callable[[], str]) -> BackwardOverride:
    return BackwardOverride(
        op_bug.bug_name, {node.name: partial(_run_backward_with_op_bug, op_bug, node) for node in nodes}, text
    )


def _run_backward_with_op_bug(op_bug: OpBug, node: Node, right: Gradients, *arrays: Any) -> Gradients:
    return op_bug.backward(node.op, *arrays)


def _describe_op_bug_at(scene: DiagnosisContext, node: Node, op_bug: OpBug) -> str:
    return f"at {_describe_node(scene, node)} {op_bug.explanation}"


def _describe_node(scene: DiagnosisContext, node: Node) -> str:
    return f"{scene.format_name(node.name)} ({node.op.name})"


def multiply_results(factor: int, positions: Sequence[int], right: Gradients, *arrays: Any) -> Gradients:
    """Right results, with what some operands get multiplied."""
    return tuple(
        factor * each if position in positions and each is not None else each for position, each in enumerate(right)
    )


@dataclass(frozen=True)
class GradientEdge:
    """What one node hands back to one of its operands, which it may read at several positions."""

    node: Node
    positions: tuple[int, ...]
    operand: str

    def describe_edge(self, scene: DiagnosisContext) -> str:
        """How it stands in a sentence."""
        return f"what comes back to {scene.format_name(self.operand)} from {_describe_node(scene, self.node)}"

    def edge_gradient(self, scene: DiagnosisContext) -> Array:
        """What comes back along it."""
        node, gradients, values = self.node, scene.gradients, scene.values
        results = node.op.backward(gradients[node.name], values[node.name], *scene.graph.operand_arrays(node, values))
        shares = [each for at, each in enumerate(results) if at in self.positions and each is not None]
        return np.asarray(sum(each[0] for each in shares))

    def split_positions(self) -> Iterator["GradientEdge"]:
        """Each position by itself, where there are several."""
        if len(self.positions) > 1:
            yield from (replace(self, positions=(position,)) for position in self.positions)

    def exclude_positions(self, other: "GradientEdge") -> "GradientEdge":
        """The other positions."""
        return replace(self, positions=tuple(at for at in self.positions if at not in other.positions))

    def describe_only(self, scene: DiagnosisContext, counted: "GradientEdge") -> str:
        """Say that of several positions one counts alone; where all hand back the same, which it is nobody can tell."""
        name, node, several = scene.format_name(self.operand), _describe_node(scene, self.node), len(self.positions)
        first, *others = (each.edge_gradient(scene) for each in self.split_positions())
        if all(np.allclose(first, other, rtol=_SAME_SHARE_TOLERANCE, atol=0) for other in others):
            part = "half" if several == 2 else f"1/{several}"
            return f"only {part} of {self.describe_edge(scene)} counted: one of the {several} operands of {node} that are {name}"
        slot = self.node.operand_slots[counted.positions[0]].name
        return f"of the {several} operands of {node} that are {name} only one counted ({slot})"


def iterate_edges(scene: DiagnosisContext, names: Sequence[str]) -> Iterator[GradientEdge]:
    """Each operand that gets a gradient, at each node."""
    for node in scene.graph.downstream_nodes(names):
        positions: dict[str, list[int]] = {}
        for position, operand in enumerate(node.operands):
            if isinstance(operand, str) and operand not in scene.graph.leaf_kinds:
                positions.setdefault(operand, []).append(position)
        yield from (GradientEdge(node, tuple(each), operand) for operand, each in positions.items())


def iterate_edges_to(scene: DiagnosisContext, name: str) -> Iterator[GradientEdge]:
    """Those that lead back to one name."""
    nodes = {node.name: node for node, _ in scene.uses_of(name)}
    for node in nodes.values():
        positions = tuple(at for at, operand in enumerate(node.operands) if operand == name)
        yield GradientEdge(node, positions, name)


@register_backward_bug
class CutPath(BackwardBug):
    """One of several paths to the loss carries no gradient."""

    name: ClassVar[str] = "detached"
    signature: ClassVar[str] = "c = the gradient along the remaining paths"

    def backward_overrides(self, scene: DiagnosisContext, names: Sequence[str]) -> Iterator[BackwardOverride]:
        """See `OnTheWayBack`."""
        for edge in iterate_edges(scene, names):
            text = partial(self._describe_cut, scene, edge)
            yield BackwardOverride(self.name, _override_with_factor(0, edge), text, partial(edge.describe_edge, scene))
        for cut, said in truncated_backpropagation.iterate_time_cuts(scene, names):
            yield BackwardOverride(self.name, _override_cutting_all(cut), partial(str, said))
        for node in scene.graph.downstream_nodes(names):
            if len({user.name for user, _ in scene.uses_of(node.name)}) > 1:
                nothing = partial(multiply_results, 0, range(len(node.operands)))
                text = partial("nothing came back through {}".format, _describe_node(scene, node))
                came = partial("what comes back through {}".format, _describe_node(scene, node))
                yield BackwardOverride(self.name, {node.name: nothing}, text, came)

    @staticmethod
    def _describe_cut(scene: DiagnosisContext, edge: GradientEdge) -> str:
        return f"the path from {scene.format_name(edge.operand)} through {_describe_node(scene, edge.node)} carried no gradient"


def _override_with_factor(factor: int, edge: GradientEdge) -> dict[str, WrongBackward]:
    return {edge.node.name: partial(multiply_results, factor, edge.positions)}


@register_backward_bug
class SingleUseOnly(BackwardBug):
    """Of a tensor that is used several times one use counts alone."""

    name: ClassVar[str] = "shared_weight_last_use_only"
    signature: ClassVar[str] = "c = one use's share"

    def backward_overrides(self, scene: DiagnosisContext, names: Sequence[str]) -> Iterator[BackwardOverride]:
        """See `OnTheWayBack`."""
        for edge in iterate_edges(scene, names):
            for kept in edge.split_positions():
                yield BackwardOverride(
                    self.name,
                    _override_with_factor(0, edge.exclude_positions(kept)),
                    partial(edge.describe_only, scene, kept),
                )
        for name in names:
            uses = scene.uses_of(name)
            for kept in _order_by_likelihood(len(uses)) if len({node.name for node, _ in uses}) > 1 else ():
                cut = [use for number, use in enumerate(uses) if number != kept]
                text = partial(self._describe_only_use, scene, name, uses[kept][0], len(uses))
                yield BackwardOverride(self.name, _override_cutting_all(cut), text)

    @staticmethod
    def _describe_only_use(scene: DiagnosisContext, name: str, kept_use: Node, uses: int) -> str:
        return (
            f"of the {uses} uses of {scene.format_name(name)} only the one in {_describe_node(scene, kept_use)} counted, where their "
            "shares have to be added up"
        )


def _order_by_likelihood(count: int) -> Iterator[int]:
    """Which of several uses may be the only one: the last, the first, and then the others, as far as they are tried."""
    last = count - 1
    order = dict.fromkeys(each for nth in range(count) for each in (last - nth, nth))
    return islice(iter(order), _MAX_USES)


def _override_cutting_all(uses: Sequence[tuple[Node, int]]) -> dict[str, WrongBackward]:
    positions: dict[str, list[int]] = {}
    for node, position in uses:
        positions.setdefault(node.name, []).append(position)
    return {name: partial(multiply_results, 0, each) for name, each in positions.items()}


@register_backward_bug
class DoubleCountedUse(BackwardBug):
    """The share of one use was added twice."""

    name: ClassVar[str] = "double_counted"
    signature: ClassVar[str] = "c = g + one share"

    def backward_overrides(self, scene: DiagnosisContext, names: Sequence[str]) -> Iterator[BackwardOverride]:
        """See `OnTheWayBack`."""
        for edge in iterate_edges(scene, names):
            yield BackwardOverride(
                self.name, _override_with_factor(2, edge), partial(self._describe_double_count, scene, edge)
            )
        for overrides, said in batch_samples.iterate_double_counted_samples(scene, names):
            yield BackwardOverride(self.name, overrides, partial(str, said))

    @staticmethod
    def _describe_double_count(scene: DiagnosisContext, edge: GradientEdge) -> str:
        return f"{edge.describe_edge(scene)} was added twice"
