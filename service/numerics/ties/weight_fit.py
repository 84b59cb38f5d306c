"""Weights that bring g0 + V w nearest to what is judged, among those that may be chosen.

With r(w) = b - A w in units of the allowance, the nearest weights are those of the least |r|. Three answers are sure:

    max |r(w)| <= 1 for a w that may be chosen       it explains all;
    min |r|^2 > m for m elements                     nothing explains them, since max |r| <= 1 implies |r|^2 <= m;
    neither                                          not known.

Neither rests on the solver having converged. The first is read off at weights that lie in the set. For the second, f(w)
= |r|^2 / 2 is convex: f(s) >= f(w) + f'(w) . (s - w) for every s, so that

    min f >= f(w) - max_s f'(w) . (w - s),

where the largest over a simplex is at a corner, and over a unit ball the dual norm of f'.

Source: Jaggi, Revisiting Frank-Wolfe (2013), section 2 (the duality gap); Lawson and Hanson, Solving Least Squares
Problems (1974), chapter 23, for the solver: the equation that weights sum to one is a row of large weight.
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
    """Whether a choice explains what is judged."""

    EXPLAINS = 0
    UNKNOWN = 1
    IMPOSSIBLE = 2


@dataclass(frozen=True)
class ChoiceUnit:
    """Columns of one choice, and the order of the ball in which their weights lie, None for a simplex."""

    columns: Array
    ball_order: float | None


def fit_weights(a: Array, b: Array, units: list[ChoiceUnit]) -> tuple[FitResult, Array]:
    """Whether some weights explain b, (m,), by a, (m, n); and what is left, (m,), in allowances."""
    weights = find_nearest(a, b, units)
    left = b - a @ weights
    if np.abs(left).max(initial=0) <= 1:
        return FitResult.EXPLAINS, left
    least = float(left @ left) / 2 - _compute_duality_gap(a.T @ left, weights, units)
    # What rounding leaves of a difference of squares that large.
    sure = least - 1e-9 * float(left @ left)
    return (FitResult.IMPOSSIBLE if sure > left.size / 2 else FitResult.UNKNOWN), left


def find_nearest(a: Array, b: Array, units: list[ChoiceUnit]) -> Array:
    """Weights that may be chosen, next to those of the least squares."""
    return _project_to_feasible(_solve_least_squares(a, b, units), units)


def _solve_least_squares(a: Array, b: Array, units: list[ChoiceUnit]) -> Array:
    """Weights of the least squares, nearly those that may be chosen."""
    heavy = _SUM_CONSTRAINT_WEIGHT * max(1.0, float(np.abs(a).max(initial=0)))
    rows = [each for each in units if each.ball_order is None]
    sums = np.zeros((len(rows), a.shape[1]))
    for row, each in enumerate(rows):
        sums[row, each.columns] = heavy
    whole, right = np.concatenate([a, sums]), np.concatenate([b, np.full(len(rows), heavy)])
    free = np.zeros(a.shape[1], np.bool_)
    for each in units:
        free[each.columns] = each.ball_order is not None
    weights: Array = _solve_bounded_least_squares(whole, right, free)
    # Once more on what is free, for the digits that the solver lost.
    free |= weights > 0
    if free.any():
        weights[free] += np.linalg.lstsq(whole[:, free], right - whole @ weights, rcond=None)[0]
    return weights


def _solve_bounded_least_squares(a: Array, b: Array, either_sign: Array) -> Any:
    """Weights of the least squares that are not negative, or between -1 and 1 where they may be; 0 if none is found."""
    with contextlib.suppress(RuntimeError, np.linalg.LinAlgError):
        if either_sign.any():
            return scipy_optimize.lsq_linear(a, b, (-1.0 * either_sign, 1.0), method="bvls").x
        return scipy_optimize.nnls(a, b)[0]
    return np.zeros(a.shape[1])


def _project_to_feasible(weights: Array, units: list[ChoiceUnit]) -> Array:
    """Weights that may be chosen, next to some that nearly may be."""
    chosen = np.zeros_like(weights)
    for each in units:
        own = weights[each.columns]
        if each.ball_order is not None:
            chosen[each.columns] = own / max(1.0, float(np.linalg.norm(own, each.ball_order)))
            continue
        own = np.maximum(own, 0)
        total = own.sum()
        chosen[each.columns] = own / total if total > 0 else 1 / own.size
    return chosen


def _compute_duality_gap(slope: Array, weights: Array, units: list[ChoiceUnit]) -> float:
    """Largest decrease of f that its tangent promises, slope = -f'(w)."""
    gap = 0.0
    for each in units:
        own = slope[each.columns]
        most = (
            float(own.max())
            if each.ball_order is None
            else float(np.linalg.norm(own, _find_dual_order(each.ball_order)))
        )
        gap += most - float(own @ weights[each.columns])
    return gap


def _find_dual_order(order: float) -> float:
    return np.inf if order == 1 else 1.0 if np.isinf(order) else order / (order - 1)
