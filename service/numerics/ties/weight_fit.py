"""Feasible weights w that bring g0 + V w nearest to the judged gradient.

Notes
-----
With r(w) = b - A w in units of the allowance, the nearest weights are those of the least |r|. Three answers are sure:

    max |r(w)| <= 1 for a feasible w       w explains all;
    min |r|^2 > m for m elements           nothing explains them, since max |r| <= 1 implies |r|^2 <= m;
    neither                                the answer is unknown.

Neither rests on the solver having converged. The fit reads the first off at weights that lie in the set. For the
second, f(w) = |r|^2 / 2 is convex: f(s) >= f(w) + f'(w) . (s - w) for every s, so that

    min f >= f(w) - max_s f'(w) . (w - s).

The maximum over a simplex is at a corner, and over a unit ball it is the dual norm of f'.

Weights w in float64 are off by u of their size, which changes f' by u |A|^2. For |r| below sqrt(u) |A| that hides the
answer. The fit therefore corrects the weights in extended precision and looks again before it answers "unknown".

References
----------
Jaggi, Revisiting Frank-Wolfe (2013), section 2, for the duality gap. Lawson and Hanson, Solving Least Squares Problems
(1974), chapter 23, for the solver: the equation that weights sum to one is a row of large weight.
"""

import contextlib
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, cast

import numpy as np
from scipy import optimize as _optimize

from service.numerics.core.batching import Array

# SciPy's own types are not known.
scipy_optimize = cast("Any", _optimize)

_SUM_CONSTRAINT_WEIGHT = 64.0
"""Weight of the row of a sum, in units of the largest entry."""


class FitResult(IntEnum):
    """The answer to the question whether a choice explains the judged numbers."""

    EXPLAINS = 0
    UNKNOWN = 1
    IMPOSSIBLE = 2


@dataclass(frozen=True)
class ChoiceUnit:
    """Columns of one choice, and the order of the ball of their weights.

    The order is None for a simplex.
    """

    columns: Array
    ball_order: float | None


def fit_weights(a: Array, b: Array, units: list[ChoiceUnit]) -> tuple[FitResult, Array]:
    """Fit weights that explain b, (m,), by a, (m, n).

    Return the answer and residual, (m,).
    """
    weights = find_nearest(a, b, units)
    answer, residual = _answer_at_weights(a, b, weights, units)
    if answer == FitResult.UNKNOWN:
        corrected_weights = _correct_weights(a, b, weights, units)
        answer, residual = _answer_at_weights(a.astype(np.longdouble), b, corrected_weights, units)
    return answer, residual.astype(np.float64, copy=False)


def _answer_at_weights(a: Array, b: Array, weights: Array, units: list[ChoiceUnit]) -> tuple[FitResult, Array]:
    """Return what feasible weights tell, and the residual at them."""
    residual = b - a @ weights
    if np.abs(residual).max(initial=0) <= 1:
        return FitResult.EXPLAINS, residual
    lower_bound = float(residual @ residual) / 2 - _compute_duality_gap(a.T @ residual, weights, units)
    # The slack covers the rounding of a difference of squares that large.
    safe_bound = lower_bound - 1e-9 * float(residual @ residual)
    return (FitResult.IMPOSSIBLE if safe_bound > residual.size / 2 else FitResult.UNKNOWN), residual


def _correct_weights(a: Array, b: Array, weights: Array, units: list[ChoiceUnit]) -> Array:
    """Return feasible weights in extended precision, corrected along the ones that are not 0.

    A correction within a simplex sums to 0: it moves the other weights against its largest one.
    """
    extended = _project_to_feasible(weights.astype(np.longdouble), units)
    directions = _list_feasible_directions(weights, units)
    if directions.shape[1]:
        residual = (b - a.astype(np.longdouble) @ extended).astype(np.float64)
        extended += directions @ np.linalg.lstsq(a @ directions, residual, rcond=None)[0]
    return _project_to_feasible(extended, units)


def _list_feasible_directions(weights: Array, units: list[ChoiceUnit]) -> Array:
    """Return the moves of weights that are not 0 and may move either way, (n, moves)."""
    moves: list[Array] = []
    for unit in units:
        columns = unit.columns[weights[unit.columns] != 0]
        if columns.size == 0:
            continue
        largest = columns[np.argmax(weights[columns])]
        for column in columns:
            if unit.ball_order is None and column == largest:
                continue
            move = np.zeros(weights.size)
            move[column] = 1
            if unit.ball_order is None:
                move[largest] = -1
            moves.append(move)
    return np.stack(moves, axis=1) if moves else np.zeros((weights.size, 0))


def find_nearest(a: Array, b: Array, units: list[ChoiceUnit]) -> Array:
    """Find feasible weights next to those of the least squares."""
    return _project_to_feasible(_solve_least_squares(a, b, units), units)


def _solve_least_squares(a: Array, b: Array, units: list[ChoiceUnit]) -> Array:
    """Solve for the weights of the least squares, which are nearly feasible."""
    constraint_weight = _SUM_CONSTRAINT_WEIGHT * max(1.0, float(np.abs(a).max(initial=0)))
    simplexes = [unit for unit in units if unit.ball_order is None]
    sums = np.zeros((len(simplexes), a.shape[1]))
    for row, unit in enumerate(simplexes):
        sums[row, unit.columns] = constraint_weight
    extended_matrix, extended_target = (
        np.concatenate([a, sums]),
        np.concatenate([b, np.full(len(simplexes), constraint_weight)]),
    )
    free_weights = np.zeros(a.shape[1], np.bool_)
    for unit in units:
        free_weights[unit.columns] = unit.ball_order is not None
    weights: Array = _solve_bounded_least_squares(extended_matrix, extended_target, free_weights)
    # A second solve over the free weights restores the digits that the solver lost.
    free_weights |= weights > 0
    if free_weights.any():
        weights[free_weights] += np.linalg.lstsq(
            extended_matrix[:, free_weights], extended_target - extended_matrix @ weights, rcond=None
        )[0]
    return weights


def _solve_bounded_least_squares(a: Array, b: Array, either_sign: Array) -> Any:
    """Solve for weights of at least 0, or in [-1, 1] if either sign is allowed.

    Return 0 if the solver finds none.
    """
    with contextlib.suppress(RuntimeError, np.linalg.LinAlgError):
        if either_sign.any():
            return scipy_optimize.lsq_linear(a, b, (-1.0 * either_sign, 1.0), method="bvls").x
        return scipy_optimize.nnls(a, b)[0]
    return np.zeros(a.shape[1])


def _project_to_feasible(weights: Array, units: list[ChoiceUnit]) -> Array:
    """Project nearly feasible weights to feasible ones."""
    feasible_weights = np.zeros_like(weights)
    for unit in units:
        unit_weights = weights[unit.columns]
        if unit.ball_order is not None:
            feasible_weights[unit.columns] = unit_weights / max(
                1.0, float(np.linalg.norm(unit_weights, unit.ball_order))
            )
            continue
        unit_weights = np.maximum(unit_weights, 0)
        total = unit_weights.sum()
        feasible_weights[unit.columns] = unit_weights / total if total > 0 else 1 / unit_weights.size
    return feasible_weights


def _compute_duality_gap(slope: Array, weights: Array, units: list[ChoiceUnit]) -> float:
    """Compute the largest decrease of f that its tangent promises, slope = -f'(w)."""
    gap = 0.0
    for unit in units:
        unit_slope = slope[unit.columns]
        largest = (
            unit_slope.max()
            if unit.ball_order is None
            else np.linalg.norm(unit_slope, _find_dual_order(unit.ball_order))
        )
        gap += float(largest - unit_slope @ weights[unit.columns])
    return gap


def _find_dual_order(order: float) -> float:
    return np.inf if order == 1 else 1.0 if np.isinf(order) else order / (order - 1)
