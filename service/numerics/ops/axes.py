"""Axes of a declared shape, as PyTorch counts them, and where they lie behind the tile axis."""

from collections.abc import Sequence

from service.numerics.ops.op import ShapeError
from service.numerics.tiles import Array, Shape

Dims = int | list[int] | None


def axis(dim: int, rank: int) -> int:
    """Axis from 0, of one that may be counted from the end; a 0-d tensor counts as having one."""
    span = max(rank, 1)
    if not -span <= dim < span:
        raise ShapeError(f"an axis from {-span} to {span - 1}; {dim} was asked for")
    return dim % span


def axes(dim: Dims, rank: int) -> tuple[int, ...]:
    """Axes from 0, sorted; all of them for None or an empty list."""
    if dim is None or dim == []:
        return tuple(range(rank))
    listed = [axis(each, rank) for each in ([dim] if isinstance(dim, int) else dim)]
    if len(set(listed)) < len(listed):
        raise ShapeError(f"axes that are all different; {dim} was asked for")
    return tuple(sorted(listed)) if rank else ()


def behind_tile(of_declared: Sequence[int]) -> tuple[int, ...]:
    """Positions of declared axes in an array with a tile axis."""
    return tuple(each + 1 for each in of_declared)


def reduced(shape: Shape, over: Sequence[int], keepdim: bool) -> Shape:
    """Shape after a reduction over axes."""
    if keepdim:
        return tuple(1 if i in over else length for i, length in enumerate(shape))
    return tuple(length for i, length in enumerate(shape) if i not in over)


def restored(array: Array, shape: Shape, over: Sequence[int]) -> Array:
    """A reduced array, (K, ...) with or without kept axes, with axes of length 1 where it was reduced."""
    return array.reshape(array.shape[:1] + reduced(shape, over, True))
