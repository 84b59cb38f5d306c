"""Columns of a table that converge too slowly for a function that is smooth over the steps.

Neville's table (neville.py) presumes that a difference has whole powers of its node x,

    Q(x) = D + c_1 x + c_2 x^2 + ...                                                                                 (1)

Beside the edge of a domain, a branch point or a pole, at a distance d below the steps, it has not: of sqrt(t + d) it
falls as x^(-1/2), of t log t as log x. No column takes such a term away, and all of them agree on a number that none of
them is near. The bound from their differences is then too small, by any factor.

The differences of a column give it away. Let A_i be its entries, x_i the last node of each, and

    L_i = |A_i - A_{i-1}| / log(x_{i-1} / x_i),    m_i = (x_{i-1} - x_i) / log(x_{i-1} / x_i).                       (2)

A column that leaves c x^q has L_i near q c m_i^q, and exactly that for q = 1, the least power of (1). Let

    L_i > max_{j<i} L_j (m_i / m_j)^p,    p = 0.7,                                                                   (3)

beyond noise on both sides. Such a column falls more slowly than (1) lets it. A later L_k that is below
L_{k-1} (m_k / m_{k-1})^p, noise included, shows that it falls after all: the loss was only fast for the coarse steps.
If there is none, with q the power between i - 1 and i, what is left below x_i is

    |A_i - D| <= |A_i - A_{i-1}| / ((x_{i-1} / x_i)^q - 1),                                                          (4)

as the power rises toward q = 1 within the distance d. Without a positive power nothing is known of D. All later
columns are made of this one, so that (4) counts for them too.
"""

import numpy as np

from service.numerics.blackbox.neville import TableEntries
from service.numerics.core.batching import Array

_LEAST_POWER = 0.7
_SMALLEST_POWER = 0.05
"""Power of the node below which a column is taken not to converge."""
_MIN_ENTRIES = 3
"""Entries of a column without which nothing is known of its convergence."""
_EVIDENCE_MARGIN = 4.0
"""Factor on the certain error of entries. Errors of losses grow from step to step as a divergent column does, and their
deviation is an estimate by a few near points."""


def bound_slow_convergence(values: TableEntries, errors: TableEntries, nodes: Array) -> TableEntries:
    """Return what slow convergence may leave each entry off by, (k,): 0 where there is none.

    Parameters
    ----------
    values
        Entries of a table, each (k,).
    errors
        Certain error of each entry by noise and rounding, (k,).
    nodes
        x, falling, (levels,) for all lines or (k, levels).
    """
    line_count, level_count = len(values[0, 0]), nodes.shape[-1]
    nodes = np.broadcast_to(nodes, (line_count, level_count))
    bounds: TableEntries = {}
    carried = np.zeros(line_count)
    for column in range(level_count):
        rows = range(column, level_count)
        if len(rows) < _MIN_ENTRIES:
            bounds |= {(row, column): carried for row in rows}
            continue
        entries, entry_errors = (np.stack([table[row, column] for row in rows], axis=1) for table in (values, errors))
        remainders, levels = _bound_column_remainder(entries, entry_errors, nodes[:, column:])
        if not remainders.any():
            bounds |= {(row, column): carried for row in rows}
            continue
        reached = np.take_along_axis(entries, levels[:, None], axis=1)
        is_slow = remainders[:, None] > 0
        column_bounds = np.where(is_slow, np.abs(entries - reached) + remainders[:, None], 0.0)
        for position, row in enumerate(rows):
            bounds[row, column] = np.maximum(column_bounds[:, position], carried)
        carried = np.maximum(carried, remainders)
    return bounds


def _bound_column_remainder(entries: Array, errors: Array, nodes: Array) -> tuple[Array, Array]:
    """Return (4) of one column, and the entry from which it counts, both (k,)."""
    line_count, count = entries.shape
    remainders, levels = np.zeros(line_count), np.zeros(line_count, np.int_)
    spans = np.log(nodes[:, :-1] / nodes[:, 1:])
    means = (nodes[:, :-1] - nodes[:, 1:]) / spans
    sizes = np.abs(np.diff(entries, axis=1)) / spans
    noise = _EVIDENCE_MARGIN * (errors[:, :-1] + errors[:, 1:]) / spans
    steps_down = (means[:, 1:] / means[:, :-1]) ** _LEAST_POWER
    falls_at = (sizes + noise)[:, 1:] < sizes[:, :-1] * steps_down
    for level in range(1, count - 1):
        falls = means[:, level : level + 1] / means[:, :level]
        expected = ((sizes + noise)[:, :level] * falls**_LEAST_POWER).max(axis=1)
        size, least = sizes[:, level], (sizes - noise)[:, level]
        is_slow = (least > expected) & ~falls_at[:, level:].any(axis=1)
        if not is_slow.any():
            continue
        with np.errstate(all="ignore"):
            power = np.log((size + noise[:, level]) / (sizes - noise)[:, level - 1]) / np.log(falls[:, -1])
            left = (size + noise[:, level]) * spans[:, level] / np.expm1(power * spans[:, level])
        left = np.where(power >= _SMALLEST_POWER, left, np.inf)
        is_larger = is_slow & (left > remainders)
        remainders = np.where(is_larger, left, remainders)
        levels = np.where(is_larger, level + 1, levels)
    return remainders, levels
