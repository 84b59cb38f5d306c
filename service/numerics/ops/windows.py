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

from service.numerics.pausing import pause
from service.numerics.tiles import Array

Parts = tuple[Array, ...]
Join = Callable[[Parts, Parts], Parts]
"""Joins two neighbouring pieces, each of one array or several."""


class Windows(NamedTuple):
    """Windows along one axis: how many, of how many elements, and how far these, and the windows, lie apart."""

    count: int
    length: int
    stride: int = 1
    dilation: int = 1

    @property
    def reach(self) -> int:
        """Distance of the last element of a window from its first."""
        return (self.length - 1) * self.dilation

    @property
    def needed(self) -> int:
        """Length of an axis that holds them all."""
        return self.stride * (self.count - 1) + self.reach + 1

    @property
    def joins(self) -> int:
        """How often two elements are joined."""
        return min(self._directly, self._by_doubling)

    @property
    def passes(self) -> int:
        """In how many calls that is done."""
        return self.length if self.direct else self.length.bit_length() + self.length.bit_count()

    @property
    def direct(self) -> bool:
        """Whether they are joined element by element of the window."""
        return self._directly <= self._by_doubling

    @property
    def adjoint(self) -> "Windows":
        """The windows that hold each element, of what has stood apart by the stride."""
        return Windows(self.needed, self.length, 1, self.dilation)

    @property
    def _directly(self) -> int:
        return self.length * self.count

    @property
    def _by_doubling(self) -> int:
        return (self.length.bit_length() - 1) * self.needed + self.length.bit_count() * self.count


def least(array: Array, axis: int, windows: Windows) -> Array:
    """Least element of each window."""
    return joined((array,), axis, windows, _by(np.minimum))[0]


def total(array: Array, axis: int, windows: Windows) -> Array:
    """Sum over each window."""
    return joined((array,), axis, windows, _by(np.add))[0]


def first_largest(values: Array, places: Array, axis: int, windows: Windows) -> Parts:
    """Largest element of each window, and the place that belongs to it: of several the first."""
    found = joined((values, places), axis, windows, _first_larger)
    return found[0], found[1]


def least_of_holding(values: Array, axis: int, windows: Windows) -> Array:
    """For each element of an axis of length `needed` the least of the values of the windows that hold it."""
    return _scattered(values, axis, windows, np.minimum, np.inf)


def total_of_holding(values: Array, axis: int, windows: Windows) -> Array:
    """For each element of an axis of length `needed` the sum of the values of the windows that hold it."""
    return _scattered(values, axis, windows, np.add, 0)


def joined(parts: Parts, axis: int, windows: Windows, join: Join) -> Parts:
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
    pieces = _directly(parts, axis, windows) if windows.direct else _doubled(parts, axis, windows, join)
    found = next(pieces)
    for each in pieces:
        pause()
        found = join(found, each)
    return found


def _directly(parts: Parts, axis: int, windows: Windows) -> Iterator[Parts]:
    """Each element of the windows."""
    for number in range(windows.length):
        yield _at_windows(parts, axis, windows, number)


def _doubled(parts: Parts, axis: int, windows: Windows, join: Join) -> Iterator[Parts]:
    """Blocks that make up the windows, from left to right."""
    offset, length = 0, 1
    while True:
        if windows.length & length:
            yield _at_windows(parts, axis, windows, offset)
            offset += length
        if 2 * length > windows.length:
            return
        pause()
        behind = length * windows.dilation
        parts = join(_cut(parts, axis, slice(None, -behind)), _cut(parts, axis, slice(behind, None)))
        length *= 2


def _at_windows(parts: Parts, axis: int, windows: Windows, number: int) -> Parts:
    """Element of such a number of each window: views."""
    first = number * windows.dilation
    return _cut(parts, axis, slice(first, first + windows.stride * (windows.count - 1) + 1, windows.stride))


def _cut(parts: Parts, axis: int, piece: slice) -> Parts:
    behind = (slice(None),) * (-1 - axis)
    return tuple(each[..., piece, *behind] for each in parts)


def _scattered(values: Array, axis: int, windows: Windows, join: np.ufunc, nothing: float) -> Array:
    """Join the values of the windows that hold each element."""
    shape = list(values.shape)
    if windows.length * windows.count <= windows.adjoint.joins:
        shape[axis] = windows.needed
        found = np.full_like(values, nothing, shape=shape)
        for number in range(windows.length):
            pause()
            (held,) = _at_windows((found,), axis, windows, number)
            join(held, values, out=held)
        return found
    # Element x is in window p at distance i, x = p s + i d, if p s is i' = k - 1 - i elements on from x - (k - 1) d.
    shape[axis] = windows.needed + windows.reach
    apart = np.full_like(values, nothing, shape=shape)
    first = slice(windows.reach, windows.reach + windows.stride * (windows.count - 1) + 1, windows.stride)
    _cut((apart,), axis, first)[0][...] = values
    return joined((apart,), axis, windows.adjoint, _by(join))[0]


def _by(operation: np.ufunc) -> Join:
    return lambda first, second: (operation(first[0], second[0]),)


def _first_larger(first: Parts, second: Parts) -> Parts:
    larger = second[0] > first[0]
    return tuple(np.where(larger, new, old) for old, new in zip(first, second, strict=True))
