"""One choice of local derivatives for all judged gradients together.

At a tie each element by itself may be anything between its one-sided derivatives, and four elements that share a
maximum may all be its whole derivative: no gradient is. With g0 the gradient by the ops' own choices and v_k what it
changes by with the open choice k, what is judged is

    c = g0 + sum_k lambda_k v_k

for weights lambda that may be chosen (`Choices`), as long as no choice decides what another is multiplied by. Tried
first are uniform conventions, which need not be linear; then weights are fitted (`fit.py`), or searched for where one
choice does decide so (`nested.py`), for each part of the
choices that shares elements with no other.

An element that a choice explains may still lie outside its one-sided derivatives: along an axis the windows of a pool
that share an element all move at once. So derivatives close to the point are looked at besides: where these reach the
element it is one, and where they do not, as those of relu(x) - relu(-x) = x, it is not known to be one.

Source: Clarke, Optimization and Nonsmooth Analysis (1990), section 2.3; Burke, Lewis and Overton, A Robust Gradient
Sampling Algorithm for Nonsmooth, Nonconvex Optimization (2005), for derivatives close to a point.
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
"""Points that are looked at, in opposite pairs."""
_CLOSE_DERIVATIVE_SLACK = 1e-6
"""Part of the largest derivative that those close to the point differ from it by without a kink."""
_MIN_FELT_CHANGE = 1e-2
"""Allowances up to which a choice is not felt."""
_MAX_KEPT_NUMBERS = 2**22
"""Numbers of gradients by other choices that are kept."""
_MAX_MATRIX_ELEMENTS = 2**22
"""Elements of the largest matrix that weights are fitted by."""
_REACH_SPANS = 10.0
"""How far beyond what some choices make others may lead, in spans of them."""


def judge_jointly(point: TiePoint, rows: Mapping[str, JudgedRows], seed: int) -> dict[str, TieStatus]:
    """Judge numbers of one route together.

    Parameters
    ----------
    point
        The model and its choices.
    rows
        What is judged, by name.
    seed
        All that is random follows from it.
    """
    found = _JointJudge(point, rows, seed).judge_rows()
    starts: list[int] = np.cumsum([0, *(each.judged.size for each in rows.values())]).tolist()
    return {name: found.select_elements(np.arange(starts[i], starts[i + 1])) for i, name in enumerate(rows)}


class _JointJudge:
    """All rows behind one another."""

    def __init__(self, point: TiePoint, rows: Mapping[str, JudgedRows], seed: int) -> None:
        self._point, self._rows, self._seed = point, rows, seed
        self._judged = _concatenate_flat([each.judged for each in rows.values()])
        self._allowed = _concatenate_flat([each.allowed_error for each in rows.values()])
        self._kinks = _concatenate_flat([each.is_kink for each in rows.values()])
        self._examined = _concatenate_flat([each.is_examined for each in rows.values()])
        self._has_directions = any(each.directions is not None for each in rows.values())
        self._own_gradients = self._stack_rows(point.own_gradients)[0]
        known = np.isfinite(self._judged) & np.isfinite(self._allowed) & np.isfinite(self._own_gradients)
        self._is_known = known & self._examined
        self._allowance_unit = np.maximum(np.where(known, self._allowed, 1.0), np.finfo(np.float64).tiny)
        self._off_in_allowances = np.where(
            self._is_known, (self._judged - self._own_gradients) / self._allowance_unit, 0.0
        )

    def _stack_rows(self, gradients: NamedArrays) -> Array:
        """All rows of gradients, (K, rows)."""
        each = [rows.rows_of(gradients[name]) for name, rows in self._rows.items()]
        tiles = max(map(len, each))
        return np.concatenate([np.broadcast_to(one, (tiles, one.shape[1])) for one in each], axis=1)

    def _rows_by_weights(self, weights: NamedArrays) -> Array:
        """All rows by weights of the choices, (K, rows)."""
        if not weights:
            return self._own_gradients[None]
        count, at_once = len(next(iter(weights.values()))), self._point.batch_size
        parts = [
            self._stack_rows(
                self._point.gradients_by_weights({name: each[i : i + at_once] for name, each in weights.items()})
            )
            for i in range(0, count, at_once)
        ]
        return np.concatenate(parts)

    @property
    def _max_gradients(self) -> int:
        """Gradients that are kept at once."""
        return max(4, _MAX_KEPT_NUMBERS // max(1, self._judged.size))

    @cached_attribute
    def _convention_rows(self) -> Array:
        return self._rows_by_weights(conventions.combine_convention_weights(self._point, self._max_gradients))

    @cached_attribute
    def _corner_rows(self) -> Array:
        corners = conventions.draw_corner_weights(self._point, self._seed, self._max_gradients)
        between = conventions.interpolate_choices(self._point, self._seed, self._max_gradients)
        return np.concatenate([self._convention_rows, self._rows_by_weights(corners), self._rows_by_weights(between)])

    @cached_attribute
    def _is_felt(self) -> Array:
        """Rows that some choice changes."""
        return np.any(np.abs(self._corner_rows - self._own_gradients) > _MIN_FELT_CHANGE * self._allowance_unit, axis=0)

    def judge_rows(self) -> TieStatus:
        """Judge all rows."""
        concerned = self._is_known & (self._is_felt | self._kinks)
        off = np.abs(self._judged - self._convention_rows) <= self._allowance_unit
        if off[:, concerned].all(axis=1).any():
            return self._make_explained(concerned)
        found = find_choice_responses(self._point, self._stack_rows)
        return self._search_nested(concerned) if found is None else self._fit_independent_parts(found, concerned)

    def _search_nested(self, concerned: Array) -> TieStatus:
        """Search for weights where choices multiply, or are too many to be told apart."""
        aim = SearchTarget(self._judged, self._allowance_unit, self._is_known, self._has_directions)
        parts = search_weights(self._point, self._stack_rows, aim, self._seed) if self._point.choices_by_node else None
        if parts is None:
            return self._make_undecided(concerned)
        reached = np.zeros(self._judged.shape, np.bool_)
        for part in parts:
            reached[part.rows] = True
        found_so_far = _PartialTieStatus(
            *(each.copy() for each in vars(self._make_undecided(concerned & ~reached)).values())
        )
        near = self._is_near_derivatives(concerned & reached)
        for part in parts:
            self._record_fit(found_so_far, part.weights, part.residual, part.rows, near)
        return TieStatus(**vars(found_so_far))

    def _make_explained(self, rows: Array) -> TieStatus:
        nothing = np.zeros(rows.shape, np.bool_)
        return TieStatus(rows & self._is_near_derivatives(rows), rows, nothing, nothing)

    def _make_undecided(self, rows: Array) -> TieStatus:
        """What is not known: what may be left out of it is what the own choices explain where nothing is felt."""
        nothing = np.zeros(rows.shape, np.bool_)
        alone = ~self._is_felt & (np.abs(self._off_in_allowances) <= 1)
        return TieStatus(nothing, rows & self._is_within_reach, rows & self._kinks & ~alone, nothing)

    @cached_attribute
    def _is_within_reach(self) -> Array:
        low, high = self._corner_rows.min(axis=0), self._corner_rows.max(axis=0)
        beyond = _REACH_SPANS * (high - low) + self._allowance_unit
        return (self._judged >= low - beyond) & (self._judged <= high + beyond)

    def _is_near_derivatives(self, rows: Array) -> Array:
        """Where derivatives close to the point reach what is judged."""
        if not (rows & (np.abs(self._off_in_allowances) > 1)).any():
            return rows
        seen = np.concatenate(self._nearby_gradient_rows())
        low, high = seen.min(axis=0), seen.max(axis=0)
        slack = self._allowance_unit + _CLOSE_DERIVATIVE_SLACK * np.abs(seen).max(axis=0)
        return (self._judged >= low - slack) & (self._judged <= high + slack)

    def _nearby_gradient_rows(self) -> list[Array]:
        """Rows of the gradients close to the point, of some points each."""
        graph = self._point.graph
        generator = np.random.default_rng([self._seed, 0xC105E])
        leaves = {name: self._point.values[name] for name in graph.shapes if name not in self._point.nodes_by_name}
        found: list[Array] = []
        at_once = max(1, min(_CLOSE_POINTS // 2, self._point.batch_size // 2))
        for _ in range(0, _CLOSE_POINTS // 2, at_once):
            moved = {name: _perturb_leaf(leaf, at_once, generator) for name, leaf in leaves.items()}
            found.append(self._stack_rows(graph.backward(graph.forward(moved))))
        return [np.where(np.isfinite(each), each, self._own_gradients) for each in found]

    def _fit_independent_parts(self, responses: ChoiceResponses, concerned_rows: Array) -> TieStatus:
        """Fit the weights of each part of the choices that shares no row with another."""
        felt = self._scale_felt_columns(responses)
        count = self._judged.size
        rows, columns = felt.matrix.nonzero()
        reached = np.zeros(count, np.bool_)
        reached[rows] = True
        nodes = count + int(felt.units.max(initial=-1)) + 1
        links = scipy_sparse.csr_matrix((np.ones(rows.size), (rows, count + felt.units[columns])), shape=(nodes, nodes))
        parts: Array = scipy_csgraph.connected_components(links, directed=False)[1]
        open_still = self._make_undecided(concerned_rows & ~reached)
        found_so_far = _PartialTieStatus(*(each.copy() for each in vars(open_still).values()))
        near = self._is_near_derivatives(concerned_rows & reached)
        of_columns = parts[count + felt.units]
        for part, its_rows in _group_rows_by_part(parts[:count], reached):
            fit, left = self._fit_columns(felt.select_columns(np.flatnonzero(of_columns == part)), its_rows)
            self._record_fit(found_so_far, fit, left, its_rows, near)
        return TieStatus(**vars(found_so_far))

    def _scale_felt_columns(self, responses: ChoiceResponses) -> "_ResponseColumns":
        """Columns in units of the allowance, without those of choices that nothing feels."""
        scale = scipy_sparse.diags(np.where(self._is_known, 1 / self._allowance_unit, 0.0))
        every = _ResponseColumns((scale @ responses.matrix).tocsc(), *_describe_columns(self._point, responses))
        sizes = np.abs(every.matrix).max(axis=0).toarray().ravel() if every.units.size else np.zeros(0)
        felt = np.unique(every.units[sizes > _MIN_FELT_CHANGE])
        return every.select_columns(np.flatnonzero(np.isin(every.units, felt)))

    def _fit_columns(self, columns: "_ResponseColumns", rows: Array) -> tuple[FitResult, Array]:
        """Whether weights of some columns explain some rows."""
        if rows.size * columns.units.size > _MAX_MATRIX_ELEMENTS:
            return FitResult.UNKNOWN, self._off_in_allowances[rows]
        matrix = columns.matrix[rows].toarray()
        parts: list[Array] = []
        weights: list[Array] = []
        units: list[ChoiceUnit] = []
        freedom, start = 0, 0
        for unit in np.unique(columns.units):
            own = np.flatnonzero(columns.units == unit)
            ball, pair = columns.ball_orders[own[0]], bool(columns.is_pair[own[0]])
            part, weight = matrix[:, own], columns.weights[own]
            if pair:
                part, weight = np.concatenate([0 * part, part], axis=1), np.append(1 - weight, weight)
            parts.append(part)
            weights.append(weight)
            units.append(ChoiceUnit(np.arange(start, start + weight.size), None if np.isnan(ball) else float(ball)))
            start += weight.size
            freedom += weight.size - (1 if np.isnan(ball) else 0)
        if self._has_directions and rows.size <= freedom:
            return FitResult.UNKNOWN, self._off_in_allowances[rows]
        a = np.concatenate(parts, axis=1)
        return fit_weights(a, self._off_in_allowances[rows] + a @ np.concatenate(weights), units)

    def _record_fit(
        self, standing: "_PartialTieStatus", fit: FitResult, residual: Array, rows: Array, is_near: Array
    ) -> None:
        if fit == FitResult.EXPLAINS:
            standing.reachable[rows] = True
            standing.excused[rows] = is_near[rows]
            return
        if fit == FitResult.UNKNOWN:
            standing.reachable[rows] = self._is_within_reach[rows]
        # Where no derivative is open in float64, what is open in the judged arithmetic excuses, and accuses of nothing.
        if self._kinks[rows].any():
            wrong = (np.abs(residual) > 1) if fit == FitResult.IMPOSSIBLE else np.zeros(rows.shape, np.bool_)
            standing.impossible[rows] = wrong
            standing.undecided[rows] = ~wrong


@dataclass
class _PartialTieStatus:
    """A standing that is filled in."""

    excused: Array
    reachable: Array
    undecided: Array
    impossible: Array


@dataclass(frozen=True)
class _ResponseColumns:
    """Columns: what rows they change, of which unit, in which ball or NaN, whether alone of two, and own weight."""

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
    return np.concatenate([each.ravel() for each in parts])


def _describe_columns(point: TiePoint, responses: ChoiceResponses) -> tuple[Array, Array, Array, Array]:
    """Units, over all nodes, balls, pairs and own weights of all columns."""
    units: list[Array] = []
    balls: list[Array] = []
    weights: list[Array] = []
    start = 0
    for name, each in zip(responses.node_names, responses.columns, strict=True):
        choices = point.choices_by_node[name]
        units.append(each.units + start)
        start += int(choices.units[-1]) + 1
        balls.append(np.full(each.units.size, np.nan if choices.ball_order is None else choices.ball_order))
        weights.append(choices.weights[each.alternatives])
    pairs = [each.is_pair for each in responses.columns]
    joined = (np.concatenate(each) if each else np.zeros(0) for each in (units, balls, pairs, weights))
    of_units, of_balls, of_pairs, of_weights = joined
    return of_units.astype(np.int64), of_balls, of_pairs.astype(np.bool_), of_weights


def _group_rows_by_part(parts: Array, reached: Array) -> list[tuple[int, Array]]:
    """Rows of each part that columns reach."""
    rows = np.flatnonzero(reached)
    order = rows[np.argsort(parts[rows], kind="stable")]
    numbers, starts = np.unique(parts[order], return_index=True)
    return list(zip(numbers.tolist(), np.split(order, starts[1:]), strict=True))


def _perturb_leaf(leaf: Array, pairs: int, generator: np.random.Generator) -> Array:
    """A leaf moved a little, and the other way, (2 pairs, ...); what is no float stays."""
    if leaf.dtype.kind != "f":
        return leaf
    size_of_all = np.sqrt(np.square(leaf, where=np.isfinite(leaf), out=np.zeros_like(leaf)).mean()) or 1.0
    moves = generator.uniform(-1, 1, (pairs, *leaf.shape[1:])) * _CLOSE_DISTANCE * np.maximum(np.abs(leaf), size_of_all)
    return leaf + np.concatenate([moves, -moves])
