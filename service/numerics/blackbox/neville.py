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
    return build_values(quotients, nodes), build_weights(nodes)


def build_values(quotients: Array, nodes: Array) -> TableEntries:
    """Return the entries (1), each (k,); parameters are those of `build_table`."""
    levels = range(nodes.shape[-1])
    return _fill_table([quotients[:, row] for row in levels], [nodes[..., row] for row in levels])


def build_weights(nodes: Array) -> TableEntries:
    """Return the weights of the quotients in the entries (1), of the nodes' shape."""
    levels = range(nodes.shape[-1])
    unit_vectors = np.eye(len(levels))
    return _fill_table(
        [np.broadcast_to(unit_vectors[row], nodes.shape) for row in levels], [nodes[..., row, None] for row in levels]
    )


def _fill_table(first_column: list[Array], nodes: list[Array]) -> TableEntries:
    """Return the entries that follow from those of the first column and the nodes, by level."""
    table = {(row, 0): entry for row, entry in enumerate(first_column)}
    for row, node in enumerate(nodes):
        for column in range(1, row + 1):
            factor = node / (nodes[row - column] - node)
            left_entry, upper_entry = table[row, column - 1], table[row - 1, column - 1]
            table[row, column] = left_entry + (left_entry - upper_entry) * factor
    return table


def measure_disagreement_with_finer(
    rows: Array, values: Array, bounds: Array, quotients: Array, error_ratios: Array, certain_noise: Array
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
    error_ratios
        Ratio x_i / x_{i-1} by which the error of a quotient falls, (levels - 1,) or (k, levels - 1).
    certain_noise
        Error that noise explains in each quotient, (k, levels).
    """
    distances = np.abs(quotients - values[:, :, None])
    expected_distances = _SLOW_CONVERGENCE_FACTOR * error_ratios * (distances[:, :, :-1] + certain_noise[:, :-1])
    is_contradicting = (
        distances[:, :, 1:] > expected_distances + certain_noise[:, 1:] + bounds[:, :, None]
    ) & _is_finer(rows, quotients)[:, None]
    return np.where(is_contradicting, distances[:, :, 1:] + certain_noise[:, 1:], 0.0).max(axis=2)


def find_contested(value: Array, rows: Array, quotients: Array, error_ratios: Array, certain_noise: Array) -> Array:
    """Return the lines with a finer difference that does not come near enough, (k,).

    Near enough is half as near as it should come.

    Parameters
    ----------
    value, rows
        The chosen entry of each line, and its last row, (k,).
    quotients, error_ratios, certain_noise
        The parameters of `measure_disagreement_with_finer`.
    """
    distances = np.abs(quotients - value[:, None])
    expected_distances = _SLOW_CONVERGENCE_FACTOR / 2 * error_ratios * (distances[:, :-1] + certain_noise[:, :-1])
    return np.logical_or.reduce(
        (distances[:, 1:] > expected_distances + certain_noise[:, 1:]) & _is_finer(rows, quotients), axis=1
    )


def choose_best_entries(rows: Array, values: Array, bounds: Array) -> tuple[Array, Array]:
    """Choose the entry with the smallest bound for each line; return both, (k,).

    An entry that a finer one contradicts has its bound raised to take that in.
    """
    best_entries: Array = bounds.argmin(axis=0)
    lines = np.arange(len(best_entries))
    best_values, best_bounds = values[best_entries, lines], bounds[best_entries, lines]
    distances = np.abs(values - best_values)
    is_contradicting = (rows[:, None] > rows[best_entries]) & (distances > bounds + best_bounds)
    raised_bounds = np.where(is_contradicting, distances + bounds, 0.0).max(axis=0)
    return best_entries, np.maximum(best_bounds, raised_bounds)


def _is_finer(rows: Array, quotients: Array) -> Array:
    return np.arange(1, int(quotients.shape[1])) > rows[:, None]
