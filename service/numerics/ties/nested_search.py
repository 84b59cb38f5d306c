"""A search for weights of choices that multiply.

Notes
-----
If a node with choices hands its gradient to another, gradients are affine in the weights of each node, not of all: c(w)
is a polynomial, and its columns depend on the weights. Gauss-Newton steps lead from several starts to weights that
explain the judged gradient, if any are near. With the columns J(w) at w, the next weights are the feasible v of the
least

    | b - c(w) - J(w) (v - w) |

with a small term that holds v at w. The step covers the part of the way from w to v with the least residual. An
explanation is compared with c itself, so that it is sure. A failed search proves nothing, since the set of all c(w) is
not convex. Parts that share no row are searched side by side, on the same backward passes. If the columns of a part are
equal at two points drawn at random, nothing multiplies in it, and a fit decides it for sure (`weight_fit.py`).

References
----------
Nocedal and Wright, Numerical Optimization (2006), section 10.3 (Gauss-Newton, Levenberg-Marquardt).
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
"""Strength that holds weights in their place, as a part of the largest column."""
_MIN_RESPONSE = 1e-2
"""Change in allowances from which on a row feels an alternative."""
_DISTINCT_WEIGHT = 1e-9
"""Relative difference up to which columns at two points are equal."""

RowSelector = Callable[[NamedArrays], Array]


@dataclass(frozen=True)
class SearchTarget:
    """The judged numbers, shape (rows,), their allowances, and which are known."""

    judged_values: Array
    allowances: Array
    is_known: Array
    is_directional: bool


@dataclass(frozen=True)
class IndependentPart:
    """Rows and alternatives that share none with others, and the result of their fit."""

    rows: Array
    alternatives: Array
    units: list[ChoiceUnit]
    weights: FitResult
    residual: Array


def search_weights(
    point: TiePoint, select_rows: RowSelector, target: SearchTarget, seed: int
) -> list[IndependentPart] | None:
    """Search for weights of each part; return None if there is too much to search."""
    search = _NestedSearch(point, select_rows, target, seed)
    return search.find_parts() if search.is_affordable else None


class _NestedSearch:
    """A search over the concatenated alternatives of all nodes."""

    def __init__(self, point: TiePoint, select_rows: RowSelector, target: SearchTarget, seed: int) -> None:
        self._point, self._select_rows, self._target, self._seed = point, select_rows, target, seed
        self._ends = np.cumsum([0, *(choices.alternative_count for choices in point.choices_by_node.values())])
        self._count = int(self._ends[-1])
        passes = self._count + _STEP_FRACTIONS.size
        elements = max(1, sum(map(count_elements, point.graph.shapes.values())))
        self._steps = min(_START_COUNT * _STEP_COUNT, _MAX_ARRAY_ELEMENTS // (elements * passes) - 2)

    @property
    def is_affordable(self) -> bool:
        """True if there is room for a step, and its matrix is not too large."""
        has_few_alternatives = (
            self._count <= _MAX_ALTERNATIVES and self._count * self._target.judged_values.size <= _MAX_MATRIX_ENTRIES
        )
        return has_few_alternatives and self._steps > 0

    def find_parts(self) -> list[IndependentPart]:
        """Find the parts, and weights that explain them."""
        first, second = self._join_weights(conventions.interpolate_choices(self._point, self._seed, 2))
        base, matrix = self._linearise_at(first)
        _, other_matrix = self._linearise_at(second)
        parts: list[IndependentPart] = []
        for rows, columns in self._split_parts(np.abs(matrix) + np.abs(other_matrix)):
            a, b = matrix[np.ix_(rows, columns)], other_matrix[np.ix_(rows, columns)]
            units, residual, fit = self._list_units(columns), base[rows], FitResult.UNKNOWN
            is_linear = np.abs(a - b).max() <= _DISTINCT_WEIGHT * np.abs(a).max()
            if is_linear and not self._is_underdetermined(rows, columns, units):
                fit, residual = fit_weights(a, residual + a @ first[columns], units)
            parts.append(IndependentPart(rows, columns, units, fit, residual))
        return self._explain_parts(parts)

    def _is_underdetermined(self, rows: Array, columns: Array, units: list[ChoiceUnit]) -> bool:
        """Tell whether any numbers fit, since there are fewer directions than choices."""
        freedom = columns.size - sum(unit.ball_order is None for unit in units)
        return self._target.is_directional and rows.size <= freedom

    def _explain_parts(self, parts: list[IndependentPart]) -> list[IndependentPart]:
        """Search for weights that explain the unknown parts."""
        unknown = {
            number: part
            for number, part in enumerate(parts)
            if part.weights == FitResult.UNKNOWN
            and not self._is_underdetermined(part.rows, part.alternatives, part.units)
        }
        results = list(parts)
        steps = 0
        for start in self._draw_starts():
            weights = start.copy()
            for _ in range(_STEP_COUNT):
                if not unknown or steps >= self._steps:
                    return results
                steps += 1
                residual, matrix = self._linearise_at(weights)
                for number in [n for n, part in unknown.items() if np.abs(residual[part.rows]).max() <= 1]:
                    part = unknown.pop(number)
                    results[number] = IndependentPart(
                        part.rows, part.alternatives, part.units, FitResult.EXPLAINS, residual[part.rows]
                    )
                weights = self._take_step(weights, residual, matrix, unknown.values())
        return results

    def _take_step(self, weights: Array, residual: Array, matrix: Array, parts: Any) -> Array:
        """Take a step, of each part the fraction with the least residual."""
        proposed_weights = weights.copy()
        for part in parts:
            a, part_weights = matrix[np.ix_(part.rows, part.alternatives)], weights[part.alternatives]
            part_residual, scale = residual[part.rows], float(np.abs(a).max())
            # A weight that no row feels as yet stays in its place; near a solution the hold vanishes.
            damping = min(_MIN_WEIGHT * scale, float(np.abs(part_residual).max())) * np.eye(part_weights.size)
            proposed_weights[part.alternatives] = find_nearest(
                np.concatenate([a, damping]),
                np.concatenate([part_residual + a @ part_weights, damping @ part_weights]),
                part.units,
            )
        trials = weights + _STEP_FRACTIONS[:, None] * (proposed_weights - weights)
        residuals = self._compute_residuals(trials)
        next_weights = weights.copy()
        for part in parts:
            best = int(np.square(residuals[:, part.rows]).sum(axis=1).argmin())
            next_weights[part.alternatives] = trials[best, part.alternatives]
        return next_weights

    def _draw_starts(self) -> Iterator[Array]:
        yield self._own_weights
        yield self._join_weights(conventions.combine_convention_weights(self._point, 4))[-1]
        yield from self._join_weights(conventions.interpolate_choices(self._point, self._seed + 1, _START_COUNT - 2))

    @cached_attribute
    def _own_weights(self) -> Array:
        return np.concatenate([choices.weights for choices in self._point.choices_by_node.values()])

    @staticmethod
    def _join_weights(weights: Mapping[str, Array]) -> Array:
        """Join weights by node to rows, shape (K, alternatives)."""
        return np.concatenate(list(weights.values()), axis=1)

    def _compute_residuals(self, weights: Array) -> Array:
        """Compute the residuals of weights, (K, alternatives), in allowances, (K, rows)."""
        at_once = self._point.batch_size
        batches: list[Array] = []
        for start in range(0, len(weights), at_once):
            batch = weights[start : start + at_once]
            by_node = {
                name: batch[:, self._ends[i] : self._ends[i + 1]] for i, name in enumerate(self._point.choices_by_node)
            }
            batches.append(self._select_rows(self._point.compute_gradients_by_weights(by_node)))
        residuals = (self._target.judged_values - np.concatenate(batches)) / self._target.allowances
        return np.where(self._target.is_known & np.isfinite(residuals), residuals, 0.0)

    def _linearise_at(self, weights: Array) -> tuple[Array, Array]:
        """Compute the residual at some weights, and its columns, (rows, alternatives).

        A column is the change by 1 more of its alternative.
        """
        residuals = self._compute_residuals(np.concatenate([weights[None], weights + np.eye(self._count)]))
        return residuals[0], (residuals[0] - residuals[1:]).T

    @cached_attribute
    def _unit_of_alternatives(self) -> tuple[Array, Array]:
        """Units of the alternatives over all nodes, and orders of their balls or NaN."""
        all_choices = self._point.choices_by_node.values()
        starts = np.cumsum([0, *(int(choices.units[-1]) + 1 for choices in all_choices)])
        units = [choices.units + start for choices, start in zip(all_choices, starts, strict=False)]
        balls = [
            np.full(choices.alternative_count, np.nan if choices.ball_order is None else choices.ball_order)
            for choices in all_choices
        ]
        return np.concatenate(units), np.concatenate(balls)

    def _list_units(self, columns: Array) -> list[ChoiceUnit]:
        units, balls = self._unit_of_alternatives
        choice_units: list[ChoiceUnit] = []
        for unit in np.unique(units[columns]):
            unit_columns = np.flatnonzero(units[columns] == unit)
            ball = balls[columns[unit_columns[0]]]
            choice_units.append(ChoiceUnit(unit_columns, None if np.isnan(ball) else float(ball)))
        return choice_units

    def _split_parts(self, is_effective: Array) -> Iterator[tuple[Array, Array]]:
        """Yield the rows and columns of each part, linked by shared rows and units."""
        units, _ = self._unit_of_alternatives
        rows, columns = np.nonzero(is_effective > _MIN_RESPONSE)
        count = len(is_effective)
        total = count + int(units[-1]) + 1
        links = sparse.csr_matrix((np.ones(rows.size), (rows, count + units[columns])), shape=(total, total))
        parts: Array = csgraph.connected_components(links, directed=False)[1]
        for part in np.unique(parts[rows]):
            yield np.flatnonzero(parts[:count] == part), np.flatnonzero(parts[count + units] == part)
