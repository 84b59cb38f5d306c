"""Central differences extrapolated to the step 0, with a bound.

A central difference is even in its step: D(h) = D + c_2 h^2 + c_4 h^4 + ... Neville's table over steps h_0 > h_1 > ...
of any ratio,

    A[i,0] = D(h_i),    A[i,k] = (h_{i-k}^2 A[i,k-1] - h_i^2 A[i-1,k-1]) / (h_{i-k}^2 - h_i^2),                      (1)

takes away one power of h^2 in each column. With e[i,k] = max(|A[i,k] - A[i,k-1]|, |A[i,k] - A[i-1,k-1]|) (Ridders 1982)
what is left is below e where the table has settled, but e alone is no bound: noise may make it small, and so may
chance where the table has not settled. So

- every entry is a sum of w_l D(h_l) with weights from (1): errors of the loss that are independent and of deviation s_l
  leave it off by a deviation sqrt(sum w_l^2 s_l^2 / 2) / h_l, of which SURE times is added. Not the sizes |w_l|, which
  would be the worst case and is up to twice as much; errors that are no more than half a unit, all of them, are
  covered by SURE deviations even so;
- a jump of the derivative at the base (kinks.py) adds its half: what is between both sides may be right;
- what an entry may be off by is no less than its neighbours lead to expect: a column falls from row to row as the
  steps do, so that a coincidence would have to happen twice;
- differences at steps finer than an entry's last must come nearer to it as c_2 h^2 does, but for noise: a kink between
  the steps keeps them away, and its bound is raised to that;
- an entry must agree with every entry of a finer last step within both their bounds; else its bound is raised to what
  takes in the other.

The entry with the smallest bound is taken.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from service.numerics.blackbox import neville
from service.numerics.blackbox.convergence import bound_slow_convergence
from service.numerics.blackbox.neville import TableEntries
from service.numerics.core.batching import Array

CERTAIN_DEVIATIONS = 6.0
"""Deviations of the noise that a bound allows for. The deviation is itself an estimate, of some twenty values: so many
of Student's t are exceeded with probability 1e-5."""
_MIN_SETTLED_ROWS = 2
"""Rows before any entry has neighbours by which to see whether it has settled."""
TABLE_ROUNDING = 8 * 2.0**-53
"""Rounding of the table itself, relative to its differences."""


@dataclass(frozen=True)
class ExtrapolatedDerivatives:
    """Derivatives along k directions.

    Attributes
    ----------
    value, bound
        (k,); the bound is infinite where there is none.
    deviation
        Deviation of the noise in the value, (k,).
    is_contested
        Mask of the lines whose finer differences stay away, within the bound and their noise, (k,).
    """

    value: Array
    bound: Array
    deviation: Array
    is_contested: Array


def extrapolate_central(quotients: Array, steps: Array, noise: Array, kink_bounds: Array) -> ExtrapolatedDerivatives:
    """Extrapolate central differences to the step 0.

    Parameters
    ----------
    quotients
        D(h), (k, levels).
    steps
        h, falling, (levels,).
    noise
        Deviation of the loss at each step, (k, levels).
    kink_bounds
        Bound that a kink adds to an entry with each level as its largest step, (k, levels).
    """
    nodes = np.square(steps)
    values = neville.build_values(quotients, nodes)
    entries, rows, columns, entry_weights = _list_entries(tuple(nodes.tolist()))
    quotient_deviations = noise / (np.sqrt(2.0) * steps)
    certain_noise, error_ratios = CERTAIN_DEVIATIONS * quotient_deviations, (steps[1:] / steps[:-1]) ** 2
    entry_values = np.array([values[entry] for entry in entries])
    deviations = np.sqrt(np.square(quotient_deviations * entry_weights).sum(axis=2))
    rounding = np.abs(quotients * entry_weights).sum(axis=2) * TABLE_ROUNDING
    errors_by_entry = _estimate_entry_errors(values, steps)
    entry_errors = np.array([errors_by_entry[entry] for entry in entries])
    entry_kink_bounds = kink_bounds[:, rows - columns].T
    certain_errors = CERTAIN_DEVIATIONS * deviations + rounding
    bounds = entry_errors + certain_errors + entry_kink_bounds
    slow_bounds = bound_slow_convergence(values, dict(zip(entries, certain_errors, strict=True)), nodes)
    bounds = np.maximum(bounds, np.array([slow_bounds[entry] for entry in entries]))
    bounds[np.isnan(bounds) | ~np.isfinite(entry_values)] = np.inf
    bounds[rows < _MIN_SETTLED_ROWS] = np.inf
    bounds = np.maximum(
        bounds,
        neville.measure_disagreement_with_finer(rows, entry_values, bounds, quotients, error_ratios, certain_noise),
    )
    best_entries, bound = neville.choose_best_entries(rows, entry_values, bounds)
    lines = np.arange(len(best_entries))
    value = entry_values[best_entries, lines]
    is_contested = neville.find_contested(value, rows[best_entries], quotients, error_ratios, certain_noise)
    return ExtrapolatedDerivatives(value, bound, deviations[best_entries, lines], is_contested)


@lru_cache(maxsize=64)
def _list_entries(nodes: tuple[float, ...]) -> tuple[list[tuple[int, int]], Array, Array, Array]:
    """Return the entries of a table, their rows and columns, (entries,), and their weights, (entries, 1, levels).

    Most lines have the same steps.
    """
    weights = neville.build_weights(np.array(nodes))
    entries = sorted(weights)
    rows, columns = (np.array(numbers) for numbers in zip(*entries, strict=True))
    return entries, rows, columns, np.stack([weights[entry] for entry in entries])[:, None]


def _estimate_entry_errors(values: TableEntries, steps: Array) -> TableEntries:
    """Return the error of each entry beside noise, (k,).

    It is the larger difference from the neighbours, and no less than their own errors suggest.
    """
    entry_errors: TableEntries = {}
    for row, column in sorted(values):
        value = values[row, column]
        if row == 0:
            entry_errors[row, column] = np.full(value.shape, np.inf)
            continue
        error = np.abs(value - values[row - 1, max(column - 1, 0)])
        if column:
            error = np.maximum(error, np.abs(value - values[row, column - 1]))
        entry_errors[row, column] = np.maximum(error, _compute_expected_error(entry_errors, row, column, steps))
    return entry_errors


def _compute_expected_error(entry_errors: TableEntries, row: int, column: int, steps: Array) -> Array | float:
    if row > max(column, 1):
        error_ratio = (steps[row - 1] / steps[row - column - 1]) ** 2 if column else (steps[row] / steps[row - 1]) ** 2
        return entry_errors[row - 1, column] * error_ratio
    return entry_errors[row, column - 1] * (steps[row] / steps[0]) ** 2 if column > 1 else 0.0
