"""Evaluating what lies downstream of a moved tensor, and nothing else.

Through ops that are linear in what moves, a move by h d is h times the response to d: it is worked out once for all
steps, and what it is added to is the value at the point. So no step is lost to rounding at the point itself, and a
convolution is taken once for a table of steps. From the first op that is not linear on, everything is evaluated anew,
behind the tile axis.

What is evaluated ends in terms whose sum is the loss, up to a constant: those of the nodes that are reached by walking
back from the loss through ops of one element that are linear in what moves. A data term and 0.01 times a penalty are
terms side by side.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from copy import copy
from dataclasses import replace

import numpy as np

from service.numerics.core.batching import Array, broadcast_batch, count_elements
from service.numerics.core.cached_attribute import cached_attribute
from service.numerics.core.interrupts import iterate_interruptibly
from service.numerics.gradients.finite_difference.base_point import BasePoint
from service.numerics.model.graph import NamedArrays, Node, NodeObserver

BranchHolder = Callable[[Node, tuple[Array | None, ...]], Node]
"""The node to evaluate, held to some pieces, given a node and its inputs."""


def _keep_node(node: Node, inputs: tuple[Array | None, ...]) -> Node:
    return node


class DownstreamGraph:
    """The nodes downstream of a name.

    Parameters
    ----------
    point
        The model, and where.
    name
        The tensor or node that moves.
    through
        Names of the nodes that see it move; the others that read it do not. All by default.
    """

    def __init__(self, point: BasePoint, name: str, through: Collection[str] | None = None) -> None:
        self.point = point
        self.name = name
        self.through_readers = None if through is None else frozenset(through)
        self._moving_names = {name}
        self.nodes: list[Node] = []
        for node in point.graph.nodes:
            if self._moving_positions(node):
                self._moving_names.add(node.name)
                self.nodes.append(node)
        self._proportional_names = self._find_proportional_names()
        self._readers_to_loss, self._term_nodes = self._find_terminals()
        self._evaluated_nodes = self._find_needed_nodes()
        self._operand_names = {node.name: self._operands_of(node) for node in self._evaluated_nodes}

    def at_point(self, point: BasePoint) -> "DownstreamGraph":
        """The same at another point of the model."""
        moved = copy(self)
        moved.point = point
        moved.nodes = [point.nodes[node.name] for node in self.nodes]
        moved._evaluated_nodes = [point.nodes[node.name] for node in self._evaluated_nodes]
        moved.__dict__.pop("_term_coefficients", None)
        return moved

    def _moving_positions(self, node: Node) -> list[int]:
        """Positions of a node's operands that move."""
        blind = self.through_readers is not None and node.name not in self.through_readers
        return [
            position
            for position, operand in enumerate(node.operands)
            if operand in self._moving_names and not (blind and operand == self.name)
        ]

    @property
    def moves_exactly(self) -> bool:
        """Whether moves need not be represented at the point, since all that reads it is linear."""
        return bool(self._proportional_names)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of what moves."""
        return self.point.graph.shapes[self.name]

    def select_downstream(self, names: Iterable[str]) -> set[str]:
        """Those of the names that lie downstream."""
        return {node.name for node in self.nodes} & set(names)

    @cached_attribute
    def widest_array(self) -> int:
        """Elements of the largest array that an evaluation makes."""
        shapes = self.point.graph.shapes
        return max(count_elements(shapes[each]) for each in (self.name, *(node.name for node in self._evaluated_nodes)))

    @cached_attribute
    def upstream_names(self) -> set[str]:
        """What is read that does not move."""
        on_the_way = (self._operands_of(node) for node in self.nodes if node.name in self._readers_to_loss)
        read = (each for operands in (*self._operand_names.values(), *on_the_way) for each in operands)
        return {name for name, moves in read if name is not None and not moves}

    @cached_attribute
    def first_readers(self) -> list[str]:
        """The nodes that read the name and see it move."""
        return [
            node.name for node in self.nodes if any(node.operands[i] == self.name for i in self._moving_positions(node))
        ]

    def linear_responses(self, directions: Array) -> NamedArrays:
        """What everything that moves in proportion moves by, for each direction of the name, (K, ...)."""
        responses: NamedArrays = {self.name: directions}
        for node in iterate_interruptibly(self.nodes):
            if node.name in self._proportional_names:
                first, *others = (
                    node.op.linear_response(
                        position, responses[str(node.operands[position])], *self.point.operand_arrays(node)
                    )
                    for position in self._moving_positions(node)
                )
                responses[node.name] = sum(others, start=first)
        return responses

    def evaluate_terms_at_moves(
        self, responses: NamedArrays, moves: Array, branches: Mapping[str, Array] | None = None
    ) -> tuple[Array, Array | None]:
        """Terms at the point moved by each direction times each of the moves, (K, M, terms), and what each counts.

        That is what they are multiplied by in the loss, (terms,), or None for 1. It is left to be done after terms
        have been subtracted from one another: each product rounds, and in ops that only hand numbers on nothing else
        does. `branches` are the pieces to hold nodes to in place of their own, for each direction, (K, ...).
        """
        repeats = {name: np.repeat(branch, len(moves), axis=0) for name, branch in (branches or {}).items()}

        def hold(node: Node, inputs: tuple[Array | None, ...]) -> Node:
            return replace(node, branch=repeats[node.name]) if node.name in repeats else node

        moved = _MovedValues(self.point.values, responses, moves)
        terms = self._evaluate_ends(moved, self.point.values, hold if repeats else _keep_node, None)
        directions = len(responses[self.name])
        joined = broadcast_batch(_join_terms(list(terms.values())), directions * len(moves))
        return joined.reshape(directions, len(moves), -1), self._join_coefficients(terms)

    def select_branches(
        self, responses: NamedArrays, move: float, ambiguous_branches: Mapping[str, Array]
    ) -> NamedArrays:
        """Pieces to which one move leads, for each direction, (K, ...); where nothing is open the node's own."""
        found: NamedArrays = {}

        def choose(node: Node, inputs: tuple[Array | None, ...]) -> Node:
            if node.name not in ambiguous_branches:
                return node
            own = node.branch
            assert own is not None
            found[node.name] = np.where(ambiguous_branches[node.name], node.op.select_branch_beside(own, *inputs), own)
            return replace(node, branch=found[node.name])

        self.evaluate_remaining(_MovedValues(self.point.values, responses, np.array([move])), hold_branch=choose)
        return found

    def evaluate_values_at_moves(self, responses: NamedArrays, moves: Array) -> NamedArrays:
        """All that is evaluated, and all that moves in proportion, there: (K M, ...)."""
        moved = _MovedValues(self.point.values, responses, moves)
        self.evaluate_remaining(moved)
        return {name: moved[name] for name in (*moved, *responses)}

    def leeway_fractions(self, moved: NamedArrays) -> Iterator[Array]:
        """How far the arguments of functions with a scale of their own move, as a part of their leeway, (K, ...)."""
        for node in iterate_interruptibly(self._evaluated_nodes):
            at_point = node.op.sensitive_argument(*self.point.operand_arrays(node))
            if at_point is not None:
                after = node.op.sensitive_argument(*self._operand_arrays(node, moved, self.point.values))
                assert after is not None
                # What is masked out stays so.
                change = np.where(after.values == at_point.values, 0, after.values - at_point.values)
                yield np.abs(change) / at_point.leeway

    def evaluate_remaining(
        self,
        moved_values: NamedArrays,
        upstream: Mapping[str, Array] | None = None,
        hold_branch: BranchHolder = _keep_node,
        observer: NodeObserver | None = None,
    ) -> Array:
        """Evaluate what is not in `moved`, and add it there.

        Parameters
        ----------
        moved
            The name and what has been moved with it, (K, ...).
        upstream
            What does not move, the values at the point by default.
        hold
            Chooses the pieces of each node.
        observer
            Sees, and may change, each output and the terms.

        Returns
        -------
        Array
            The terms, (K or 1, n).
        """
        counted = self._term_coefficients if upstream is None else self._compute_coefficients(upstream, observer)
        terms = self._evaluate_ends(
            moved_values, self.point.values if upstream is None else upstream, hold_branch, observer
        )
        # Unobserved: `terms` leaves this product to be done after the subtraction, where it rounds once.
        return _join_terms([_multiply_with_errors(own, counted[name], None) for name, own in terms.items()])

    def _evaluate_ends(
        self, moved: NamedArrays, upstream: Mapping[str, Array], hold: BranchHolder, observer: NodeObserver | None
    ) -> NamedArrays:
        """Evaluate what is not in `moved`; return the terms of each end, (K or 1, n), not yet multiplied."""
        terms: NamedArrays = {}
        for node in iterate_interruptibly(self._evaluated_nodes):
            inputs = self._operand_arrays(node, moved, upstream)
            node = hold(node, inputs)
            end = node.name in self._term_nodes
            if node.name not in moved and not (end and node.op.ends_in_sum and node.name not in self._read_names):
                moved[node.name] = node.forward(*inputs) if observer is None else observer.forward(node, inputs)
            if end:
                own = node.split_terms(None if node.op.ends_in_sum else moved[node.name], *inputs)
                terms[node.name] = own if observer is None else observer.observe_terms(node, own, inputs)
        return terms

    def _join_coefficients(self, terms: NamedArrays) -> Array | None:
        """What each of the terms counts in the loss, (n,); None where each counts 1."""
        if all(self._term_coefficients[name] is None for name in terms):
            return None
        return np.concatenate(
            [
                np.broadcast_to(_get_coefficients_or_one(self._term_coefficients[name]).ravel(), own.shape[1])
                for name, own in terms.items()
            ]
        )

    def propagate_dependencies(self, values: Array) -> tuple[NamedArrays, NamedArrays]:
        """Spread values, (K, ...), given to the name, to the nodes downstream and to the terms of the loss.

        Each element, and each term, gets the least of the values that reach it, infinity where none does; see
        `Op.spread`. Terms are (K, terms), by the node whose they are.
        """
        spread: NamedArrays = {self.name: values}
        terms: NamedArrays = {}
        for node in iterate_interruptibly(self.nodes):
            if node.name not in self._needed_names:
                continue
            inputs, seen = self.point.operand_arrays(node), self._moving_positions(node)
            given = [
                spread[str(operand)] if position in seen else make_unreached_labels(each)
                for position, (operand, each) in enumerate(zip(node.operands, inputs, strict=True))
            ]
            spread[node.name] = node.op.propagate_dependencies(given, *inputs)
            if node.name in self._term_nodes:
                terms[node.name] = broadcast_batch(
                    node.op.propagate_to_terms(spread[node.name], given, *inputs), len(values)
                )
        return spread, terms

    def _operand_arrays(
        self, node: Node, moved: NamedArrays, upstream: Mapping[str, Array]
    ) -> tuple[Array | None, ...]:
        return tuple(
            constant if name is None else moved[name] if moves else upstream[name]
            for (name, moves), constant in zip(
                self._operand_names[node.name], self.point.operand_arrays(node), strict=True
            )
        )

    def _operands_of(self, node: Node) -> tuple[tuple[str | None, bool], ...]:
        """Name of each operand of a node, None for one that has none, and whether it moves."""
        seen = self._moving_positions(node)
        return tuple(
            (operand if isinstance(operand, str) else None, position in seen)
            for position, operand in enumerate(node.operands)
        )

    def _find_proportional_names(self) -> set[str]:
        """What moves in proportion to the name; nothing, not even the name, unless all that reads it does."""
        found = {self.name}
        for node in self.nodes:
            seen = self._moving_positions(node)
            sources = {node.operands[position] for position in seen}
            if sources <= found and _is_jointly_linear(node, seen):
                found.add(node.name)
            elif self.name in sources:
                return set()
        return found

    def _find_terminals(self) -> tuple[dict[str, list[tuple[str, int]]], set[str]]:
        """Walk back from the loss: for each node met the nodes and positions that read it so; and where that ends."""
        ways: dict[str, list[tuple[str, int]]] = {self.point.graph.loss_name: []}
        ends: set[str] = set()
        shapes = self.point.graph.shapes
        for node in reversed(self.nodes):
            if node.name not in ways:
                continue
            seen = self._moving_positions(node)
            sources = [str(node.operands[position]) for position in seen]
            if all(each != self.name and count_elements(shapes[each]) == 1 for each in sources) and _is_jointly_linear(
                node, seen
            ):
                for position, source in zip(seen, sources, strict=True):
                    ways.setdefault(source, []).append((node.name, position))
            else:
                ends.add(node.name)
        return ways, ends

    @cached_attribute
    def _term_coefficients(self) -> dict[str, Array | None]:
        """What the terms of each end count in the loss at the point, (1, 1); None for 1."""
        return self._compute_coefficients(self.point.values)

    def _compute_coefficients(
        self, upstream: Mapping[str, Array], observer: NodeObserver | None = None
    ) -> dict[str, Array | None]:
        """What the terms of each end count in the loss, (K or 1, 1), given what does not move; None for 1.

        An error upstream changes it, and so all differences, by one factor.
        """
        factors: dict[str, Array | None] = {self.point.graph.loss_name: None}
        for node in reversed(self.nodes):
            for reader, position in self._readers_to_loss.get(node.name, ()):
                factor = _multiply_with_errors(
                    self._reader_coefficient(reader, position, node.name, upstream), factors[reader], observer
                )
                factors[node.name] = (
                    factor if node.name not in factors else _get_coefficients_or_one(factors[node.name]) + factor
                )
        return {
            name: None if np.all(_get_coefficients_or_one(factors[name]) == 1) else factors[name]
            for name in self._term_nodes
        }

    def _reader_coefficient(self, reader: str, position: int, source: str, upstream: Mapping[str, Array]) -> Array:
        """What a node of one element moves by, (K or 1, 1), as one that it reads moves by 1."""
        node, graph = self.point.nodes[reader], self.point.graph
        still = {name: upstream[name] for name, moves in self._operands_of(node) if name is not None and not moves}
        response = node.op.linear_response(
            position, np.ones((1, *graph.shapes[source])), *graph.operand_arrays(node, {**self.point.values, **still})
        )
        return response.reshape(-1, 1)

    def _find_needed_nodes(self) -> list[Node]:
        """The nodes that the terms follow from."""
        needed = set(self._term_nodes)
        self._read_names: set[str] = set()
        for node in reversed(self.nodes):
            if node.name in needed:
                self._read_names.update(str(node.operands[position]) for position in self._moving_positions(node))
                needed |= self._read_names
        self._needed_names = needed
        return [node for node in self.nodes if node.name in needed]


class _MovedValues(dict[str, Array]):
    """What has been evaluated; what moves in proportion is moved when it is first asked for."""

    def __init__(self, base: Mapping[str, Array], responses: NamedArrays, moves: Array) -> None:
        super().__init__()
        self._base, self._responses, self._moves = base, responses, moves

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or name in self._responses

    def __missing__(self, name: str) -> Array:
        self[name] = moved = _move_linearly(self._base[name], self._responses[name], self._moves)
        return moved


def make_unreached_labels(values: Array | None) -> Array | None:
    """What reaches an operand that does not move: infinity, that is nothing."""
    return None if values is None or values.dtype.kind != "f" else np.full_like(values, np.inf)


def _is_jointly_linear(node: Node, positions: Sequence[int]) -> bool:
    """Whether a node is linear, jointly, in the operands at some positions."""
    if node.branch is not None:
        return False
    slots = [node.operand_slots[position].name for position in positions]
    linear_in = node.op.linear_in
    if any(slot not in linear_in for slot in slots):
        return False
    return all(other in linear_in[slot] for i, slot in enumerate(slots) for other in slots[i + 1 :])


def _move_linearly(base: Array, response: Array, moves: Array) -> Array:
    """Value at the point, (1, ...), moved by its response, (K, ...), times each move, (M,): (K M, ...)."""
    moved = response[:, None].astype(base.dtype, copy=False) * moves.reshape(-1, *(1,) * (base.ndim - 1))
    moved += base
    return moved.reshape(-1, *base.shape[1:])


def _multiply_with_errors(values: Array, coefficients: Array | None, observer: NodeObserver | None) -> Array:
    """Values times what each counts, None for 1, with the error of the product."""
    # A product with 1 does not round.
    if coefficients is None or np.all(coefficients == 1):
        return values
    product = values * coefficients
    return product if observer is None else observer.operation(product)


def _join_terms(terms: Sequence[Array]) -> Array:
    """Join the terms of several ends, each (K or 1, n)."""
    if len(terms) == 1:
        return terms[0]
    tiles = max(map(len, terms))
    return np.concatenate([broadcast_batch(own, tiles) for own in terms], axis=1)


def _get_coefficients_or_one(coefficients: Array | None) -> Array:
    return np.ones((1, 1)) if coefficients is None else coefficients
