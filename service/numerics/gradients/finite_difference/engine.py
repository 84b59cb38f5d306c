"""Finite differences of the loss, with a bound for each element.

A plan says which tensors are moved and how the others follow (`plan.py`). Rung by rung, each of one first step and its
halvings, the quotients of all of them are had, extrapolated element by element, and kept where their bound is the
smallest yet; a further rung is for the elements whose bound could be narrower.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from functools import reduce
from typing import NamedTuple, Protocol

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.core.cached_attribute import cached_attribute
from service.numerics.core.difference import Difference, DifferenceStatus
from service.numerics.gradients.finite_difference.ambiguous_branches import find_ambiguous_branches
from service.numerics.gradients.finite_difference.base_point import BasePoint
from service.numerics.gradients.finite_difference.difference_plan import (
    DifferencePath,
    DifferencePlan,
    Perturbation,
    plan_differences,
)
from service.numerics.gradients.finite_difference.inline_executor import InlineExecutor
from service.numerics.gradients.finite_difference.method import ADAPTIVE_METHOD, DifferenceMethod, StepLevel
from service.numerics.gradients.finite_difference.noise_meter import NoiseMeter, evaluate_with_sweeps
from service.numerics.gradients.finite_difference.probe import (
    EXTENDED_ROUNDOFF,
    DifferenceProbe,
    OneSidedMove,
    StepTable,
)
from service.numerics.gradients.finite_difference.quotients import (
    DifferenceQuotients,
    make_exact_quotients,
    sum_quotients,
)
from service.numerics.model.graph import Graph

_TIGHT_BOUND = 2.0**-33
"""Bound, as a part of the largest element, below which no further rung is tried."""
_DECIDED_BOUND, _NEGLIGIBLE_FRACTION = 1e-5, 1e-6
"""Bound, as a part of the element or of this part of the largest, below which no verdict asks for less."""
_MAX_EXTENDED_ROUNDOFF = 1e-18
"""Unit roundoff of an extended precision that is one."""
_MAX_EXTENDED_WORK = 2**25
"""Multiply-adds of a rung in extended precision, which has no library of its own for products of matrices."""


class DifferenceProgress(Protocol):
    """Is told between tiles how far the engine is, and may raise to stop it."""

    def __call__(self, name: str, done: int, total: int) -> None:
        """Take note of `done` of `total` evaluations of the loss, the last of them for the tensor or node `name`."""
        ...


def differentiate_numerically(
    graph: Graph,
    leaves: Mapping[str, Array],
    names: Sequence[str],
    method: DifferenceMethod = ADAPTIVE_METHOD,
    seed: int = 0,
    progress: DifferenceProgress | None = None,
    elements: Mapping[str, Array] | None = None,
    executor: Executor | None = None,
    plan: DifferencePlan | None = None,
) -> dict[str, Difference]:
    """Difference the loss with respect to each of the names.

    Parameters
    ----------
    graph
        The model.
    leaves
        Every tensor and weight in float64, (1, ...).
    names
        Tensors, weights or nodes.
    method
        How.
    seed
        All that is random follows from it.
    progress
        Called between tiles.
    elements
        Flat indices of the elements that are asked for, by name; all of a name that is not in it.
    executor
        Where blocks of evaluations run, which are independent of one another; here, one after the other, by default.
    plan
        Of the same names of the same graph, where it has been made already; method and elements are its own.
    """
    plan = plan or plan_differences(graph, leaves, names, method, elements)
    # Steps may leave the domain of the loss; what is not finite there is looked for in the results.
    with np.errstate(all="ignore"):
        return _DifferenceEngine(
            graph, leaves, plan, seed, progress, executor or InlineExecutor()
        ).compute_differences()


class _DifferenceEngine:
    """The differences of one plan at one point."""

    def __init__(
        self,
        graph: Graph,
        leaves: Mapping[str, Array],
        plan: DifferencePlan,
        seed: int,
        progress: DifferenceProgress | None,
        executor: Executor,
    ) -> None:
        self._plan = plan
        self._generator = np.random.default_rng([seed, 0xFD])
        # On the pieces of the point, so that no step has to be smaller than the way to the next kink.
        self._point, sweeps = evaluate_with_sweeps(graph, leaves, self._generator)
        self._noise_meter = NoiseMeter(self._point, sweeps, self._generator)
        base = self._point.values
        self._ambiguous_branches = find_ambiguous_branches(
            graph, base, sweeps, self._noise_meter.noise_unit, self._generator
        )
        self._progress = progress
        self._executor = executor
        self._probes: dict[Perturbation, DifferenceProbe] = {}
        self._tables = {
            name: _EstimateTable(base[name].size, plan.method.given_step is not None) for name in plan.names
        }
        self._evaluations = dict.fromkeys(plan.names, 0)
        self._expected_evaluations = 0

    def compute_differences(self) -> dict[str, Difference]:
        """Difference all names."""
        method = self._plan.method
        self._run_level(method.initial_levels[0], self._plan.wanted_elements)
        for more, wanting in (
            (method.initial_levels[1:], _EstimateTable.needs_refinement),
            (method.restart_levels, _EstimateTable.failed),
        ):
            for start in more:
                # What no rung gave a bound is loose too: where nothing is, no further rung is taken.
                still = self._select_elements(wanting)
                if not still:
                    break
                self._run_level(start, still)
        for start in method.escalation_levels:
            still = self._select_elements(_EstimateTable.needs_escalation)
            if not still or not self._may_escalate(still):
                break
            self._run_level(start, still)
        return {name: self._make_difference(name) for name in self._plan.names}

    def _may_escalate(self, names: Iterable[str]) -> bool:
        """Whether there is an extended precision that every op has, and time for it."""
        return (
            EXTENDED_ROUNDOFF < _MAX_EXTENDED_ROUNDOFF
            and all(node.op.supports_extended_precision for node in self._point.graph.nodes)
            and self._plan.first_level_work_of(names) <= _MAX_EXTENDED_WORK
        )

    @cached_attribute
    def _extended_point(self) -> BasePoint:
        graph = self._point.graph
        leaves = {name: self._point.values[name] for name in graph.shapes if name not in self._point.nodes}
        floats = {name: leaf.astype(np.longdouble) for name, leaf in leaves.items() if name not in graph.leaf_kinds}
        return BasePoint(graph, graph.forward(leaves | floats))

    def _select_elements(self, select: Callable[["_EstimateTable"], Array]) -> dict[str, Array]:
        """Flat indices of the elements asked for that want a further rung, by name."""
        found = {name: select(table) for name, table in self._tables.items()}
        sampled = self._plan.examined_elements
        found |= {name: np.intersect1d(each, sampled[name]) for name, each in found.items() if name in sampled}
        return {name: each for name, each in found.items() if each.size}

    def _make_difference(self, name: str) -> Difference:
        found = self._tables[name].to_difference(self._point.values[name].shape[1:], self._evaluations[name])
        elements = self._plan.examined_elements.get(name)
        if self._ambiguous_branches:
            found = dataclasses.replace(
                self._add_one_sided_derivatives(name, found), evaluations=self._evaluations[name]
            )
        return found if elements is None else _mask_unexamined(found, elements)

    def _run_level(self, level: StepLevel, wanted_elements: Mapping[str, Array]) -> None:
        """Take one more rung, for the elements wanted of some names."""
        routes, colours = self._plan.plan_level(wanted_elements)
        self._expected_evaluations = sum(self._evaluations.values()) + self._plan.method.evaluations_per_colour * sum(
            map(len, colours.values())
        )
        found: dict[str, DifferenceQuotients] = {}
        steps: dict[str, Array | float] = {}
        for route in routes:
            found[route.name], steps[route.name] = self._compute_quotients(
                route, level, colours.get(route.name), found, steps
            )
        self._add_to_tables({name: found[name] for name in wanted_elements}, steps, wanted_elements)

    def _add_to_tables(
        self,
        quotients: Mapping[str, DifferenceQuotients],
        steps: Mapping[str, Array | float],
        wanted_elements: Mapping[str, Array],
    ) -> None:
        """Add a rung to the tables, reduced for all names in one pass: the reduction is by element."""
        values = np.concatenate([each.values for each in quotients.values()], axis=1)
        floors = np.concatenate([each.noise_floors for each in quotients.values()], axis=1)
        values, bounds = self._plan.method.reduce_table(values, floors)
        start = 0
        for name, each in quotients.items():
            own = slice(start, start + each.rounding_error.size)
            self._tables[name].add_level(
                values[own], bounds[own], each.rounding_error, steps[name], wanted_elements[name]
            )
            start = own.stop

    def _compute_quotients(
        self,
        path: DifferencePath,
        level: StepLevel,
        colours: Array | None,
        known_quotients: Mapping[str, DifferenceQuotients],
        steps: Mapping[str, Array | float],
    ) -> tuple[DifferenceQuotients, Array | float]:
        """Quotients of a name, and its first step, from those of what it follows from."""
        parts = [
            pull.pull_back_quotients(self._point, known_quotients[pull.reader_name], self._noise_meter)
            for pull in path.pullbacks
        ]
        # An element that moves nothing by itself is told the largest step of what moves for it.
        first_steps: list[Array | float] = [_find_largest_step(steps[pull.reader_name]) for pull in path.pullbacks]
        if path.perturbation is not None and colours is not None:
            probe = self._get_probe(path.perturbation)
            probe = probe.with_extended_precision(self._extended_point) if level.uses_extended_precision else probe
            rung = probe.make_step_table(level)
            parts.append(self._difference_by_perturbation(path.name, rung, probe.split_colours(colours)))
            first_steps.append(rung.first_steps)
        if not parts:
            return make_exact_quotients(self._plan.method.step_count, 1.0, 1), 0.0
        return sum_quotients(parts), reduce(np.maximum, first_steps)

    def _get_probe(self, moving: Perturbation) -> DifferenceProbe:
        if moving not in self._probes:
            self._probes[moving] = self._make_probe(moving)
        return self._probes[moving]

    def _make_probe(self, moving: Perturbation) -> DifferenceProbe:
        suffix = moving.downstream.at_point(self._point)
        return DifferenceProbe(suffix, moving.colouring, self._plan.method, self._noise_meter, self._generator)

    def _difference_by_perturbation(
        self, name: str, step_table: StepTable, blocks: Iterable[Array]
    ) -> DifferenceQuotients:
        """Quotients from moving a name, block by block, each of which is 0 where the others are not."""
        told = name if name in self._evaluations else self._plan.names[0]
        blocks = list(blocks)
        whole: DifferenceQuotients | None = None
        for colours, part in zip(blocks, self._executor.map(step_table.compute_quotients, blocks), strict=True):
            if self._progress is not None:
                self._progress(told, sum(self._evaluations.values()), self._expected_evaluations)
            self._evaluations[told] += len(colours) * self._plan.method.evaluations_per_colour
            whole = part if whole is None else whole.add_disjoint(part)
        assert whole is not None
        return whole

    def _add_one_sided_derivatives(self, name: str, difference: Difference) -> Difference:
        """Differences to the left and to the right, at the elements where they are not one."""
        moving = self._plan.uncached_perturbation(name)
        if not moving.downstream.select_downstream(self._ambiguous_branches):
            return difference
        # One after the other, and not kept: there may be as many as there are names.
        probe = self._probes.get(moving) or self._make_probe(moving)
        blocks = list(probe.split_colours(moving.colouring.colours_of(self._plan.wanted_elements[name])))
        self._expected_evaluations += 2 * self._plan.method.evaluations_per_colour * sum(map(len, blocks))
        sides: list[tuple[Array, Array]] = []
        for sign in (-1.0, 1.0):
            rung = probe.make_step_table(
                self._plan.method.initial_levels[0], OneSidedMove(sign, self._ambiguous_branches)
            )
            quotients = self._difference_by_perturbation(name, rung, blocks)
            value, bound = self._plan.method.reduce_table(quotients.values, quotients.noise_floors)
            sides.append((value.reshape(difference.value.shape), bound.reshape(difference.value.shape)))
        return _merge_one_sided_derivatives(difference, *sides)


def _find_largest_step(steps: Array | float) -> float:
    return float(steps.max() if isinstance(steps, np.ndarray) else steps)


def _merge_one_sided_derivatives(
    difference: Difference, left_result: tuple[Array, Array], right_result: tuple[Array, Array]
) -> Difference:
    (left, off_left), (right, off_right) = left_result, right_result
    apart = np.abs(left - right) > off_left + off_right
    for side, off in (left_result, right_result):
        apart |= np.abs(side - difference.value) > off + difference.error_bound
    if not apart.any():
        return difference
    return dataclasses.replace(
        difference,
        error_bound=np.where(apart, np.maximum(off_left, off_right), difference.error_bound),
        left_derivative=np.where(apart, left, np.nan),
        right_derivative=np.where(apart, right, np.nan),
    )


class _BestEstimate(NamedTuple):
    """What the rung of the smallest bound says, element by element."""

    value: Array
    bound: Array
    rounding: Array
    first_steps: Array | float


class _EstimateTable:
    """Values and bounds of the elements of one name, by rung, and the best of them so far."""

    def __init__(self, count: int, is_step_given: bool) -> None:
        self._element_count = count
        # With a step that is given the difference is shown though nothing be known of it.
        self._is_step_given = is_step_given
        self._values: list[Array] = []
        self._bounds: list[Array] = []
        self._best: _BestEstimate | None = None

    def add_level(self, values: Array, bounds: Array, rounding: Array, steps: Array | float, elements: Array) -> None:
        """Add a rung, of some elements, by flat index."""
        known = np.isfinite(values) & (self._is_step_given or np.isfinite(bounds))
        if elements.size < self._element_count:
            asked = np.zeros(self._element_count, np.bool_)
            asked[elements] = True
            known &= asked
        values, bounds = np.where(known, values, np.nan), np.where(known, bounds, np.inf)
        self._values.append(values)
        self._bounds.append(bounds)
        found, last = _BestEstimate(values, bounds, rounding, steps), self._best
        if last is not None:
            better = bounds < last.bound
            found = _BestEstimate(*(np.where(better, new, old) for new, old in zip(found, last, strict=True)))
        self._best = found

    @property
    def best(self) -> _BestEstimate:
        """The rung of the smallest bound for each element, the first of those where it is the same."""
        assert self._best is not None
        return self._best

    def failed(self) -> Array:
        """Elements that no rung gave a bound."""
        return np.flatnonzero(~np.isfinite(self.best.bound))

    def needs_refinement(self) -> Array:
        """Elements whose bound is worth narrowing."""
        value, bound, *_ = self.best
        largest = np.abs(value).max(where=np.isfinite(bound), initial=0)
        return np.flatnonzero(~(bound <= _TIGHT_BOUND * largest))

    def needs_escalation(self) -> Array:
        """Elements of which it is not known whether they matter, or what they are."""
        value, bound, *_ = self.best
        value = np.abs(value)
        largest = value.max(where=np.isfinite(bound), initial=0)
        return np.flatnonzero(~(bound <= _DECIDED_BOUND * np.fmax(value, _NEGLIGIBLE_FRACTION * largest)))

    def to_difference(self, shape: tuple[int, ...], evaluations: int) -> Difference:
        """What the best of each element says, where no other rung contradicts it."""
        value, bound, rounding, steps = self.best
        gap = self._disagreement()
        lost = ~np.isfinite(bound)
        # Without a bound there is no value either, except of a step that is given, and that is one rung.
        status = (lost | (gap > 0)) * np.uint8(DifferenceStatus.UNSETTLED)
        status[np.isnan(value)] = DifferenceStatus.NOT_FINITE
        return Difference(
            value.reshape(shape),
            np.where(lost, np.inf, bound + gap).reshape(shape),
            status.reshape(shape),
            evaluations,
            rounding.reshape(shape),
            np.where(lost, np.nan, steps).reshape(shape),
        )

    def _disagreement(self) -> Array | float:
        """Distance of each value from what another rung says it must be within.

        Where two rungs exclude each other, one estimate was too bold, and which one is not known.
        """
        if len(self._values) == 1:
            return 0.0
        value, bound, *_ = self.best
        values, bounds = np.array(self._values), np.array(self._bounds)
        known = np.isfinite(bounds)
        gaps = np.where(known, np.abs(np.where(known, values, 0) - value) - bounds - bound, 0)
        return np.maximum(0, gaps.max(axis=0))


def _mask_unexamined(difference: Difference, elements: Array) -> Difference:
    """Leave out all but some elements, by flat index."""
    left_out = np.ones(difference.value.size, np.bool_)
    left_out[elements] = False
    left_out = left_out.reshape(difference.value.shape)
    return dataclasses.replace(
        difference,
        value=np.where(left_out, np.nan, difference.value),
        error_bound=np.where(left_out, np.inf, difference.error_bound),
        status=np.where(left_out, DifferenceStatus.NOT_EXAMINED, difference.status).astype(np.uint8),
        steps=np.where(left_out, np.nan, difference.steps),
        left_derivative=None
        if difference.left_derivative is None
        else np.where(left_out, np.nan, difference.left_derivative),
        right_derivative=None
        if difference.right_derivative is None
        else np.where(left_out, np.nan, difference.right_derivative),
    )
