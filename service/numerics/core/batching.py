"""Arrays behind a tile axis.

Every array that an op sees has its declared shape behind exactly one leading tile axis, of length K or 1. The K
tiles are K independent evaluations of the same graph (the base and its perturbations, the sweeps of the rounding
model); an array that is the same in all of them has length 1 and broadcasts. So one pass of NumPy serves K
evaluations, and no op loops over them.
"""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Shape = tuple[int, ...]

MAX_TILE_ELEMENTS = 2**16
"""Elements of one array up to which a pass takes several evaluations together: 512 KiB of float64 stay in the cache.

The finite difference evaluates, and its cost model estimates, by this one size.
"""

_BLOCK_LENGTH = 64
"""Numbers along an axis that one running sum adds."""


def count_elements(shape: Shape) -> int:
    """Return the exact number of elements."""
    return math.prod(shape)


def add_batch_axis(array: Array) -> Array:
    """Put one tile in front: shape (...) to (1, ...)."""
    return array[None]


def flat_indices(array: Array) -> Array:
    """Return the flat index of each element, int64."""
    return np.arange(array.size).reshape(array.shape)


def unravel_index(flat_index: int, shape: Shape) -> tuple[int, ...]:
    """Return the index of an element, given its flat index."""
    index: list[int] = []
    flat_index = int(flat_index)
    for length in reversed(shape):
        flat_index, position = divmod(flat_index, length)
        index.append(position)
    return tuple(reversed(index))


def broadcast_batch(array: Array, batch_size: int) -> Array:
    """Broadcast an array of one tile to as many as needed: a view.

    An array with that many tiles is returned as it is.
    """
    return array if len(array) == batch_size else np.broadcast_to(array, (batch_size, *array.shape[1:]))


def align_rank(array: Array, rank: int) -> Array:
    """Insert axes behind the tile axis until there are `rank` of them.

    NumPy broadcasting would insert them in front.
    """
    missing = rank - (array.ndim - 1)
    return array.reshape(array.shape[:1] + (1,) * missing + array.shape[1:]) if missing > 0 else array


def sum_broadcast_axes(gradient: Array, shape: Shape) -> Array:
    """Sum a gradient over the axes along which its operand of `shape` was broadcast.

    If y[i, j] = f(b[j]), b's element j is used once for every i, so dL/db[j] = sum_i dL/dy[i, j] df/db. The tile
    axis is never summed.
    """
    leading = gradient.ndim - 1 - len(shape)
    if leading:
        summed = sum_by_blocks(gradient, tuple(range(1, 1 + leading)))
        gradient = summed.reshape(gradient.shape[:1] + gradient.shape[1 + leading :])
    stretched = tuple(axis for axis, size in enumerate(shape, start=1) if size == 1 and gradient.shape[axis] != 1)
    return sum_by_blocks(gradient, stretched) if stretched else gradient


def sum_by_blocks(array: Array, axes: tuple[int, ...]) -> Array:
    """Sum over some axes, which stay with length 1.

    NumPy adds pairwise along the last axis alone, and runs along the others. A running sum of n equal numbers is off
    by as much as n roundings, since all of them round alike. Here it never runs over more than a block.
    """
    last = array.ndim - 1
    for axis in axes:
        while array.shape[axis] > _BLOCK_LENGTH and axis != last:
            array = _sum_blocks(array, axis)
    return array.sum(axis=axes, keepdims=True)


def _sum_blocks(array: Array, axis: int) -> Array:
    """Return the sums of the blocks along an axis, in its place."""
    along = np.moveaxis(array, axis, 0)
    whole = len(along) - len(along) % _BLOCK_LENGTH
    sums = along[:whole].reshape(-1, _BLOCK_LENGTH, *along.shape[1:]).sum(axis=1)
    if whole < len(along):
        sums = np.concatenate([sums, along[whole:].sum(axis=0, keepdims=True)])
    return np.moveaxis(sums, 0, axis)


def is_broadcastable(operand: Shape, result: Shape) -> bool:
    """Return whether an operand broadcasts to a result of this very shape."""
    try:
        return np.broadcast_shapes(operand, result) == result
    except ValueError:
        return False


def count_repeats(result: Shape, operand: Shape) -> int:
    """Return how often a broadcast to `result` uses each element of an operand."""
    return count_elements(result) // count_elements(operand)
