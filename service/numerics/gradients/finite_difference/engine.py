"""Finite differences of the loss, with a bound for each element.

A plan names the tensors that are moved, and how the others follow (`difference_plan.py`). The engine goes level by
level, each of one first step and its halvings. It computes the quotients of all tensors, extrapolates them element by
element, and keeps the values with the smallest bound yet. A further level serves the elements whose bound could be
narrower.
"""

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from functools import reduce
from typing import NamedTuple

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.core.cached_attribute import cached_attribute
from service.numerics.core.difference import Difference, DifferenceProgress, DifferenceStatus
from service.numerics.gradients.finite_difference.ambiguous_branches import find_ambiguous_branches
from service.numerics.gradients.finite_difference.base_point import BasePoint
from service.numerics.gradients.finite_difference.difference_plan import (
    DifferencePath,
    DifferencePlan,
    Perturbation,
    plan_differences,
)
from service.numerics.gradients.finite_difference.estimate_table import EstimateTable
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
    QuotientColumns,
    make_exact_quotients,
    sum_quotients,
)
from service.numerics.model.graph import Graph

_MAX_EXTENDED_ROUNDOFF = 1e-18
"""Largest unit roundoff of a true extended precision."""
_MAX_EXTENDED_WORK = 2**25
"""Multiply-adds of a level in extended precision, which has no library of its own for products of matrices."""
_SENT_WORK = 5 * 10**8
"""Multiply-adds of the blocks that an executor sends together: some 100 ms, beside which a message takes little."""


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
    """Return the differences of the loss with respect to each of the names.

    Parameters
    ----------
    graph
        The model.
    leaves
        Every tensor and weight in float64, (1, ...).
    names
        Names of tensors, weights or nodes.
    method
        Method of the differences; the adaptive one by default.
    seed
        Seed of all that is random; 0 by default.
    progress
        Callback between tiles; none by default.
    elements
        Flat indices of the examined elements, by name; all elements of a name without an entry.
    executor
        Executor of blocks of evaluations, which are independent of one another. By default they run here, one after the
        other.
    plan
        Plan for the same names of the same graph, which then sets method and elements; made anew by default.
    """
    plan = plan or plan_differences(graph, leaves, names, method, elements)
    # Steps may leave the domain of the loss. The results show what is not finite there.
    with np.errstate(all="ignore"):
        return _DifferenceEngine(
            graph, leaves, plan, seed, progress, executor or InlineExecutor()
        ).compute_differences()


class _BlockMoves(NamedTuple):
    """The moves of a name in one table of steps.

    Attributes
    ----------
    step_table
        The table.
    blocks
        Colours of each block.
    columns
        Quotients of each block, in order.
    """

    step_table: StepTable
    blocks: Sequence[Array]
    columns: Iterator[QuotientColumns]


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
        # The model is held to the pieces of the point, so that no step has to be smaller than the way to the next kink.
        self._point, sweeps = evaluate_with_sweeps(graph, leaves, self._generator)
        self._noise_meter = NoiseMeter(self._point, sweeps, self._generator)
        base = self._point.values
        self._ambiguous_branches = find_ambiguous_branches(
            graph, base, sweeps, self._noise_meter.noise_unit, self._generator
        )
        self._progress = progress
        self._executor = executor
        self._runs_ahead = getattr(executor, "runs_ahead", True)
        self._probes: dict[Perturbation, DifferenceProbe] = {}
        self._tables = {name: EstimateTable(base[name].size, plan.method.given_step is not None) for name in plan.names}
        self._evaluations = dict.fromkeys(plan.names, 0)
        self._expected_evaluations = 0

    def compute_differences(self) -> dict[str, Difference]:
        """Return the differences of all names."""
        method = self._plan.method
        self._run_level(method.initial_levels[0], self._plan.wanted_elements)
        for levels, select_elements in (
            (method.initial_levels[1:], EstimateTable.needs_refinement),
            (method.restart_levels, EstimateTable.find_unbounded_elements),
        ):
            for level in levels:
                # Elements without a bound need refinement too: if none does, no further level is run.
                remaining = self._select_elements(select_elements)
                if not remaining:
                    break
                self._run_level(level, remaining)
        for level in method.escalation_levels:
            remaining = self._select_elements(EstimateTable.needs_escalation)
            if not remaining or not self._may_escalate(remaining):
                break
            self._run_level(level, remaining)
        return {name: self._make_difference(name) for name in self._plan.names}

    def _may_escalate(self, names: Iterable[str]) -> bool:
        """Return whether every op has an extended precision, and time allows it."""
        return (
            EXTENDED_ROUNDOFF < _MAX_EXTENDED_ROUNDOFF
            and all(node.op.supports_extended_precision for node in self._point.graph.nodes)
            and self._plan.estimate_first_level_work(names) <= _MAX_EXTENDED_WORK
        )

    @cached_attribute
    def _extended_point(self) -> BasePoint:
        graph = self._point.graph
        leaves = {name: self._point.values[name] for name in graph.shapes if name not in self._point.nodes}
        floats = {name: leaf.astype(np.longdouble) for name, leaf in leaves.items() if name not in graph.leaf_kinds}
        return BasePoint(graph, graph.forward(leaves | floats))

    def _select_elements(self, select: Callable[["EstimateTable"], Array]) -> dict[str, Array]:
        """Return the flat indices of the examined elements that need a further level."""
        selected = {name: select(table) for name, table in self._tables.items()}
        examined = self._plan.examined_elements
        selected |= {
            name: np.intersect1d(elements, examined[name]) for name, elements in selected.items() if name in examined
        }
        return {name: elements for name, elements in selected.items() if elements.size}

    def _make_difference(self, name: str) -> Difference:
        difference = self._tables[name].to_difference(self._point.values[name].shape[1:], self._evaluations[name])
        elements = self._plan.examined_elements.get(name)
        if self._ambiguous_branches:
            difference = dataclasses.replace(
                self._add_one_sided_derivatives(name, difference), evaluations=self._evaluations[name]
            )
        return difference if elements is None else _mask_unexamined(difference, elements)

    def _run_level(self, level: StepLevel, wanted_elements: Mapping[str, Array]) -> None:
        """Run one more level, for the elements wanted of some names."""
        paths, colours = self._plan.plan_level(wanted_elements)
        self._expected_evaluations = sum(self._evaluations.values()) + self._plan.method.evaluations_per_colour * sum(
            map(len, colours.values())
        )
        quotients: dict[str, DifferenceQuotients] = {}
        steps: dict[str, Array | float] = {}
        moves = ((path, self._start_moves(path, level, colours.get(path.name))) for path in paths)
        # Another process begins with the next moves while these are put together, and while their noise is measured.
        for path, block_moves in list(moves) if self._runs_ahead else moves:
            quotients[path.name], steps[path.name] = self._compute_quotients(path, block_moves, quotients, steps)
        self._add_to_tables({name: quotients[name] for name in wanted_elements}, steps, wanted_elements)

    def _add_to_tables(
        self,
        quotients: Mapping[str, DifferenceQuotients],
        steps: Mapping[str, Array | float],
        wanted_elements: Mapping[str, Array],
    ) -> None:
        """Add a level to the tables, for the wanted elements of each name.

        The reduction is by element, so one pass reduces the quotients of all names.
        """
        wanted = {name: _select_columns(quotients[name], elements) for name, elements in wanted_elements.items()}
        values, bounds = self._plan.method.reduce_table_in_blocks(
            np.concatenate([name_quotients.values for name_quotients in wanted.values()], axis=1),
            np.concatenate([name_quotients.noise_floors for name_quotients in wanted.values()], axis=1),
        )
        start = 0
        for name, name_quotients in quotients.items():
            elements = wanted_elements[name]
            columns = slice(start, start + elements.size)
            self._tables[name].add_level(
                values[columns], bounds[columns], name_quotients.rounding_error, steps[name], elements
            )
            start = columns.stop

    def _compute_quotients(
        self,
        path: DifferencePath,
        moves: "_BlockMoves | None",
        known_quotients: Mapping[str, DifferenceQuotients],
        steps: Mapping[str, Array | float],
    ) -> tuple[DifferenceQuotients, Array | float]:
        """Return the quotients of a name, and its first steps.

        Parameters
        ----------
        path
            Path of the difference.
        moves
            Its moves, None for none.
        known_quotients, steps
            Quotients and first steps of the names that this one follows from.
        """
        parts = [
            pullback.pull_back_quotients(self._point, known_quotients[pullback.reader_name], self._noise_meter)
            for pullback in path.pullbacks
        ]
        # An element without moves of its own gets the largest step of its readers.
        first_steps: list[Array | float] = [
            _find_largest_step(steps[pullback.reader_name]) for pullback in path.pullbacks
        ]
        if moves is not None:
            parts.append(self._difference_by_perturbation(path.name, moves))
            first_steps.append(moves.step_table.first_steps)
        if not parts:
            return make_exact_quotients(self._plan.method.step_count, 1.0, 1), 0.0
        return sum_quotients(parts), reduce(np.maximum, first_steps)

    def _start_moves(self, path: DifferencePath, level: StepLevel, colours: Array | None) -> "_BlockMoves | None":
        """Hand the moves of a name to the executor; None for a name that does not move."""
        if path.perturbation is None or colours is None:
            return None
        probe = self._get_probe(path.perturbation)
        probe = probe.with_extended_precision(self._extended_point) if level.uses_extended_precision else probe
        return self._start_blocks(path.perturbation, probe.make_step_table(level), list(probe.split_colours(colours)))

    def _start_blocks(
        self, perturbation: Perturbation, step_table: StepTable, blocks: Sequence[Array]
    ) -> "_BlockMoves":
        """Hand blocks to the executor, which may send some together: each is computed by itself, and keeps its bits."""
        sent_parts = max(1, perturbation.estimate_work(sum(map(len, blocks))) // _SENT_WORK)
        length = math.ceil(len(blocks) / sent_parts)
        return _BlockMoves(step_table, blocks, self._executor.map(step_table.compute_columns, blocks, chunksize=length))

    def _get_probe(self, perturbation: Perturbation) -> DifferenceProbe:
        if perturbation not in self._probes:
            self._probes[perturbation] = self._make_probe(perturbation)
        return self._probes[perturbation]

    def _make_probe(self, perturbation: Perturbation) -> DifferenceProbe:
        downstream = perturbation.downstream.move_to_point(self._point)
        return DifferenceProbe(
            downstream, perturbation.colouring, self._plan.method, self._noise_meter, self._generator
        )

    def _difference_by_perturbation(self, name: str, moves: "_BlockMoves") -> DifferenceQuotients:
        """Return the quotients from moving a name, block by block.

        No element is in two blocks.
        """
        if len(moves.blocks) == 1:
            self._report_progress(name, moves.blocks[0])
            return moves.step_table.compute_quotients(moves.blocks[0])
        quotients = moves.step_table.make_unmoved_quotients()
        for colours, columns in zip(moves.blocks, moves.columns, strict=True):
            self._report_progress(name, colours)
            quotients.fill_columns(columns)
        return quotients

    def _report_progress(self, name: str, colours: Array) -> None:
        """Report the evaluations so far, and count those of a block."""
        counted_name = name if name in self._evaluations else self._plan.names[0]
        if self._progress is not None:
            self._progress(counted_name, sum(self._evaluations.values()), self._expected_evaluations)
        self._evaluations[counted_name] += len(colours) * self._plan.method.evaluations_per_colour

    def _add_one_sided_derivatives(self, name: str, difference: Difference) -> Difference:
        """Return a difference with its one-sided derivatives, where they are two."""
        perturbation = self._plan.make_perturbation(name)
        if not perturbation.downstream.select_downstream(self._ambiguous_branches):
            return difference
        # One perturbation after the other, and none is kept: there may be as many as there are names.
        probe = self._probes.get(perturbation) or self._make_probe(perturbation)
        blocks = list(probe.split_colours(perturbation.colouring.get_colours(self._plan.wanted_elements[name])))
        self._expected_evaluations += 2 * self._plan.method.evaluations_per_colour * sum(map(len, blocks))
        sides: list[tuple[Array, Array]] = []
        for sign in (-1.0, 1.0):
            step_table = probe.make_step_table(
                self._plan.method.initial_levels[0], OneSidedMove(sign, self._ambiguous_branches)
            )
            quotients = self._difference_by_perturbation(name, self._start_blocks(perturbation, step_table, blocks))
            value, bound = self._plan.method.reduce_table(quotients.values, quotients.noise_floors)
            sides.append((value.reshape(difference.value.shape), bound.reshape(difference.value.shape)))
        return _merge_one_sided_derivatives(difference, *sides)


def _select_columns(quotients: DifferenceQuotients, elements: Array) -> DifferenceQuotients:
    """Return the quotients of some elements, by flat index in rising order."""
    return quotients if elements.size == quotients.rounding_error.size else quotients.select_columns(elements)


def _find_largest_step(steps: Array | float) -> float:
    return float(steps.max() if isinstance(steps, np.ndarray) else steps)


def _merge_one_sided_derivatives(
    difference: Difference, left_result: tuple[Array, Array], right_result: tuple[Array, Array]
) -> Difference:
    (left, left_bound), (right, right_bound) = left_result, right_result
    is_kink = np.abs(left - right) > left_bound + right_bound
    for side, side_bound in (left_result, right_result):
        is_kink |= np.abs(side - difference.value) > side_bound + difference.error_bound
    if not is_kink.any():
        return difference
    return dataclasses.replace(
        difference,
        error_bound=np.where(is_kink, np.maximum(left_bound, right_bound), difference.error_bound),
        left_derivative=np.where(is_kink, left, np.nan),
        right_derivative=np.where(is_kink, right, np.nan),
    )


def _mask_unexamined(difference: Difference, elements: Array) -> Difference:
    """Return a difference without all but some elements, by flat index."""
    is_left_out = np.ones(difference.value.size, np.bool_)
    is_left_out[elements] = False
    is_left_out = is_left_out.reshape(difference.value.shape)
    return dataclasses.replace(
        difference,
        value=np.where(is_left_out, np.nan, difference.value),
        error_bound=np.where(is_left_out, np.inf, difference.error_bound),
        status=np.where(is_left_out, DifferenceStatus.NOT_EXAMINED, difference.status).astype(np.uint8),
        steps=np.where(is_left_out, np.nan, difference.steps),
        left_derivative=None
        if difference.left_derivative is None
        else np.where(is_left_out, np.nan, difference.left_derivative),
        right_derivative=None
        if difference.right_derivative is None
        else np.where(is_left_out, np.nan, difference.right_derivative),
    )
