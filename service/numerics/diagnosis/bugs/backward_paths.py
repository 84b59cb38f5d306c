"""Bugs of the backward pass.

Wrong derivatives at a node, cut paths, lost or repeated shares.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any, ClassVar

import numpy as np

from service.numerics.core.batching import Array, Shape
from service.numerics.core.cached_attribute import cached_attribute
from service.numerics.diagnosis.bug import BackwardBug, BackwardOverride, WrongBackward, register_backward_bug
from service.numerics.diagnosis.bugs import batch_samples, truncated_backpropagation
from service.numerics.diagnosis.context import DiagnosisContext
from service.numerics.model.graph import Node
from service.numerics.ops.composite import CompositeOp
from service.numerics.ops.formula_op import FormulaBugs
from service.numerics.ops.op import Gradients, Op, OpBug

_MAX_USES = 64
"""Uses of one tensor that are tried as the only one; each takes an override of all others."""
_SAME_SHARE_TOLERANCE = 1e-12
"""Relative difference up to which two shares are equal."""
_FUNCTION = "the function"
"""The op in the clauses of bugs that several functions share."""


def iterate_op_bugs(
    context: DiagnosisContext, names: Sequence[str], *, is_generated: bool = False
) -> Iterator[BackwardOverride]:
    """Yield each bug of each op, at each of its nodes, and at all of them together.

    Like all bugs here only at nodes that the names reach, since it does not show elsewhere.

    Parameters
    ----------
    context
        The model and the candidates.
    names
        Names of the gradients.
    is_generated
        True for the bugs that follow from formulas, False for those with names of their own, the default.
    """
    nodes_by_op: dict[type[Any], list[Node]] = {}
    for node in context.graph.list_downstream_nodes(names):
        nodes_by_op.setdefault(type(node.op), []).append(node)
    for op, nodes in nodes_by_op.items():
        for op_bug in op.bugs.values():
            if op_bug.is_declared_as_multiplier or op_bug.is_generated is not is_generated:
                continue
            affected_nodes = [node for node in nodes if op_bug.applies(_list_output_and_input_shapes(context, node))]
            for node in affected_nodes:
                yield _make_op_bug_override(op_bug, [node], partial(_describe_op_bug_at, context, node, op_bug))
            if len(affected_nodes) > 1:
                yield _make_op_bug_override(
                    op_bug, affected_nodes, partial("at every {} {}".format, op.name, op_bug.explanation)
                )


def iterate_composite_bugs(context: DiagnosisContext, names: Sequence[str]) -> Iterator[BackwardOverride]:
    """Yield each generated bug of each composite op that states formulas of its own.

    The steps stand in the place of such a node. So the change of an operand's gradient is added at the first step that
    reads the operand.

    Parameters
    ----------
    context
        The model and the candidates.
    names
        Names of the gradients.
    """
    steps_by_node: dict[str, list[Node]] = {}
    for step in context.graph.list_downstream_nodes(names):
        if step.name in context.graph.composite_names:
            steps_by_node.setdefault(context.graph.composite_names[step.name], []).append(step)
    for node in context.graph.ordered_nodes if steps_by_node else ():
        if node.name not in steps_by_node or not isinstance(node.op, FormulaBugs):
            continue
        if not isinstance(node.op, CompositeOp) or type(node.op).select_form is not Op.select_form:
            continue
        shapes = _list_output_and_input_shapes(context, node)
        for op_bug in node.op.bugs.values():
            if op_bug.applies(shapes):
                wrong_steps = _add_changes_at_steps(context, node, steps_by_node[node.name], op_bug)
                clause = partial(
                    "at {} {}".format, f"{context.format_name(node.name)} ({node.op.name})", op_bug.explanation
                )
                yield BackwardOverride(op_bug.bug_name, wrong_steps, clause)


def _add_changes_at_steps(
    context: DiagnosisContext, node: Node, steps: Sequence[Node], op_bug: OpBug
) -> dict[str, WrongBackward]:
    """Return passes of steps that add the change by a bug of a composite node to the gradients of its operands."""
    change = _CompositeChange(context, node, op_bug)
    positions: dict[str, dict[int, int]] = {}
    for slot_position, operand in enumerate(node.operands):
        reading = [(step, step.operands.index(operand)) for step in steps if operand in step.operands]
        if isinstance(operand, str) and reading:
            step, position = reading[0]
            positions.setdefault(step.name, {})[slot_position] = position
    return {name: partial(_add_change, change, at) for name, at in positions.items()}


class _CompositeChange:
    """The change of the gradients of a composite node's operands by a bug, computed when it is first needed."""

    def __init__(self, context: DiagnosisContext, node: Node, op_bug: OpBug) -> None:
        self._context, self._node, self._op_bug = context, node, op_bug

    @cached_attribute
    def changes(self) -> tuple[Array | None, ...]:
        """Return the change for each operand, (1, ...); None for no gradient."""
        context, node = self._context, self._node
        op = node.op.resolve_shape_defaults(*context.graph.get_operand_shapes(node))
        assert isinstance(op, FormulaBugs)
        inputs = context.graph.get_operand_arrays(node, context.values)
        arrays = (context.gradients[node.name], context.values[node.name], *inputs)
        right = op.evaluate_right_formulas(*arrays)
        assert self._op_bug.change is not None
        wrong = self._op_bug.change(op, right, *arrays)
        return tuple(
            None if before is None or after is None else after - before
            for before, after in zip(right, wrong, strict=True)
        )


def _add_change(change: _CompositeChange, at: Mapping[int, int], right: Gradients, *arrays: Any) -> Gradients:
    results = list(right)
    for slot_position, position in at.items():
        difference, result = change.changes[slot_position], results[position]
        if difference is not None and result is not None:
            results[position] = result + difference
    return tuple(results)


def _list_output_and_input_shapes(context: DiagnosisContext, node: Node) -> tuple[Shape | None, ...]:
    """List the shapes of the output and of the inputs of a node.

    None for an input that is left out.
    """
    inputs = (
        context.graph.shapes[operand] if isinstance(operand, str) else None if operand is None else ()
        for operand in node.operands
    )
    return context.graph.shapes[node.name], *inputs


def _make_op_bug_override(op_bug: OpBug, nodes: Sequence[Node], text: Callable[[], str]) -> BackwardOverride:
    return BackwardOverride(
        op_bug.bug_name,
        {node.name: partial(_run_backward_with_op_bug, op_bug, node) for node in nodes},
        text,
        op_bug=op_bug,
    )


def _run_backward_with_op_bug(op_bug: OpBug, node: Node, right: Gradients, *arrays: Any) -> Gradients:
    return op_bug.backward(node.op, *arrays) if op_bug.change is None else op_bug.change(node.op, right, *arrays)


def _describe_op_bug_at(context: DiagnosisContext, node: Node, op_bug: OpBug) -> str:
    """Describe a bug of an op at a node in a clause.

    The clause names "the function", or else begins with the node.
    """
    if _FUNCTION in op_bug.explanation:
        return op_bug.explanation.replace(_FUNCTION, context.describe_function(node), 1)
    return f"at {context.describe_node(node)} {op_bug.explanation}"


def multiply_results(factor: int, positions: Sequence[int], right: Gradients, *arrays: Any) -> Gradients:
    """Multiply the right results for some operands by a factor."""
    return tuple(
        factor * result if position in positions and result is not None else result
        for position, result in enumerate(right)
    )


@dataclass(frozen=True)
class GradientEdge:
    """The gradient that a node hands back to one of its operands.

    The node may read the operand at several positions.
    """

    node: Node
    positions: tuple[int, ...]
    operand: str

    def describe_edge(self, context: DiagnosisContext) -> str:
        """Describe the edge as a noun phrase."""
        return f"the gradient from {context.describe_node(self.node)} to {context.describe_name(self.operand)}"

    def compute_edge_gradient(self, context: DiagnosisContext) -> Array:
        """Compute the gradient along the edge."""
        node, gradients, values = self.node, context.gradients, context.values
        results = node.op.backward(
            gradients[node.name], values[node.name], *context.graph.get_operand_arrays(node, values)
        )
        shares = [
            result for position, result in enumerate(results) if position in self.positions and result is not None
        ]
        return np.asarray(sum(share[0] for share in shares))

    def split_positions(self) -> Iterator["GradientEdge"]:
        """Yield each position as an edge of its own, if there are several."""
        if len(self.positions) > 1:
            yield from (replace(self, positions=(position,)) for position in self.positions)

    def exclude_positions(self, other: "GradientEdge") -> "GradientEdge":
        """Return the edge without the positions of another."""
        return replace(
            self, positions=tuple(position for position in self.positions if position not in other.positions)
        )

    def describe_only(self, context: DiagnosisContext, counted: "GradientEdge") -> str:
        """Describe that one of several positions counts alone.

        If all hand back the same, name none of them.
        """
        name, node, position_count = (
            context.describe_name(self.operand),
            context.describe_node(self.node),
            len(self.positions),
        )
        first_share, *other_shares = (edge.compute_edge_gradient(context) for edge in self.split_positions())
        if all(
            np.allclose(first_share, other_share, rtol=_SAME_SHARE_TOLERANCE, atol=0) for other_share in other_shares
        ):
            part = "half" if position_count == 2 else f"1/{position_count}"
            edge = self.describe_edge(context)
            return f"only {part} of {edge} counted: one of the {position_count} operands of {node} that are {name}"
        slot = self.node.operand_slots[counted.positions[0]].name
        return f"only one of the {position_count} operands of {node} that are {name} counted ({slot})"


def iterate_edges(context: DiagnosisContext, names: Sequence[str]) -> Iterator[GradientEdge]:
    """Yield an edge for each operand with a gradient, at each node."""
    for node in context.graph.list_downstream_nodes(names):
        positions: dict[str, list[int]] = {}
        for position, operand in enumerate(node.operands):
            if isinstance(operand, str) and operand not in context.graph.leaf_kinds:
                positions.setdefault(operand, []).append(position)
        yield from (GradientEdge(node, tuple(indices), operand) for operand, indices in positions.items())


def iterate_edges_to(context: DiagnosisContext, name: str) -> Iterator[GradientEdge]:
    """Yield the edges that lead back to one name."""
    nodes = {node.name: node for node, _ in context.get_uses(name)}
    for node in nodes.values():
        positions = tuple(position for position, operand in enumerate(node.operands) if operand == name)
        yield GradientEdge(node, positions, name)


@register_backward_bug
class CutPath(BackwardBug):
    """A path to the loss that carries no gradient."""

    name: ClassVar[str] = "detached"
    signature: ClassVar[str] = "c = the gradient along the remaining paths"

    def iterate_overrides(self, context: DiagnosisContext, names: Sequence[str]) -> Iterator[BackwardOverride]:
        """Yield an override for each cut edge, time step and node; see `BackwardBug`."""
        for edge in iterate_edges(context, names):
            text = partial(self._describe_cut, context, edge)
            yield BackwardOverride(
                self.name, _override_with_factor(0, edge), text, partial(edge.describe_edge, context)
            )
        for cut_uses, clause in truncated_backpropagation.iterate_time_cuts(context, names):
            yield BackwardOverride(self.name, _override_cutting_all(cut_uses), partial(str, clause))
        for node in context.graph.list_downstream_nodes(names):
            if len({user.name for user, _ in context.get_uses(node.name)}) > 1:
                zero_all = partial(multiply_results, 0, range(len(node.operands)))
                text = partial("no gradient came back through {}".format, context.describe_node(node))
                share = partial("the gradient through {}".format, context.describe_node(node))
                yield BackwardOverride(self.name, {node.name: zero_all}, text, share)

    @staticmethod
    def _describe_cut(context: DiagnosisContext, edge: GradientEdge) -> str:
        operand, node = context.describe_name(edge.operand), context.describe_node(edge.node)
        return f"the path from {operand} through {node} carried no gradient"


def _override_with_factor(factor: int, edge: GradientEdge) -> dict[str, WrongBackward]:
    return {edge.node.name: partial(multiply_results, factor, edge.positions)}


@register_backward_bug
class SingleUseOnly(BackwardBug):
    """A single use that counts alone, of a tensor with several uses."""

    name: ClassVar[str] = "shared_weight_last_use_only"
    signature: ClassVar[str] = "c = one use's share"

    def iterate_overrides(self, context: DiagnosisContext, names: Sequence[str]) -> Iterator[BackwardOverride]:
        """Yield an override for each use that may count alone; see `BackwardBug`."""
        for edge in iterate_edges(context, names):
            for kept_edge in edge.split_positions():
                yield BackwardOverride(
                    self.name,
                    _override_with_factor(0, edge.exclude_positions(kept_edge)),
                    partial(edge.describe_only, context, kept_edge),
                )
        for name in names:
            uses = context.get_uses(name)
            for kept_position in _order_by_likelihood(len(uses)) if len({node.name for node, _ in uses}) > 1 else ():
                cut_uses = [use for number, use in enumerate(uses) if number != kept_position]
                text = partial(self._describe_only_use, context, name, uses[kept_position][0], len(uses))
                yield BackwardOverride(self.name, _override_cutting_all(cut_uses), text)

    @staticmethod
    def _describe_only_use(context: DiagnosisContext, name: str, kept_use: Node, uses: int) -> str:
        return (
            f"only the use of {context.describe_name(name)} in {context.describe_node(kept_use)} counted, and not the "
            f"sum over its {uses} uses"
        )


def _order_by_likelihood(count: int) -> Iterator[int]:
    """Order the uses that may count alone.

    The last, the first, then the others, up to a number.
    """
    last = count - 1
    order = dict.fromkeys(use for position in range(count) for use in (last - position, position))
    return islice(iter(order), _MAX_USES)


def _override_cutting_all(uses: Sequence[tuple[Node, int]]) -> dict[str, WrongBackward]:
    positions: dict[str, list[int]] = {}
    for node, position in uses:
        positions.setdefault(node.name, []).append(position)
    return {name: partial(multiply_results, 0, indices) for name, indices in positions.items()}


@register_backward_bug
class DoubleCountedUse(BackwardBug):
    """A share of one use that was added twice."""

    name: ClassVar[str] = "double_counted"
    signature: ClassVar[str] = "c = g + one share"

    def iterate_overrides(self, context: DiagnosisContext, names: Sequence[str]) -> Iterator[BackwardOverride]:
        """Yield an override for each edge, and last sample, that counts twice."""
        for edge in iterate_edges(context, names):
            yield BackwardOverride(
                self.name, _override_with_factor(2, edge), partial(self._describe_double_count, context, edge)
            )
        for overrides, clause in batch_samples.iterate_double_counted_samples(context, names):
            yield BackwardOverride(self.name, overrides, partial(str, clause))

    @staticmethod
    def _describe_double_count(context: DiagnosisContext, edge: GradientEdge) -> str:
        return f"{edge.describe_edge(context)} was added twice"
