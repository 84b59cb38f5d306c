"""One choice of local derivatives for all judged gradients together.

At a tie each element by itself may be anything between its one-sided derivatives. Four elements that share a maximum
may each be its whole derivative, but no gradient has all four so.

Notes
-----
Let g0 be the gradient by the ops' own choices and v_k its response to the open choice k. A correct gradient is

    c = g0 + sum_k lambda_k v_k

for feasible weights lambda (`SubgradientChoices`), unless one choice decides the multiplier of another. The judgement
first tries uniform conventions, which need not be linear. Then it fits the weights (`weight_fit.py`), or searches for
them if one choice does decide the multiplier of another (`nested_search.py`). It does so for each part of the choices
that shares elements with no other.

An element that a choice explains may still lie outside its one-sided derivatives: along an axis the windows of a pool
that share an element all move at once. The judgement therefore looks at derivatives close to the point as well. If
these reach the element, it is a derivative; if they do not, as those of relu(x) - relu(-x) = x, it is not known to be
one.

References
----------
Clarke, Optimization and Nonsmooth Analysis (1990), section 2.3. Burke, Lewis and Overton, A Robust Gradient Sampling
Algorithm for Nonsmooth, Nonconvex Optimization (2005), for derivatives close to a point.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from scipy import sparse as _sparse
from scipy.sparse import csgraph as _csgraph

from service.numerics.core.batching import Array
from service.numerics.core.cached_attribute import cached_attribute
from service.numerics.model.graph import NamedArrays
from service.numerics.ties import conventions
from service.numerics.ties.choice_responses import ChoiceResponses, find_choice_responses
from service.numerics.ties.nested_search import SearchTarget, search_weights
from service.numerics.ties.tie_point import TiePoint
from service.numerics.ties.tie_status import JudgedRows, TieStatus
from service.numerics.ties.weight_fit import ChoiceUnit, FitResult, fit_weights

# SciPy's own types are not known.
scipy_sparse, scipy_csgraph = cast("Any", _sparse), cast("Any", _csgraph)

_CLOSE_DISTANCE = 2.0**-36
"""Moves, in parts of a leaf's size, to points whose derivatives are close."""
_CLOSE_POINTS = 64
"""Close points, in opposite pairs."""
_CLOSE_DERIVATIVE_SLACK = 1e-6
"""Difference of close derivatives without a kink, as a part of the largest one."""
_MIN_FELT_CHANGE = 1e-2
"""Change in allowances from which on a row feels a choice."""
_MAX_KEPT_NUMBERS = 2**22
"""Numbers of gradients by other choices that are kept."""
_MAX_MATRIX_ELEMENTS = 2**22
"""Elements of the largest matrix that weights are fitted by."""
_REACH_SPANS = 10.0
"""Reach of all choices beyond the drawn ones, in spans of these."""


def judge_jointly(point: TiePoint, rows: Mapping[str, JudgedRows], seed: int) -> dict[str, TieStatus]:
    """Judge the numbers of one gradient source together.

    Parameters
    ----------
    point
        The model and its choices.
    rows
        Judged numbers, by name.
    seed
        Seed of all random numbers.
    """
    status = _JointJudge(point, rows, seed).judge_rows()
    starts: list[int] = np.cumsum([0, *(judged.judged.size for judged in rows.values())]).tolist()
    return {name: status.select_elements(np.arange(starts[i], starts[i + 1])) for i, name in enumerate(rows)}


class _JointJudge:
    """The judge of all rows, concatenated."""

    def __init__(self, point: TiePoint, rows: Mapping[str, JudgedRows], seed: int) -> None:
        self._point, self._rows, self._seed = point, rows, seed
        self._judged = _concatenate_flat([judged.judged for judged in rows.values()])
        self._allowed = _concatenate_flat([judged.allowed_error for judged in rows.values()])
        self._kinks = _concatenate_flat([judged.is_kink for judged in rows.values()])
        self._examined = _concatenate_flat([judged.is_examined for judged in rows.values()])
        self._has_directions = any(judged.directions is not None for judged in rows.values())
        self._own_gradients = self._stack_rows(point.own_gradients)[0]
        known = np.isfinite(self._judged) & np.isfinite(self._allowed) & np.isfinite(self._own_gradients)
        self._is_known = known & self._examined
        self._allowance_unit = np.maximum(np.where(known, self._allowed, 1.0), np.finfo(np.float64).tiny)
        self._error_in_allowances = np.where(
            self._is_known, (self._judged - self._own_gradients) / self._allowance_unit, 0.0
        )

    def _stack_rows(self, gradients: NamedArrays) -> Array:
        """Stack the rows of gradients, shape (K, rows)."""
        parts = [rows.select_rows(gradients[name]) for name, rows in self._rows.items()]
        tiles = max(map(len, parts))
        return np.concatenate([np.broadcast_to(part, (tiles, part.shape[1])) for part in parts], axis=1)

    def _compute_rows_by_weights(self, weights: NamedArrays) -> Array:
        """Compute all rows by weights of the choices, shape (K, rows)."""
        if not weights:
            return self._own_gradients[None]
        count, at_once = len(next(iter(weights.values()))), self._point.batch_size
        parts = [
            self._stack_rows(
                self._point.compute_gradients_by_weights(
                    {name: rows[i : i + at_once] for name, rows in weights.items()}
                )
            )
            for i in range(0, count, at_once)
        ]
        return np.concatenate(parts)

    @property
    def _max_gradients(self) -> int:
        """Number of gradients that are kept at once."""
        return max(4, _MAX_KEPT_NUMBERS // max(1, self._judged.size))

    @cached_attribute
    def _convention_rows(self) -> Array:
        return self._compute_rows_by_weights(conventions.combine_convention_weights(self._point, self._max_gradients))

    @cached_attribute
    def _corner_rows(self) -> Array:
        corners = conventions.draw_corner_weights(self._point, self._seed, self._max_gradients)
        inner_weights = conventions.interpolate_choices(self._point, self._seed, self._max_gradients)
        return np.concatenate(
            [
                self._convention_rows,
                self._compute_rows_by_weights(corners),
                self._compute_rows_by_weights(inner_weights),
            ]
        )

    @cached_attribute
    def _is_felt(self) -> Array:
        """Mask of the rows that some choice changes."""
        return np.any(np.abs(self._corner_rows - self._own_gradients) > _MIN_FELT_CHANGE * self._allowance_unit, axis=0)

    def judge_rows(self) -> TieStatus:
        """Judge all rows."""
        concerned_rows = self._is_known & (self._is_felt | self._kinks)
        is_explained = np.abs(self._judged - self._convention_rows) <= self._allowance_unit
        if is_explained[:, concerned_rows].all(axis=1).any():
            return self._make_explained(concerned_rows)
        responses = find_choice_responses(self._point, self._stack_rows)
        if responses is None:
            return self._search_nested(concerned_rows)
        return self._fit_independent_parts(responses, concerned_rows)

    def _search_nested(self, concerned: Array) -> TieStatus:
        """Search for weights if choices multiply, or are too many to be told apart."""
        target = SearchTarget(self._judged, self._allowance_unit, self._is_known, self._has_directions)
        has_choices = bool(self._point.choices_by_node)
        parts = search_weights(self._point, self._stack_rows, target, self._seed) if has_choices else None
        if parts is None:
            return self._make_undecided(concerned)
        is_reached = np.zeros(self._judged.shape, np.bool_)
        for part in parts:
            is_reached[part.rows] = True
        status = _PartialTieStatus(
            *(mask.copy() for mask in vars(self._make_undecided(concerned & ~is_reached)).values())
        )
        is_near = self._is_near_derivatives(concerned & is_reached)
        for part in parts:
            self._record_fit(status, part.weights, part.residual, part.rows, is_near)
        return TieStatus(**vars(status))

    def _make_explained(self, rows: Array) -> TieStatus:
        no_rows = np.zeros(rows.shape, np.bool_)
        return TieStatus(rows & self._is_near_derivatives(rows), rows, no_rows, no_rows)

    def _make_undecided(self, rows: Array) -> TieStatus:
        """Make the status of rows that are undecided.

        A row that no choice moves is decided if the gradient by the ops' own choices explains it.
        """
        no_rows = np.zeros(rows.shape, np.bool_)
        is_unaffected = ~self._is_felt & (np.abs(self._error_in_allowances) <= 1)
        return TieStatus(no_rows, rows & self._is_within_reach, rows & self._kinks & ~is_unaffected, no_rows)

    @cached_attribute
    def _is_within_reach(self) -> Array:
        low, high = self._corner_rows.min(axis=0), self._corner_rows.max(axis=0)
        slack = _REACH_SPANS * (high - low) + self._allowance_unit
        return (self._judged >= low - slack) & (self._judged <= high + slack)

    def _is_near_derivatives(self, rows: Array) -> Array:
        """Return the mask of the rows that derivatives close to the point reach."""
        if not (rows & (np.abs(self._error_in_allowances) > 1)).any():
            return rows
        nearby_rows = np.concatenate(self._compute_nearby_gradient_rows())
        low, high = nearby_rows.min(axis=0), nearby_rows.max(axis=0)
        slack = self._allowance_unit + _CLOSE_DERIVATIVE_SLACK * np.abs(nearby_rows).max(axis=0)
        return (self._judged >= low - slack) & (self._judged <= high + slack)

    def _compute_nearby_gradient_rows(self) -> list[Array]:
        """Compute rows of gradients at points close by, in batches."""
        graph = self._point.graph
        generator = np.random.default_rng([self._seed, 0xC105E])
        leaves = {name: self._point.values[name] for name in graph.shapes if name not in self._point.nodes_by_name}
        batches: list[Array] = []
        at_once = max(1, min(_CLOSE_POINTS // 2, self._point.batch_size // 2))
        for _ in range(0, _CLOSE_POINTS // 2, at_once):
            moved_leaves = {name: _perturb_leaf(leaf, at_once, generator) for name, leaf in leaves.items()}
            batches.append(self._stack_rows(graph.backward(graph.forward(moved_leaves))))
        return [np.where(np.isfinite(batch), batch, self._own_gradients) for batch in batches]

    def _fit_independent_parts(self, responses: ChoiceResponses, concerned_rows: Array) -> TieStatus:
        """Fit the weights of each part of the choices that shares no row with another."""
        effective_columns = self._scale_felt_columns(responses)
        count = self._judged.size
        rows, columns = effective_columns.matrix.nonzero()
        is_reached = np.zeros(count, np.bool_)
        is_reached[rows] = True
        nodes = count + int(effective_columns.units.max(initial=-1)) + 1
        links = scipy_sparse.csr_matrix(
            (np.ones(rows.size), (rows, count + effective_columns.units[columns])), shape=(nodes, nodes)
        )
        parts: Array = scipy_csgraph.connected_components(links, directed=False)[1]
        undecided_status = self._make_undecided(concerned_rows & ~is_reached)
        status = _PartialTieStatus(*(mask.copy() for mask in vars(undecided_status).values()))
        is_near = self._is_near_derivatives(concerned_rows & is_reached)
        part_of_columns = parts[count + effective_columns.units]
        for part, part_rows in _group_rows_by_part(parts[:count], is_reached):
            part_columns = effective_columns.select_columns(np.flatnonzero(part_of_columns == part))
            fit, residual = self._fit_columns(part_columns, part_rows)
            self._record_fit(status, fit, residual, part_rows, is_near)
        return TieStatus(**vars(status))

    def _scale_felt_columns(self, responses: ChoiceResponses) -> "_ResponseColumns":
        """Scale columns to allowances, without choices that no row feels."""
        scale = scipy_sparse.diags(np.where(self._is_known, 1 / self._allowance_unit, 0.0))
        columns = _ResponseColumns((scale @ responses.matrix).tocsc(), *_describe_columns(self._point, responses))
        sizes = np.abs(columns.matrix).max(axis=0).toarray().ravel() if columns.units.size else np.zeros(0)
        effective_units = np.unique(columns.units[sizes > _MIN_FELT_CHANGE])
        return columns.select_columns(np.flatnonzero(np.isin(columns.units, effective_units)))

    def _fit_columns(self, columns: "_ResponseColumns", rows: Array) -> tuple[FitResult, Array]:
        """Fit weights of some columns to some rows; return the answer and the residual."""
        if rows.size * columns.units.size > _MAX_MATRIX_ELEMENTS:
            return FitResult.UNKNOWN, self._error_in_allowances[rows]
        matrix = columns.matrix[rows].toarray()
        parts: list[Array] = []
        weights: list[Array] = []
        units: list[ChoiceUnit] = []
        freedom, start = 0, 0
        for unit in np.unique(columns.units):
            unit_columns = np.flatnonzero(columns.units == unit)
            ball, is_pair = columns.ball_orders[unit_columns[0]], bool(columns.is_pair[unit_columns[0]])
            part, weight = matrix[:, unit_columns], columns.weights[unit_columns]
            if is_pair:
                part, weight = np.concatenate([0 * part, part], axis=1), np.append(1 - weight, weight)
            parts.append(part)
            weights.append(weight)
            units.append(ChoiceUnit(np.arange(start, start + weight.size), None if np.isnan(ball) else float(ball)))
            start += weight.size
            freedom += weight.size - (1 if np.isnan(ball) else 0)
        if self._has_directions and rows.size <= freedom:
            return FitResult.UNKNOWN, self._error_in_allowances[rows]
        a = np.concatenate(parts, axis=1)
        return fit_weights(a, self._error_in_allowances[rows] + a @ np.concatenate(weights), units)

    def _record_fit(
        self, status: "_PartialTieStatus", fit: FitResult, residual: Array, rows: Array, is_near: Array
    ) -> None:
        if fit == FitResult.EXPLAINS:
            status.reachable[rows] = True
            status.excused[rows] = is_near[rows]
            return
        if fit == FitResult.UNKNOWN:
            status.reachable[rows] = self._is_within_reach[rows]
        # Without a kink in float64, a choice that is open in the judged arithmetic alone excuses, and never accuses.
        if self._kinks[rows].any():
            is_wrong = (np.abs(residual) > 1) if fit == FitResult.IMPOSSIBLE else np.zeros(rows.shape, np.bool_)
            status.impossible[rows] = is_wrong
            status.undecided[rows] = ~is_wrong


@dataclass
class _PartialTieStatus:
    """A tie status that is being filled in."""

    excused: Array
    reachable: Array
    undecided: Array
    impossible: Array


@dataclass(frozen=True)
class _ResponseColumns:
    """Response columns with their units.

    Attributes
    ----------
    matrix
        Responses of the rows, shape (rows, columns), sparse.
    units
        Unit of each column.
    ball_orders
        Order of the ball of each column's weights, NaN for a simplex.
    is_pair
        Mask of the columns that stand for a choice between two.
    weights
        Weight of each column in the op's own choice.
    """

    matrix: Any
    units: Array
    ball_orders: Array
    is_pair: Array
    weights: Array

    def select_columns(self, positions: Array) -> "_ResponseColumns":
        return _ResponseColumns(
            self.matrix[:, positions],
            self.units[positions],
            self.ball_orders[positions],
            self.is_pair[positions],
            self.weights[positions],
        )


def _concatenate_flat(parts: list[Array]) -> Array:
    return np.concatenate([part.ravel() for part in parts])


def _describe_columns(point: TiePoint, responses: ChoiceResponses) -> tuple[Array, Array, Array, Array]:
    """Return the units over all nodes, balls, pairs and own weights of all columns."""
    units: list[Array] = []
    balls: list[Array] = []
    weights: list[Array] = []
    start = 0
    for name, columns in zip(responses.node_names, responses.columns, strict=True):
        choices = point.choices_by_node[name]
        units.append(columns.units + start)
        start += int(choices.units[-1]) + 1
        balls.append(np.full(columns.units.size, np.nan if choices.ball_order is None else choices.ball_order))
        weights.append(choices.weights[columns.alternatives])
    pairs = [columns.is_pair for columns in responses.columns]
    joined = (np.concatenate(parts) if parts else np.zeros(0) for parts in (units, balls, pairs, weights))
    all_units, all_balls, all_pairs, all_weights = joined
    return all_units.astype(np.int64), all_balls, all_pairs.astype(np.bool_), all_weights


def _group_rows_by_part(parts: Array, reached: Array) -> list[tuple[int, Array]]:
    """Group the rows that columns reach by part."""
    rows = np.flatnonzero(reached)
    order = rows[np.argsort(parts[rows], kind="stable")]
    numbers, starts = np.unique(parts[order], return_index=True)
    return list(zip(numbers.tolist(), np.split(order, starts[1:]), strict=True))


def _perturb_leaf(leaf: Array, pairs: int, generator: np.random.Generator) -> Array:
    """Move a leaf of floats a little, each way, shape (2 pairs, ...)."""
    if leaf.dtype.kind != "f":
        return leaf
    mean_size = np.sqrt(np.square(leaf, where=np.isfinite(leaf), out=np.zeros_like(leaf)).mean()) or 1.0
    moves = generator.uniform(-1, 1, (pairs, *leaf.shape[1:])) * _CLOSE_DISTANCE * np.maximum(np.abs(leaf), mean_size)
    return leaf + np.concatenate([moves, -moves])
