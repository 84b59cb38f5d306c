"""A search for weights where choices multiply.

Where a node with choices hands its gradient to another, gradients are affine in the weights of each node, not of all:
c(w) is a polynomial, and its columns follow from the weights at which they are taken. Steps of Gauss and Newton lead
from some starts to weights that explain what is judged, if any are near: with J(w) the columns at w, the next weights
are those of the least

    | b - c(w) - J(w) (v - w) |     for v that may be chosen,

with a little that holds v at w, and of the way from w to them as much is gone as leaves the least. What explains is
held against c itself, so that it is sure. What was not found is not known, since the set of all c(w) is not convex.
Parts that share no row are searched side by side, on the same backward passes; in a part whose columns are the same at
two points drawn at random nothing multiplies, and it is fitted for sure (`fit.py`).

Source: Nocedal and Wright, Numerical Optimization (2006), section 10.3 (Gauss-Newton, Levenberg-Marquardt).
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from scipy import sparse as _sparse
from scipy.sparse import csgraph as _csgraph

from service.numerics.graph import Values
from service.numerics.kept import kept
from service.numerics.ties import conventions
from service.numerics.ties.fit import Fit, Unit, fitted, nearest
from service.numerics.ties.point import Point
from service.numerics.tiles import Array, size

# SciPy's own types are not known.
sparse, csgraph = cast("Any", _sparse), cast("Any", _csgraph)

_MOST_ALTERNATIVES = 2**7
_MOST_ENTRIES = 2**16
"""Entries of the matrix of all columns."""
_MOST_WORK = 2**25
"""Elements of all arrays of all backward passes of one search."""
_STARTS = 6
_STEPS = 12
_PARTS_OF_STEP = np.array([1.0, 0.5, 0.2, 0.05])
_HELD = 1e-3
"""What weights are held by where they are, as a part of the largest column."""
_FELT = 1e-2
"""Allowances up to which an alternative is not felt."""
_ALIKE = 1e-9
"""Relative difference up to which columns at two points are the same."""

Seen = Callable[[Values], Array]


@dataclass(frozen=True)
class Aim:
    """What is judged, (rows,), in its allowances where it is known; and whether along directions."""

    judged: Array
    unit: Array
    known: Array
    along: bool


@dataclass(frozen=True)
class Part:
    """Rows and alternatives that share none with others, and what was found of them."""

    rows: Array
    columns: Array
    units: list[Unit]
    fit: Fit
    left: Array


def searched(point: Point, seen: Seen, aim: Aim, seed: int) -> list[Part] | None:
    """Search for weights of each part; None where there is too much to search."""
    search = _Search(point, seen, aim, seed)
    return search.parts() if search.affordable else None


class _Search:
    """All alternatives of all nodes behind one another."""

    def __init__(self, point: Point, seen: Seen, aim: Aim, seed: int) -> None:
        self._point, self._seen, self._aim, self._seed = point, seen, aim, seed
        self._ends = np.cumsum([0, *(each.count for each in point.choices.values())])
        self._count = int(self._ends[-1])
        passes = self._count + _PARTS_OF_STEP.size
        elements = max(1, sum(map(size, point.graph.shapes.values())))
        self._steps = min(_STARTS * _STEPS, _MOST_WORK // (elements * passes) - 2)

    @property
    def affordable(self) -> bool:
        """Whether there is a step to take, and its matrix is not too large."""
        few = self._count <= _MOST_ALTERNATIVES and self._count * self._aim.judged.size <= _MOST_ENTRIES
        return few and self._steps > 0

    def parts(self) -> list[Part]:
        """Find the parts, and what explains each."""
        first, second = self._joined(conventions.between(self._point, self._seed, 2))
        base, matrix = self._taken_at(first)
        _, other = self._taken_at(second)
        found: list[Part] = []
        for rows, columns in self._apart(np.abs(matrix) + np.abs(other)):
            a, b = matrix[np.ix_(rows, columns)], other[np.ix_(rows, columns)]
            units, left = self._units_of(columns), base[rows]
            fit = Fit.UNKNOWN
            if not self._free(rows, columns, units) and np.abs(a - b).max() <= _ALIKE * np.abs(a).max():
                fit, left = fitted(a, left + a @ first[columns], units)
                found.append(Part(rows, columns, units, fit, left))
                continue
            found.append(Part(rows, columns, units, fit, left))
        return self._explained(found)

    def _free(self, rows: Array, columns: Array, units: list[Unit]) -> bool:
        """Whether any numbers would be explained, as along fewer directions than there are choices."""
        freedom = columns.size - sum(each.ball is None for each in units)
        return self._aim.along and rows.size <= freedom

    def _explained(self, parts: list[Part]) -> list[Part]:
        """Search for what explains those parts that are not known."""
        still = {
            number: each
            for number, each in enumerate(parts)
            if each.fit == Fit.UNKNOWN and not self._free(each.rows, each.columns, each.units)
        }
        found = list(parts)
        steps = 0
        for start in self._starts():
            weights = start.copy()
            for _ in range(_STEPS):
                if not still or steps >= self._steps:
                    return found
                steps += 1
                left, matrix = self._taken_at(weights)
                for number in [each for each in still if np.abs(left[still[each].rows]).max() <= 1]:
                    part = still.pop(number)
                    found[number] = Part(part.rows, part.columns, part.units, Fit.EXPLAINS, left[part.rows])
                weights = self._stepped(weights, left, matrix, still.values())
        return found

    def _stepped(self, weights: Array, left: Array, matrix: Array, parts: Any) -> Array:
        """Weights after a step, of each part as much of it as leaves the least."""
        ahead = weights.copy()
        for part in parts:
            a, own, off = matrix[np.ix_(part.rows, part.columns)], weights[part.columns], left[part.rows]
            scale = float(np.abs(a).max())
            # What nothing feels as yet stays where it is; near the end that is held by nothing.
            held = min(_HELD * scale, float(np.abs(off).max())) * np.eye(own.size)
            ahead[part.columns] = nearest(
                np.concatenate([a, held]), np.concatenate([off + a @ own, held @ own]), part.units
            )
        tried = weights + _PARTS_OF_STEP[:, None] * (ahead - weights)
        lefts = self._left(tried)
        after = weights.copy()
        for part in parts:
            best = int(np.square(lefts[:, part.rows]).sum(axis=1).argmin())
            after[part.columns] = tried[best, part.columns]
        return after

    def _starts(self) -> Iterator[Array]:
        yield self._own
        yield self._joined(conventions.weights_of(self._point, 4))[-1]
        yield from self._joined(conventions.between(self._point, self._seed + 1, _STARTS - 2))

    @kept
    def _own(self) -> Array:
        return np.concatenate([each.weights for each in self._point.choices.values()])

    @staticmethod
    def _joined(weights: Mapping[str, Array]) -> Array:
        """Weights by node as rows, (K, alternatives)."""
        return np.concatenate(list(weights.values()), axis=1)

    def _left(self, weights: Array) -> Array:
        """What is left by rows of weights, (K, alternatives), in allowances, (K, rows)."""
        at_once = self._point.tiles
        found: list[Array] = []
        for start in range(0, len(weights), at_once):
            some = weights[start : start + at_once]
            by_node = {name: some[:, self._ends[i] : self._ends[i + 1]] for i, name in enumerate(self._point.choices)}
            found.append(self._seen(self._point.with_weights(by_node)))
        left = (self._aim.judged - np.concatenate(found)) / self._aim.unit
        return np.where(self._aim.known & np.isfinite(left), left, 0.0)

    def _taken_at(self, weights: Array) -> tuple[Array, Array]:
        """What is left at some weights, and the columns there, (rows, alternatives): one alternative has 1 more."""
        left = self._left(np.concatenate([weights[None], weights + np.eye(self._count)]))
        return left[0], (left[0] - left[1:]).T

    @kept
    def _units(self) -> tuple[Array, Array]:
        """Unit of each alternative, over all nodes, and the order of its ball, NaN for none."""
        starts = np.cumsum([0, *(int(each.units[-1]) + 1 for each in self._point.choices.values())])
        every = self._point.choices.values()
        units = [each.units + start for each, start in zip(every, starts, strict=False)]
        balls = [np.full(each.count, np.nan if each.ball is None else each.ball) for each in every]
        return np.concatenate(units), np.concatenate(balls)

    def _units_of(self, columns: Array) -> list[Unit]:
        units, balls = self._units
        found: list[Unit] = []
        for unit in np.unique(units[columns]):
            own = np.flatnonzero(units[columns] == unit)
            ball = balls[columns[own[0]]]
            found.append(Unit(own, None if np.isnan(ball) else float(ball)))
        return found

    def _apart(self, felt: Array) -> Iterator[tuple[Array, Array]]:
        """Rows and columns of each part: what shares a row, and what is of one unit."""
        units, _ = self._units
        rows, columns = np.nonzero(felt > _FELT)
        count = len(felt)
        total = count + int(units[-1]) + 1
        links = sparse.csr_matrix((np.ones(rows.size), (rows, count + units[columns])), shape=(total, total))
        parts: Array = csgraph.connected_components(links, directed=False)[1]
        for part in np.unique(parts[rows]):
            yield np.flatnonzero(parts[:count] == part), np.flatnonzero(parts[count + units] == part)
