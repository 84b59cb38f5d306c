"""The graph of a model: order, shapes, forward pass and reverse sweep.

The reverse sweep is reverse accumulation (Griewank and Walther, Evaluating Derivatives, 2008, section 3.2): nodes in
reverse order, each handing the gradient of its output back to its inputs, where contributions add up.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import partial
from graphlib import CycleError, TopologicalSorter
from typing import Protocol

import numpy as np

from service.numerics.core.batching import Array, Shape, count_elements
from service.numerics.core.cached_attribute import cached_attribute
from service.numerics.core.interrupts import iterate_interruptibly
from service.numerics.core.quoting import quote_name
from service.numerics.ops.composite import CompositeOp, list_steps
from service.numerics.ops.op import BackwardPass, ComputeCost, Gradients, Op, ShapeError, Slot
from service.numerics.ops.rounding_errors import ErrorModel

Operand = str | float | None
NamedArrays = dict[str, Array]


@dataclass(frozen=True)
class Node:
    """One application of an op.

    Attributes
    ----------
    name, op
        Name of the node.
    operands
        Names, constants, or None for an optional one, in slot order, with every operand of a slot that takes several.
    branch
        The pieces to which a piecewise op is held; None where it is not.
    """

    name: str
    op: Op
    operands: tuple[Operand, ...]
    branch: Array | None = field(default=None, compare=False)

    @cached_attribute
    def operand_slots(self) -> tuple[Slot, ...]:
        """Slot of each operand."""
        slots = self.op.slots
        return slots + slots[-1:] * (len(self.operands) - len(slots))

    @cached_attribute
    def op_text(self) -> str:
        """Text of the op with its attributes, which tells ops apart that may have no hash."""
        return f"{self.op.name} {self.op!r}"

    def forward(self, *inputs: Array | None) -> Array:
        """Evaluate."""
        return self.op.forward(*inputs) if self.branch is None else self.op.forward_on_branch(self.branch, *inputs)

    def split_terms(self, output: Array | None, *inputs: Array | None) -> Array:
        """Return the terms of the output."""
        return (
            self.op.split_terms(output, *inputs)
            if self.branch is None
            else self.op.compute_terms_on_branch(self.branch, output, *inputs)
        )

    def forward_with_errors(self, errors: ErrorModel, *inputs: Array | None) -> Array:
        """Evaluate, with the errors of an arithmetic."""
        if self.branch is None:
            return self.op.forward_with_errors(errors, *inputs)
        output = self.forward(*inputs)
        return errors.add_rounding_error(output, self.op.estimate_rounding_on_branch(self.branch, output, *inputs))

    def round_constants(self, nearest: Callable[[float], float]) -> "Node":
        """Return the graph with its constants rounded as its leaves are.

        The listed nodes keep their constants.
        """
        return replace(self, op=self.op.round_constants(nearest), operands=self._map_constant_operands(nearest))

    def map_numbers(self, change: Callable[[float], float]) -> "Node":
        """Change the constants, and every attribute of the op that is a float."""
        return replace(self, op=self.op.map_float_attributes(change), operands=self._map_constant_operands(change))

    def _map_constant_operands(self, change: Callable[[float], float]) -> tuple[Operand, ...]:
        """Return the operands with each constant changed that is no index and no label."""
        return tuple(
            change(operand) if isinstance(operand, int | float) and not is_index_constant(operand, slot) else operand
            for operand, slot in zip(self.operands, self.operand_slots, strict=True)
        )

    def hold_branch(self, inputs: tuple[Array | None, ...]) -> "Node":
        """Hold a piecewise op to the pieces that it is on."""
        branch = self.op.select_branch(*inputs)
        return self if branch is None else replace(self, branch=branch)

    @cached_attribute
    def source_names(self) -> tuple[str, ...]:
        """Names among the operands."""
        return tuple(operand for operand in self.operands if isinstance(operand, str))


class ModelError(ValueError):
    """An invalid model: the position of the node, and the leaf that is wrong or missing."""

    def __init__(self, message: str, node: int | None = None, leaf: str | None = None) -> None:
        super().__init__(message)
        self.node = node
        self.leaf = leaf


class InvalidModelError(ValueError):
    """All that is wrong with a model."""

    def __init__(self, errors: Sequence[ModelError]) -> None:
        super().__init__("; ".join(map(str, errors)))
        self.errors = tuple(errors)


class NodeObserver(Protocol):
    """An observer of a pass that may change results, as the rounding model does."""

    def forward(self, node: Node, inputs: tuple[Array | None, ...]) -> Array:
        """Evaluate a node."""
        ...

    def backward(
        self, node: Node, node_backward: BackwardPass, gradient: Array, output: Array, inputs: tuple[Array | None, ...]
    ) -> Gradients:
        """Return the gradients of a node's inputs; `node_backward` is the backward pass of its op."""
        ...

    def observe_terms(self, node: Node, terms: Array, inputs: tuple[Array | None, ...]) -> Array:
        """Observe the terms of a node, and return them."""
        ...

    def operation(self, result: Array) -> Array:
        """Observe and return the sum of two contributions to one gradient."""
        ...


class Graph:
    """Nodes in topological order, with the shape of every leaf and node.

    Parameters
    ----------
    nodes
        Nodes in any order, except for the loss, which is the last.
    leaves
        Shape of every tensor and weight, by name.
    kinds
        `index` or `bool` of the leaves that are not of floats.

    Raises
    ------
    InvalidModelError
        Unknown or repeated names, a cycle, something that does not reach the loss, shapes that do not fit, a loss
        of more than one element.

    Attributes
    ----------
    listed_nodes, ordered_nodes
        Nodes in the order of the request, and in that of evaluation.
    nodes
        Nodes in the order of evaluation, with the steps of each composite op in its place. The last step has the name
        of the composite node.
    shapes
        Shape of every leaf, node and step, by name.
    composite_names
        Name of the composite node of each step, by name of the step.
    """

    def __init__(
        self, nodes: Sequence[Node], leaves: Mapping[str, Shape], kinds: Mapping[str, str] | None = None
    ) -> None:
        self.leaf_kinds = dict(kinds or {})
        self.empty_shapes: dict[str, Shape] = {}
        """Shapes of the leaves and nodes without elements that were removed: see `empty_tensors.py`."""
        self.empty_kinds: dict[str, str] = {}
        _check_names(nodes, leaves)
        self.loss_name = nodes[-1].name
        self.listed_nodes = tuple(nodes)
        self.ordered_nodes = _order_nodes(nodes)
        _check_reachability(nodes, leaves)
        _check_operand_kinds(nodes, leaves, self.leaf_kinds)
        self.shapes: dict[str, Shape] = {**leaves, **_compute_node_shapes(self.ordered_nodes, nodes, leaves)}
        self.composite_names: dict[str, str] = {}
        self.nodes = self._expand_composites(self.ordered_nodes)
        if count_elements(self.shapes[self.loss_name]) != 1:
            raise InvalidModelError(
                [
                    ModelError(
                        f"the last node, {quote_name(self.loss_name)}, is the loss and must have one element; its "
                        f"shape is {list(self.shapes[self.loss_name])}",
                        node=len(nodes) - 1,
                    )
                ]
            )

    def _expand_composites(self, nodes: Iterable[Node]) -> list[Node]:
        """Return nodes with the steps of each composite op in its place, and note the shapes of the steps."""
        expanded_nodes: list[Node] = []
        for node in nodes:
            if not isinstance(node.op, CompositeOp):
                expanded_nodes.append(node)
                continue
            op = node.op.resolve_shape_defaults(*self.get_operand_shapes(node))
            assert isinstance(op, CompositeOp)
            make_name = partial(self._make_step_name, node.name)
            steps, step_shapes = list_steps(op, node.operands, self.shapes, node.name, make_name)
            self.shapes.update(step_shapes)
            self.composite_names.update(dict.fromkeys(step_shapes, node.name))
            expanded_nodes.extend(Node(*step) for step in steps)
        return expanded_nodes

    def _make_step_name(self, node_name: str, number: int) -> str:
        """Return a name for a step that no leaf and no node has."""
        name = f"{node_name}.{number}"
        while name in self.shapes and name not in self.composite_names:
            name += "'"
        return name

    def _replace_nodes(self, change: Callable[[Node], Node]) -> "Graph":
        """Return the graph with each node changed, before composite ops are expanded."""
        changed_graph = copy(self)
        changed_graph.ordered_nodes = [change(node) for node in self.ordered_nodes]
        changed_graph.nodes = changed_graph._expand_composites(changed_graph.ordered_nodes)
        return changed_graph

    @property
    def public_names(self) -> list[str]:
        """Names of all leaves and nodes, without those of steps."""
        return [name for name in self.shapes if self.composite_names.get(name, name) == name]

    def get_listed_name(self, name: str) -> str:
        """Return the name of the listed node that a step belongs to; a name of its own is returned as it is."""
        return self.composite_names.get(name, name)

    def find_position(self, name: str) -> int:
        """Return the position of a node, or of the composite node of a step, in the request."""
        return self._listed_positions[self.get_listed_name(name)]

    @cached_attribute
    def _listed_positions(self) -> dict[str, int]:
        return {node.name: position for position, node in enumerate(self.listed_nodes)}

    @cached_attribute
    def _nodes_by_name(self) -> dict[str, Node]:
        return {node.name: node for node in self.nodes}

    def describe_node(self, node: Node, format_name: Callable[[str], str] = quote_name) -> str:
        """Describe a node by name and op, "h (tanh)", and a step as "the abs in h (softsign)"."""
        if node.name not in self.composite_names:
            return f"{format_name(node.name)} ({node.op.name})"
        listed_node = self.listed_nodes[self.find_position(node.name)]
        return f"the {node.op.name} in {format_name(listed_node.name)} ({listed_node.op.name})"

    def describe_name(self, name: str, format_name: Callable[[str], str] = quote_name) -> str:
        """Describe a leaf or a node by name, and a step before the last of a composite node as a node."""
        if self.get_listed_name(name) == name:
            return format_name(name)
        return self.describe_node(self._nodes_by_name[name], format_name)

    def hold_branches(
        self, leaves: Mapping[str, Array], observer: NodeObserver | None = None
    ) -> tuple["Graph", NamedArrays]:
        """Hold every piecewise op to its pieces in the first tile.

        The function is smooth from there.

        Return the graph, and what its `forward` returns.
        """
        values = dict(leaves)
        nodes: list[Node] = []
        for node in self.nodes:
            first = tuple(None if array is None else array[:1] for array in self.get_operand_arrays(node, values))
            nodes.append(node.hold_branch(first))
            self._evaluate_nodes(nodes[-1:], values, observer)
        fixed_graph = copy(self)
        fixed_graph.nodes = nodes
        return fixed_graph, values

    def select_branches(self, values: Mapping[str, Array]) -> NamedArrays:
        """Return the pieces that piecewise nodes are on at known values of every leaf and node, (1, ...), by node."""
        branches = {
            node.name: node.op.select_branch(*self.get_operand_arrays(node, values))
            for node in self.nodes
            if node.op.may_have_pieces
        }
        return {name: branch for name, branch in branches.items() if branch is not None}

    def resolve_shape_defaults(self) -> "Graph":
        """Return the graph with the attributes spelled out that follow from shapes."""
        nodes = {
            node.name: replace(
                node,
                op=node.op.resolve_shape_defaults(
                    *(_find_operand_shape(operand, self.shapes) for operand in node.operands)
                ),
            )
            for node in self.listed_nodes
        }
        resolved_graph = self._replace_nodes(lambda node: nodes[node.name])
        resolved_graph.listed_nodes = tuple(nodes.values())
        return resolved_graph

    def round_constants(self, nearest: Callable[[float], float]) -> "Graph":
        """Return the graph with its constants rounded as its leaves are."""
        return self._replace_nodes(lambda node: node.round_constants(nearest))

    def map_numbers(self, change: Callable[[float], float]) -> "Graph":
        """Return the graph with its constants and the floats among its attributes changed.

        The listed nodes stay as they are.
        """
        mapped_graph = copy(self)
        mapped_graph.nodes = [node.map_numbers(change) for node in self.nodes]
        return mapped_graph

    def check_values(self, leaves: Mapping[str, Array]) -> None:
        """Refuse values that an op does not take, such as an index out of range.

        Parameters
        ----------
        leaves
            Every tensor and weight, without a tile axis.

        Raises
        ------
        InvalidModelError
            Names the invalid leaf, if it holds indices.
        """
        errors: list[ModelError] = []
        for node in iterate_interruptibly(self.nodes):
            if type(node.op).check_values is Op.check_values:
                continue
            if any(name in self.empty_shapes for name in (node.name, *node.source_names)):
                continue
            shapes = [_find_operand_shape(operand, self.shapes) for operand in node.operands]
            known = [
                leaves.get(operand) if isinstance(operand, str) else _make_numeric_array(operand)
                for operand in node.operands
            ]
            try:
                node.op.check_values(tuple(shape or () for shape in shapes), *known)
            except ShapeError as error:
                leaf = next((name for name in node.source_names if self.leaf_kinds.get(name) == "index"), None)
                position = self.find_position(node.name)
                errors.append(ModelError(f"{self.describe_node(node, quote_node_name)} takes {error}", position, leaf))
        if errors:
            raise InvalidModelError(errors)

    def forward(self, leaves: Mapping[str, Array], observer: NodeObserver | None = None) -> NamedArrays:
        """Evaluate every node.

        Parameters
        ----------
        leaves
            Every tensor and weight, each behind a tile axis.
        observer
            Sees, and may change, each output.

        Returns
        -------
        Values
            Every leaf and node by name, behind tile axes of length K or 1.
        """
        values = dict(leaves)
        self._evaluate_nodes(self.nodes, values, observer)
        return values

    def forward_downstream(
        self, base: Mapping[str, Array], replaced: Mapping[str, Array], observer: NodeObserver | None = None
    ) -> NamedArrays:
        """Evaluate the nodes downstream of `replaced` again, given its arrays."""
        values = {**base, **replaced}
        self._evaluate_nodes(
            [node for node in self.list_downstream_nodes(replaced) if node.name not in replaced], values, observer
        )
        return values

    def list_downstream_nodes(self, names: Iterable[str]) -> list[Node]:
        """Return the nodes that read any of the names, directly or through others."""
        reached_names = set(names)
        nodes: list[Node] = []
        for node in self.nodes:
            if not reached_names.isdisjoint(node.source_names):
                reached_names.add(node.name)
                nodes.append(node)
        return nodes

    def backward(
        self,
        values: Mapping[str, Array],
        backward_overrides: Mapping[str, BackwardPass] | None = None,
        observer: NodeObserver | None = None,
        loss_gradient: Array | None = None,
    ) -> NamedArrays:
        """Return the gradient of the loss with respect to every leaf and node.

        Parameters
        ----------
        values
            Result of `forward`.
        backward_overrides
            A backward pass to take instead of the op's own, by node: `backward(gradient, output, *inputs)`.
        observer
            Sees, and may change, what each node hands back.
        loss_gradient
            Gradient of the loss itself, (K, ...); 1 by default.
        """
        backward_overrides = backward_overrides or {}
        loss = values[self.loss_name]
        gradients: NamedArrays = {
            self.loss_name: np.ones((1, *loss.shape[1:]), dtype=loss.dtype) if loss_gradient is None else loss_gradient
        }
        for node in iterate_interruptibly(reversed(self.nodes)):
            gradient, output, inputs = gradients[node.name], values[node.name], self.get_operand_arrays(node, values)
            node_backward = backward_overrides.get(node.name, node.op.backward)
            results = (
                node_backward(gradient, output, *inputs)
                if observer is None
                else observer.backward(node, node_backward, gradient, output, inputs)
            )
            _accumulate_gradients(gradients, node, results, observer)
        return gradients

    def backward_to(self, values: Mapping[str, Array], leaf_names: Iterable[str] = ()) -> NamedArrays:
        """Return the gradients of the loss by every node and by some leaves.

        Those by other leaves are there if they came by the way.

        Parameters
        ----------
        values
            Result of `forward`.
        leaf_names
            Leaves to differentiate by, none by default.
        """
        names = {*leaf_names, *(node.name for node in self.nodes)}
        loss = values[self.loss_name]
        gradients: NamedArrays = {self.loss_name: np.ones((1, *loss.shape[1:]), dtype=loss.dtype)}
        for node in iterate_interruptibly(reversed(self.nodes)):
            wanted = [operand in names for operand in node.operands]
            if any(wanted):
                inputs = self.get_operand_arrays(node, values)
                results = node.op.backward_for(wanted, gradients[node.name], values[node.name], *inputs)
                _accumulate_gradients(gradients, node, results, None)
        return gradients

    def estimate_cost(self, nodes: Iterable[Node] | None = None) -> ComputeCost:
        """Return the cost of evaluating the nodes, all of them by default.

        Its elements are those of all arrays.
        """
        return self._total_cost if nodes is None else self._sum_costs(nodes)

    @cached_attribute
    def _total_cost(self) -> ComputeCost:
        return self._sum_costs(self.nodes)

    def _sum_costs(self, nodes: Iterable[Node]) -> ComputeCost:
        costs = [
            node.op.estimate_cost(self.shapes[node.name], *self.get_operand_shapes(node))
            for node in iterate_interruptibly(nodes)
        ]
        return ComputeCost(
            sum(cost.work for cost in costs),
            sum(cost.largest_array for cost in costs),
            sum(cost.calls for cost in costs),
        )

    def count_propagation_elements(self) -> list[int]:
        """Return the elements through which one label spreads per node, at most."""
        return [
            node.op.count_propagation_elements(self.shapes[node.name], *self.get_operand_shapes(node))
            for node in self.nodes
        ]

    def estimate_longest_call_work(self) -> tuple[int, Node]:
        """Return the longest uninterruptible call, in multiply-adds, and its node."""
        return self._longest_call_work

    @cached_attribute
    def _longest_call_work(self) -> tuple[int, Node]:
        calls = [
            node.op.estimate_longest_call_work(self.shapes[node.name], *self.get_operand_shapes(node))
            for node in self.nodes
        ]
        longest = max(range(len(calls)), key=calls.__getitem__)
        return calls[longest], self.nodes[longest]

    def get_operand_shapes(self, node: Node) -> list[Shape | None]:
        """Return the shapes of a node's operands; None for one that is left out."""
        return [_find_operand_shape(operand, self.all_shapes) for operand in node.operands]

    @property
    def all_shapes(self) -> Mapping[str, Shape]:
        """Shapes of every leaf and node of the listed nodes, those without elements too."""
        return {**self.shapes, **self.empty_shapes} if self.empty_shapes else self.shapes

    def get_loss_terms(self, values: Mapping[str, Array]) -> Array:
        """Return the terms of the loss, (K or 1, n), whose sum is the loss."""
        node = self.nodes[-1]
        return node.split_terms(values[node.name], *self.get_operand_arrays(node, values))

    @staticmethod
    def get_operand_arrays(node: Node, values: Mapping[str, Array]) -> tuple[Array | None, ...]:
        """Return the arrays of a node's operands; a constant takes the leaves' dtype."""
        if len(node.source_names) == len(node.operands):
            return tuple(map(values.__getitem__, node.source_names))
        return tuple(
            [
                values[operand]
                if isinstance(operand, str)
                else None
                if operand is None
                else _make_constant_array(operand, slot, values)
                for operand, slot in zip(node.operands, node.operand_slots, strict=True)
            ]
        )

    def _evaluate_nodes(self, nodes: Iterable[Node], values: NamedArrays, observer: NodeObserver | None) -> None:
        for node in iterate_interruptibly(nodes):
            inputs = self.get_operand_arrays(node, values)
            values[node.name] = node.forward(*inputs) if observer is None else observer.forward(node, inputs)


def _accumulate_gradients(
    gradients: NamedArrays, node: Node, results: Gradients, observer: NodeObserver | None
) -> None:
    for operand, result in zip(node.operands, results, strict=True):
        if not isinstance(operand, str) or result is None:
            continue
        if operand not in gradients:
            gradients[operand] = result
            continue
        total = gradients[operand] + result
        gradients[operand] = total if observer is None else observer.operation(total)


def _make_constant_array(operand: float | None, slot: Slot, values: Mapping[str, Array]) -> Array | None:
    if operand is None:
        return None
    if is_index_constant(operand, slot):
        return np.full((1,), operand, dtype=np.int64)
    floats = next((array.dtype for array in values.values() if array.dtype.kind == "f"), np.dtype(np.float64))
    return np.full((1,), operand, dtype=floats)


def is_index_constant(operand: Operand, slot: Slot) -> bool:
    """Return whether a constant is an index or a label, an integer in such a slot."""
    return isinstance(operand, int) and "index" in slot.kinds


def _make_numeric_array(operand: Operand) -> Array | None:
    return np.array(operand) if isinstance(operand, int | float) else None


def _check_names(nodes: Sequence[Node], leaves: Mapping[str, Shape]) -> None:
    known = set(leaves) | {node.name for node in nodes}
    seen_names: set[str] = set()
    errors: list[ModelError] = []
    for position, node in enumerate(nodes):
        if node.name in leaves:
            text = f"a node may not take the name of a tensor or weight: {quote_name(node.name)}"
            errors.append(ModelError(text, position, node.name))
        if node.name in seen_names:
            errors.append(ModelError(f"two nodes are named {quote_name(node.name)}", position))
        seen_names.add(node.name)
        errors.extend(
            ModelError(
                f"node {quote_name(node.name)} reads {quote_name(source)}, which is no tensor, weight or node here",
                position,
                source,
            )
            for source in dict.fromkeys(node.source_names)
            if source not in known
        )
    if errors:
        raise InvalidModelError(errors)


def _order_nodes(nodes: Sequence[Node]) -> list[Node]:
    by_name = {node.name: node for node in nodes}
    sorter = TopologicalSorter({node.name: [s for s in node.source_names if s in by_name] for node in nodes})
    try:
        return [by_name[name] for name in sorter.static_order()]
    except CycleError as error:
        cycle: list[str] = error.args[1]
        position = next(i for i, node in enumerate(nodes) if node.name in cycle)
        raise InvalidModelError(
            [ModelError(f"the nodes form a cycle: {_join_names_as_chain(cycle[::-1])}", position)]
        ) from None


def _join_names_as_chain(names: list[str]) -> str:
    """Write names as a chain; leave the middle of a long one out."""
    quoted_names = [quote_name(name)[1:-1] for name in names]
    return " -> ".join(quoted_names if len(quoted_names) <= 10 else [*quoted_names[:5], "...", *quoted_names[-4:]])


def _check_reachability(nodes: Sequence[Node], leaves: Mapping[str, Shape]) -> None:
    by_name = {node.name: node for node in nodes}
    reached_names: set[str] = set()
    pending = [nodes[-1].name]
    while pending:
        name = pending.pop()
        if name not in reached_names:
            reached_names.add(name)
            pending.extend(by_name[name].source_names if name in by_name else ())
    loss = nodes[-1].name
    errors = [
        ModelError(f"node {quote_name(node.name)} does not reach the loss {quote_name(loss)}", position)
        for position, node in enumerate(nodes)
        if node.name not in reached_names
    ]
    errors += [
        ModelError(
            f"{quote_name(leaf)} does not reach the loss {quote_name(loss)}: no node on the way reads it", leaf=leaf
        )
        for leaf in leaves
        if leaf not in reached_names
    ]
    if errors:
        raise InvalidModelError(errors)


_KIND_DESCRIPTIONS = {"float": "floats", "index": "integers", "bool": "truths (datatype BOOL)"}


def _check_operand_kinds(nodes: Sequence[Node], leaves: Mapping[str, Shape], kinds: Mapping[str, str]) -> None:
    errors: list[ModelError] = []
    for position, node in enumerate(nodes):
        for operand, slot in zip(node.operands, node.operand_slots, strict=True):
            kind = _find_operand_kind(operand, slot, kinds)
            if operand is None or kind in slot.kinds:
                continue
            expected_text = " or ".join(_KIND_DESCRIPTIONS[kind] for kind in slot.kinds)
            message = (
                f"node {quote_name(node.name)} ({node.op.name}) takes {expected_text} as {slot.name}; "
                f"{quote_name(operand)} is of {_KIND_DESCRIPTIONS[kind]}"
            )
            leaf = operand if isinstance(operand, str) and operand in leaves else None
            errors.append(ModelError(message, position, leaf))
    if errors:
        raise InvalidModelError(errors)


def _find_operand_kind(operand: Operand, slot: Slot, kinds: Mapping[str, str]) -> str:
    """Return the kind of an operand; an integer constant takes that of its slot."""
    if is_index_constant(operand, slot):
        return "index"
    return kinds.get(operand, "float") if isinstance(operand, str) else "float"


def _compute_node_shapes(
    order: Sequence[Node], listed_nodes: Sequence[Node], leaves: Mapping[str, Shape]
) -> dict[str, Shape]:
    """Compute the shape of every node; skip nodes behind an invalid one."""
    position = {node.name: index for index, node in enumerate(listed_nodes)}
    shapes: dict[str, Shape] = dict(leaves)
    errors: list[ModelError] = []
    for node in iterate_interruptibly(order):
        if any(source not in shapes for source in node.source_names):
            continue
        operand_shapes = [_find_operand_shape(operand, shapes) for operand in node.operands]
        try:
            shapes[node.name] = node.op.infer_output_shape(*operand_shapes)
        except ShapeError as error:
            errors.append(ModelError(_describe_shape_error(node, operand_shapes, error), position[node.name]))
    if errors:
        raise InvalidModelError(errors)
    return {node.name: shapes[node.name] for node in order}


def quote_node_name(name: str) -> str:
    """Quote the name of a node, for a message."""
    return f"node {quote_name(name)}"


def _find_operand_shape(operand: Operand, shapes: Mapping[str, Shape]) -> Shape | None:
    return shapes[operand] if isinstance(operand, str) else None if operand is None else ()


_MAX_OPERANDS_LISTED = 8
"""Operands of a node that a message lists."""


def _describe_shape_error(node: Node, operand_shapes: Sequence[Shape | None], error: ShapeError) -> str:
    shape_texts = [
        f"{slot.name} {quote_name(operand)} of shape {list(shape)}"
        for slot, operand, shape in zip(node.operand_slots, node.operands, operand_shapes, strict=True)
        if shape is not None
    ]
    omission_note = (
        f" and {len(shape_texts) - _MAX_OPERANDS_LISTED} more" if len(shape_texts) > _MAX_OPERANDS_LISTED else ""
    )
    operands_text = ", ".join(shape_texts[:_MAX_OPERANDS_LISTED])
    return f"node {quote_name(node.name)} ({node.op.name}) takes {error}; got {operands_text}{omission_note}"
