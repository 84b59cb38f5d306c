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

from service.numerics.core.batching import Array, count_elements
from service.numerics.core.cached_attribute import cached_attribute
from service.numerics.model.graph import NamedArrays
from service.numerics.ties import conventions
from service.numerics.ties.tie_point import TiePoint
from service.numerics.ties.weight_fit import ChoiceUnit, FitResult, find_nearest, fit_weights

# SciPy's own types are not known.
sparse, csgraph = cast("Any", _sparse), cast("Any", _csgraph)

_MAX_ALTERNATIVES = 2**7
_MAX_MATRIX_ENTRIES = 2**16
"""Entries of the matrix of all columns."""
_MAX_ARRAY_ELEMENTS = 2**25
"""Elements of all arrays of all backward passes of one search."""
_START_COUNT = 6
_STEP_COUNT = 12
_STEP_FRACTIONS = np.array([1.0, 0.5, 0.2, 0.05])
_MIN_WEIGHT = 1e-3
"""What weights are held by where they are, as a part of the largest column."""
_MIN_RESPONSE = 1e-2
"""Allowances up to which an alternative is not felt."""
_DISTINCT_WEIGHT = 1e-9
"""Relative difference up to which columns at two points are the same."""

Seen = Callable[[NamedArrays], Array]


@dataclass(frozen=True)
class SearchTarget:
    """What is judged, (rows,), in its allowances where it is known; and whether along directions."""

    judged_values: Array
    allowances: Array
    is_known: Array
    is_directional: bool


@dataclass(frozen=True)
class IndependentPart:
    """Rows and alternatives that share none with others, and what was found of them."""

    rows: Array
    alternatives: Array
    units: list[ChoiceUnit]
    weights: FitResult
    residual: Array


def search_weights(point: TiePoint, seen: Seen, aim: SearchTarget, seed: int) -> list[IndependentPart] | None:
    """Search for weights of each part; None where there is too much to search."""
    search = _NestedSearch(point, seen, aim, seed)
    return search.find_parts() if search.is_affordable else None


class _NestedSearch:
    """All alternatives of all nodes behind one another."""

    def __init__(self, point: TiePoint, seen: Seen, aim: SearchTarget, seed: int) -> None:
        self._point, self._seen, self._aim, self._seed = point, seen, aim, seed
        self._ends = np.cumsum([0, *(each.alternative_count for each in point.choices_by_node.values())])
        self._count = int(self._ends[-1])
        passes = self._count + _STEP_FRACTIONS.size
        elements = max(1, sum(map(count_elements, point.graph.shapes.values())))
        self._steps = min(_START_COUNT * _STEP_COUNT, _MAX_ARRAY_ELEMENTS // (elements * passes) - 2)

    @property
    def is_affordable(self) -> bool:
        """Whether there is a step to take, and its matrix is not too large."""
        few = self._count <= _MAX_ALTERNATIVES and self._count * self._aim.judged_values.size <= _MAX_MATRIX_ENTRIES
        return few and self._steps > 0

    def find_parts(self) -> list[IndependentPart]:
        """Find the parts, and what explains each."""
        first, second = self._join_weights(conventions.interpolate_choices(self._point, self._seed, 2))
        base, matrix = self._linearise_at(first)
        _, other = self._linearise_at(second)
        found: list[IndependentPart] = []
        for rows, columns in self._split_parts(np.abs(matrix) + np.abs(other)):
            a, b = matrix[np.ix_(rows, columns)], other[np.ix_(rows, columns)]
            units, left = self._list_units(columns), base[rows]
            fit = FitResult.UNKNOWN
            if (
                not self._is_underdetermined(rows, columns, units)
                and np.abs(a - b).max() <= _DISTINCT_WEIGHT * np.abs(a).max()
            ):
                fit, left = fit_weights(a, left + a @ first[columns], units)
                found.append(IndependentPart(rows, columns, units, fit, left))
                continue
            found.append(IndependentPart(rows, columns, units, fit, left))
        return self._explain_parts(found)

    def _is_underdetermined(self, rows: Array, columns: Array, units: list[ChoiceUnit]) -> bool:
        """Whether any numbers would be explained, as along fewer directions than there are choices."""
        freedom = columns.size - sum(each.ball_order is None for each in units)
        return self._aim.is_directional and rows.size <= freedom

    def _explain_parts(self, parts: list[IndependentPart]) -> list[IndependentPart]:
        """Search for what explains those parts that are not known."""
        still = {
            number: each
            for number, each in enumerate(parts)
            if each.weights == FitResult.UNKNOWN
            and not self._is_underdetermined(each.rows, each.alternatives, each.units)
        }
        found = list(parts)
        steps = 0
        for start in self._draw_starts():
            weights = start.copy()
            for _ in range(_STEP_COUNT):
                if not still or steps >= self._steps:
                    return found
                steps += 1
                left, matrix = self._linearise_at(weights)
                for number in [each for each in still if np.abs(left[still[each].rows]).max() <= 1]:
                    part = still.pop(number)
                    found[number] = IndependentPart(
                        part.rows, part.alternatives, part.units, FitResult.EXPLAINS, left[part.rows]
                    )
                weights = self._take_step(weights, left, matrix, still.values())
        return found

    def _take_step(self, weights: Array, left: Array, matrix: Array, parts: Any) -> Array:
        """Weights after a step, of each part as much of it as leaves the least."""
        ahead = weights.copy()
        for part in parts:
            a, own, off = matrix[np.ix_(part.rows, part.alternatives)], weights[part.alternatives], left[part.rows]
            scale = float(np.abs(a).max())
            # What nothing feels as yet stays where it is; near the end that is held by nothing.
            held = min(_MIN_WEIGHT * scale, float(np.abs(off).max())) * np.eye(own.size)
            ahead[part.alternatives] = find_nearest(
                np.concatenate([a, held]), np.concatenate([off + a @ own, held @ own]), part.units
            )
        tried = weights + _STEP_FRACTIONS[:, None] * (ahead - weights)
        lefts = self._compute_residuals(tried)
        after = weights.copy()
        for part in parts:
            best = int(np.square(lefts[:, part.rows]).sum(axis=1).argmin())
            after[part.alternatives] = tried[best, part.alternatives]
        return after

    def _draw_starts(self) -> Iterator[Array]:
        yield self._list_own_weights
        yield self._join_weights(conventions.combine_convention_weights(self._point, 4))[-1]
        yield from self._join_weights(conventions.interpolate_choices(self._point, self._seed + 1, _START_COUNT - 2))

    @cached_attribute
    def _list_own_weights(self) -> Array:
        return np.concatenate([each.weights for each in self._point.choices_by_node.values()])

    @staticmethod
    def _join_weights(weights: Mapping[str, Array]) -> Array:
        """Weights by node as rows, (K, alternatives)."""
        return np.concatenate(list(weights.values()), axis=1)

    def _compute_residuals(self, weights: Array) -> Array:
        """What is left by rows of weights, (K, alternatives), in allowances, (K, rows)."""
        at_once = self._point.batch_size
        found: list[Array] = []
        for start in range(0, len(weights), at_once):
            some = weights[start : start + at_once]
            by_node = {
                name: some[:, self._ends[i] : self._ends[i + 1]] for i, name in enumerate(self._point.choices_by_node)
            }
            found.append(self._seen(self._point.gradients_by_weights(by_node)))
        left = (self._aim.judged_values - np.concatenate(found)) / self._aim.allowances
        return np.where(self._aim.is_known & np.isfinite(left), left, 0.0)

    def _linearise_at(self, weights: Array) -> tuple[Array, Array]:
        """What is left at some weights, and the columns there, (rows, alternatives): one alternative has 1 more."""
        left = self._compute_residuals(np.concatenate([weights[None], weights + np.eye(self._count)]))
        return left[0], (left[0] - left[1:]).T

    @cached_attribute
    def _unit_of_alternatives(self) -> tuple[Array, Array]:
        """Unit of each alternative, over all nodes, and the order of its ball, NaN for none."""
        starts = np.cumsum([0, *(int(each.units[-1]) + 1 for each in self._point.choices_by_node.values())])
        every = self._point.choices_by_node.values()
        units = [each.units + start for each, start in zip(every, starts, strict=False)]
        balls = [
            np.full(each.alternative_count, np.nan if each.ball_order is None else each.ball_order) for each in every
        ]
        return np.concatenate(units), np.concatenate(balls)

    def _list_units(self, columns: Array) -> list[ChoiceUnit]:
        units, balls = self._unit_of_alternatives
        found: list[ChoiceUnit] = []
        for unit in np.unique(units[columns]):
            own = np.flatnonzero(units[columns] == unit)
            ball = balls[columns[own[0]]]
            found.append(ChoiceUnit(own, None if np.isnan(ball) else float(ball)))
        return found

    def _split_parts(self, felt: Array) -> Iterator[tuple[Array, Array]]:
        """Rows and columns of each part: what shares a row, and what is of one unit."""
        units, _ = self._unit_of_alternatives
        rows, columns = np.nonzero(felt > _MIN_RESPONSE)
        count = len(felt)
        total = count + int(units[-1]) + 1
        links = sparse.csr_matrix((np.ones(rows.size), (rows, count + units[columns])), shape=(total, total))
        parts: Array = csgraph.connected_components(links, directed=False)[1]
        for part in np.unique(parts[rows]):
            yield np.flatnonzero(parts[:count] == part), np.flatnonzero(parts[count + units] == part)
