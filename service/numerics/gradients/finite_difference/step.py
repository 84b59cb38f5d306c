"""The step scale of a tensor: how far its elements may move until something downstream moves by its own size."""

from collections.abc import Mapping

import numpy as np

from service.numerics.graph import Graph
from service.numerics.tiles import Array, repeated

_DIRECTIONS = 4
_EXPONENTS = np.arange(-44, 17, 4)


def directions(count: int, shape: tuple[int, ...], generator: np.random.Generator) -> Array:
    """Random moves of all elements at once, (count, *shape), each element by 1 to 2, up or down.

    The sizes differ so that moves of elements that are multiples of each other do not cancel.
    """
    sizes = generator.uniform(1, 2, (count, *shape))
    return np.where(generator.random((count, *shape)) < 0.5, -sizes, sizes)


def scale(graph: Graph, base: Mapping[str, Array], name: str, generator: np.random.Generator) -> float:
    """Largest power of two by which all elements may move at once, in each of some random directions.

    None of them and no unit downstream moves by more than about one, or its own size where that is larger, at this step
    and at every smaller one that is tried.
    """
    point = base[name]
    largest = float(np.max(np.abs(point), initial=0))
    unit = 2.0 ** np.floor(np.log2(largest)) if np.isfinite(largest) and largest > 2.0**-900 else 1.0
    steps = unit * 2.0**_EXPONENTS
    moves = np.multiply.outer(steps, directions(_DIRECTIONS, point.shape[1:], generator))
    moved = graph.resume(base, {name: point + moves.reshape(-1, *point.shape[1:])})
    calm = np.ones(len(steps), dtype=np.bool_)
    for unit_name in (name, *(node.name for node in graph.downstream([name]))):
        before, after = base[unit_name], moved[unit_name]
        within = np.abs(after - before) <= np.maximum(1, np.abs(before))
        calm &= repeated(within, len(steps) * _DIRECTIONS).reshape(len(steps), -1).all(axis=1)
    reach = int(np.argmin(calm)) if not calm.all() else len(steps)
    return float(steps[max(0, reach - 1)])
