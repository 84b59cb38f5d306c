"""What judged numbers change by with each open choice: the columns of V.

A choice between two slopes has one column, that of the second less the first; any other has one for each alternative.
Columns of one node that share no element are had from three backward passes, however many there are: with weights 1,
p_k and q_k, where p and q are random labels, an element reached by column k alone changes by v, p_k v and q_k v, so
that the quotients name k. Where an element is reached by several the quotients fit no k, and the columns are taken one
by one.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import numpy as np
from scipy import sparse as _sparse

from service.numerics.core.batching import Array, count_elements
from service.numerics.model.graph import NamedArrays
from service.numerics.ops.subgradient_choices import SubgradientChoices
from service.numerics.ties.tie_point import TiePoint

scipy_sparse = cast("Any", _sparse)
"""SciPy's own types are not known."""

MAX_PROBED_COLUMNS = 2**12
"""Columns up to which they are told apart."""
MAX_SINGLE_COLUMNS = 2**9
"""Columns up to which they are taken one by one."""
MAX_PASS_BATCHES = 64
"""Times that backward passes are run, as many at once as there is room for."""
_SAME_QUOTIENT_TOLERANCE = 1e-9
"""Relative difference up to which two quotients are the same."""

RowSelector = Callable[[NamedArrays], Array]


class NodeColumns(NamedTuple):
    """Columns of one node.

    `seeds` are what each adds to the weights of the alternatives, (columns, n), `places` its alternative, `units` its
    unit, and `pairs` whether it is the one of a choice between two.
    """

    seeds: Any
    alternatives: Array
    units: Array
    is_pair: Array


def make_node_columns(choices: SubgradientChoices) -> NodeColumns:
    """Columns of a node."""
    counts = np.bincount(choices.units)[choices.units]
    pair = (counts == 2) & (choices.ball_order is None)
    first = np.append(True, choices.units[1:] != choices.units[:-1])
    # Of two, the second less the first.
    at = np.flatnonzero(~pair | ~first)
    rows, places, values = np.arange(at.size), at, np.ones(at.size)
    less = np.flatnonzero(pair[at])
    seeds = scipy_sparse.csr_matrix(
        (
            np.concatenate([values, -np.ones(less.size)]),
            (np.concatenate([rows, less]), np.concatenate([places, at[less] - 1])),
        ),
        shape=(at.size, choices.alternative_count),
    )
    return NodeColumns(seeds, at, choices.units[at], pair[at])


@dataclass(frozen=True)
class ChoiceResponses:
    """Responses of all columns of all nodes, (rows, columns), sparse; None where they are too many or multiply."""

    matrix: Any
    node_names: list[str]
    columns: list[NodeColumns]


def find_choice_responses(point: TiePoint, select_rows: RowSelector) -> ChoiceResponses | None:
    """Find what each open choice changes; None where choices multiply, or are too many.

    Parameters
    ----------
    point
        The model and its choices.
    seen
        Rows that are judged, (K, rows), given gradients.
    """
    names = list(point.choices_by_node)
    if not names:
        return None
    columns = [make_node_columns(point.choices_by_node[name]) for name in names]
    if (
        sum(each.units.size for each in columns) > MAX_PROBED_COLUMNS
        or 3 * len(names) > MAX_PASS_BATCHES * point.batch_size
    ):
        return None
    labels = [_draw_column_labels(each.units.size) for each in columns]
    probed = _probe_nodes(point, names, columns, labels, select_rows)
    if probed is None:
        return None
    parts = [_separate_columns(each, label) for each, label in zip(probed, labels, strict=True)]
    alone = [number for number, part in enumerate(parts) if part is None]
    needed = sum(columns[number].units.size for number in alone)
    if needed > MAX_SINGLE_COLUMNS or needed > MAX_PASS_BATCHES * point.batch_size:
        return None
    for number in alone:
        parts[number] = _probe_columns_singly(point, names[number], columns[number], select_rows)
    matrix = scipy_sparse.hstack(parts, format="csc")
    return ChoiceResponses(matrix, names, columns) if np.isfinite(matrix.data).all() else None


def _draw_column_labels(count: int) -> tuple[Array, Array]:
    """Two numbers between 1 and 2 for each column; the first ascend."""
    generator = np.random.default_rng([count, 0x7E57])
    return 1 + (np.arange(count) + 0.5) / max(1, count), 1 + generator.random(count)


def _probe_nodes(
    point: TiePoint,
    names: list[str],
    columns: list[NodeColumns],
    labels: list[tuple[Array, Array]],
    select_rows: RowSelector,
) -> list[Array] | None:
    """Rows by the three passes of each node, (3, rows); None where one node's choices are seen at another's."""
    found: list[Array] = []
    for name, each, (p, q) in zip(names, columns, labels, strict=True):
        nested: list[str] = []

        def record_nested(other: str, gradient: Array, nested: list[str] = nested, name: str = name) -> None:
            outputs = np.unique(point.choices_by_node[other].output_indices)
            if other != name and gradient.reshape(len(gradient), count_elements(gradient.shape[1:]))[:, outputs].any():
                nested.append(other)

        seeds = np.stack([each.seeds.T @ weights for weights in (np.ones(p.size), p, q)])
        found.append(select_rows(point.gradient_responses({name: seeds}, record_nested)))
        if nested:
            return None
    return found


def _separate_columns(rows: Array, labels: tuple[Array, Array]) -> Any:
    """Columns from the three passes, (rows, columns) and sparse; None where some share an element."""
    once, by_first, by_second = rows
    at = np.flatnonzero(np.any(rows != 0, axis=0))
    if not np.all(once[at]) or not np.isfinite(rows[:, at]).all():
        return None
    first, second = by_first[at] / once[at], by_second[at] / once[at]
    count = labels[0].size
    number = np.clip(np.floor((first - 1) * count), 0, count - 1).astype(np.int64)
    alike = np.abs(first - labels[0][number]) <= _SAME_QUOTIENT_TOLERANCE
    alike &= np.abs(second - labels[1][number]) <= _SAME_QUOTIENT_TOLERANCE
    if not alike.all():
        return None
    return scipy_sparse.csc_matrix((once[at], (at, number)), shape=(once.size, count))


def _probe_columns_singly(point: TiePoint, name: str, columns: NodeColumns, select_rows: RowSelector) -> Any:
    """Columns by a pass each."""
    found: list[Any] = []
    for start in range(0, columns.units.size, point.batch_size):
        seeds = columns.seeds[start : start + point.batch_size].toarray()
        found.append(scipy_sparse.csc_matrix(select_rows(point.gradient_responses({name: seeds})).T))
    return scipy_sparse.hstack(found, format="csc")
