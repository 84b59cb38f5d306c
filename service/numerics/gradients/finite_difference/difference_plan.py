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

from service.numerics.core.batching import MAX_TILE_ELEMENTS, Array, count_elements
from service.numerics.core.cached_attribute import cached_attribute
from service.numerics.core.interrupts import iterate_interruptibly
from service.numerics.gradients.finite_difference.base_point import BasePoint
from service.numerics.gradients.finite_difference.colouring import Colouring, colour_elements, colour_operand
from service.numerics.gradients.finite_difference.downstream import DownstreamGraph
from service.numerics.gradients.finite_difference.linear_pullback import LinearPullback
from service.numerics.gradients.finite_difference.method import ADAPTIVE_METHOD, DifferenceMethod
from service.numerics.model.graph import Graph, Node
from service.numerics.ops.op import WORK_PER_CALL, ComputeCost

_MAX_WEIGHED_PAIRS = 2**14
"""Names times nodes up to which ways are weighed against each other."""
_SETUP_PASSES = 12
"""Passes of a probe before its first difference: the search for its scale, and the measurement of its noise."""


@dataclass(frozen=True, eq=False)
class Perturbation:
    """What a probe moves, and how many of its colours are wanted."""

    downstream: DownstreamGraph
    method: DifferenceMethod

    @cached_attribute
    def colouring(self) -> Colouring:
        """Of its elements."""
        return colour_elements(self.downstream)

    @property
    def through_readers(self) -> frozenset[str] | None:
        """Readers that see it move; None for all."""
        return self.downstream.through_readers

    def estimate_work(self, colours: int) -> int:
        """Multiply-adds that a first rung takes."""
        cost = self._pass_cost
        evaluations = self.method.evaluations_per_colour * colours
        passes = math.ceil(evaluations * self.downstream.widest_array / MAX_TILE_ELEMENTS)
        return (passes + _SETUP_PASSES) * WORK_PER_CALL * cost.calls + (evaluations + _SETUP_PASSES) * cost.work

    @cached_attribute
    def _pass_cost(self) -> ComputeCost:
        return self.downstream.point.graph.estimate_cost(self.downstream.nodes)


@dataclass(frozen=True, eq=False)
class DifferencePath:
    """How one tensor or node is differenced: by what comes back from its readers, and by what it moves.

    Attributes
    ----------
    pulls
        Of the readers that hand back.
    moving
        What it moves in the others, or in all of them; None where there are no others.
    """

    name: str
    pullbacks: tuple[LinearPullback, ...]
    perturbation: Perturbation | None


class LevelPlan(NamedTuple):
    """What a rung takes.

    Attributes
    ----------
    routes
        Of what is needed, each behind what it follows from.
    colours
        Of each probe.
    """

    paths: Sequence[DifferencePath]
    colours_by_name: Mapping[str, Array]


class DifferencePlan:
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
        method: DifferenceMethod = ADAPTIVE_METHOD,
        elements: Mapping[str, Array] | None = None,
    ) -> None:
        self.names = tuple(names)
        self.method = method
        self.examined_elements = dict(elements or {})
        self._point = BasePoint.from_shapes(graph, leaves)
        self._work_by_name: dict[str, dict[object, int]] = {}
        self._paths: dict[str, DifferencePath] = {}
        self._direct_perturbations: dict[str, Perturbation] = {}
        ordered = self._candidate_names()
        # Of many names in a long graph each would be spread through all of it, only to weigh one way against another.
        self._compares_paths = len(ordered) * len(graph.nodes) <= _MAX_WEIGHED_PAIRS
        for name in iterate_interruptibly(ordered):
            self._paths[name] = self._choose_path(name)

    @property
    def graph(self) -> Graph:
        """The model."""
        return self._point.graph

    def path_of(self, name: str) -> DifferencePath:
        """How a name is differenced."""
        return self._paths[name]

    def direct_perturbation(self, name: str) -> Perturbation:
        """Moving a name in all that reads it."""
        if name not in self._direct_perturbations:
            self._direct_perturbations[name] = Perturbation(DownstreamGraph(self._point, name), self.method)
        return self._direct_perturbations[name]

    def uncached_perturbation(self, name: str) -> Perturbation:
        """The same, to be used once: it is not kept if it is not there already."""
        return self._direct_perturbations.get(name) or Perturbation(DownstreamGraph(self._point, name), self.method)

    def direct_path(self, name: str) -> DifferencePath:
        """Differencing a name by moving it, and nothing else."""
        return DifferencePath(name, (), self.direct_perturbation(name))

    def names_cheaper_directly(self, wanted_elements: Mapping[str, Array]) -> set[str]:
        """Names of which so few elements are wanted, by flat index, that moving these takes less than its way."""
        found = {name for name, elements in wanted_elements.items() if self._is_cheaper_for_elements(name, elements)}
        others = (self._paths[name] for name in self.needed_names(wanted_elements, found) if name not in found)
        return found - {pull.reader_name for route in others for pull in route.pullbacks}

    def _is_cheaper_for_elements(self, name: str, elements: Array) -> bool:
        if not self._paths[name].pullbacks or elements.size == self.wanted_elements[name].size:
            return False
        direct = self.direct_perturbation(name)
        return direct.estimate_work(len(direct.colouring.colours_of(elements))) < sum(self._work_by_name[name].values())

    def needed_names(self, names: Iterable[str], direct_names: Collection[str] = ()) -> list[str]:
        """The names, and what they follow from, each behind what it follows from; nothing for those moved alone."""
        found = set(names)
        for name in reversed(self._paths):
            if name in found and name not in direct_names:
                found.update(pull.reader_name for pull in self._paths[name].pullbacks)
        return [name for name in self._paths if name in found]

    @staticmethod
    def _needed_colours(paths: Sequence[DifferencePath], wanted_elements: Mapping[str, Array]) -> dict[str, Array]:
        whole = {pull.reader_name for route in paths for pull in route.pullbacks}
        return {
            route.name: moving.colouring.colours_of(
                None if route.name in whole or moving.through_readers is not None else wanted_elements[route.name]
            )
            for route in paths
            if (moving := route.perturbation) is not None
        }

    @cached_attribute
    def wanted_elements(self) -> dict[str, Array]:
        """Flat indices of the elements that are asked for, by name."""
        everything = {name: np.arange(count_elements(self._point.graph.shapes[name])) for name in self.names}
        return {name: self.examined_elements.get(name, each) for name, each in everything.items()}

    def plan_level(self, wanted: Mapping[str, Array]) -> LevelPlan:
        """Find the way of a rung, given the flat indices of the elements wanted of each name."""
        return self._first_level_plan if wanted is self.wanted_elements else self._make_level_plan(wanted)

    @cached_attribute
    def _first_level_plan(self) -> LevelPlan:
        return self._make_level_plan(self.wanted_elements)

    def _make_level_plan(self, wanted: Mapping[str, Array]) -> LevelPlan:
        alone = self.names_cheaper_directly(wanted)
        names = self.needed_names(wanted, alone)
        routes = [self.direct_path(name) if name in alone else self._paths[name] for name in names]
        return LevelPlan(routes, self._needed_colours(routes, wanted))

    @cached_attribute
    def first_level_evaluations(self) -> int:
        """Evaluations of the loss that a first rung of everything takes."""
        return self.method.evaluations_per_colour * sum(map(len, self._first_level_plan.colours_by_name.values()))

    @property
    def first_level_work(self) -> int:
        """Multiply-adds that a first rung of everything takes."""
        return self.first_level_work_of(self.names)

    def first_level_work_of(self, names: Iterable[str]) -> int:
        """Multiply-adds that a first rung of some names takes."""
        costs: dict[object, int] = {}
        for name in names:
            costs |= self._work_by_name[name]
        return sum(costs.values())

    def _candidate_names(self) -> list[str]:
        """What may be asked for, each behind what it may follow from."""
        found = set(self.names)
        graph = self._point.graph
        ordered = [*(name for name in graph.shapes if name not in self._point.nodes), *(n.name for n in graph.nodes)]
        for name in iterate_interruptibly(ordered):
            if name in found:
                found.update(node.name for node, _ in self._linear_readers(name))
        return [name for name in reversed(ordered) if name in found]

    def _linear_readers(self, name: str) -> list[tuple[Node, int]]:
        """The readers that hand back, with the position where they read the name."""
        if self.method.given_step is not None:
            return []
        found: list[tuple[Node, int]] = []
        for node in self._point.readers_by_name[name]:
            positions = [position for position, operand in enumerate(node.operands) if operand == name]
            # A sum is differenced term by term.
            ends = node.op.ends_in_sum and count_elements(self._point.graph.shapes[node.name]) == 1
            if not ends and all(node.operand_slots[position].name in node.op.linear_in for position in positions):
                found += [(node, position) for position in positions]
        return found

    def _choose_path(self, name: str) -> DifferencePath:
        if name == self._point.graph.loss_name:
            self._work_by_name[name] = {}
            return DifferencePath(name, (), None)
        linear = self._linear_readers(name)
        if not linear:
            return self._make_direct_path(name)
        pulls = tuple(self._make_pullback(node, position) for node, position in linear)
        handing_back = {node.name for node, _ in linear}
        others = [node.name for node in self._point.readers_by_name[name] if node.name not in handing_back]
        costs: dict[object, int] = {}
        for pull in pulls:
            costs |= self._work_by_name[pull.reader_name] | {pull: pull.work}
        moving = Perturbation(DownstreamGraph(self._point, name, others), self.method) if others else None
        if moving is not None:
            costs[moving] = moving.estimate_work(moving.colouring.colour_count)
        if self._compares_paths and self._is_direct_cheaper(name, sum(costs.values())):
            return self._make_direct_path(name)
        self._work_by_name[name] = costs
        return DifferencePath(name, pulls, moving)

    def _is_direct_cheaper(self, name: str, cost: int) -> bool:
        direct = self.direct_perturbation(name)
        # Its colours are counted only where that may matter.
        return cost > direct.estimate_work(1) and cost > direct.estimate_work(self._count_wanted_colours(name, direct))

    def _make_direct_path(self, name: str) -> DifferencePath:
        direct = self.direct_perturbation(name)
        self._work_by_name[name] = {direct: direct.estimate_work(self._count_wanted_colours(name, direct))}
        return DifferencePath(name, (), direct)

    def _count_wanted_colours(self, name: str, perturbation: Perturbation) -> int:
        """Colours of the elements that are asked for."""
        return (
            perturbation.colouring.colour_count
            if name not in self.examined_elements
            else len(perturbation.colouring.colours_of(self.examined_elements[name]))
        )

    def _make_pullback(self, node: Node, position: int) -> LinearPullback:
        shapes = self._point.graph.shapes
        operands = (shapes[each] if isinstance(each, str) else None if each is None else () for each in node.operands)
        cost = node.op.estimate_cost(shapes[node.name], *operands)
        products = node.op.expand_products(position, *self._point.operand_arrays(node))
        colouring = colour_operand(self._point, node, position) if products is None else None
        return LinearPullback(
            node.name,
            position,
            0 if products is None else len(products.indices),
            colouring,
            cost,
            count_elements(shapes[node.name]),
        )


def plan_differences(
    graph: Graph,
    leaves: Mapping[str, Array],
    names: Sequence[str],
    method: DifferenceMethod = ADAPTIVE_METHOD,
    elements: Mapping[str, Array] | None = None,
) -> DifferencePlan:
    """Return a plan, made before if it is that of a small model that has been planned of late."""
    question = _PlanKey(graph, leaves, names, method, elements)
    return _make_cached_plan(question) if _is_cacheable(graph) else question.make_plan()


_MAX_CACHED_ELEMENTS = 2**14
_MAX_CACHED_NAME_NODE_PAIRS, _MAX_CACHED_NAME_ELEMENT_PAIRS = 2**12, 2**17
"""Names times nodes, and names times elements: some 500 bytes are kept of each of the former, 16 of the latter."""
_MAX_CACHED_PLANS = 16


def _is_cacheable(graph: Graph) -> bool:
    """Whether plans of a model may be kept: each has some megabytes at most."""
    elements = sum(map(count_elements, graph.shapes.values()))
    names = len(graph.shapes)
    return (
        elements <= _MAX_CACHED_ELEMENTS
        and names * len(graph.nodes) <= _MAX_CACHED_NAME_NODE_PAIRS
        and names * elements <= _MAX_CACHED_NAME_ELEMENT_PAIRS
    )


class _PlanKey:
    """What a plan depends on: of the leaves, the shapes of all and the values of those that are no floats."""

    def __init__(
        self,
        graph: Graph,
        leaves: Mapping[str, Array],
        names: Sequence[str],
        method: DifferenceMethod,
        elements: Mapping[str, Array] | None,
    ) -> None:
        self._arguments = graph, leaves, names, method, elements
        self._key = (
            tuple((node.name, repr(node.op), repr(node.operands)) for node in graph.listed_nodes),
            tuple((name, leaves[name].shape) for name in leaves),
            tuple((name, leaves[name].tobytes()) for name in graph.leaf_kinds),
            tuple(names),
            method,
            tuple((name, each.tobytes()) for name, each in (elements or {}).items()),
        )

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _PlanKey) and self._key == other._key

    def make_plan(self) -> DifferencePlan:
        """Make the plan."""
        return DifferencePlan(*self._arguments)


@lru_cache(_MAX_CACHED_PLANS)
def _make_cached_plan(plan_key: _PlanKey) -> DifferencePlan:
    return plan_key.make_plan()
