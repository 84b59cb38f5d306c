"""Evaluating what lies downstream of a moved tensor, and nothing else.

Through ops that are linear in what moves, a move by h d is h times the response to d: it is worked out once for all
steps, and what it is added to is the value at the base. So no step is lost to rounding at the point itself, and a
convolution is taken once for a table of steps. From the first op that is not linear on, everything is evaluated anew,
behind the tile axis.
"""

from collections.abc import Mapping, Sequence
from functools import cached_property

from service.numerics.graph import Graph, Node, Values
from service.numerics.tiles import Array, repeated, size


class Suffix:
    """The nodes downstream of a name.

    Parameters
    ----------
    graph
        The model, held to its pieces.
    base
        Every leaf and node, (1, ...).
    name
        The tensor or node that moves.
    """

    def __init__(self, graph: Graph, base: Mapping[str, Array], name: str) -> None:
        self._graph = graph
        self._base = base
        self.name = name
        """The tensor or node that moves."""
        self._nodes = graph.downstream([name])
        self._proportional = _proportional(self._nodes, name)

    @property
    def exact(self) -> bool:
        """Whether moves need not be represented at the point, since all that reads it is linear."""
        return bool(self._proportional)

    @cached_property
    def phases(self) -> set[str]:
        """What ops that oscillate read."""
        return {source for node in self._nodes if node.op.oscillates for source in node.sources}

    @cached_property
    def widest(self) -> int:
        """Elements of the largest array that an evaluation makes."""
        return max(size(self._graph.shapes[each]) for each in (self.name, *(node.name for node in self._nodes)))

    def responses(self, directions: Array) -> Values:
        """What everything that moves in proportion moves by, for each direction of the name, (K, ...)."""
        responses: Values = {self.name: directions}
        for node in self._nodes:
            if node.name in self._proportional:
                responses[node.name] = self._response(node, responses)
        return responses

    def terms(self, responses: Values, moves: Array) -> Array:
        """Terms of the loss at the point moved by each direction times each of the moves: (K, M, terms)."""
        return self._evaluated(responses, moves)[1]

    def values(self, responses: Values, moves: Array) -> Values:
        """Everything that moves, but for the loss of an op that ends in a sum, there: (K M, ...)."""
        moved, _ = self._evaluated(responses, moves)
        return moved | {
            name: _moved(self._base[name], response, moves) for name, response in responses.items() if name not in moved
        }

    def _evaluated(self, responses: Values, moves: Array) -> tuple[Values, Array]:
        """What had to be evaluated, and the terms."""
        count = len(responses[self.name])
        moved: Values = {}

        def value(name: str) -> Array:
            if name not in moved and name in responses:
                moved[name] = _moved(self._base[name], responses[name], moves)
            return moved.get(name, self._base[name])

        def inputs(node: Node) -> tuple[Array | None, ...]:
            return self._graph.inputs(node, {**self._base, **{source: value(source) for source in node.sources}})

        *others, last = self._nodes
        for node in others:
            if node.name not in responses:
                moved[node.name] = node.forward(*inputs(node))
        if not last.op.ends_in_sum and last.name not in responses:
            moved[last.name] = last.forward(*inputs(last))
        output = None if last.op.ends_in_sum else value(last.name)
        terms = repeated(last.terms(output, *inputs(last)), count * len(moves))
        return moved, terms.reshape(count, len(moves), -1)

    def _response(self, node: Node, responses: Values) -> Array:
        base = self._graph.inputs(node, self._base)
        first, *others = (
            node.op.response(position, responses[operand], *base)
            for position, operand in enumerate(node.operands)
            if isinstance(operand, str) and operand in responses
        )
        return sum(others, start=first)


def _proportional(nodes: Sequence[Node], name: str) -> set[str]:
    """What moves in proportion to a name; nothing, not even the name, unless all that reads it does."""
    moving, found = {name}, {name}
    for node in nodes:
        sources = moving & set(node.sources)
        moving.add(node.name)
        if sources <= found and _linear(node, sources):
            found.add(node.name)
        elif name in sources:
            return set()
    return found


def _linear(node: Node, moving: set[str]) -> bool:
    """Whether a node is linear, jointly, in all its operands that move."""
    if node.branch is not None:
        return False
    slots = [slot.name for slot, operand in zip(node.slots, node.operands, strict=True) if operand in moving]
    linear_in = node.op.linear_in
    if any(slot not in linear_in for slot in slots):
        return False
    return all(other in linear_in[slot] for i, slot in enumerate(slots) for other in slots[i + 1 :])


def _moved(base: Array, response: Array, moves: Array) -> Array:
    """Value at the base, (1, ...), moved by its response, (K, ...), times each move, (M,): (K M, ...)."""
    moved = response[:, None] * moves.reshape(-1, *(1,) * (base.ndim - 1))
    moved += base
    return moved.reshape(-1, *base.shape[1:])
