"""Axes of a declared shape, as PyTorch counts them, and where they lie behind the tile axis."""

from collections.abc import Sequence

from service.numerics.core.batching import Array, Shape
from service.numerics.ops.op import ShapeError

AxisSelection = int | list[int] | None


def normalize_axis(dim: int, rank: int) -> int:
    """Axis from 0, of one that may be counted from the end; a 0-d tensor counts as having one."""
    span = max(rank, 1)
    if not -span <= dim < span:
        raise ShapeError(f"an axis from {-span} to {span - 1}; {dim} was asked for")
    return dim % span


def normalize_axes(dim: AxisSelection, rank: int) -> tuple[int, ...]:
    """Axes from 0, sorted; all of them for None or an empty list."""
    if dim is None or dim == []:
        return tuple(range(rank))
    listed = [normalize_axis(each, rank) for each in ([dim] if isinstance(dim, int) else dim)]
    if len(set(listed)) < len(listed):
        raise ShapeError(f"axes that are all different; {dim} was asked for")
    return tuple(sorted(listed)) if rank else ()


def shift_past_batch_axis(declared_axes: Sequence[int]) -> tuple[int, ...]:
    """Positions of declared axes in an array with a tile axis."""
    return tuple(each + 1 for each in declared_axes)


def reduce_shape(shape: Shape, axes: Sequence[int], keepdim: bool) -> Shape:
    """Shape after a reduction over axes."""
    if keepdim:
        return tuple(1 if i in axes else length for i, length in enumerate(shape))
    return tuple(length for i, length in enumerate(shape) if i not in axes)


def restore_reduced_axes(array: Array, shape: Shape, axes: Sequence[int]) -> Array:
    """A reduced array, (K, ...) with or without kept axes, with axes of length 1 where it was reduced."""
    return array.reshape(array.shape[:1] + reduce_shape(shape, axes, True))
