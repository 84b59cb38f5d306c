"""Joins over windows along one axis, in few passes.

Window p of an axis holds the elements p s + i d, i = 0 ... k - 1, with stride s and dilation d. A direct join of a
window's elements, by an associative operation, takes k joins for each p. The alternative computes the joins of 1, 2, 4,
... elements d apart at every place, each of them from two of the one before,

    S_0[x] = a[x]        S_{b+1}[x] = join(S_b[x], S_b[x + 2^b d]),

and a window is the join of one of them for each digit 1 of k in base 2, from left to right: 2 log2 k joins at every
place. The module takes the way of fewer joins. Among elements that an operation does not tell apart, such as equal
maxima, the first counts: blocks are joined in their order and overlap nowhere.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.core.interrupts import check_interrupt

WindowPieces = tuple[Array, ...]
JoinOperation = Callable[[WindowPieces, WindowPieces], WindowPieces]
"""Operation that joins two neighbouring pieces, each of one array or several."""


class AxisWindows(NamedTuple):
    """Windows along one axis.

    Attributes
    ----------
    window_count
        Number of windows.
    window_length
        Number of elements in a window.
    stride
        Distance of a window from the next; 1 by default.
    dilation
        Distance of an element of a window from the next; 1 by default.
    """

    window_count: int
    window_length: int
    stride: int = 1
    dilation: int = 1

    @property
    def window_extent(self) -> int:
        """Return the distance of the last element of a window from its first."""
        return (self.window_length - 1) * self.dilation

    @property
    def required_length(self) -> int:
        """Return the length of an axis that holds all windows."""
        return self.stride * (self.window_count - 1) + self.window_extent + 1

    @property
    def join_count(self) -> int:
        """Return how often two elements are joined."""
        return min(self._direct_join_count, self._doubling_join_count)

    @property
    def call_count(self) -> int:
        """Return the number of calls of the joins."""
        return (
            self.window_length
            if self.joins_directly
            else self.window_length.bit_length() + self.window_length.bit_count()
        )

    @property
    def joins_directly(self) -> bool:
        """Return whether the elements of a window are joined one by one."""
        return self._direct_join_count <= self._doubling_join_count

    @property
    def adjoint(self) -> "AxisWindows":
        """Return the windows that hold each element.

        They are windows over the values of these windows, set apart by the stride.
        """
        return AxisWindows(self.required_length, self.window_length, 1, self.dilation)

    @property
    def _direct_join_count(self) -> int:
        return self.window_length * self.window_count

    @property
    def _doubling_join_count(self) -> int:
        return (
            self.window_length.bit_length() - 1
        ) * self.required_length + self.window_length.bit_count() * self.window_count


def take_window_minimum(array: Array, axis: int, windows: AxisWindows) -> Array:
    """Return the least element of each window."""
    return join_windows((array,), axis, windows, _make_join(np.minimum))[0]


def sum_windows(array: Array, axis: int, windows: AxisWindows) -> Array:
    """Return the sum over each window."""
    return join_windows((array,), axis, windows, _make_join(np.add))[0]


def take_window_maximum(values: Array, positions: Array, axis: int, windows: AxisWindows) -> WindowPieces:
    """Return the largest element of each window, and its position.

    Among equal elements the first counts.

    Parameters
    ----------
    values
        Elements.
    positions
        Position of each element, of the same shape.
    axis
        Axis of both, counted from the end.
    windows
        Windows along that axis.
    """
    joined = join_windows((values, positions), axis, windows, _keep_first_larger)
    return joined[0], joined[1]


def take_min_over_holding_windows(values: Array, axis: int, windows: AxisWindows) -> Array:
    """Return for each element the least value of the windows that hold it."""
    return _scatter_to_elements(values, axis, windows, np.minimum, np.inf)


def sum_over_holding_windows(values: Array, axis: int, windows: AxisWindows) -> Array:
    """Return for each element the sum of the values of the windows that hold it."""
    return _scatter_to_elements(values, axis, windows, np.add, 0)


def join_windows(arrays: WindowPieces, axis: int, windows: AxisWindows, join: JoinOperation) -> WindowPieces:
    """Return the join of the elements of each window.

    Parameters
    ----------
    arrays
        Arrays whose axis has the windows' `required_length`, or more.
    axis
        Axis of the arrays, counted from the end.
    windows
        Windows along that axis.
    join
        Associative operation.

    Returns
    -------
    tuple of arrays
        Arrays whose axis has the length `window_count`.
    """
    pieces = (
        _iterate_elements(arrays, axis, windows)
        if windows.joins_directly
        else _iterate_doubled_blocks(arrays, axis, windows, join)
    )
    joined = next(pieces)
    for piece in pieces:
        check_interrupt()
        joined = join(joined, piece)
    return joined


def _iterate_elements(parts: WindowPieces, axis: int, windows: AxisWindows) -> Iterator[WindowPieces]:
    """Yield the elements of the windows, by their number in the window."""
    for offset in range(windows.window_length):
        yield _view_at_offset(parts, axis, windows, offset)


def _iterate_doubled_blocks(
    parts: WindowPieces, axis: int, windows: AxisWindows, join: JoinOperation
) -> Iterator[WindowPieces]:
    """Yield the blocks that make up the windows, from left to right."""
    offset, length = 0, 1
    while True:
        if windows.window_length & length:
            yield _view_at_offset(parts, axis, windows, offset)
            offset += length
        if 2 * length > windows.window_length:
            return
        check_interrupt()
        distance = length * windows.dilation
        parts = join(_slice_axis(parts, axis, slice(None, -distance)), _slice_axis(parts, axis, slice(distance, None)))
        length *= 2


def _view_at_offset(parts: WindowPieces, axis: int, windows: AxisWindows, offset: int) -> WindowPieces:
    """Return a view of the element at an offset of each window."""
    first = offset * windows.dilation
    return _slice_axis(
        parts, axis, slice(first, first + windows.stride * (windows.window_count - 1) + 1, windows.stride)
    )


def _slice_axis(parts: WindowPieces, axis: int, axis_slice: slice) -> WindowPieces:
    trailing_axes = (slice(None),) * (-1 - axis)
    return tuple(array[..., axis_slice, *trailing_axes] for array in parts)


def _scatter_to_elements(values: Array, axis: int, windows: AxisWindows, join: np.ufunc, identity: float) -> Array:
    """Return for each element the join of the values of the windows that hold it."""
    shape = list(values.shape)
    if windows.window_length * windows.window_count <= windows.adjoint.join_count:
        shape[axis] = windows.required_length
        joined = np.full_like(values, identity, shape=shape)
        for offset in range(windows.window_length):
            check_interrupt()
            (elements,) = _view_at_offset((joined,), axis, windows, offset)
            join(elements, values, out=elements)
        return joined
    # Element x is in window p at distance i, x = p s + i d, if p s is i' = k - 1 - i elements on from x - (k - 1) d.
    shape[axis] = windows.required_length + windows.window_extent
    spaced_values = np.full_like(values, identity, shape=shape)
    window_ends = slice(
        windows.window_extent, windows.window_extent + windows.stride * (windows.window_count - 1) + 1, windows.stride
    )
    _slice_axis((spaced_values,), axis, window_ends)[0][...] = values
    return join_windows((spaced_values,), axis, windows.adjoint, _make_join(join))[0]


def _make_join(operation: np.ufunc) -> JoinOperation:
    return lambda first, second: (operation(first[0], second[0]),)


def _keep_first_larger(first: WindowPieces, second: WindowPieces) -> WindowPieces:
    is_second_larger = second[0] > first[0]
    return tuple(np.where(is_second_larger, new, old) for old, new in zip(first, second, strict=True))
