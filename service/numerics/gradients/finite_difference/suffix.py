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

from service.numerics.gradients.finite_difference.point import Point
from service.numerics.graph import Node, Observer, Values
from service.numerics.kept import kept
from service.numerics.pausing import pausing
from service.numerics.tiles import Array, repeated, size

Holding = Callable[[Node, tuple[Array | None, ...]], Node]
"""The node to evaluate, held to some pieces, given a node and its inputs."""


def _as_it_is(node: Node, inputs: tuple[Array | None, ...]) -> Node:
    return node


class Suffix:
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

    def __init__(self, point: Point, name: str, through: Collection[str] | None = None) -> None:
        self.point = point
        self.name = name
        self.through = None if through is None else frozenset(through)
        self._moving = {name}
        self.nodes: list[Node] = []
        for node in point.graph.nodes:
            if self._seen(node):
                self._moving.add(node.name)
                self.nodes.append(node)
        self._proportional = self._in_proportion()
        self._ways, self._ends = self._terminals()
        self._evaluated = self._needed()
        self._operands = {node.name: self._read_by(node) for node in self._evaluated}

    def at(self, point: Point) -> "Suffix":
        """The same at another point of the model."""
        moved = copy(self)
        moved.point = point
        moved.nodes = [point.nodes[node.name] for node in self.nodes]
        moved._evaluated = [point.nodes[node.name] for node in self._evaluated]
        moved.__dict__.pop("_coefficients", None)
        return moved

    def _seen(self, node: Node) -> list[int]:
        """Positions of a node's operands that move."""
        blind = self.through is not None and node.name not in self.through
        return [
            position
            for position, operand in enumerate(node.operands)
            if operand in self._moving and not (blind and operand == self.name)
        ]

    @property
    def exact(self) -> bool:
        """Whether moves need not be represented at the point, since all that reads it is linear."""
        return bool(self._proportional)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of what moves."""
        return self.point.graph.shapes[self.name]

    def nodes_of(self, names: Iterable[str]) -> set[str]:
        """Those of the names that lie downstream."""
        return {node.name for node in self.nodes} & set(names)

    @kept
    def widest(self) -> int:
        """Elements of the largest array that an evaluation makes."""
        shapes = self.point.graph.shapes
        return max(size(shapes[each]) for each in (self.name, *(node.name for node in self._evaluated)))

    @kept
    def upstream(self) -> set[str]:
        """What is read that does not move."""
        on_the_way = (self._read_by(node) for node in self.nodes if node.name in self._ways)
        read = (each for operands in (*self._operands.values(), *on_the_way) for each in operands)
        return {name for name, moves in read if name is not None and not moves}

    @kept
    def first_readers(self) -> list[str]:
        """The nodes that read the name and see it move."""
        return [node.name for node in self.nodes if any(node.operands[i] == self.name for i in self._seen(node))]

    def responses(self, directions: Array) -> Values:
        """What everything that moves in proportion moves by, for each direction of the name, (K, ...)."""
        responses: Values = {self.name: directions}
        for node in pausing(self.nodes):
            if node.name in self._proportional:
                first, *others = (
                    node.op.response(position, responses[str(node.operands[position])], *self.point.inputs(node))
                    for position in self._seen(node)
                )
                responses[node.name] = sum(others, start=first)
        return responses

    def terms(
        self, responses: Values, moves: Array, branches: Mapping[str, Array] | None = None
    ) -> tuple[Array, Array | None]:
        """Terms at the point moved by each direction times each of the moves, (K, M, terms), and what each counts.

        That is what they are multiplied by in the loss, (terms,), or None for 1. It is left to be done after terms
        have been subtracted from one another: each product rounds, and in ops that only hand numbers on nothing else
        does. `branches` are the pieces to hold nodes to in place of their own, for each direction, (K, ...).
        """
        repeats = {name: np.repeat(branch, len(moves), axis=0) for name, branch in (branches or {}).items()}

        def hold(node: Node, inputs: tuple[Array | None, ...]) -> Node:
            return replace(node, branch=repeats[node.name]) if node.name in repeats else node

        moved = _Moved(self.point.values, responses, moves)
        terms = self._evaluate_ends(moved, self.point.values, hold if repeats else _as_it_is, None)
        directions = len(responses[self.name])
        joined = repeated(_joined(list(terms.values())), directions * len(moves))
        return joined.reshape(directions, len(moves), -1), self._join_coefficients(terms)

    def branches(self, responses: Values, move: float, open_at: Mapping[str, Array]) -> Values:
        """Pieces to which one move leads, for each direction, (K, ...); where nothing is open the node's own."""
        found: Values = {}

        def choose(node: Node, inputs: tuple[Array | None, ...]) -> Node:
            if node.name not in open_at:
                return node
            own = node.branch
            assert own is not None
            found[node.name] = np.where(open_at[node.name], node.op.branch_beside(own, *inputs), own)
            return replace(node, branch=found[node.name])

        self.evaluated(_Moved(self.point.values, responses, np.array([move])), hold=choose)
        return found

    def values(self, responses: Values, moves: Array) -> Values:
        """All that is evaluated, and all that moves in proportion, there: (K M, ...)."""
        moved = _Moved(self.point.values, responses, moves)
        self.evaluated(moved)
        return {name: moved[name] for name in (*moved, *responses)}

    def strains(self, moved: Values) -> Iterator[Array]:
        """How far the arguments of functions with a scale of their own move, as a part of their leeway, (K, ...)."""
        for node in pausing(self._evaluated):
            at_point = node.op.argument(*self.point.inputs(node))
            if at_point is not None:
                after = node.op.argument(*self._inputs(node, moved, self.point.values))
                assert after is not None
                # What is masked out stays so.
                change = np.where(after.values == at_point.values, 0, after.values - at_point.values)
                yield np.abs(change) / at_point.leeway

    def evaluated(
        self,
        moved: Values,
        upstream: Mapping[str, Array] | None = None,
        hold: Holding = _as_it_is,
        observer: Observer | None = None,
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
        counted = self._coefficients if upstream is None else self._counted(upstream, observer)
        terms = self._evaluate_ends(moved, self.point.values if upstream is None else upstream, hold, observer)
        # Unobserved: `terms` leaves this product to be done after the subtraction, where it rounds once.
        return _joined([_product(own, counted[name], None) for name, own in terms.items()])

    def _evaluate_ends(
        self, moved: Values, upstream: Mapping[str, Array], hold: Holding, observer: Observer | None
    ) -> Values:
        """Evaluate what is not in `moved`; return the terms of each end, (K or 1, n), not yet multiplied."""
        terms: Values = {}
        for node in pausing(self._evaluated):
            inputs = self._inputs(node, moved, upstream)
            node = hold(node, inputs)
            end = node.name in self._ends
            if node.name not in moved and not (end and node.op.ends_in_sum and node.name not in self._read):
                moved[node.name] = node.forward(*inputs) if observer is None else observer.forward(node, inputs)
            if end:
                own = node.terms(None if node.op.ends_in_sum else moved[node.name], *inputs)
                terms[node.name] = own if observer is None else observer.terms(node, own, inputs)
        return terms

    def _join_coefficients(self, terms: Values) -> Array | None:
        """What each of the terms counts in the loss, (n,); None where each counts 1."""
        if all(self._coefficients[name] is None for name in terms):
            return None
        return np.concatenate(
            [np.broadcast_to(_one(self._coefficients[name]).ravel(), own.shape[1]) for name, own in terms.items()]
        )

    def spread(self, values: Array) -> tuple[Values, Values]:
        """Spread values, (K, ...), given to the name, to the nodes downstream and to the terms of the loss.

        Each element, and each term, gets the least of the values that reach it, infinity where none does; see
        `Op.spread`. Terms are (K, terms), by the node whose they are.
        """
        spread: Values = {self.name: values}
        terms: Values = {}
        for node in pausing(self.nodes):
            if node.name not in self._needed_spreads:
                continue
            inputs, seen = self.point.inputs(node), self._seen(node)
            given = [
                spread[str(operand)] if position in seen else unreached(each)
                for position, (operand, each) in enumerate(zip(node.operands, inputs, strict=True))
            ]
            spread[node.name] = node.op.spread(given, *inputs)
            if node.name in self._ends:
                terms[node.name] = repeated(node.op.spread_terms(spread[node.name], given, *inputs), len(values))
        return spread, terms

    def _inputs(self, node: Node, moved: Values, upstream: Mapping[str, Array]) -> tuple[Array | None, ...]:
        return tuple(
            constant if name is None else moved[name] if moves else upstream[name]
            for (name, moves), constant in zip(self._operands[node.name], self.point.inputs(node), strict=True)
        )

    def _read_by(self, node: Node) -> tuple[tuple[str | None, bool], ...]:
        """Name of each operand of a node, None for one that has none, and whether it moves."""
        seen = self._seen(node)
        return tuple(
            (operand if isinstance(operand, str) else None, position in seen)
            for position, operand in enumerate(node.operands)
        )

    def _in_proportion(self) -> set[str]:
        """What moves in proportion to the name; nothing, not even the name, unless all that reads it does."""
        found = {self.name}
        for node in self.nodes:
            seen = self._seen(node)
            sources = {node.operands[position] for position in seen}
            if sources <= found and _linear(node, seen):
                found.add(node.name)
            elif self.name in sources:
                return set()
        return found

    def _terminals(self) -> tuple[dict[str, list[tuple[str, int]]], set[str]]:
        """Walk back from the loss: for each node met the nodes and positions that read it so; and where that ends."""
        ways: dict[str, list[tuple[str, int]]] = {self.point.graph.loss: []}
        ends: set[str] = set()
        shapes = self.point.graph.shapes
        for node in reversed(self.nodes):
            if node.name not in ways:
                continue
            seen = self._seen(node)
            sources = [str(node.operands[position]) for position in seen]
            if all(each != self.name and size(shapes[each]) == 1 for each in sources) and _linear(node, seen):
                for position, source in zip(seen, sources, strict=True):
                    ways.setdefault(source, []).append((node.name, position))
            else:
                ends.add(node.name)
        return ways, ends

    @kept
    def _coefficients(self) -> dict[str, Array | None]:
        """What the terms of each end count in the loss at the point, (1, 1); None for 1."""
        return self._counted(self.point.values)

    def _counted(self, upstream: Mapping[str, Array], observer: Observer | None = None) -> dict[str, Array | None]:
        """What the terms of each end count in the loss, (K or 1, 1), given what does not move; None for 1.

        An error upstream changes it, and so all differences, by one factor.
        """
        factors: dict[str, Array | None] = {self.point.graph.loss: None}
        for node in reversed(self.nodes):
            for reader, position in self._ways.get(node.name, ()):
                factor = _product(self._factor(reader, position, node.name, upstream), factors[reader], observer)
                factors[node.name] = factor if node.name not in factors else _one(factors[node.name]) + factor
        return {name: None if np.all(_one(factors[name]) == 1) else factors[name] for name in self._ends}

    def _factor(self, reader: str, position: int, source: str, upstream: Mapping[str, Array]) -> Array:
        """What a node of one element moves by, (K or 1, 1), as one that it reads moves by 1."""
        node, graph = self.point.nodes[reader], self.point.graph
        still = {name: upstream[name] for name, moves in self._read_by(node) if name is not None and not moves}
        response = node.op.response(
            position, np.ones((1, *graph.shapes[source])), *graph.inputs(node, {**self.point.values, **still})
        )
        return response.reshape(-1, 1)

    def _needed(self) -> list[Node]:
        """The nodes that the terms follow from."""
        needed = set(self._ends)
        self._read: set[str] = set()
        for node in reversed(self.nodes):
            if node.name in needed:
                self._read.update(str(node.operands[position]) for position in self._seen(node))
                needed |= self._read
        self._needed_spreads = needed
        return [node for node in self.nodes if node.name in needed]


class _Moved(dict[str, Array]):
    """What has been evaluated; what moves in proportion is moved when it is first asked for."""

    def __init__(self, base: Mapping[str, Array], responses: Values, moves: Array) -> None:
        super().__init__()
        self._base, self._responses, self._moves = base, responses, moves

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or name in self._responses

    def __missing__(self, name: str) -> Array:
        self[name] = moved = _moved(self._base[name], self._responses[name], self._moves)
        return moved


def unreached(values: Array | None) -> Array | None:
    """What reaches an operand that does not move: infinity, that is nothing."""
    return None if values is None or values.dtype.kind != "f" else np.full_like(values, np.inf)


def _linear(node: Node, positions: Sequence[int]) -> bool:
    """Whether a node is linear, jointly, in the operands at some positions."""
    if node.branch is not None:
        return False
    slots = [node.slots[position].name for position in positions]
    linear_in = node.op.linear_in
    if any(slot not in linear_in for slot in slots):
        return False
    return all(other in linear_in[slot] for i, slot in enumerate(slots) for other in slots[i + 1 :])


def _moved(base: Array, response: Array, moves: Array) -> Array:
    """Value at the point, (1, ...), moved by its response, (K, ...), times each move, (M,): (K M, ...)."""
    moved = response[:, None].astype(base.dtype, copy=False) * moves.reshape(-1, *(1,) * (base.ndim - 1))
    moved += base
    return moved.reshape(-1, *base.shape[1:])


def _product(values: Array, coefficients: Array | None, observer: Observer | None) -> Array:
    """Values times what each counts, None for 1, with the error of the product."""
    # A product with 1 does not round.
    if coefficients is None or np.all(coefficients == 1):
        return values
    product = values * coefficients
    return product if observer is None else observer.operation(product)


def _joined(terms: Sequence[Array]) -> Array:
    """Join the terms of several ends, each (K or 1, n)."""
    if len(terms) == 1:
        return terms[0]
    tiles = max(map(len, terms))
    return np.concatenate([repeated(own, tiles) for own in terms], axis=1)


def _one(coefficients: Array | None) -> Array:
    return np.ones((1, 1)) if coefficients is None else coefficients
