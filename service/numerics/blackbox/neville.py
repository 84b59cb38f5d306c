"""Neville's table of differences, with the bounds and the choice of its entries.

The table over nodes x_0 > x_1 > ..., of any ratio,

    A[i,0] = Q(x_i),    A[i,k] = A[i,k-1] + (A[i,k-1] - A[i-1,k-1]) x_i / (x_{i-k} - x_i),                           (1)

takes away one power of x in each column. Central differences have the squares of their steps as nodes, differences of
one side the steps themselves (extrapolation.py, one_sided_extrapolation.py).
"""

import numpy as np

from service.numerics.core.batching import Array

TableEntries = dict[tuple[int, int], Array]
"""Entries of a table by row and column."""

_SLOW_CONVERGENCE_FACTOR = 4.0
"""Factor on the error that the lowest power of x leaves at a finer node: so much may be left."""


def build_table(quotients: Array, nodes: Array) -> tuple[TableEntries, TableEntries]:
    """Return the entries (1), each (k,), and their weights, of the nodes' shape.

    Parameters
    ----------
    quotients
        Q(x), (k, levels).
    nodes
        x, falling, (levels,) for all lines or (k, levels).
    """
    levels = nodes.shape[-1]
    unit = np.eye(levels)
    values = {(row, 0): quotients[:, row] for row in range(levels)}
    weights = {(row, 0): np.broadcast_to(unit[row], nodes.shape) for row in range(levels)}
    for row in range(levels):
        for column in range(1, row + 1):
            ratio = np.asarray(nodes[..., row] / (nodes[..., row - column] - nodes[..., row]))
            for table, factor in ((values, ratio), (weights, ratio[..., None])):
                last, above = table[row, column - 1], table[row - 1, column - 1]
                table[row, column] = last + (last - above) * factor
    return values, weights


def measure_disagreement_with_finer(
    rows: Array, values: Array, bounds: Array, quotients: Array, fall: Array, certain_noise: Array
) -> Array:
    """Return the distance of finer differences that stay away, (entries, k).

    It is 0 where they come as much nearer to the entry as they should.

    Parameters
    ----------
    rows
        Last row of each entry, (entries,).
    values, bounds
        Entries and their bounds, (entries, k).
    quotients
        Q(x), (k, levels).
    fall
        Ratio x_i / x_{i-1} by which the error of a quotient falls, (levels - 1,) or (k, levels - 1).
    certain_noise
        Error that noise explains in each quotient, (k, levels).
    """
    away = np.abs(quotients - values[:, :, None])
    due = _SLOW_CONVERGENCE_FACTOR * fall * (away[:, :, :-1] + certain_noise[:, :-1])
    stays = (away[:, :, 1:] > due + certain_noise[:, 1:] + bounds[:, :, None]) & _is_finer(rows, quotients)[:, None]
    return np.where(stays, away[:, :, 1:] + certain_noise[:, 1:], 0.0).max(axis=2)


def find_contested(value: Array, rows: Array, quotients: Array, fall: Array, certain_noise: Array) -> Array:
    """Return the lines with a finer difference that does not come near enough, (k,).

    Near enough is half as near as it should come.

    Parameters
    ----------
    value, rows
        The chosen entry of each line, and its last row, (k,).
    quotients, fall, certain_noise
        The parameters of `measure_disagreement_with_finer`.
    """
    away = np.abs(quotients - value[:, None])
    due = _SLOW_CONVERGENCE_FACTOR / 2 * fall * (away[:, :-1] + certain_noise[:, :-1])
    return np.logical_or.reduce((away[:, 1:] > due + certain_noise[:, 1:]) & _is_finer(rows, quotients), axis=1)


def choose_best_entries(rows: Array, values: Array, bounds: Array) -> tuple[Array, Array]:
    """Choose the entry with the smallest bound for each line; return both, (k,).

    An entry that a finer one contradicts has its bound raised to take that in.
    """
    chosen: Array = bounds.argmin(axis=0)
    lines = np.arange(len(chosen))
    value, bound = values[chosen, lines], bounds[chosen, lines]
    apart = np.abs(values - value)
    contradicts = (rows[:, None] > rows[chosen]) & (apart > bounds + bound)
    raised = np.where(contradicts, apart + bounds, 0.0).max(axis=0)
    return chosen, np.maximum(bound, raised)


def _is_finer(rows: Array, quotients: Array) -> Array:
    return np.arange(1, int(quotients.shape[1])) > rows[:, None]
