"""The responses of judged numbers to each open choice: the columns of V.

A choice between two slopes has one column, that of the second minus the first; any other has one for each alternative.
Three backward passes give all columns of a node that share no element: with the weights 1, p_k and q_k, where p and q
are random labels, an element that column k alone reaches changes by v, p_k v and q_k v, so that the quotients name k.
If several columns reach an element, the quotients fit no k, and each column gets a pass of its own.
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
"""Columns that are told apart by labels at most."""
MAX_SINGLE_COLUMNS = 2**9
"""Columns that get a pass each at most."""
MAX_PASS_BATCHES = 64
"""Batches of backward passes at most; the room decides the size of a batch."""
_SAME_QUOTIENT_TOLERANCE = 1e-9
"""Relative difference up to which two quotients are equal."""

RowSelector = Callable[[NamedArrays], Array]


class NodeColumns(NamedTuple):
    """The columns of one node.

    Attributes
    ----------
    seeds
        Changes of the weights of the alternatives, shape (columns, n), sparse.
    alternatives
        Alternative of each column.
    units
        Unit of each column.
    is_pair
        Mask of the columns that stand for a choice between two.
    """

    seeds: Any
    alternatives: Array
    units: Array
    is_pair: Array


def make_node_columns(choices: SubgradientChoices) -> NodeColumns:
    """Make the columns of a node."""
    counts = np.bincount(choices.units)[choices.units]
    pair = (counts == 2) & (choices.ball_order is None)
    first = np.append(True, choices.units[1:] != choices.units[:-1])
    # A choice between two has the column of the second minus the first.
    alternatives = np.flatnonzero(~pair | ~first)
    rows, column_alternatives, values = np.arange(alternatives.size), alternatives, np.ones(alternatives.size)
    minus = np.flatnonzero(pair[alternatives])
    seeds = scipy_sparse.csr_matrix(
        (
            np.concatenate([values, -np.ones(minus.size)]),
            (np.concatenate([rows, minus]), np.concatenate([column_alternatives, alternatives[minus] - 1])),
        ),
        shape=(alternatives.size, choices.alternative_count),
    )
    return NodeColumns(seeds, alternatives, choices.units[alternatives], pair[alternatives])


@dataclass(frozen=True)
class ChoiceResponses:
    """The responses of all columns of all nodes, shape (rows, columns), sparse."""

    matrix: Any
    node_names: list[str]
    columns: list[NodeColumns]


def find_choice_responses(point: TiePoint, select_rows: RowSelector) -> ChoiceResponses | None:
    """Find the response to each open choice.

    Return None if choices multiply or are too many.

    Parameters
    ----------
    point
        The model and its choices.
    select_rows
        Function from gradients to their judged rows, shape (K, rows).
    """
    names = list(point.choices_by_node)
    if not names:
        return None
    columns = [make_node_columns(point.choices_by_node[name]) for name in names]
    if (
        sum(node_columns.units.size for node_columns in columns) > MAX_PROBED_COLUMNS
        or 3 * len(names) > MAX_PASS_BATCHES * point.batch_size
    ):
        return None
    labels = [_draw_column_labels(node_columns.units.size) for node_columns in columns]
    probed_rows = _probe_nodes(point, names, columns, labels, select_rows)
    if probed_rows is None:
        return None
    parts = [_separate_columns(rows, label) for rows, label in zip(probed_rows, labels, strict=True)]
    mixed_columns = [number for number, part in enumerate(parts) if part is None]
    needed_columns = sum(columns[number].units.size for number in mixed_columns)
    if needed_columns > MAX_SINGLE_COLUMNS or needed_columns > MAX_PASS_BATCHES * point.batch_size:
        return None
    for number in mixed_columns:
        parts[number] = _probe_columns_singly(point, names[number], columns[number], select_rows)
    matrix = scipy_sparse.hstack(parts, format="csc")
    return ChoiceResponses(matrix, names, columns) if np.isfinite(matrix.data).all() else None


def _draw_column_labels(count: int) -> tuple[Array, Array]:
    """Draw two numbers between 1 and 2 for each column; the first ones ascend."""
    generator = np.random.default_rng([count, 0x7E57])
    return 1 + (np.arange(count) + 0.5) / max(1, count), 1 + generator.random(count)


def _probe_nodes(
    point: TiePoint,
    names: list[str],
    columns: list[NodeColumns],
    labels: list[tuple[Array, Array]],
    select_rows: RowSelector,
) -> list[Array] | None:
    """Run the three passes of each node.

    None if one node's choices show at another's.
    """
    rows_by_node: list[Array] = []
    for name, node_columns, (p, q) in zip(names, columns, labels, strict=True):
        nested: list[str] = []

        def note_nested(other: str, gradient: Array, nested: list[str] = nested, name: str = name) -> None:
            outputs = np.unique(point.choices_by_node[other].output_indices)
            if other != name and gradient.reshape(len(gradient), count_elements(gradient.shape[1:]))[:, outputs].any():
                nested.append(other)

        seeds = np.stack([node_columns.seeds.T @ weights for weights in (np.ones(p.size), p, q)])
        rows_by_node.append(select_rows(point.compute_gradient_responses({name: seeds}, note_nested)))
        if nested:
            return None
    return rows_by_node


def _separate_columns(rows: Array, labels: tuple[Array, Array]) -> Any:
    """Separate the columns of three passes, (rows, columns).

    None if some share an element.
    """
    plain_rows, by_first, by_second = rows
    positions = np.flatnonzero(np.any(rows != 0, axis=0))
    if not np.all(plain_rows[positions]) or not np.isfinite(rows[:, positions]).all():
        return None
    first, second = by_first[positions] / plain_rows[positions], by_second[positions] / plain_rows[positions]
    count = labels[0].size
    number = np.clip(np.floor((first - 1) * count), 0, count - 1).astype(np.int64)
    is_alike = np.abs(first - labels[0][number]) <= _SAME_QUOTIENT_TOLERANCE
    is_alike &= np.abs(second - labels[1][number]) <= _SAME_QUOTIENT_TOLERANCE
    if not is_alike.all():
        return None
    return scipy_sparse.csc_matrix((plain_rows[positions], (positions, number)), shape=(plain_rows.size, count))


def _probe_columns_singly(point: TiePoint, name: str, columns: NodeColumns, select_rows: RowSelector) -> Any:
    """Compute the columns by a pass each."""
    parts: list[Any] = []
    for start in range(0, columns.units.size, point.batch_size):
        seeds = columns.seeds[start : start + point.batch_size].toarray()
        parts.append(scipy_sparse.csc_matrix(select_rows(point.compute_gradient_responses({name: seeds})).T))
    return scipy_sparse.hstack(parts, format="csc")
