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

MAX_TILE_ELEMENTS = 2**15
"""Elements of one array up to which a pass takes several evaluations together: 256 KiB of float64 stay in the cache.

The finite difference evaluates, and its cost model estimates, by this one size.
"""


def count_elements(shape: Shape) -> int:
    """Return the exact number of elements."""
    return math.prod(shape)


def add_batch_axis(array: Array) -> Array:
    """Put one tile in front: shape (...) to (1, ...)."""
    return array[None]


def flat_indices(array: Array) -> Array:
    """Return the flat index of each element, int64."""
    return np.arange(array.size).reshape(array.shape)


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
    leading_count = gradient.ndim - 1 - len(shape)
    if leading_count:
        gradient = gradient.sum(axis=tuple(range(1, 1 + leading_count)))
    stretched_axes = tuple(axis for axis, size in enumerate(shape, start=1) if size == 1 and gradient.shape[axis] != 1)
    return gradient.sum(axis=stretched_axes, keepdims=True) if stretched_axes else gradient


def is_broadcastable(operand: Shape, result: Shape) -> bool:
    """Return whether an operand broadcasts to a result of this very shape."""
    try:
        return np.broadcast_shapes(operand, result) == result
    except ValueError:
        return False


def count_repeats(result: Shape, operand: Shape) -> int:
    """Return how often a broadcast to `result` uses each element of an operand."""
    return count_elements(result) // count_elements(operand)
