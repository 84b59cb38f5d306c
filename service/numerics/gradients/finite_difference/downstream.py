"""Evaluation of the nodes downstream of a moved tensor.

Through ops that are linear in the moving operands, a move by h d is h times the response to d. The response is computed
once for all steps, and added to the value at the point. So no step is lost to rounding at the point itself, and a
convolution is computed once for a table of steps. From the first op that is not linear on, everything is evaluated
anew, behind the tile axis.

The evaluation ends in terms whose sum is the loss, up to a constant. They are the terms of the nodes that a walk back
from the loss reaches through ops of one element that are linear in the moving operands. A data term and 0.01 times a
penalty are terms side by side.
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
"""A function that returns a node held to some pieces, given the node and its inputs."""
_SMALLEST_SPREADING_ARGUMENT = 2.0**20
"""Exponents and phases below which no rounding leaves the leeway, of 1 at least, though errors are drawn as 2^-30."""


def _keep_node(node: Node, inputs: tuple[Array | None, ...]) -> Node:
    return node


class DownstreamGraph:
    """The nodes downstream of a name.

    Parameters
    ----------
    point
        The model at a point.
    name
        The tensor or node that moves.
    through
        Names of the readers that see it move; all by default. The other readers do not.
    """

    def __init__(self, point: BasePoint, name: str, through: Collection[str] | None = None) -> None:
        self.point = point
        self.name = name
        self.through_readers = None if through is None else frozenset(through)
        self._moving_names = {name}
        self.nodes: list[Node] = []
        for node in point.graph.nodes:
            if not self._moving_names.isdisjoint(node.operands) and self._find_moving_positions(node):
                self._moving_names.add(node.name)
                self.nodes.append(node)
        self._proportional_names = self._find_proportional_names()
        self._readers_to_loss, self._term_nodes = self._find_terminals()
        self._evaluated_nodes = self._find_needed_nodes()
        self._operand_names = {node.name: self._get_operands(node) for node in self._evaluated_nodes}

    def move_to_point(self, point: BasePoint) -> "DownstreamGraph":
        """Return the same nodes at another point of the model."""
        moved_graph = copy(self)
        moved_graph.point = point
        moved_graph.nodes = [point.nodes[node.name] for node in self.nodes]
        moved_graph._evaluated_nodes = [point.nodes[node.name] for node in self._evaluated_nodes]
        moved_graph.__dict__.pop("term_coefficients", None)
        return moved_graph

    def _find_moving_positions(self, node: Node) -> list[int]:
        """Return the positions of a node's operands that move."""
        if node.name not in self.point.graph.names_with_gradient:
            # Integers and truths stay as they are at the point, and so does what only they read.
            return []
        is_blind = self.through_readers is not None and node.name not in self.through_readers
        return [
            position
            for position, operand in enumerate(node.operands)
            if operand in self._moving_names and not (is_blind and operand == self.name)
        ]

    @cached_attribute
    def moving_positions(self) -> dict[str, list[int]]:
        """Return the positions of the operands that move, by name of the node."""
        return {node.name: self._find_moving_positions(node) for node in self.nodes}

    @property
    def moves_exactly(self) -> bool:
        """Return whether moves need not be represented at the point.

        They need not if all readers of the name are linear.
        """
        return bool(self._proportional_names)

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape of the moving tensor."""
        return self.point.graph.shapes[self.name]

    def select_downstream(self, names: Iterable[str]) -> set[str]:
        """Return the names that lie downstream."""
        return {node.name for node in self.nodes} & set(names)

    @cached_attribute
    def widest_array(self) -> int:
        """Return the elements of the largest array of an evaluation."""
        shapes = self.point.graph.shapes
        return max(
            count_elements(shapes[array_name])
            for array_name in (self.name, *(node.name for node in self._evaluated_nodes))
        )

    def rounds_value(self, node: Node) -> bool:
        """Return whether the value of a node, beside its terms, enters the terms of the loss."""
        if node.name not in self._needed_names:
            return False
        is_sum_of_terms = node.name in self._term_nodes and node.op.ends_in_sum
        return not is_sum_of_terms or node.name in self._read_names

    @cached_attribute
    def upstream_names(self) -> set[str]:
        """Return the names of operands that do not move."""
        reader_operands = (self._get_operands(node) for node in self.nodes if node.name in self._readers_to_loss)
        all_operands = (
            operand for operands in (*self._operand_names.values(), *reader_operands) for operand in operands
        )
        return {name for name, moves in all_operands if name is not None and not moves}

    @cached_attribute
    def first_readers(self) -> list[str]:
        """Return the nodes that read the name and see it move."""
        return [
            node.name
            for node in self.nodes
            if any(node.operands[i] == self.name for i in self._find_moving_positions(node))
        ]

    def compute_linear_responses(self, directions: Array) -> NamedArrays:
        """Return the responses of all that moves in proportion, (K, ...), by name.

        Parameters
        ----------
        directions
            Directions of the moving name, (K, ...).
        """
        responses: NamedArrays = {self.name: directions}
        for node in iterate_interruptibly(self.nodes):
            if node.name in self._proportional_names:
                first_response, *other_responses = (
                    node.op.compute_linear_response(
                        position, responses[str(node.operands[position])], *self.point.get_operand_arrays(node)
                    )
                    for position in self.moving_positions[node.name]
                )
                responses[node.name] = sum(other_responses, start=first_response)
        return responses

    def evaluate_terms_at_moves(
        self, responses: NamedArrays, moves: Array, branches: Mapping[str, Array] | None = None
    ) -> tuple[Array, Array | None]:
        """Return the terms at the point moved along directions, and their coefficients.

        Parameters
        ----------
        responses
            Responses to each direction, (K, ...).
        moves
            Multiples of each direction, (M,).
        branches
            Pieces to hold nodes to in place of their own, for each direction, (K, ...); none by default.

        Returns
        -------
        tuple[Array, Array | None]
            Terms, (K, M, terms), and their factors in the loss, (terms,), None for 1.

        Notes
        -----
        The factors are applied after terms have been subtracted from one another: each product rounds, and in ops that
        only hand numbers on nothing else does.
        """
        repeated_branches = {name: np.repeat(branch, len(moves), axis=0) for name, branch in (branches or {}).items()}

        def hold(node: Node, inputs: tuple[Array | None, ...]) -> Node:
            return replace(node, branch=repeated_branches[node.name]) if node.name in repeated_branches else node

        moved_values = _MovedValues(self.point.values, responses, moves)
        terms = self._evaluate_ends(moved_values, self.point.values, hold if repeated_branches else _keep_node, None)
        directions = len(responses[self.name])
        joined = broadcast_batch(_join_terms(list(terms.values())), directions * len(moves))
        return joined.reshape(directions, len(moves), -1), self._join_coefficients(terms)

    def evaluate_terms_on_line(
        self, responses: NamedArrays, moves: Array
    ) -> tuple[Array, Array | None, Mapping[str, Array]]:
        """Return the terms at moves along one direction, their coefficients, and the values at the first move.

        Parameters
        ----------
        responses
            Responses to the direction, (1, ...).
        moves
            Multiples of it, (M,).

        Returns
        -------
        tuple[Array, Array | None, Mapping[str, Array]]
            Terms, (M, terms); their factors in the loss, (terms,), None for 1; and every leaf and node, (1, ...).
        """
        moved_values = _MovedValues(self.point.values, responses, moves)
        terms = self._evaluate_ends(moved_values, self.point.values, _keep_node, None)
        joined = broadcast_batch(_join_terms(list(terms.values())), len(moves))
        first_values = {**self.point.values, **{name: moved_values[name][:1] for name in (*moved_values, *responses)}}
        for node in self.nodes:
            if node.name not in moved_values:
                operands = self.point.graph.get_operand_arrays(node, first_values)
                first_values[node.name] = node.forward(*operands)
        return joined, self._join_coefficients(terms), first_values

    def split_terms_at_rest(self) -> Array:
        """Return the terms at the point, (terms,), without their coefficients."""
        terms = [
            node.split_terms(self.point.values[node.name], *self.point.get_operand_arrays(node))
            for node in self.nodes
            if node.name in self._term_nodes
        ]
        return _join_terms(terms)[0]

    def select_branches(
        self, responses: NamedArrays, move: float, ambiguous_branches: Mapping[str, Array]
    ) -> NamedArrays:
        """Return the pieces to which one move leads, for each direction, (K, ...).

        An unambiguous piece is the node's own.
        """
        branches: NamedArrays = {}

        def hold_branch(node: Node, inputs: tuple[Array | None, ...]) -> Node:
            if node.name not in ambiguous_branches:
                return node
            branch = node.branch
            assert branch is not None
            branches[node.name] = np.where(
                ambiguous_branches[node.name], node.op.select_branch_beside(branch, *inputs), branch
            )
            return replace(node, branch=branches[node.name])

        self.evaluate_remaining(_MovedValues(self.point.values, responses, np.array([move])), hold_branch=hold_branch)
        return branches

    def evaluate_values_at_moves(self, responses: NamedArrays, moves: Array) -> NamedArrays:
        """Return the values of all that moves or is evaluated, (K M, ...), by name."""
        moved_values = _MovedValues(self.point.values, responses, moves)
        self.evaluate_remaining(moved_values)
        return {name: moved_values[name] for name in (*moved_values, *responses)}

    def compute_leeway_fractions(self, moved_values: NamedArrays) -> Iterator[Array]:
        """Yield the moves of sensitive arguments as parts of their leeway, (K, ...)."""
        for node in iterate_interruptibly(self._evaluated_nodes):
            if not node.op.may_have_sensitive_argument:
                continue
            argument_at_point = node.op.get_sensitive_argument(*self.point.get_operand_arrays(node))
            if argument_at_point is not None:
                moved_argument = node.op.get_sensitive_argument(
                    *self._get_operand_arrays(node, moved_values, self.point.values)
                )
                assert moved_argument is not None
                # Masked exponents stay masked.
                change = np.where(
                    moved_argument.values == argument_at_point.values,
                    0,
                    moved_argument.values - argument_at_point.values,
                )
                yield np.abs(change) / argument_at_point.leeway

    def measure_leeway_spread(
        self, moved_values: NamedArrays, upstream: Mapping[str, Array], sample_count: int
    ) -> float:
        """Return the spread of sensitive arguments among samples, as the largest part of their leeway.

        Parameters
        ----------
        moved_values, upstream
            Values of `evaluate_remaining`, after it: several groups of samples, one after another.
        sample_count
            Number of samples of each group, the first of which has no errors.
        """
        largest_spread = 0.0
        for node in iterate_interruptibly(self._evaluated_nodes):
            at_point = node.op.get_sensitive_argument(*self.point.get_operand_arrays(node))
            if at_point is None or not (np.abs(at_point.values) > _SMALLEST_SPREADING_ARGUMENT).any():
                continue
            argument = node.op.get_sensitive_argument(*self._get_operand_arrays(node, moved_values, upstream))
            assert argument is not None
            samples = argument.values
            if len(samples) > 1:
                samples = samples.reshape(-1, sample_count, *samples.shape[1:])
                spreads = np.sqrt(np.square(samples[:, 1:] - samples[:, :1]).mean(axis=1)) / at_point.leeway
                largest_spread = float(np.fmax.reduce(spreads, axis=None, initial=largest_spread))
        return largest_spread

    def evaluate_remaining(
        self,
        moved_values: NamedArrays,
        upstream: Mapping[str, Array] | None = None,
        hold_branch: BranchHolder = _keep_node,
        observer: NodeObserver | None = None,
    ) -> Array:
        """Evaluate the nodes that are not in `moved_values`, and add them there.

        Parameters
        ----------
        moved_values
            The name and what has been moved with it, (K, ...).
        upstream
            Values that do not move; those at the point by default.
        hold_branch
            Chooses the pieces of each node; its own by default.
        observer
            Sees, and may change, each output and the terms; none by default.

        Returns
        -------
        Array
            The terms, (K or 1, n).
        """
        coefficients = self.term_coefficients if upstream is None else self._compute_coefficients(upstream, observer)
        terms = self._evaluate_ends(
            moved_values, self.point.values if upstream is None else upstream, hold_branch, observer
        )
        # Unobserved: `evaluate_terms_at_moves` leaves this product until after the subtraction, where it rounds once.
        return _join_terms(
            [_multiply_with_errors(node_terms, coefficients[name], None) for name, node_terms in terms.items()]
        )

    def _evaluate_ends(
        self,
        moved_values: NamedArrays,
        upstream: Mapping[str, Array],
        hold: BranchHolder,
        observer: NodeObserver | None,
    ) -> NamedArrays:
        """Evaluate the nodes that are not in `moved_values`, and return the ends' terms.

        The terms, (K or 1, n), are by node and without their coefficients.
        """
        terms: NamedArrays = {}
        for node in iterate_interruptibly(self._evaluated_nodes):
            inputs = self._get_operand_arrays(node, moved_values, upstream)
            node = hold(node, inputs)
            is_end = node.name in self._term_nodes
            if node.name not in moved_values and not (
                is_end and node.op.ends_in_sum and node.name not in self._read_names
            ):
                moved_values[node.name] = node.forward(*inputs) if observer is None else observer.forward(node, inputs)
            if is_end:
                node_terms = node.split_terms(None if node.op.ends_in_sum else moved_values[node.name], *inputs)
                terms[node.name] = node_terms if observer is None else observer.observe_terms(node, node_terms, inputs)
        return terms

    def _join_coefficients(self, terms: NamedArrays) -> Array | None:
        """Return the factor of each term in the loss, (n,), or None if all are 1."""
        if all(self.term_coefficients[name] is None for name in terms):
            return None
        return np.concatenate(
            [
                np.broadcast_to(_get_coefficients_or_one(self.term_coefficients[name]).ravel(), node_terms.shape[1])
                for name, node_terms in terms.items()
            ]
        )

    def propagate_dependencies(self, values: Array) -> tuple[NamedArrays, NamedArrays]:
        """Return the least label that reaches each element downstream, and each term.

        An element that no label reaches gets infinity: see `Op.propagate_dependencies`.

        Parameters
        ----------
        values
            Labels of the moving name, (K, ...).

        Returns
        -------
        tuple[NamedArrays, NamedArrays]
            Labels by name, and labels of terms, (K, terms), by node.
        """
        labels: NamedArrays = {self.name: values}
        term_labels: NamedArrays = {}
        for node in iterate_interruptibly(self.nodes):
            if node.name not in self._needed_names:
                continue
            inputs, moving_positions = self.point.get_operand_arrays(node), self._find_moving_positions(node)
            operand_labels = [
                labels[str(operand)] if position in moving_positions else make_unreached_labels(array)
                for position, (operand, array) in enumerate(zip(node.operands, inputs, strict=True))
            ]
            labels[node.name] = node.op.propagate_dependencies(operand_labels, *inputs)
            if node.name in self._term_nodes:
                term_labels[node.name] = broadcast_batch(
                    node.op.propagate_to_terms(labels[node.name], operand_labels, *inputs), len(values)
                )
        return labels, term_labels

    def _get_operand_arrays(
        self, node: Node, moved_values: NamedArrays, upstream: Mapping[str, Array]
    ) -> tuple[Array | None, ...]:
        operands = self._operand_names[node.name]
        if len(node.source_names) == len(operands):
            return tuple(
                [
                    moved_values[name] if moves else upstream[name]
                    for name, (_, moves) in zip(node.source_names, operands, strict=True)
                ]
            )
        return tuple(
            constant if name is None else moved_values[name] if moves else upstream[name]
            for (name, moves), constant in zip(operands, self.point.get_operand_arrays(node), strict=True)
        )

    def _get_operands(self, node: Node) -> tuple[tuple[str | None, bool], ...]:
        """Return the name of each operand, None for a constant, and whether it moves."""
        moving_positions = self._find_moving_positions(node)
        return tuple(
            (operand if isinstance(operand, str) else None, position in moving_positions)
            for position, operand in enumerate(node.operands)
        )

    def _find_proportional_names(self) -> set[str]:
        """Return the names that move in proportion to the moving name.

        There are none, not even the name itself, unless all its readers move so.
        """
        proportional_names = {self.name}
        for node in self.nodes:
            moving_positions = self._find_moving_positions(node)
            sources = {node.operands[position] for position in moving_positions}
            if sources <= proportional_names and _is_jointly_linear(node, moving_positions):
                proportional_names.add(node.name)
            elif self.name in sources:
                return set()
        return proportional_names

    def _find_terminals(self) -> tuple[dict[str, list[tuple[str, int]]], set[str]]:
        """Return the nodes of a walk back from the loss, and the nodes where it ends.

        Each node of the walk comes with the nodes and positions that read it.
        """
        readers: dict[str, list[tuple[str, int]]] = {self.point.graph.loss_name: []}
        ends: set[str] = set()
        shapes = self.point.graph.shapes
        for node in reversed(self.nodes):
            if node.name not in readers:
                continue
            moving_positions = self._find_moving_positions(node)
            sources = [str(node.operands[position]) for position in moving_positions]
            if all(
                source_name != self.name and count_elements(shapes[source_name]) == 1 for source_name in sources
            ) and _is_jointly_linear(node, moving_positions):
                for position, source in zip(moving_positions, sources, strict=True):
                    readers.setdefault(source, []).append((node.name, position))
            else:
                ends.add(node.name)
        return readers, ends

    @cached_attribute
    def term_coefficients(self) -> dict[str, Array | None]:
        """Return the factor of each end's terms in the loss at the point, (1, 1).

        None stands for 1.
        """
        return self._compute_coefficients(self.point.values)

    def _compute_coefficients(
        self, upstream: Mapping[str, Array], observer: NodeObserver | None = None
    ) -> dict[str, Array | None]:
        """Return the factor of each end's terms in the loss, (K or 1, 1).

        None stands for 1. An error upstream changes the factor, and so all differences at once.

        Parameters
        ----------
        upstream
            Values that do not move.
        observer
            Sees, and may change, each product; none by default.
        """
        factors: dict[str, Array | None] = {self.point.graph.loss_name: None}
        for node in reversed(self.nodes):
            for reader, position in self._readers_to_loss.get(node.name, ()):
                factor = _multiply_with_errors(
                    self._compute_reader_coefficient(reader, position, node.name, upstream), factors[reader], observer
                )
                factors[node.name] = (
                    factor if node.name not in factors else _get_coefficients_or_one(factors[node.name]) + factor
                )
        return {
            name: None if np.all(_get_coefficients_or_one(factors[name]) == 1) else factors[name]
            for name in self._term_nodes
        }

    def _compute_reader_coefficient(
        self, reader: str, position: int, source: str, upstream: Mapping[str, Array]
    ) -> Array:
        """Return the response of a node of one element to one of its operands.

        The shape is (K or 1, 1), for a move of the operand by 1.
        """
        node, graph = self.point.nodes[reader], self.point.graph
        unmoved_values = {
            name: upstream[name] for name, moves in self._get_operands(node) if name is not None and not moves
        }
        response = node.op.compute_linear_response(
            position,
            np.ones((1, *graph.shapes[source])),
            *graph.get_operand_arrays(node, {**self.point.values, **unmoved_values}),
        )
        return response.reshape(-1, 1)

    def _find_needed_nodes(self) -> list[Node]:
        """Return the nodes that the terms follow from."""
        needed_names = set(self._term_nodes)
        self._read_names: set[str] = set()
        for node in reversed(self.nodes):
            if node.name in needed_names:
                names = [str(node.operands[position]) for position in self._find_moving_positions(node)]
                self._read_names.update(names)
                needed_names.update(names)
        self._needed_names = needed_names
        return [node for node in self.nodes if node.name in needed_names]


class _MovedValues(dict[str, Array]):
    """Values that have been evaluated or moved.

    A value that moves in proportion is moved at its first use.
    """

    def __init__(self, base: Mapping[str, Array], responses: NamedArrays, moves: Array) -> None:
        super().__init__()
        self._base, self._responses, self._moves = base, responses, moves

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or name in self._responses

    def __missing__(self, name: str) -> Array:
        self[name] = moved_value = _move_linearly(self._base[name], self._responses[name], self._moves)
        return moved_value


def make_unreached_labels(values: Array | None) -> Array | None:
    """Return the labels of an operand that does not move: infinity everywhere."""
    return None if values is None or values.dtype.kind != "f" else np.full_like(values, np.inf)


def _is_jointly_linear(node: Node, positions: Sequence[int]) -> bool:
    """Return whether a node is jointly linear in the operands at some positions."""
    if node.branch is not None:
        return False
    slots = [node.operand_slots[position].name for position in positions]
    linear_in = node.op.linear_in
    if any(slot not in linear_in for slot in slots):
        return False
    return all(other_slot in linear_in[slot] for index, slot in enumerate(slots) for other_slot in slots[index + 1 :])


def _move_linearly(base: Array, response: Array, moves: Array) -> Array:
    """Return the value at the point moved by each multiple of its response.

    Parameters
    ----------
    base
        Value at the point, (1, ...).
    response
        Response, (K, ...).
    moves
        Multiples, (M,).

    Returns
    -------
    Array
        Moved values, (K M, ...).
    """
    moved_values = response[:, None].astype(base.dtype, copy=False) * moves.reshape(-1, *(1,) * (base.ndim - 1))
    moved_values += base
    return moved_values.reshape(-1, *base.shape[1:])


def _multiply_with_errors(values: Array, coefficients: Array | None, observer: NodeObserver | None) -> Array:
    """Return values times their coefficients, None for 1, with the product's error."""
    # A product with 1 does not round.
    if coefficients is None or np.all(coefficients == 1):
        return values
    product = values * coefficients
    return product if observer is None else observer.operation(product)


def _join_terms(terms: Sequence[Array]) -> Array:
    """Return the terms of several ends, each (K or 1, n), as one array."""
    if len(terms) == 1:
        return terms[0]
    batch_size = max(map(len, terms))
    return np.concatenate([broadcast_batch(node_terms, batch_size) for node_terms in terms], axis=1)


def _get_coefficients_or_one(coefficients: Array | None) -> Array:
    return np.ones((1, 1)) if coefficients is None else coefficients
