"""Where the wrong elements of a gradient are, in words."""

from collections.abc import Iterator

import numpy as np

from service.numerics.tiles import Array

_FEW = 4


def described(wrong: Array) -> str:
    """Say where a mask is true: everywhere, at some indices of one axis, along the border, or scattered."""
    count = int(np.count_nonzero(wrong))
    if count == wrong.size:
        return f"all {count} elements are off" if count > 1 else "its one element is off"
    told = f"{count} of {wrong.size} elements {'are' if count > 1 else 'is'} off"
    if count <= _FEW:
        return f"{told}: {', '.join(str([int(i) for i in index]) for index in np.argwhere(wrong))}"
    return f"{told}: {next(_patterns(wrong), 'scattered')}"


def _patterns(wrong: Array) -> Iterator[str]:
    """Patterns that hold them all, the narrowest first."""
    for axis, length in enumerate(wrong.shape):
        others = tuple(each for each in range(wrong.ndim) if each != axis)
        reached = np.flatnonzero(wrong.any(axis=others))
        if len(reached) <= max(1, length // 2) and len(reached) <= _FEW and length > 1:
            whole = "all" if np.take(wrong, reached, axis).all() else "some"
            yield f"{whole} of {_indices(reached, axis, wrong.ndim)}"
    if wrong.ndim > 1 and not _inside(wrong).any() and _inside(wrong).size:
        yield "along the border of the last two axes, and none inside"


def _indices(reached: Array, axis: int, axes: int) -> str:
    listed, many = ", ".join(map(str, reached)), len(reached) > 1
    if axes == 2:
        return f"{('row', 'column')[axis]}{'s' if many else ''} {listed}"
    return f"ind{'ices' if many else 'ex'} {listed} of axis {axis}"


def _inside(wrong: Array) -> Array:
    return wrong[..., 1:-1, 1:-1]
