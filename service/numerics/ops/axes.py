"""Axes of a declared shape, in PyTorch's numbering, and behind the tile axis."""

from collections.abc import Sequence

from service.numerics.core.batching import Array, Shape
from service.numerics.ops.op import ShapeError

AxisSelection = int | list[int] | None


def normalize_axis(dim: int, rank: int) -> int:
    """Return an axis counted from 0, given one that may be counted from the end.

    A 0-d tensor counts as having one axis. ShapeError for an axis out of range.
    """
    span = max(rank, 1)
    if not -span <= dim < span:
        raise ShapeError(f"an axis from {-span} to {span - 1}, not {dim}")
    return dim % span


def normalize_axes(dim: AxisSelection, rank: int) -> tuple[int, ...]:
    """Return axes counted from 0, sorted; all of them for None or an empty list."""
    if dim is None or dim == []:
        return tuple(range(rank))
    normalized = [normalize_axis(axis, rank) for axis in ([dim] if isinstance(dim, int) else dim)]
    if len(set(normalized)) < len(normalized):
        raise ShapeError(f"axes that are all different, not {dim}")
    return tuple(sorted(normalized)) if rank else ()


def shift_past_batch_axis(declared_axes: Sequence[int]) -> tuple[int, ...]:
    """Return the positions of declared axes in an array with a tile axis."""
    return tuple(axis + 1 for axis in declared_axes)


def reduce_shape(shape: Shape, axes: Sequence[int], keepdim: bool) -> Shape:
    """Return the shape after a reduction over axes."""
    if keepdim:
        return tuple(1 if i in axes else length for i, length in enumerate(shape))
    return tuple(length for i, length in enumerate(shape) if i not in axes)


def restore_reduced_axes(array: Array, shape: Shape, axes: Sequence[int]) -> Array:
    """Return a reduced array with axes of length 1 where it was reduced.

    The array is (K, ...), with or without kept axes.
    """
    return array.reshape(array.shape[:1] + reduce_shape(shape, axes, True))
