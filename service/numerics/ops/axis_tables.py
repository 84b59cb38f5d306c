"""Linear maps along one axis that take each element of the result from few elements of the axis."""

from typing import NamedTuple

import numpy as np

from service.numerics.core.batching import Array


class AxisTable(NamedTuple):
    """A sparse matrix, by rows of one length.

    Row o of the result is sum_k weights[o, k] x[indices[o, k]]. An entry of weight 0 fills a shorter row; its index is
    that of another entry of the row, if there is one.
    """

    indices: Array
    weights: Array

    @property
    def row_length(self) -> int:
        """Return the number of entries of a row."""
        return int(self.indices.shape[1])

    def apply(self, x: Array, axis: int) -> Array:
        """Return the result along an axis, counted from the end."""
        return self._multiply(x, self.weights, axis).sum(axis=axis)

    def take_least(self, labels: Array, axis: int) -> Array:
        """Return the least label of the elements of each row."""
        present = np.where(self.weights != 0, 1.0, np.inf)
        spread = np.take(labels, self.indices, axis=axis % labels.ndim)
        shape = (*present.shape, *(1,) * (-1 - axis))
        return np.where(np.isinf(present).reshape(shape), np.inf, spread).min(axis=axis)

    def _multiply(self, x: Array, weights: Array, axis: int) -> Array:
        dtype = x.dtype if x.dtype.kind == "f" else np.float64
        factors = weights.astype(dtype, copy=False).reshape(*weights.shape, *(1,) * (-1 - axis))
        products = np.take(x, self.indices, axis=axis % x.ndim)
        products *= factors
        return products

    def transpose(self, length: int) -> "AxisTable":
        """Return the transposed matrix, for an axis of a length.

        An element that no row uses gets a row of zeros, whose result is 0 for finite numbers.
        """
        is_used = self.weights.ravel() != 0
        rows = np.repeat(np.arange(len(self.indices)), self.row_length)[is_used]
        columns, weights = self.indices.ravel()[is_used], self.weights.ravel()[is_used]
        order = np.argsort(columns, kind="stable")
        rows, columns, weights = rows[order], columns[order], weights[order]
        counts = np.bincount(columns, minlength=length)
        starts = np.cumsum(counts) - counts
        positions = np.arange(columns.size) - starts[columns]
        width = max(1, int(counts.max(initial=0)))
        first = np.zeros(length, np.int64)
        first[columns[::-1]] = rows[::-1]
        indices = np.repeat(first[:, None], width, axis=1)
        table = np.zeros((length, width))
        indices[columns, positions], table[columns, positions] = rows, weights
        return AxisTable(indices, table)

    def take_absolute_weights(self) -> "AxisTable":
        """Return the table with the absolute values of the weights."""
        return AxisTable(self.indices, np.abs(self.weights))

    def keep_last_entries(self) -> "AxisTable":
        """Return the table with the last entry of each row alone."""
        used = self.weights != 0
        last = self.row_length - 1 - np.argmax(used[:, ::-1], axis=1)
        keeps = used & (np.arange(self.row_length) == last[:, None])
        return AxisTable(self.indices, np.where(keeps, self.weights, 0))


def make_window_table(starts: Array, lengths: Array, step: int, axis_length: int) -> AxisTable:
    """Return the sums over windows, each with the weight 1 for the elements that are there.

    Parameters
    ----------
    starts
        First element of each window, which may lie before the axis.
    lengths
        Number of elements of each window.
    step
        Distance of an element of a window from the next.
    axis_length
        Length of the axis. Elements beyond its ends get the weight 0.
    """
    offsets = np.arange(int(lengths.max()))
    positions = starts[:, None] + step * offsets
    is_present = (offsets < lengths[:, None]) & (positions >= 0) & (positions < axis_length)
    nearest = np.clip(positions, np.maximum(starts, 0)[:, None], None)
    last_present = np.where(is_present, positions, -1).max(axis=1, keepdims=True)
    indices = np.clip(np.minimum(nearest, np.maximum(last_present, 0)), 0, axis_length - 1)
    return AxisTable(indices, is_present.astype(np.float64))
