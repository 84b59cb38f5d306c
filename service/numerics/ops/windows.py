"""What windows along one axis have in common, in as many passes as their length has digits in base 2.

Window p of an axis holds the elements p s + i d, i = 0 ... k - 1, with stride s and dilation d. To join what each of
them holds, by an operation that is associative, takes k joins for each of p if it is done directly. Or the joins of
1, 2, 4, ... elements d apart are found at every place, each of them from two of the one before,

    S_0[x] = a[x]        S_{b+1}[x] = join(S_b[x], S_b[x + 2^b d]),

and a window is the join of one of them for each digit 1 of k, from left to right: 2 log2 k joins at every place. The
fewer are taken. Of elements of a window that an operation does not tell apart, such as equal ones of which the largest
is sought, the first counts: blocks are joined in their order and overlap nowhere.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.core.interrupts import check_interrupt

WindowPieces = tuple[Array, ...]
JoinOperation = Callable[[WindowPieces, WindowPieces], WindowPieces]
"""Joins two neighbouring pieces, each of one array or several."""


class AxisWindows(NamedTuple):
    """Windows along one axis: how many, of how many elements, and how far these, and the windows, lie apart."""

    window_count: int
    window_length: int
    stride: int = 1
    dilation: int = 1

    @property
    def window_extent(self) -> int:
        """Distance of the last element of a window from its first."""
        return (self.window_length - 1) * self.dilation

    @property
    def required_length(self) -> int:
        """Length of an axis that holds them all."""
        return self.stride * (self.window_count - 1) + self.window_extent + 1

    @property
    def join_count(self) -> int:
        """How often two elements are joined."""
        return min(self._direct_join_count, self._doubling_join_count)

    @property
    def call_count(self) -> int:
        """In how many calls that is done."""
        return (
            self.window_length
            if self.joins_directly
            else self.window_length.bit_length() + self.window_length.bit_count()
        )

    @property
    def joins_directly(self) -> bool:
        """Whether they are joined element by element of the window."""
        return self._direct_join_count <= self._doubling_join_count

    @property
    def adjoint(self) -> "AxisWindows":
        """The windows that hold each element, of what has stood apart by the stride."""
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
    """Least element of each window."""
    return join_windows((array,), axis, windows, _make_join(np.minimum))[0]


def sum_windows(array: Array, axis: int, windows: AxisWindows) -> Array:
    """Sum over each window."""
    return join_windows((array,), axis, windows, _make_join(np.add))[0]


def take_window_maximum(values: Array, places: Array, axis: int, windows: AxisWindows) -> WindowPieces:
    """Largest element of each window, and the place that belongs to it: of several the first."""
    found = join_windows((values, places), axis, windows, _keep_first_larger)
    return found[0], found[1]


def take_min_over_holding_windows(values: Array, axis: int, windows: AxisWindows) -> Array:
    """For each element of an axis of length `needed` the least of the values of the windows that hold it."""
    return _scatter_to_elements(values, axis, windows, np.minimum, np.inf)


def sum_over_holding_windows(values: Array, axis: int, windows: AxisWindows) -> Array:
    """For each element of an axis of length `needed` the sum of the values of the windows that hold it."""
    return _scatter_to_elements(values, axis, windows, np.add, 0)


def join_windows(arrays: WindowPieces, axis: int, windows: AxisWindows, join: JoinOperation) -> WindowPieces:
    """Join what each window holds.

    Parameters
    ----------
    parts
        Arrays whose axis is as long as the windows need, or longer.
    axis
        Of the arrays, counted from the end.
    windows
        Along it.
    join
        Associative.

    Returns
    -------
    tuple of arrays
        Theirs have the axis of length `count`.
    """
    pieces = (
        _iterate_elements(arrays, axis, windows)
        if windows.joins_directly
        else _iterate_doubled_blocks(arrays, axis, windows, join)
    )
    found = next(pieces)
    for each in pieces:
        check_interrupt()
        found = join(found, each)
    return found


def _iterate_elements(parts: WindowPieces, axis: int, windows: AxisWindows) -> Iterator[WindowPieces]:
    """Each element of the windows."""
    for number in range(windows.window_length):
        yield _view_at_offset(parts, axis, windows, number)


def _iterate_doubled_blocks(
    parts: WindowPieces, axis: int, windows: AxisWindows, join: JoinOperation
) -> Iterator[WindowPieces]:
    """Blocks that make up the windows, from left to right."""
    offset, length = 0, 1
    while True:
        if windows.window_length & length:
            yield _view_at_offset(parts, axis, windows, offset)
            offset += length
        if 2 * length > windows.window_length:
            return
        check_interrupt()
        behind = length * windows.dilation
        parts = join(_slice_axis(parts, axis, slice(None, -behind)), _slice_axis(parts, axis, slice(behind, None)))
        length *= 2


def _view_at_offset(parts: WindowPieces, axis: int, windows: AxisWindows, offset: int) -> WindowPieces:
    """Element of such a number of each window: views."""
    first = offset * windows.dilation
    return _slice_axis(
        parts, axis, slice(first, first + windows.stride * (windows.window_count - 1) + 1, windows.stride)
    )


def _slice_axis(parts: WindowPieces, axis: int, axis_slice: slice) -> WindowPieces:
    behind = (slice(None),) * (-1 - axis)
    return tuple(each[..., axis_slice, *behind] for each in parts)


def _scatter_to_elements(values: Array, axis: int, windows: AxisWindows, join: np.ufunc, identity: float) -> Array:
    """Join the values of the windows that hold each element."""
    shape = list(values.shape)
    if windows.window_length * windows.window_count <= windows.adjoint.join_count:
        shape[axis] = windows.required_length
        found = np.full_like(values, identity, shape=shape)
        for number in range(windows.window_length):
            check_interrupt()
            (held,) = _view_at_offset((found,), axis, windows, number)
            join(held, values, out=held)
        return found
    # Element x is in window p at distance i, x = p s + i d, if p s is i' = k - 1 - i elements on from x - (k - 1) d.
    shape[axis] = windows.required_length + windows.window_extent
    apart = np.full_like(values, identity, shape=shape)
    first = slice(
        windows.window_extent, windows.window_extent + windows.stride * (windows.window_count - 1) + 1, windows.stride
    )
    _slice_axis((apart,), axis, first)[0][...] = values
    return join_windows((apart,), axis, windows.adjoint, _make_join(join))[0]


def _make_join(operation: np.ufunc) -> JoinOperation:
    return lambda first, second: (operation(first[0], second[0]),)


def _keep_first_larger(first: WindowPieces, second: WindowPieces) -> WindowPieces:
    larger = second[0] > first[0]
    return tuple(np.where(larger, new, old) for old, new in zip(first, second, strict=True))
