"""The graph of a model: order, shapes, forward pass and reverse sweep.

The reverse sweep is reverse accumulation (Griewank and Walther, Evaluating Derivatives, 2008, section 3.2): nodes in
reverse order, each handing the gradient of its output back to its inputs, where contributions add up.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import partial
from graphlib import CycleError, TopologicalSorter
from typing import Any, Protocol

import numpy as np

from service.numerics.core.batching import Array, Shape, count_elements
from service.numerics.core.cached_attribute import cached_attribute
from service.numerics.core.interrupts import iterate_interruptibly
from service.numerics.core.quoting import quote_name
from service.numerics.ops.composite import CompositeOp, SeveralOutputsOp, list_steps, name_output
from service.numerics.ops.discrete import DiscreteOp
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
        if self.op.output_kind == "float" and has_varying_choices(inputs):
            return _evaluate_each_tile(self, inputs)
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


def has_varying_choices(inputs: Sequence[Array | None]) -> bool:
    """Return whether any integers or truths differ from tile to tile, as those of nodes may."""
    return any(array is not None and array.dtype.kind in "ib" and len(array) > 1 for array in inputs)


def _evaluate_each_tile(node: Node, inputs: tuple[Array | None, ...]) -> Array:
    """Evaluate a node whose integers and truths differ from tile to tile, one tile after another."""
    tiles = max(len(array) for array in inputs if array is not None)
    return np.concatenate(
        [
            node.forward(*(array if array is None or len(array) == 1 else array[tile : tile + 1] for array in inputs))
            for tile in range(tiles)
        ]
    )


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
        nodes = [_complete_operands(node) for node in nodes]
        self.leaf_kinds = dict(kinds or {})
        """`index` or `bool` of the leaves, nodes and outputs that are not of floats."""
        self.empty_shapes: dict[str, Shape] = {}
        """Shapes of the leaves and nodes without elements that were removed: see `empty_tensors.py`."""
        self.empty_kinds: dict[str, str] = {}
        owners = find_output_owners(nodes, leaves)
        _check_names(nodes, leaves, owners)
        self.loss_name = nodes[-1].name
        self.listed_nodes = tuple(nodes)
        self.ordered_nodes = _order_nodes(nodes, owners)
        _check_reachability(nodes, leaves, owners)
        self.output_owners: dict[str, str] = owners
        """Name of the node that each output in use is of, by name of the output, `top.values`."""
        self.shapes: dict[str, Shape] = {**leaves, **_compute_node_shapes(self.ordered_nodes, nodes, leaves, owners)}
        self.leaf_kinds.update(_find_node_kinds(nodes, owners))
        _check_operand_kinds(nodes, leaves, self.leaf_kinds)
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
            shapes = self.get_operand_shapes(node)
            form = node.op.select_form(*shapes)
            if not isinstance(form, CompositeOp):
                is_itself = form is node.op
                expanded_nodes.append(
                    node if is_itself else replace(node, op=form, operands=node.operands[: len(form.slots)])
                )
                continue
            op = form.resolve_shape_defaults(*shapes)
            assert isinstance(op, CompositeOp)
            outputs = self._list_used_outputs(node)
            make_name = partial(self._make_step_name, node.name, f"{node.name}.step" if outputs else node.name)
            steps, step_shapes = list_steps(op, node.operands, self.shapes, node.name, make_name, outputs)
            self.shapes.update(step_shapes)
            self.leaf_kinds.update({step.name: step.op.output_kind for step in steps if step.op.output_kind != "float"})
            self.composite_names.update(dict.fromkeys(step_shapes, node.name))
            expanded_nodes.extend(Node(*step) for step in steps)
        return expanded_nodes

    def name_outputs(self, node: Node, outputs: Any) -> dict[str, Any]:
        """Return the outputs of a listed node by name, given the output, or a tuple of several.

        Those that nothing reads are left out.
        """
        op = node.op
        if not isinstance(op, SeveralOutputsOp) or not op.has_several_outputs:
            return {node.name: outputs}
        names = [name_output(node.name, output) for output in op.list_outputs(*self.get_operand_shapes(node))]
        return {name: output for name, output in zip(names, outputs, strict=True) if name in self.output_owners}

    def _list_used_outputs(self, node: Node) -> list[str]:
        """Return the outputs of a node that others read, none for a node with one output."""
        if not has_several_outputs(node.op):
            return []
        prefix = len(node.name) + 1
        return [name[prefix:] for name, owner in self.output_owners.items() if owner == node.name]

    def _make_step_name(self, node_name: str, prefix: str, number: int) -> str:
        """Return a name for a step that no leaf, no node and no step of another node has."""
        name = f"{prefix}.{number}"
        while name in self.shapes and self.composite_names.get(name) != node_name:
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
        return [name for name in self.shapes if self.is_public(name)]

    def is_public(self, name: str) -> bool:
        """Return whether a name is that of a leaf, a node or an output, and not of a step."""
        return name in self.output_owners or self.composite_names.get(name, name) == name

    @property
    def result_names(self) -> list[str]:
        """Names of all nodes in the order of the request, with the outputs in use in place of nodes with several."""
        names: list[str] = []
        for node in self.listed_nodes:
            names.extend([name_output(node.name, output) for output in self._list_used_outputs(node)] or [node.name])
        return names

    @cached_attribute
    def names_with_gradient(self) -> frozenset[str]:
        """Names on which the loss depends by floats alone: no gradient flows through integers and truths."""
        reached_names = {self.loss_name}
        for node in reversed(self.nodes):
            if node.name in reached_names and node.op.output_kind == "float":
                reached_names.update(name for name in node.source_names if name not in self.leaf_kinds)
        return frozenset(reached_names)

    @cached_attribute
    def has_discrete_nodes(self) -> bool:
        """Return whether some node is of integers or truths."""
        return any(node.op.output_kind != "float" for node in self.nodes)

    def evaluate_discrete_nodes(self, leaves: Mapping[str, Array]) -> NamedArrays:
        """Return the integers and truths that nodes compute, (1, ...), given every leaf in float64."""
        wanted_names = {node.name for node in self.nodes if node.op.output_kind != "float"}
        needed_names = set(wanted_names)
        for node in reversed(self.nodes):
            if node.name in needed_names:
                needed_names.update(node.source_names)
        values = dict(leaves)
        with np.errstate(all="ignore"):
            self._evaluate_nodes([node for node in self.nodes if node.name in needed_names], values, None)
        return {name: values[name] for name in wanted_names}

    def get_listed_name(self, name: str) -> str:
        """Return the name of the listed node that a step or an output belongs to; any other name as it is."""
        return self.composite_names.get(name, name)

    def find_position(self, name: str) -> int:
        """Return the position of a node, or of the composite node of a step, in the request."""
        return self._listed_positions[self.get_listed_name(name)]

    def _get_listed_node(self, name: str) -> Node:
        return self.listed_nodes[self.find_position(name)]

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
        if node.name in self.output_owners and node.op.name == self._get_listed_node(node.name).op.name:
            return f"{format_name(node.name)} ({node.op.name})"
        listed_node = self._get_listed_node(node.name)
        return f"the {node.op.name} in {format_name(listed_node.name)} ({listed_node.op.name})"

    def describe_name(self, name: str, format_name: Callable[[str], str] = quote_name) -> str:
        """Describe a leaf or a node by name, and a step before the last of a composite node as a node."""
        if self.is_public(name):
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
            Every tensor and weight, without a tile axis. The integers and truths of nodes may be with them: without,
            the largest number that each may be is looked at.

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
            largest = self._find_largest_positions(node, leaves)
            known = largest or [
                leaves.get(operand) if isinstance(operand, str) else _make_numeric_array(operand)
                for operand in node.operands
            ]
            try:
                node.op.check_values(tuple(shape or () for shape in shapes), *known)
            except ShapeError as error:
                leaf = next((name for name in node.source_names if self.leaf_kinds.get(name) == "index"), None)
                position = self.find_position(node.name)
                reason = self._describe_largest_positions(node, known, str(error)) if largest else str(error)
                errors.append(ModelError(f"{self.describe_node(node, quote_node_name)} takes {reason}", position, leaf))
        if errors:
            raise InvalidModelError(errors)

    def _find_largest_positions(self, node: Node, leaves: Mapping[str, Array]) -> list[Array | None]:
        """Return an array of the largest number for each operand of integers that a node computes, None for others.

        The list is empty if the node reads none, or all values are known.
        """
        largest = [
            None if not isinstance(operand, str) or operand in leaves else self._find_largest_position(operand)
            for operand in node.operands
        ]
        return largest if any(array is not None for array in largest) else []

    def _find_largest_position(self, name: str) -> Array | None:
        """Return the largest number of a node of integers, as an array of its rank; None for any other name."""
        node = self._nodes_by_name.get(name)
        if node is None or not isinstance(node.op, DiscreteOp) or node.op.output_kind != "index":
            return None
        return np.full((1,) * len(self.shapes[name]), node.op.count_positions(*self.get_operand_shapes(node)) - 1)

    def _describe_largest_positions(self, node: Node, largest: Sequence[Array | None], reason: str) -> str:
        ranges = [
            f"{quote_name(operand)} may be 0 to {int(array.max())}"
            for operand, array in zip(node.operands, largest, strict=True)
            if array is not None
        ]
        return f"{reason.split(';')[0]}; {', '.join(ranges)}"

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
        gradients |= self._make_discrete_gradients(loss)
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

    def _make_discrete_gradients(self, loss: Array) -> NamedArrays:
        """Return the gradients by nodes of integers and truths: 0, so that every node has one."""
        return {
            node.name: np.zeros((1, *self.shapes[node.name]), loss.dtype)
            for node in self.nodes
            if node.op.output_kind != "float"
        }

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
        gradients |= self._make_discrete_gradients(loss)
        for node in iterate_interruptibly(reversed(self.nodes)):
            wanted = [operand in names for operand in node.operands]
            if any(wanted):
                inputs = self.get_operand_arrays(node, values)
                results = node.op.backward_for(wanted, gradients[node.name], values[node.name], *inputs)
                _accumulate_gradients(gradients, node, results, None)
        return gradients

    def count_node_elements(self) -> int:
        """Count the elements of all nodes and steps, without a look at their ops."""
        return self._node_element_count

    @cached_attribute
    def _node_element_count(self) -> int:
        return sum(count_elements(self.shapes[node.name]) for node in iterate_interruptibly(self.nodes))

    def estimate_cost(self, nodes: Iterable[Node] | None = None) -> ComputeCost:
        """Return the cost of evaluating the nodes, all of them by default.

        Its elements are those of all arrays.
        """
        return self._total_cost if nodes is None else self._sum_costs(nodes)

    @cached_attribute
    def _total_cost(self) -> ComputeCost:
        return self._sum_costs(self.nodes)

    def _sum_costs(self, nodes: Iterable[Node]) -> ComputeCost:
        costs = [self._get_cost(node) for node in iterate_interruptibly(nodes)]
        return ComputeCost(
            sum(cost.work for cost in costs),
            sum(cost.largest_array for cost in costs),
            sum(cost.calls for cost in costs),
        )

    def _get_cost(self, node: Node) -> ComputeCost:
        """Return the cost of a node, which each name upstream of it needs for its differences."""
        # A copy of the graph with other nodes has the same dictionary.
        known_node, cost = self._costs.get(node.name, (None, None))
        if cost is None or known_node is not node:
            cost = node.op.estimate_cost(self.shapes[node.name], *self.get_operand_shapes(node))
            self._costs[node.name] = node, cost
        return cost

    @cached_attribute
    def _costs(self) -> dict[str, tuple[Node, ComputeCost]]:
        return {}

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


def has_several_outputs(op: Op) -> bool:
    """Return whether the outputs of an op are used by name, `top.values`."""
    return isinstance(op, SeveralOutputsOp) and op.has_several_outputs


def find_output_owners(nodes: Sequence[Node], leaves: Mapping[str, Shape]) -> dict[str, str]:
    """Return the node that each name of an output is of, by name of the output, in order of use.

    A leaf or a node of the exact name comes first. The names of a node's outputs follow from shapes, later.
    """
    by_name = {node.name: node for node in nodes}
    owners: dict[str, str] = {}
    for node in nodes:
        for source in node.source_names:
            owner, point, _ = source.rpartition(".")
            if point and source not in leaves and source not in by_name and owner in by_name:
                owners[source] = owner
    return {source: owner for source, owner in owners.items() if has_several_outputs(by_name[owner].op)}


def _check_names(nodes: Sequence[Node], leaves: Mapping[str, Shape], owners: Mapping[str, str]) -> None:
    known = {*leaves, *owners, *(node.name for node in nodes)}
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
                f"node {quote_name(node.name)} reads {quote_name(source)}, which is no tensor, weight or node here"
                f"{_describe_single_output(source, nodes)}",
                position,
                source,
            )
            for source in dict.fromkeys(node.source_names)
            if source not in known
        )
    if errors:
        raise InvalidModelError(errors)


def _describe_single_output(source: str, nodes: Sequence[Node]) -> str:
    """Describe the node before the last point of an unknown name, if it has one output."""
    owner = source.rpartition(".")[0]
    node = next((node for node in nodes if node.name == owner), None)
    return "" if node is None else f"; {quote_name(owner)} ({node.op.name}) has one output: read it as {owner!r}"


def _order_nodes(nodes: Sequence[Node], owners: Mapping[str, str]) -> list[Node]:
    by_name = {node.name: node for node in nodes}
    sources = {node.name: [owners.get(source, source) for source in node.source_names] for node in nodes}
    sorter = TopologicalSorter({name: [s for s in names if s in by_name] for name, names in sources.items()})
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


def _check_reachability(nodes: Sequence[Node], leaves: Mapping[str, Shape], owners: Mapping[str, str]) -> None:
    by_name = {node.name: node for node in nodes}
    reached_names: set[str] = set()
    pending = [nodes[-1].name]
    while pending:
        name = pending.pop()
        if name not in reached_names:
            reached_names.add(name)
            sources = by_name[name].source_names if name in by_name else ()
            pending.extend(owners.get(source, source) for source in sources)
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


def _complete_operands(node: Node) -> Node:
    """Return a node with None for the optional operands at its end that it leaves out."""
    missing = node.op.slots[len(node.operands) :]
    if not missing or not all(slot.optional for slot in missing):
        return node
    return replace(node, operands=(*node.operands, *(None for _ in missing)))


_KIND_DESCRIPTIONS = {"float": "floats", "index": "integers", "bool": "truths (datatype BOOL)"}


def _check_operand_kinds(nodes: Sequence[Node], leaves: Mapping[str, Shape], kinds: Mapping[str, str]) -> None:
    errors: list[ModelError] = []
    loss = nodes[-1]
    if loss.name in kinds:
        message = f"the last node, {quote_name(loss.name)}, is the loss and must be of floats; {loss.op.name} returns "
        errors.append(ModelError(f"{message}{_KIND_DESCRIPTIONS[kinds[loss.name]]}", len(nodes) - 1))
    for position, node in enumerate(nodes):
        for operand, slot in zip(node.operands, node.operand_slots, strict=True):
            kind = _find_operand_kind(operand, slot, kinds)
            if operand is None or kind in slot.kinds:
                continue
            expected_text = " or ".join(_KIND_DESCRIPTIONS[kind] for kind in slot.kinds)
            message = (
                f"node {quote_name(node.name)} ({node.op.name}) takes {expected_text} as {slot.name}; "
                f"{quote_name(operand)} is of {_KIND_DESCRIPTIONS[kind]}{_suggest_conversion(operand, kind, slot)}"
            )
            leaf = operand if isinstance(operand, str) and operand in leaves else None
            errors.append(ModelError(message, position, leaf))
    if errors:
        raise InvalidModelError(errors)


def _suggest_conversion(operand: Operand, kind: str, slot: Slot) -> str:
    """Return how an operand of another kind becomes one that a slot takes."""
    if kind == "bool" and "float" in slot.kinds:
        return "; where(mask, 1.0, 0.0) is a mask as floats, and where(mask, a, b) chooses by it"
    if kind == "float" and "bool" in slot.kinds:
        return "; compare it, as ne(x, 0) does"
    if kind == "bool" and "index" in slot.kinds:
        return ""
    if kind == "index" and slot.kinds == ("float",):
        return "; integers select elements, in gather, index_select and embedding, and have no gradient"
    return ""


def _find_node_kinds(nodes: Sequence[Node], owners: Mapping[str, str]) -> dict[str, str]:
    """Return the kinds of nodes and outputs that are not of floats."""
    by_name = {node.name: node.op for node in nodes}
    kinds = {name: op.output_kind for name, op in by_name.items()}
    for name, owner in owners.items():
        op = by_name[owner]
        assert isinstance(op, SeveralOutputsOp)
        kinds[name] = op.output_kinds.get(name[len(owner) + 1 :], "float")
    return {name: kind for name, kind in kinds.items() if kind != "float"}


def _find_operand_kind(operand: Operand, slot: Slot, kinds: Mapping[str, str]) -> str:
    """Return the kind of an operand; an integer constant takes that of its slot."""
    if is_index_constant(operand, slot):
        return "index"
    return kinds.get(operand, "float") if isinstance(operand, str) else "float"


def _compute_node_shapes(
    order: Sequence[Node], listed_nodes: Sequence[Node], leaves: Mapping[str, Shape], owners: Mapping[str, str]
) -> dict[str, Shape]:
    """Compute the shape of every node and output; skip nodes behind an invalid one."""
    position = {node.name: index for index, node in enumerate(listed_nodes)}
    shapes: dict[str, Shape] = dict(leaves)
    errors: list[ModelError] = []
    outputs_by_node: dict[str, tuple[str, ...]] = {}
    for node in iterate_interruptibly(order):
        if output_errors := [
            ModelError(text, position[node.name], source)
            for source in dict.fromkeys(node.source_names)
            if (text := _describe_output_error(node, source, owners, outputs_by_node))
        ]:
            errors += output_errors
            continue
        if any(source not in shapes for source in node.source_names):
            continue
        operand_shapes = [_find_operand_shape(operand, shapes) for operand in node.operands]
        try:
            if isinstance(node.op, SeveralOutputsOp) and node.op.has_several_outputs:
                by_output = node.op.infer_output_shapes(*operand_shapes)
                outputs_by_node[node.name] = tuple(by_output)
                shapes |= {name_output(node.name, output): shape for output, shape in by_output.items()}
            else:
                shapes[node.name] = node.op.infer_output_shape(*operand_shapes)
        except ShapeError as error:
            errors.append(ModelError(_describe_shape_error(node, operand_shapes, error), position[node.name]))
    last = listed_nodes[-1]
    if last.name in outputs_by_node:
        names = ", ".join(name_output(last.name, output) for output in outputs_by_node[last.name][:_MAX_OUTPUTS_LISTED])
        detail = f"the last node, {quote_name(last.name)}, is the loss; {last.op.name} has several outputs: {names}"
        errors.append(ModelError(detail, len(listed_nodes) - 1))
    clashes = {name_output(name, output): name for name, outputs in outputs_by_node.items() for output in outputs}
    errors += [
        ModelError(
            f"{quote_name(name)} is a name of its own and also that of an output of node {quote_name(clashes[name])}; "
            "give one of them another name",
            position.get(name, position[clashes[name]]),
            name if name in leaves else None,
        )
        for name in (*leaves, *position)
        if name in clashes
    ]
    if errors:
        raise InvalidModelError(errors)
    return {
        name: shapes[name]
        for node in order
        for name in (node.name, *_list_outputs_of(node.name, owners))
        if name in shapes
    }


_MAX_OUTPUTS_LISTED = 8
"""Outputs of a node that a message lists."""


def _list_outputs_of(node_name: str, owners: Mapping[str, str]) -> list[str]:
    return [name for name, owner in owners.items() if owner == node_name]


def _describe_output_error(
    node: Node, source: str, owners: Mapping[str, str], outputs_by_node: Mapping[str, Sequence[str]]
) -> str:
    """Describe an operand that names a node with several outputs, or an output that it does not have; else empty."""
    owner = owners.get(source, source)
    if owner not in outputs_by_node or (source != owner and source[len(owner) + 1 :] in outputs_by_node[owner]):
        return ""
    outputs = outputs_by_node[owner]
    listed = ", ".join(name_output(owner, output) for output in outputs[:_MAX_OUTPUTS_LISTED])
    names = quote_name(listed)[1:-1] + (", ..." if len(outputs) > _MAX_OUTPUTS_LISTED else "")
    reason = "which has several outputs; name one" if source == owner else "which is no output"
    return f"node {quote_name(node.name)} reads {quote_name(source)}, {reason}: {names}"


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
