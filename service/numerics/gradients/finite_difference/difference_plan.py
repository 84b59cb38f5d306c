"""The choice of the tensors that are moved, and of how the others follow.

A linear reader of a tensor hands its quotients back (`linear_pullback.py`). Another reader sees the tensor move
(`probe.py`). The plan moves the tensor itself in all its readers if that takes less: a scalar weight needs one
evaluation and not one for each of the scaled elements. The plan estimates the cheapest way before anything is computed.
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
"""Names times nodes up to which the plan compares paths."""
_SETUP_PASSES = 12
"""Passes of a probe before its first difference.

They search its scale, and measure its noise.
"""


@dataclass(frozen=True, eq=False)
class Perturbation:
    """The moves of one name in some of its readers, and their cost."""

    downstream: DownstreamGraph
    method: DifferenceMethod

    @cached_attribute
    def colouring(self) -> Colouring:
        """Return the colouring of the elements that move."""
        return colour_elements(self.downstream)

    @property
    def through_readers(self) -> frozenset[str] | None:
        """Return the readers that see the name move; None for all."""
        return self.downstream.through_readers

    def estimate_work(self, colours: int) -> int:
        """Return the multiply-adds of a first level with so many colours."""
        cost = self._pass_cost
        evaluations = self.method.evaluations_per_colour * colours
        passes = math.ceil(evaluations * self.downstream.widest_array / MAX_TILE_ELEMENTS)
        return (passes + _SETUP_PASSES) * WORK_PER_CALL * cost.calls + (evaluations + _SETUP_PASSES) * cost.work

    @cached_attribute
    def _pass_cost(self) -> ComputeCost:
        return self.downstream.point.graph.estimate_cost(self.downstream.nodes)


@dataclass(frozen=True, eq=False)
class DifferencePath:
    """The way in which one tensor or node is differenced.

    Attributes
    ----------
    name
        Name of the tensor or node.
    pullbacks
        Pullbacks of the readers that hand quotients back.
    perturbation
        Moves of the name in the other readers, or in all; None without other readers.
    """

    name: str
    pullbacks: tuple[LinearPullback, ...]
    perturbation: Perturbation | None


class LevelPlan(NamedTuple):
    """The differences of one level.

    Attributes
    ----------
    paths
        Path of each needed name, behind those of the names that it follows from.
    colours_by_name
        Colours of each probe.
    """

    paths: Sequence[DifferencePath]
    colours_by_name: Mapping[str, Array]


class DifferencePlan:
    """The paths of all names, and of the names that they follow from.

    Parameters
    ----------
    graph
        The model.
    leaves
        Every tensor and weight, (1, ...). The values of the floats do not matter.
    names
        Names to difference by.
    method
        Method of the differences; the adaptive one by default.
    elements
        Flat indices of the examined elements, by name; all elements of a name without an entry.
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
        ordered = self._list_candidate_names()
        # With many names in a long graph the labels of each would go through all of it, only to compare paths.
        self._compares_paths = len(ordered) * len(graph.nodes) <= _MAX_WEIGHED_PAIRS
        for name in iterate_interruptibly(ordered):
            self._paths[name] = self._choose_path(name)

    @property
    def graph(self) -> Graph:
        """Return the model."""
        return self._point.graph

    def get_path(self, name: str) -> DifferencePath:
        """Return the path of a name."""
        return self._paths[name]

    def get_direct_perturbation(self, name: str) -> Perturbation:
        """Return the moves of a name in all its readers, kept for later."""
        if name not in self._direct_perturbations:
            self._direct_perturbations[name] = Perturbation(DownstreamGraph(self._point, name), self.method)
        return self._direct_perturbations[name]

    def make_perturbation(self, name: str) -> Perturbation:
        """Return the moves of a name in all its readers, for a single use.

        They are kept only if they are already.
        """
        return self._direct_perturbations.get(name) or Perturbation(DownstreamGraph(self._point, name), self.method)

    def get_direct_path(self, name: str) -> DifferencePath:
        """Return the path that moves a name, and nothing else."""
        return DifferencePath(name, (), self.get_direct_perturbation(name))

    def find_names_cheaper_directly(self, wanted_elements: Mapping[str, Array]) -> set[str]:
        """Return the names of so few wanted elements that moving them is cheaper.

        Parameters
        ----------
        wanted_elements
            Flat indices of the wanted elements, by name.
        """
        cheaper_names = {
            name for name, elements in wanted_elements.items() if self._is_cheaper_for_elements(name, elements)
        }
        other_paths = (
            self._paths[name]
            for name in self.find_needed_names(wanted_elements, cheaper_names)
            if name not in cheaper_names
        )
        return cheaper_names - {pullback.reader_name for path in other_paths for pullback in path.pullbacks}

    def _is_cheaper_for_elements(self, name: str, elements: Array) -> bool:
        if not self._paths[name].pullbacks or elements.size == self.wanted_elements[name].size:
            return False
        direct_perturbation = self.get_direct_perturbation(name)
        return direct_perturbation.estimate_work(len(direct_perturbation.colouring.get_colours(elements))) < sum(
            self._work_by_name[name].values()
        )

    def find_needed_names(self, names: Iterable[str], direct_names: Collection[str] = ()) -> list[str]:
        """Return the names and those that they follow from, each behind the latter.

        Names in `direct_names` follow from no others.
        """
        names_in_use = set(names)
        for name in reversed(self._paths):
            if name in names_in_use and name not in direct_names:
                names_in_use.update(pullback.reader_name for pullback in self._paths[name].pullbacks)
        return [name for name in self._paths if name in names_in_use]

    @staticmethod
    def _find_needed_colours(paths: Sequence[DifferencePath], wanted_elements: Mapping[str, Array]) -> dict[str, Array]:
        reader_names = {pullback.reader_name for path in paths for pullback in path.pullbacks}
        return {
            path.name: perturbation.colouring.get_colours(
                None
                if path.name in reader_names or perturbation.through_readers is not None
                else wanted_elements[path.name]
            )
            for path in paths
            if (perturbation := path.perturbation) is not None
        }

    @cached_attribute
    def wanted_elements(self) -> dict[str, Array]:
        """Return the flat indices of the examined elements, by name."""
        all_elements = {name: np.arange(count_elements(self._point.graph.shapes[name])) for name in self.names}
        return {name: self.examined_elements.get(name, indices) for name, indices in all_elements.items()}

    def plan_level(self, wanted_elements: Mapping[str, Array]) -> LevelPlan:
        """Return the plan of a level.

        Parameters
        ----------
        wanted_elements
            Flat indices of the wanted elements, by name.
        """
        return (
            self._first_level_plan
            if wanted_elements is self.wanted_elements
            else self._make_level_plan(wanted_elements)
        )

    @cached_attribute
    def _first_level_plan(self) -> LevelPlan:
        return self._make_level_plan(self.wanted_elements)

    def _make_level_plan(self, wanted_elements: Mapping[str, Array]) -> LevelPlan:
        direct_names = self.find_names_cheaper_directly(wanted_elements)
        names = self.find_needed_names(wanted_elements, direct_names)
        paths = [self.get_direct_path(name) if name in direct_names else self._paths[name] for name in names]
        return LevelPlan(paths, self._find_needed_colours(paths, wanted_elements))

    @cached_attribute
    def first_level_evaluations(self) -> int:
        """Return the evaluations of the loss in a first level of all names."""
        return self.method.evaluations_per_colour * sum(map(len, self._first_level_plan.colours_by_name.values()))

    @property
    def first_level_work(self) -> int:
        """Return the multiply-adds of a first level of all names."""
        return self.estimate_first_level_work(self.names)

    def estimate_first_level_work(self, names: Iterable[str]) -> int:
        """Return the multiply-adds of a first level of some names."""
        costs: dict[object, int] = {}
        for name in names:
            costs |= self._work_by_name[name]
        return sum(costs.values())

    def _list_candidate_names(self) -> list[str]:
        """Return all names that may be differenced, each behind those it may follow from."""
        candidates = set(self.names)
        graph = self._point.graph
        ordered = [
            *(name for name in graph.shapes if name not in self._point.nodes),
            *(node.name for node in graph.nodes),
        ]
        for name in iterate_interruptibly(ordered):
            if name in candidates:
                candidates.update(node.name for node, _ in self._find_linear_readers(name))
        return [name for name in reversed(ordered) if name in candidates]

    def _find_linear_readers(self, name: str) -> list[tuple[Node, int]]:
        """Return the readers that hand back, with the position where they read the name."""
        if self.method.given_step is not None:
            return []
        linear_readers: list[tuple[Node, int]] = []
        for node in self._point.readers_by_name[name]:
            positions = [position for position, operand in enumerate(node.operands) if operand == name]
            # A sum is differenced term by term.
            is_total = node.op.ends_in_sum and count_elements(self._point.graph.shapes[node.name]) == 1
            if not is_total and all(node.operand_slots[position].name in node.op.linear_in for position in positions):
                linear_readers += [(node, position) for position in positions]
        return linear_readers

    def _choose_path(self, name: str) -> DifferencePath:
        if name == self._point.graph.loss_name:
            self._work_by_name[name] = {}
            return DifferencePath(name, (), None)
        linear_readers = self._find_linear_readers(name)
        if not linear_readers:
            return self._make_direct_path(name)
        pullbacks = tuple(self._make_pullback(node, position) for node, position in linear_readers)
        linear_reader_names = {node.name for node, _ in linear_readers}
        other_readers = [
            node.name for node in self._point.readers_by_name[name] if node.name not in linear_reader_names
        ]
        costs: dict[object, int] = {}
        for pullback in pullbacks:
            costs |= self._work_by_name[pullback.reader_name] | {pullback: pullback.work}
        perturbation = (
            Perturbation(DownstreamGraph(self._point, name, other_readers), self.method) if other_readers else None
        )
        if perturbation is not None:
            costs[perturbation] = perturbation.estimate_work(perturbation.colouring.colour_count)
        if self._compares_paths and self._is_direct_cheaper(name, sum(costs.values())):
            return self._make_direct_path(name)
        self._work_by_name[name] = costs
        return DifferencePath(name, pullbacks, perturbation)

    def _is_direct_cheaper(self, name: str, cost: int) -> bool:
        direct_perturbation = self.get_direct_perturbation(name)
        # Its colours are counted only if they may matter, since counting takes time.
        return cost > direct_perturbation.estimate_work(1) and cost > direct_perturbation.estimate_work(
            self._count_wanted_colours(name, direct_perturbation)
        )

    def _make_direct_path(self, name: str) -> DifferencePath:
        perturbation = self.get_direct_perturbation(name)
        self._work_by_name[name] = {
            perturbation: perturbation.estimate_work(self._count_wanted_colours(name, perturbation))
        }
        return DifferencePath(name, (), perturbation)

    def _count_wanted_colours(self, name: str, perturbation: Perturbation) -> int:
        """Return the number of colours of the examined elements."""
        return (
            perturbation.colouring.colour_count
            if name not in self.examined_elements
            else len(perturbation.colouring.get_colours(self.examined_elements[name]))
        )

    def _make_pullback(self, node: Node, position: int) -> LinearPullback:
        shapes = self._point.graph.shapes
        operand_shapes = (
            shapes[operand] if isinstance(operand, str) else None if operand is None else ()
            for operand in node.operands
        )
        cost = node.op.estimate_cost(shapes[node.name], *operand_shapes)
        products = node.op.expand_products(position, *self._point.get_operand_arrays(node))
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
    """Return a plan for the differences by some names.

    A plan of a small model comes from a cache, if it was made before.
    """
    leaves = {**leaves, **graph.evaluate_discrete_nodes(leaves)}
    plan_key = _PlanKey(graph, leaves, names, method, elements)
    return _make_cached_plan(plan_key) if _is_cacheable(graph) else plan_key.make_plan()


_MAX_CACHED_ELEMENTS = 2**14
_MAX_CACHED_NAME_NODE_PAIRS, _MAX_CACHED_NAME_ELEMENT_PAIRS = 2**12, 2**17
"""Names times nodes, and names times elements. The former take some 500 bytes each in the cache, the latter 16."""
_MAX_CACHED_PLANS = 16


def _is_cacheable(graph: Graph) -> bool:
    """Return whether plans of a model may be kept: each has some megabytes at most."""
    elements = sum(map(count_elements, graph.shapes.values()))
    names = len(graph.shapes)
    return (
        elements <= _MAX_CACHED_ELEMENTS
        and names * len(graph.nodes) <= _MAX_CACHED_NAME_NODE_PAIRS
        and names * elements <= _MAX_CACHED_NAME_ELEMENT_PAIRS
    )


class _PlanKey:
    """The arguments of a plan that it depends on.

    These are the shapes of all leaves, and the values of those that are no floats.
    """

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
            tuple(graph.empty_shapes.items()),
            tuple((name, leaves[name].shape) for name in leaves),
            tuple((name, leaves[name].tobytes()) for name in graph.leaf_kinds),
            tuple(names),
            method,
            tuple((name, indices.tobytes()) for name, indices in (elements or {}).items()),
        )

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _PlanKey) and self._key == other._key

    def make_plan(self) -> DifferencePlan:
        """Return a new plan."""
        return DifferencePlan(*self._arguments)


@lru_cache(_MAX_CACHED_PLANS)
def _make_cached_plan(plan_key: _PlanKey) -> DifferencePlan:
    return plan_key.make_plan()
