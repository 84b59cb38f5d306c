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

from service.numerics.graph import Values
from service.numerics.kept import kept
from service.numerics.ties import conventions
from service.numerics.ties.fit import Fit, Unit, fitted
from service.numerics.ties.nested import Aim, searched
from service.numerics.ties.point import Point
from service.numerics.ties.responses import Responses, responses
from service.numerics.ties.standing import Rows, Standing
from service.numerics.tiles import Array

# SciPy's own types are not known.
sparse, csgraph = cast("Any", _sparse), cast("Any", _csgraph)

_CLOSE = 2.0**-36
"""Moves, in parts of a leaf's size, to points whose derivatives are close."""
_NEAR = 64
"""Points that are looked at, in opposite pairs."""
_SLACK = 1e-6
"""Part of the largest derivative that those close to the point differ from it by without a kink."""
_FELT = 1e-2
"""Allowances up to which a choice is not felt."""
_KEPT = 2**22
"""Numbers of gradients by other choices that are kept."""
_LARGEST = 2**22
"""Elements of the largest matrix that weights are fitted by."""
_BEYOND = 10.0
"""How far beyond what some choices make others may lead, in spans of them."""


def judge(point: Point, rows: Mapping[str, Rows], seed: int) -> dict[str, Standing]:
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
    found = _Joint(point, rows, seed).standing()
    starts: list[int] = np.cumsum([0, *(each.judged.size for each in rows.values())]).tolist()
    return {name: found.at(np.arange(starts[i], starts[i + 1])) for i, name in enumerate(rows)}


class _Joint:
    """All rows behind one another."""

    def __init__(self, point: Point, rows: Mapping[str, Rows], seed: int) -> None:
        self._point, self._rows, self._seed = point, rows, seed
        self._judged = _joined([each.judged for each in rows.values()])
        self._allowed = _joined([each.allowed for each in rows.values()])
        self._kinks = _joined([each.kinks for each in rows.values()])
        self._examined = _joined([each.examined for each in rows.values()])
        self._along = any(each.directions is not None for each in rows.values())
        self._base = self._seen(point.gradients)[0]
        known = np.isfinite(self._judged) & np.isfinite(self._allowed) & np.isfinite(self._base)
        self._known = known & self._examined
        self._unit = np.maximum(np.where(known, self._allowed, 1.0), np.finfo(np.float64).tiny)
        self._off = np.where(self._known, (self._judged - self._base) / self._unit, 0.0)

    def _seen(self, gradients: Values) -> Array:
        """All rows of gradients, (K, rows)."""
        each = [rows.of(gradients[name]) for name, rows in self._rows.items()]
        tiles = max(map(len, each))
        return np.concatenate([np.broadcast_to(one, (tiles, one.shape[1])) for one in each], axis=1)

    def _by_weights(self, weights: Values) -> Array:
        """All rows by weights of the choices, (K, rows)."""
        if not weights:
            return self._base[None]
        count, at_once = len(next(iter(weights.values()))), self._point.tiles
        parts = [
            self._seen(self._point.with_weights({name: each[i : i + at_once] for name, each in weights.items()}))
            for i in range(0, count, at_once)
        ]
        return np.concatenate(parts)

    @property
    def _most(self) -> int:
        """Gradients that are kept at once."""
        return max(4, _KEPT // max(1, self._judged.size))

    @kept
    def _conventions(self) -> Array:
        return self._by_weights(conventions.weights_of(self._point, self._most))

    @kept
    def _corners(self) -> Array:
        corners = conventions.corners(self._point, self._seed, self._most)
        between = conventions.between(self._point, self._seed, self._most)
        return np.concatenate([self._conventions, self._by_weights(corners), self._by_weights(between)])

    @kept
    def _felt(self) -> Array:
        """Rows that some choice changes."""
        return np.any(np.abs(self._corners - self._base) > _FELT * self._unit, axis=0)

    def standing(self) -> Standing:
        """Judge all rows."""
        concerned = self._known & (self._felt | self._kinks)
        off = np.abs(self._judged - self._conventions) <= self._unit
        if off[:, concerned].all(axis=1).any():
            return self._explained(concerned)
        found = responses(self._point, self._seen)
        return self._by_search(concerned) if found is None else self._by_parts(found, concerned)

    def _by_search(self, concerned: Array) -> Standing:
        """Search for weights where choices multiply, or are too many to be told apart."""
        aim = Aim(self._judged, self._unit, self._known, self._along)
        parts = searched(self._point, self._seen, aim, self._seed) if self._point.choices else None
        if parts is None:
            return self._open(concerned)
        reached = np.zeros(self._judged.shape, np.bool_)
        for part in parts:
            reached[part.rows] = True
        found_so_far = _Noted(*(each.copy() for each in vars(self._open(concerned & ~reached)).values()))
        near = self._near(concerned & reached)
        for part in parts:
            self._note(found_so_far, part.fit, part.left, part.rows, near)
        return Standing(**vars(found_so_far))

    def _explained(self, rows: Array) -> Standing:
        nothing = np.zeros(rows.shape, np.bool_)
        return Standing(rows & self._near(rows), rows, nothing, nothing)

    def _open(self, rows: Array) -> Standing:
        """What is not known: what may be left out of it is what the own choices explain where nothing is felt."""
        nothing = np.zeros(rows.shape, np.bool_)
        alone = ~self._felt & (np.abs(self._off) <= 1)
        return Standing(nothing, rows & self._within_reach, rows & self._kinks & ~alone, nothing)

    @kept
    def _within_reach(self) -> Array:
        low, high = self._corners.min(axis=0), self._corners.max(axis=0)
        beyond = _BEYOND * (high - low) + self._unit
        return (self._judged >= low - beyond) & (self._judged <= high + beyond)

    def _near(self, rows: Array) -> Array:
        """Where derivatives close to the point reach what is judged."""
        if not (rows & (np.abs(self._off) > 1)).any():
            return rows
        seen = np.concatenate(self._close())
        low, high = seen.min(axis=0), seen.max(axis=0)
        slack = self._unit + _SLACK * np.abs(seen).max(axis=0)
        return (self._judged >= low - slack) & (self._judged <= high + slack)

    def _close(self) -> list[Array]:
        """Rows of the gradients close to the point, of some points each."""
        graph = self._point.graph
        generator = np.random.default_rng([self._seed, 0xC105E])
        leaves = {name: self._point.values[name] for name in graph.shapes if name not in self._point.nodes}
        found: list[Array] = []
        at_once = max(1, min(_NEAR // 2, self._point.tiles // 2))
        for _ in range(0, _NEAR // 2, at_once):
            moved = {name: _moved(leaf, at_once, generator) for name, leaf in leaves.items()}
            found.append(self._seen(graph.reverse(graph.forward(moved))))
        return [np.where(np.isfinite(each), each, self._base) for each in found]

    def _by_parts(self, found: Responses, concerned: Array) -> Standing:
        """Fit the weights of each part of the choices that shares no row with another."""
        felt = self._felt_columns(found)
        count = self._judged.size
        rows, columns = felt.matrix.nonzero()
        reached = np.zeros(count, np.bool_)
        reached[rows] = True
        nodes = count + int(felt.units.max(initial=-1)) + 1
        links = sparse.csr_matrix((np.ones(rows.size), (rows, count + felt.units[columns])), shape=(nodes, nodes))
        parts: Array = csgraph.connected_components(links, directed=False)[1]
        open_still = self._open(concerned & ~reached)
        found_so_far = _Noted(*(each.copy() for each in vars(open_still).values()))
        near = self._near(concerned & reached)
        of_columns = parts[count + felt.units]
        for part, its_rows in _grouped(parts[:count], reached):
            fit, left = self._fitted(felt.some(np.flatnonzero(of_columns == part)), its_rows)
            self._note(found_so_far, fit, left, its_rows, near)
        return Standing(**vars(found_so_far))

    def _felt_columns(self, found: Responses) -> "_Columns":
        """Columns in units of the allowance, without those of choices that nothing feels."""
        scale = sparse.diags(np.where(self._known, 1 / self._unit, 0.0))
        every = _Columns((scale @ found.matrix).tocsc(), *_described(self._point, found))
        sizes = np.abs(every.matrix).max(axis=0).toarray().ravel() if every.units.size else np.zeros(0)
        felt = np.unique(every.units[sizes > _FELT])
        return every.some(np.flatnonzero(np.isin(every.units, felt)))

    def _fitted(self, columns: "_Columns", rows: Array) -> tuple[Fit, Array]:
        """Whether weights of some columns explain some rows."""
        if rows.size * columns.units.size > _LARGEST:
            return Fit.UNKNOWN, self._off[rows]
        matrix = columns.matrix[rows].toarray()
        parts: list[Array] = []
        weights: list[Array] = []
        units: list[Unit] = []
        freedom, start = 0, 0
        for unit in np.unique(columns.units):
            own = np.flatnonzero(columns.units == unit)
            ball, pair = columns.balls[own[0]], bool(columns.pairs[own[0]])
            part, weight = matrix[:, own], columns.weights[own]
            if pair:
                part, weight = np.concatenate([0 * part, part], axis=1), np.append(1 - weight, weight)
            parts.append(part)
            weights.append(weight)
            units.append(Unit(np.arange(start, start + weight.size), None if np.isnan(ball) else float(ball)))
            start += weight.size
            freedom += weight.size - (1 if np.isnan(ball) else 0)
        if self._along and rows.size <= freedom:
            return Fit.UNKNOWN, self._off[rows]
        a = np.concatenate(parts, axis=1)
        return fitted(a, self._off[rows] + a @ np.concatenate(weights), units)

    def _note(self, standing: "_Noted", fit: Fit, left: Array, rows: Array, near: Array) -> None:
        if fit == Fit.EXPLAINS:
            standing.reachable[rows] = True
            standing.excused[rows] = near[rows]
            return
        if fit == Fit.UNKNOWN:
            standing.reachable[rows] = self._within_reach[rows]
        # Where no derivative is open in float64, what is open in the judged arithmetic excuses, and accuses of nothing.
        if self._kinks[rows].any():
            wrong = (np.abs(left) > 1) if fit == Fit.IMPOSSIBLE else np.zeros(rows.shape, np.bool_)
            standing.impossible[rows] = wrong
            standing.undecided[rows] = ~wrong


@dataclass
class _Noted:
    """A standing that is filled in."""

    excused: Array
    reachable: Array
    undecided: Array
    impossible: Array


@dataclass(frozen=True)
class _Columns:
    """Columns: what rows they change, of which unit, in which ball or NaN, whether alone of two, and own weight."""

    matrix: Any
    units: Array
    balls: Array
    pairs: Array
    weights: Array

    def some(self, at: Array) -> "_Columns":
        return _Columns(self.matrix[:, at], self.units[at], self.balls[at], self.pairs[at], self.weights[at])


def _joined(parts: list[Array]) -> Array:
    return np.concatenate([each.ravel() for each in parts])


def _described(point: Point, found: Responses) -> tuple[Array, Array, Array, Array]:
    """Units, over all nodes, balls, pairs and own weights of all columns."""
    units: list[Array] = []
    balls: list[Array] = []
    weights: list[Array] = []
    start = 0
    for name, each in zip(found.names, found.columns, strict=True):
        choices = point.choices[name]
        units.append(each.units + start)
        start += int(choices.units[-1]) + 1
        balls.append(np.full(each.units.size, np.nan if choices.ball is None else choices.ball))
        weights.append(choices.weights[each.places])
    pairs = [each.pairs for each in found.columns]
    joined = (np.concatenate(each) if each else np.zeros(0) for each in (units, balls, pairs, weights))
    of_units, of_balls, of_pairs, of_weights = joined
    return of_units.astype(np.int64), of_balls, of_pairs.astype(np.bool_), of_weights


def _grouped(parts: Array, reached: Array) -> list[tuple[int, Array]]:
    """Rows of each part that columns reach."""
    rows = np.flatnonzero(reached)
    order = rows[np.argsort(parts[rows], kind="stable")]
    numbers, starts = np.unique(parts[order], return_index=True)
    return list(zip(numbers.tolist(), np.split(order, starts[1:]), strict=True))


def _moved(leaf: Array, pairs: int, generator: np.random.Generator) -> Array:
    """A leaf moved a little, and the other way, (2 pairs, ...); what is no float stays."""
    if leaf.dtype.kind != "f":
        return leaf
    size_of_all = np.sqrt(np.square(leaf, where=np.isfinite(leaf), out=np.zeros_like(leaf)).mean()) or 1.0
    moves = generator.uniform(-1, 1, (pairs, *leaf.shape[1:])) * _CLOSE * np.maximum(np.abs(leaf), size_of_all)
    return leaf + np.concatenate([moves, -moves])
