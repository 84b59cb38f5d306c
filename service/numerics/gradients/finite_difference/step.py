"""The step scale of a tensor: how far its elements may move until something downstream moves by its own size."""

from collections.abc import Iterator, Mapping

import numpy as np

from service.numerics.graph import Graph
from service.numerics.tiles import Array, repeated

_DIRECTIONS = 4
_EXPONENTS = np.arange(-44, 17, 4)
_DEEPER = 2.0**-60
_SMALLEST = 2.0**-1000


def directions(count: int, shape: tuple[int, ...], generator: np.random.Generator) -> Array:
    """Random moves of all elements at once, (count, *shape), each element by 1 to 2, up or down.

    The sizes differ so that moves of elements that are multiples of each other do not cancel.
    """
    sizes = generator.uniform(1, 2, (count, *shape))
    return np.where(generator.random((count, *shape)) < 0.5, -sizes, sizes)


def scale(graph: Graph, base: Mapping[str, Array], name: str, generator: np.random.Generator) -> float:
    """Largest power of two by which all elements may move at once, in each of some random directions.

    None of them and no unit downstream moves by more than about one, or its own size where that is larger, at this step
    and at every smaller one that is tried. What an op reads that oscillates moves by no more than one: the phase of a
    large number is no better known than the number, and NaN is returned where no step keeps it.

    A point of zeros says nothing of its own scale: there the search goes on to smaller steps until one is calm.
    """
    point = base[name]
    largest = float(np.max(np.abs(point), initial=0))
    located = np.isfinite(largest) and largest > _SMALLEST
    unit = 2.0 ** np.floor(np.log2(largest)) if located else 1.0
    along = directions(_DIRECTIONS, point.shape[1:], generator)
    while True:
        steps = unit * 2.0**_EXPONENTS
        calm, steady = _calm(graph, base, name, np.multiply.outer(steps, along))
        if calm[0] or located or unit < _SMALLEST:
            break
        unit *= _DEEPER
    if not steady[0]:
        return np.nan
    reach = int(np.argmin(calm)) if not calm.all() else len(steps)
    return float(steps[max(0, reach - 1)])


def _calm(graph: Graph, base: Mapping[str, Array], name: str, moves: Array) -> tuple[Array, Array]:
    """Whether at each step nothing moves too far, and whether what is read by ops that oscillate does not.

    `moves` is (steps, directions, ...); the answers are (steps,).
    """
    point = base[name]
    moved = graph.resume(base, {name: point + moves.reshape(-1, *point.shape[1:])})
    calm = np.ones(len(moves), dtype=np.bool_)
    steady = calm.copy()
    for other, oscillating in _units(graph, name):
        before, after = base[other], moved[other]
        change = np.abs(after - before)
        calm &= _everywhere(change <= np.maximum(1, np.abs(before)), len(moves))
        if oscillating:
            steady &= _everywhere(change <= 1, len(moves))
    return calm & steady, steady


def _units(graph: Graph, name: str) -> Iterator[tuple[str, bool]]:
    """What moves with a name, itself included, and whether an op reads it that oscillates."""
    nodes = graph.downstream([name])
    read = {source for node in nodes if node.op.oscillates for source in node.sources}
    return ((each, each in read) for each in (name, *(node.name for node in nodes)))


def _everywhere(within: Array, steps: int) -> Array:
    return np.all(repeated(within, steps * _DIRECTIONS).reshape(steps, -1), axis=1, keepdims=True)[:, 0]
