"""Which tensors are differenced, and how the others follow: the cheapest way, estimated before anything is computed.

What reads a tensor linearly hands its quotients back (`pull.py`); what reads it otherwise sees it move (`probe.py`).
Where moving the tensor itself in all that reads it takes less, that is done: a scalar weight needs one evaluation
and not one for each element of what it scales.
"""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from service.numerics.gradients.finite_difference.colouring import Colouring, coloured, coloured_by
from service.numerics.gradients.finite_difference.method import ADAPTIVE, Method
from service.numerics.gradients.finite_difference.point import Point
from service.numerics.gradients.finite_difference.probe import TILE_ELEMENTS
from service.numerics.gradients.finite_difference.pull import Pull
from service.numerics.gradients.finite_difference.suffix import Suffix
from service.numerics.graph import Graph, Node
from service.numerics.kept import kept
from service.numerics.ops.op import CALL, Cost
from service.numerics.pausing import pausing
from service.numerics.tiles import Array, size

_MOST_WEIGHED = 2**14
"""Names times nodes up to which ways are weighed against each other."""
_SETUP = 12
"""Passes of a probe before its first difference: the search for its scale, and the measurement of its noise."""


@dataclass(frozen=True, eq=False)
class Moving:
    """What a probe moves, and how many of its colours are wanted."""

    suffix: Suffix
    method: Method

    @kept
    def colouring(self) -> Colouring:
        """Of its elements."""
        return coloured(self.suffix)

    @property
    def through(self) -> frozenset[str] | None:
        """Readers that see it move; None for all."""
        return self.suffix.through

    def cost(self, colours: int) -> int:
        """Multiply-adds that a first rung takes."""
        cost = self._cost
        evaluations = self.method.evaluations * colours
        passes = math.ceil(evaluations * self.suffix.widest / TILE_ELEMENTS)
        return (passes + _SETUP) * CALL * cost.calls + (evaluations + _SETUP) * cost.work

    @kept
    def _cost(self) -> Cost:
        return self.suffix.point.graph.cost(self.suffix.nodes)


@dataclass(frozen=True, eq=False)
class Route:
    """How one tensor or node is differenced: by what comes back from its readers, and by what it moves.

    Attributes
    ----------
    pulls
        Of the readers that hand back.
    moving
        What it moves in the others, or in all of them; None where there are no others.
    """

    name: str
    pulls: tuple[Pull, ...]
    moving: Moving | None


class Way(NamedTuple):
    """What a rung takes.

    Attributes
    ----------
    routes
        Of what is needed, each behind what it follows from.
    colours
        Of each probe.
    """

    routes: Sequence[Route]
    colours: Mapping[str, Array]


class Plan:
    """How each of the names, and what they follow from, is differenced.

    Parameters
    ----------
    graph
        The model.
    leaves
        Every tensor and weight, (1, ...); the values of the floats do not matter.
    names
        What is asked for.
    method
        How.
    elements
        Flat indices of the elements that are asked for, by name; all of a name that is not in it.
    """

    def __init__(
        self,
        graph: Graph,
        leaves: Mapping[str, Array],
        names: Sequence[str],
        method: Method = ADAPTIVE,
        elements: Mapping[str, Array] | None = None,
    ) -> None:
        self.names = tuple(names)
        self.method = method
        self.elements = dict(elements or {})
        self._point = Point.of_shapes(graph, leaves)
        self._costs: dict[str, dict[object, int]] = {}
        self._routes: dict[str, Route] = {}
        self._direct: dict[str, Moving] = {}
        ordered = self._in_order()
        # Of many names in a long graph each would be spread through all of it, only to weigh one way against another.
        self._weighs = len(ordered) * len(graph.nodes) <= _MOST_WEIGHED
        for name in pausing(ordered):
            self._routes[name] = self._route(name)

    @property
    def graph(self) -> Graph:
        """The model."""
        return self._point.graph

    def route(self, name: str) -> Route:
        """How a name is differenced."""
        return self._routes[name]

    def direct(self, name: str) -> Moving:
        """Moving a name in all that reads it."""
        if name not in self._direct:
            self._direct[name] = Moving(Suffix(self._point, name), self.method)
        return self._direct[name]

    def aside(self, name: str) -> Moving:
        """The same, to be used once: it is not kept if it is not there already."""
        return self._direct.get(name) or Moving(Suffix(self._point, name), self.method)

    def alone(self, name: str) -> Route:
        """Differencing a name by moving it, and nothing else."""
        return Route(name, (), self.direct(name))

    def cheaper_alone(self, wanted: Mapping[str, Array]) -> set[str]:
        """Names of which so few elements are wanted, by flat index, that moving these takes less than its way."""
        found = {name for name, elements in wanted.items() if self._is_cheaper_alone(name, elements)}
        others = (self._routes[name] for name in self.needed(wanted, found) if name not in found)
        return found - {pull.reader for route in others for pull in route.pulls}

    def _is_cheaper_alone(self, name: str, elements: Array) -> bool:
        if not self._routes[name].pulls or elements.size == self.wanted[name].size:
            return False
        direct = self.direct(name)
        return direct.cost(len(direct.colouring.of(elements))) < sum(self._costs[name].values())

    def needed(self, names: Iterable[str], alone: Collection[str] = ()) -> list[str]:
        """The names, and what they follow from, each behind what it follows from; nothing for those moved alone."""
        found = set(names)
        for name in reversed(self._routes):
            if name in found and name not in alone:
                found.update(pull.reader for pull in self._routes[name].pulls)
        return [name for name in self._routes if name in found]

    @staticmethod
    def _colours(routes: Sequence[Route], wanted: Mapping[str, Array]) -> dict[str, Array]:
        whole = {pull.reader for route in routes for pull in route.pulls}
        return {
            route.name: moving.colouring.of(
                None if route.name in whole or moving.through is not None else wanted[route.name]
            )
            for route in routes
            if (moving := route.moving) is not None
        }

    @kept
    def wanted(self) -> dict[str, Array]:
        """Flat indices of the elements that are asked for, by name."""
        everything = {name: np.arange(size(self._point.graph.shapes[name])) for name in self.names}
        return {name: self.elements.get(name, each) for name, each in everything.items()}

    def way(self, wanted: Mapping[str, Array]) -> Way:
        """Find the way of a rung, given the flat indices of the elements wanted of each name."""
        return self._first if wanted is self.wanted else self._way(wanted)

    @kept
    def _first(self) -> Way:
        return self._way(self.wanted)

    def _way(self, wanted: Mapping[str, Array]) -> Way:
        alone = self.cheaper_alone(wanted)
        names = self.needed(wanted, alone)
        routes = [self.alone(name) if name in alone else self._routes[name] for name in names]
        return Way(routes, self._colours(routes, wanted))

    @kept
    def evaluations(self) -> int:
        """Evaluations of the loss that a first rung of everything takes."""
        return self.method.evaluations * sum(map(len, self._first.colours.values()))

    @property
    def work(self) -> int:
        """Multiply-adds that a first rung of everything takes."""
        return self.work_of(self.names)

    def work_of(self, names: Iterable[str]) -> int:
        """Multiply-adds that a first rung of some names takes."""
        costs: dict[object, int] = {}
        for name in names:
            costs |= self._costs[name]
        return sum(costs.values())

    def _in_order(self) -> list[str]:
        """What may be asked for, each behind what it may follow from."""
        found = set(self.names)
        graph = self._point.graph
        ordered = [*(name for name in graph.shapes if name not in self._point.nodes), *(n.name for n in graph.nodes)]
        for name in pausing(ordered):
            if name in found:
                found.update(node.name for node, _ in self._linear(name))
        return [name for name in reversed(ordered) if name in found]

    def _linear(self, name: str) -> list[tuple[Node, int]]:
        """The readers that hand back, with the position where they read the name."""
        if self.method.step is not None:
            return []
        found: list[tuple[Node, int]] = []
        for node in self._point.readers[name]:
            positions = [position for position, operand in enumerate(node.operands) if operand == name]
            # A sum is differenced term by term.
            ends = node.op.ends_in_sum and size(self._point.graph.shapes[node.name]) == 1
            if not ends and all(node.slots[position].name in node.op.linear_in for position in positions):
                found += [(node, position) for position in positions]
        return found

    def _route(self, name: str) -> Route:
        if name == self._point.graph.loss:
            self._costs[name] = {}
            return Route(name, (), None)
        linear = self._linear(name)
        if not linear:
            return self._directly(name)
        pulls = tuple(self._pull(node, position) for node, position in linear)
        handing_back = {node.name for node, _ in linear}
        others = [node.name for node in self._point.readers[name] if node.name not in handing_back]
        costs: dict[object, int] = {}
        for pull in pulls:
            costs |= self._costs[pull.reader] | {pull: pull.cost}
        moving = Moving(Suffix(self._point, name, others), self.method) if others else None
        if moving is not None:
            costs[moving] = moving.cost(moving.colouring.count)
        if self._weighs and self._is_cheaper_directly(name, sum(costs.values())):
            return self._directly(name)
        self._costs[name] = costs
        return Route(name, pulls, moving)

    def _is_cheaper_directly(self, name: str, cost: int) -> bool:
        direct = self.direct(name)
        # Its colours are counted only where that may matter.
        return cost > direct.cost(1) and cost > direct.cost(self._wanted(name, direct))

    def _directly(self, name: str) -> Route:
        direct = self.direct(name)
        self._costs[name] = {direct: direct.cost(self._wanted(name, direct))}
        return Route(name, (), direct)

    def _wanted(self, name: str, moving: Moving) -> int:
        """Colours of the elements that are asked for."""
        return moving.colouring.count if name not in self.elements else len(moving.colouring.of(self.elements[name]))

    def _pull(self, node: Node, position: int) -> Pull:
        shapes = self._point.graph.shapes
        operands = (shapes[each] if isinstance(each, str) else None if each is None else () for each in node.operands)
        cost = node.op.cost(shapes[node.name], *operands)
        products = node.op.products(position, *self._point.inputs(node))
        colouring = coloured_by(self._point, node, position) if products is None else None
        return Pull(
            node.name,
            position,
            0 if products is None else len(products.indices),
            colouring,
            cost,
            size(shapes[node.name]),
        )


def planned(
    graph: Graph,
    leaves: Mapping[str, Array],
    names: Sequence[str],
    method: Method = ADAPTIVE,
    elements: Mapping[str, Array] | None = None,
) -> Plan:
    """Return a plan, made before if it is that of a small model that has been planned of late."""
    question = _Question(graph, leaves, names, method, elements)
    return _kept(question) if _is_small(graph) else question.answered()


_SMALL = 2**14
_MOST_PAIRS, _MOST_FELT = 2**12, 2**17
"""Names times nodes, and names times elements: some 500 bytes are kept of each of the former, 16 of the latter."""
_MOST_KEPT = 16


def _is_small(graph: Graph) -> bool:
    """Whether plans of a model may be kept: each has some megabytes at most."""
    elements = sum(map(size, graph.shapes.values()))
    names = len(graph.shapes)
    return elements <= _SMALL and names * len(graph.nodes) <= _MOST_PAIRS and names * elements <= _MOST_FELT


class _Question:
    """What a plan depends on: of the leaves, the shapes of all and the values of those that are no floats."""

    def __init__(
        self,
        graph: Graph,
        leaves: Mapping[str, Array],
        names: Sequence[str],
        method: Method,
        elements: Mapping[str, Array] | None,
    ) -> None:
        self._asked = graph, leaves, names, method, elements
        self._key = (
            tuple((node.name, repr(node.op), repr(node.operands)) for node in graph.listed),
            tuple((name, leaves[name].shape) for name in leaves),
            tuple((name, leaves[name].tobytes()) for name in graph.kinds),
            tuple(names),
            method,
            tuple((name, each.tobytes()) for name, each in (elements or {}).items()),
        )

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Question) and self._key == other._key

    def answered(self) -> Plan:
        """Make the plan."""
        return Plan(*self._asked)


@lru_cache(_MOST_KEPT)
def _kept(question: _Question) -> Plan:
    return question.answered()
