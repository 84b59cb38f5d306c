"""The graph of a model: its order, its shapes, its forward pass and its reverse sweep.

The reverse sweep is reverse accumulation (Griewank and Walther, Evaluating Derivatives, 2008, section 3.2): nodes in
reverse order, each handing the gradient of its output back to its inputs, where contributions add up.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from graphlib import CycleError, TopologicalSorter
from typing import Protocol

import numpy as np

from service.numerics.kept import kept
from service.numerics.ops.errors import Errors
from service.numerics.ops.op import Backward, Cost, Gradients, Op, ShapeError, Slot
from service.numerics.pausing import pausing
from service.numerics.quoting import quote
from service.numerics.tiles import Array, Shape, size

Operand = str | float | None
Values = dict[str, Array]


@dataclass(frozen=True)
class Node:
    """One application of an op.

    Attributes
    ----------
    name, op
        Of the node.
    operands
        In slot order: a name, a constant, or None where one is left out; of a slot that takes several, each.
    branch
        The pieces to which a piecewise op is held; None where it is not.
    """

    name: str
    op: Op
    operands: tuple[Operand, ...]
    branch: Array | None = field(default=None, compare=False)

    @kept
    def slots(self) -> tuple[Slot, ...]:
        """Slot of each operand."""
        slots = self.op.slots
        return slots + slots[-1:] * (len(self.operands) - len(slots))

    def forward(self, *inputs: Array | None) -> Array:
        """Evaluate."""
        return self.op.forward(*inputs) if self.branch is None else self.op.along(self.branch, *inputs)

    def terms(self, output: Array | None, *inputs: Array | None) -> Array:
        """Terms of the output."""
        return (
            self.op.terms(output, *inputs) if self.branch is None else self.op.terms_along(self.branch, output, *inputs)
        )

    def forward_with_errors(self, errors: Errors, *inputs: Array | None) -> Array:
        """Evaluate, with the errors of an arithmetic."""
        if self.branch is None:
            return self.op.forward_with_errors(errors, *inputs)
        output = self.forward(*inputs)
        return errors.perturbed(output, self.op.rounding_along(self.branch, output, *inputs))

    def rounded(self, nearest: Callable[[float], float]) -> "Node":
        """Round the constants, and the numbers of the op that stand beside elements."""
        return replace(self, op=self.op.rounded(nearest), operands=self._constants(nearest))

    def with_numbers(self, change: Callable[[float], float]) -> "Node":
        """Change the constants, and every attribute of the op that is a float."""
        return replace(self, op=self.op.with_numbers(change), operands=self._constants(change))

    def _constants(self, change: Callable[[float], float]) -> tuple[Operand, ...]:
        """Operands, with the constants changed that are neither indices nor labels."""
        return tuple(
            change(each) if isinstance(each, int | float) and not is_index(each, slot) else each
            for each, slot in zip(self.operands, self.slots, strict=True)
        )

    def held(self, inputs: tuple[Array | None, ...]) -> "Node":
        """Hold a piecewise op to the pieces that it is on."""
        branch = self.op.branch(*inputs)
        return self if branch is None else replace(self, branch=branch)

    @kept
    def sources(self) -> tuple[str, ...]:
        """The names among the operands."""
        return tuple(operand for operand in self.operands if isinstance(operand, str))


class ModelError(ValueError):
    """A model that cannot be run: the position of the node at fault, and the leaf that is, or is missing."""

    def __init__(self, message: str, node: int | None = None, leaf: str | None = None) -> None:
        super().__init__(message)
        self.node = node
        self.leaf = leaf


class InvalidModelError(ValueError):
    """All that is wrong with a model."""

    def __init__(self, errors: Sequence[ModelError]) -> None:
        super().__init__("; ".join(map(str, errors)))
        self.errors = tuple(errors)


class Observer(Protocol):
    """Follows a pass and may change what it computed: the rounding model adds its errors here."""

    def forward(self, node: Node, inputs: tuple[Array | None, ...]) -> Array:
        """Evaluate a node."""
        ...

    def backward(
        self, node: Node, own: Backward, gradient: Array, output: Array, inputs: tuple[Array | None, ...]
    ) -> Gradients:
        """Find the gradients that a node hands back to its inputs; `own` is its backward pass."""
        ...

    def terms(self, node: Node, terms: Array, inputs: tuple[Array | None, ...]) -> Array:
        """See, and return, the terms of a node."""
        ...

    def operation(self, result: Array) -> Array:
        """See, and return, the result of an operation beside the ops: a sum of two contributions to one gradient."""
        ...


class Graph:
    """Nodes in an order in which each comes behind what it reads, with the shape of everything.

    Parameters
    ----------
    nodes
        In any order but for the loss, which is last.
    leaves
        Shape of every tensor and weight, by name.
    kinds
        `index` or `bool` of the leaves that are not of floats.

    Raises
    ------
    InvalidModelError
        Unknown or repeated names, a cycle, something that does not reach the loss, shapes that do not fit, a loss
        of more than one element.
    """

    def __init__(
        self, nodes: Sequence[Node], leaves: Mapping[str, Shape], kinds: Mapping[str, str] | None = None
    ) -> None:
        self.kinds = dict(kinds or {})
        _check_names(nodes, leaves)
        self.loss = nodes[-1].name
        self.listed = tuple(nodes)
        self.nodes = _ordered(nodes)
        _check_reach(nodes, leaves)
        _check_kinds(nodes, leaves, self.kinds)
        self.shapes: dict[str, Shape] = {**leaves, **_node_shapes(self.nodes, nodes, leaves)}
        if size(self.shapes[self.loss]) != 1:
            raise InvalidModelError(
                [
                    ModelError(
                        f"the last node, {quote(self.loss)}, is the loss and must have one element; its shape is "
                        f"{list(self.shapes[self.loss])}",
                        node=len(nodes) - 1,
                    )
                ]
            )

    def held(self, leaves: Mapping[str, Array], observer: Observer | None = None) -> tuple["Graph", Values]:
        """Hold every piecewise op to the pieces that it is on in the first tile: smooth from there.

        Return the graph, and what its `forward` returns.
        """
        values = dict(leaves)
        nodes: list[Node] = []
        for node in self.nodes:
            first = tuple(None if each is None else each[:1] for each in self.inputs(node, values))
            nodes.append(node.held(first))
            self._run(nodes[-1:], values, observer)
        held = copy(self)
        held.nodes = nodes
        return held, values

    def spelled_out(self) -> "Graph":
        """Return the graph with the attributes of its ops spelled out that follow from shapes."""
        nodes = {
            node.name: replace(
                node, op=node.op.spelled_out(*(_operand_shape(each, self.shapes) for each in node.operands))
            )
            for node in self.listed
        }
        spelled = copy(self)
        spelled.listed = tuple(nodes.values())
        spelled.nodes = [nodes[node.name] for node in self.nodes]
        return spelled

    def rounded(self, nearest: Callable[[float], float]) -> "Graph":
        """Return the graph with its constants rounded as its leaves are; as listed it stays."""
        rounded = copy(self)
        rounded.nodes = [node.rounded(nearest) for node in self.nodes]
        return rounded

    def with_numbers(self, change: Callable[[float], float]) -> "Graph":
        """Return the graph with its constants and the floats among its attributes changed; as listed it stays."""
        changed = copy(self)
        changed.nodes = [node.with_numbers(change) for node in self.nodes]
        return changed

    def check_values(self, leaves: Mapping[str, Array]) -> None:
        """Refuse values that an op does not take, such as an index out of range.

        Parameters
        ----------
        leaves
            Every tensor and weight, without a tile axis.

        Raises
        ------
        InvalidModelError
            With the leaf at fault, where there is one of indices.
        """
        errors: list[ModelError] = []
        for position, node in enumerate(pausing(self.listed)):
            shapes = [_operand_shape(each, self.shapes) for each in node.operands]
            known = [leaves.get(each) if isinstance(each, str) else _number(each) for each in node.operands]
            try:
                node.op.check_values(tuple(shape or () for shape in shapes), *known)
            except ShapeError as error:
                leaf = next((each for each in node.sources if self.kinds.get(each) == "index"), None)
                errors.append(ModelError(f"node {quote(node.name)} ({node.op.name}) takes {error}", position, leaf))
        if errors:
            raise InvalidModelError(errors)

    def forward(self, leaves: Mapping[str, Array], observer: Observer | None = None) -> Values:
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
        self._run(self.nodes, values, observer)
        return values

    def resume(
        self, base: Mapping[str, Array], replaced: Mapping[str, Array], observer: Observer | None = None
    ) -> Values:
        """Evaluate again only what lies downstream of the names in `replaced`, which take the arrays given."""
        values = {**base, **replaced}
        self._run([node for node in self.downstream(replaced) if node.name not in replaced], values, observer)
        return values

    def downstream(self, names: Iterable[str]) -> list[Node]:
        """The nodes that read any of the names, directly or through others, in order."""
        reached = set(names)
        nodes: list[Node] = []
        for node in self.nodes:
            if not reached.isdisjoint(node.sources):
                reached.add(node.name)
                nodes.append(node)
        return nodes

    def reverse(
        self,
        values: Mapping[str, Array],
        override: Mapping[str, Backward] | None = None,
        observer: Observer | None = None,
        start: Array | None = None,
    ) -> Values:
        """Gradient of the loss with respect to every leaf and node.

        Parameters
        ----------
        values
            What `forward` returned.
        override
            A backward pass to take instead of the op's own, by node: `backward(gradient, output, *inputs)`.
        observer
            Sees, and may change, what each node hands back.
        start
            Gradient of the loss itself, (K, ...); 1 by default.
        """
        override = override or {}
        loss = values[self.loss]
        gradients: Values = {self.loss: np.ones((1, *loss.shape[1:]), dtype=loss.dtype) if start is None else start}
        for node in pausing(reversed(self.nodes)):
            gradient, output, inputs = gradients[node.name], values[node.name], self.inputs(node, values)
            own = override.get(node.name, node.op.backward)
            results = (
                own(gradient, output, *inputs)
                if observer is None
                else observer.backward(node, own, gradient, output, inputs)
            )
            _accumulate(gradients, node, results, observer)
        return gradients

    def cost(self, nodes: Iterable[Node] | None = None) -> Cost:
        """What evaluating the nodes takes, all of them by default; the elements are those of all arrays."""
        return self._cost if nodes is None else self._cost_of(nodes)

    @kept
    def _cost(self) -> Cost:
        return self._cost_of(self.nodes)

    def _cost_of(self, nodes: Iterable[Node]) -> Cost:
        costs = [node.op.cost(self.shapes[node.name], *self._operand_shapes(node)) for node in pausing(nodes)]
        return Cost(
            sum(each.work for each in costs), sum(each.elements for each in costs), sum(each.calls for each in costs)
        )

    def spreading(self) -> list[int]:
        """Elements through which spreading one label through each node goes, at most."""
        return [node.op.spreading(self.shapes[node.name], *self._operand_shapes(node)) for node in self.nodes]

    def longest_call(self) -> tuple[int, Node]:
        """Multiply-adds of the longest call that nothing can interrupt, and the node that makes it."""
        calls = [node.op.longest_call(self.shapes[node.name], *self._operand_shapes(node)) for node in self.nodes]
        longest = max(range(len(calls)), key=calls.__getitem__)
        return calls[longest], self.nodes[longest]

    def _operand_shapes(self, node: Node) -> list[Shape | None]:
        return [_operand_shape(each, self.shapes) for each in node.operands]

    def terms(self, values: Mapping[str, Array]) -> Array:
        """Terms of the loss, (K or 1, n), whose sum is the loss."""
        node = self.nodes[-1]
        return node.terms(values[node.name], *self.inputs(node, values))

    @staticmethod
    def inputs(node: Node, values: Mapping[str, Array]) -> tuple[Array | None, ...]:
        """Arrays of a node's operands; a constant takes the dtype of the leaves, or is an index."""
        if len(node.sources) == len(node.operands):
            return tuple(map(values.__getitem__, node.sources))
        return tuple(
            values[operand]
            if isinstance(operand, str)
            else None
            if operand is None
            else _constant(operand, slot, values)
            for operand, slot in zip(node.operands, node.slots, strict=True)
        )

    def _run(self, nodes: Iterable[Node], values: Values, observer: Observer | None) -> None:
        for node in pausing(nodes):
            inputs = self.inputs(node, values)
            values[node.name] = node.forward(*inputs) if observer is None else observer.forward(node, inputs)


def _accumulate(gradients: Values, node: Node, results: Gradients, observer: Observer | None) -> None:
    for operand, result in zip(node.operands, results, strict=True):
        if not isinstance(operand, str) or result is None:
            continue
        if operand not in gradients:
            gradients[operand] = result
            continue
        total = gradients[operand] + result
        gradients[operand] = total if observer is None else observer.operation(total)


def _constant(operand: float | None, slot: Slot, values: Mapping[str, Array]) -> Array | None:
    if operand is None:
        return None
    if is_index(operand, slot):
        return np.full((1,), operand, dtype=np.int64)
    floats = next((each.dtype for each in values.values() if each.dtype.kind == "f"), np.dtype(np.float64))
    return np.full((1,), operand, dtype=floats)


def is_index(operand: Operand, slot: Slot) -> bool:
    """Whether a constant is an index or a label: an integer where such are taken."""
    return isinstance(operand, int) and "index" in slot.kinds


def _number(operand: Operand) -> Array | None:
    return np.array(operand) if isinstance(operand, int | float) else None


def _check_names(nodes: Sequence[Node], leaves: Mapping[str, Shape]) -> None:
    known = set(leaves) | {node.name for node in nodes}
    seen: set[str] = set()
    errors: list[ModelError] = []
    for position, node in enumerate(nodes):
        if node.name in leaves:
            text = f"a node may not take the name of a tensor or weight: {quote(node.name)}"
            errors.append(ModelError(text, position, node.name))
        if node.name in seen:
            errors.append(ModelError(f"two nodes are named {quote(node.name)}", position))
        seen.add(node.name)
        errors.extend(
            ModelError(
                f"node {quote(node.name)} reads {quote(source)}, which is no tensor, weight or node here",
                position,
                source,
            )
            for source in dict.fromkeys(node.sources)
            if source not in known
        )
    if errors:
        raise InvalidModelError(errors)


def _ordered(nodes: Sequence[Node]) -> list[Node]:
    by_name = {node.name: node for node in nodes}
    sorter = TopologicalSorter({node.name: [s for s in node.sources if s in by_name] for node in nodes})
    try:
        return [by_name[name] for name in sorter.static_order()]
    except CycleError as error:
        cycle: list[str] = error.args[1]
        position = next(i for i, node in enumerate(nodes) if node.name in cycle)
        raise InvalidModelError([ModelError(f"the nodes form a cycle: {_chain(cycle[::-1])}", position)]) from None


def _chain(names: list[str]) -> str:
    """Write names as a chain; leave the middle of a long one out."""
    shown = [quote(name)[1:-1] for name in names]
    return " -> ".join(shown if len(shown) <= 10 else [*shown[:5], "...", *shown[-4:]])


def _check_reach(nodes: Sequence[Node], leaves: Mapping[str, Shape]) -> None:
    by_name = {node.name: node for node in nodes}
    reached: set[str] = set()
    pending = [nodes[-1].name]
    while pending:
        name = pending.pop()
        if name not in reached:
            reached.add(name)
            pending.extend(by_name[name].sources if name in by_name else ())
    loss = nodes[-1].name
    errors = [
        ModelError(f"node {quote(node.name)} does not reach the loss {quote(loss)}", position)
        for position, node in enumerate(nodes)
        if node.name not in reached
    ]
    errors += [
        ModelError(f"{quote(leaf)} does not reach the loss {quote(loss)}: no node on the way reads it", leaf=leaf)
        for leaf in leaves
        if leaf not in reached
    ]
    if errors:
        raise InvalidModelError(errors)


_KINDS = {"float": "floats", "index": "integers", "bool": "truths (datatype BOOL)"}


def _check_kinds(nodes: Sequence[Node], leaves: Mapping[str, Shape], kinds: Mapping[str, str]) -> None:
    errors: list[ModelError] = []
    for position, node in enumerate(nodes):
        for operand, slot in zip(node.operands, node.slots, strict=True):
            kind = _kind(operand, slot, kinds)
            if operand is None or kind in slot.kinds:
                continue
            takes = " or ".join(_KINDS[each] for each in slot.kinds)
            message = (
                f"node {quote(node.name)} ({node.op.name}) takes {takes} as {slot.name}; "
                f"{quote(operand)} is of {_KINDS[kind]}"
            )
            leaf = operand if isinstance(operand, str) and operand in leaves else None
            errors.append(ModelError(message, position, leaf))
    if errors:
        raise InvalidModelError(errors)


def _kind(operand: Operand, slot: Slot, kinds: Mapping[str, str]) -> str:
    """Kind of an operand; an integer constant is what the slot wants of numbers."""
    if is_index(operand, slot):
        return "index"
    return kinds.get(operand, "float") if isinstance(operand, str) else "float"


def _node_shapes(order: Sequence[Node], listed: Sequence[Node], leaves: Mapping[str, Shape]) -> dict[str, Shape]:
    """Shape of every node. A node behind one at fault is not blamed for it."""
    position = {node.name: index for index, node in enumerate(listed)}
    shapes: dict[str, Shape] = dict(leaves)
    errors: list[ModelError] = []
    for node in pausing(order):
        if any(source not in shapes for source in node.sources):
            continue
        given = [_operand_shape(operand, shapes) for operand in node.operands]
        try:
            shapes[node.name] = node.op.output_shape(*given)
        except ShapeError as error:
            errors.append(ModelError(_misfit(node, given, error), position[node.name]))
    if errors:
        raise InvalidModelError(errors)
    return {node.name: shapes[node.name] for node in order}


def _operand_shape(operand: Operand, shapes: Mapping[str, Shape]) -> Shape | None:
    return shapes[operand] if isinstance(operand, str) else None if operand is None else ()


_MOST_GOT = 8
"""Operands of a node that a message lists."""


def _misfit(node: Node, given: Sequence[Shape | None], error: ShapeError) -> str:
    got = [
        f"{slot.name} {quote(operand)} of shape {list(shape)}"
        for slot, operand, shape in zip(node.slots, node.operands, given, strict=True)
        if shape is not None
    ]
    more = f" and {len(got) - _MOST_GOT} more" if len(got) > _MOST_GOT else ""
    listed = ", ".join(got[:_MOST_GOT])
    return f"node {quote(node.name)} ({node.op.name}) takes {error}; got {listed}{more}"
