"""Colours: elements of a tensor that no term of the loss feels together move in one evaluation.

Every term is felt by elements within a box: in each axis from a lowest to a highest coordinate, which the ops' spreads
find. If the widest box has length p in an axis, elements p apart in it share no term. So the coordinates modulo the
lengths p are a colouring, of as many colours as the product of the p: one for the weight of a function of elements,
the size of the kernel for the input of a convolution, the number of features for a batch of samples. And it can be
inverted: in a box no longer than p there is one coordinate at most of each remainder, so that every term says by
arithmetic which element of a colour it feels.

Colouring differences is Curtis, Powell and Reid, J. Inst. Maths Applics 13 (1974) 117-119.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from service.numerics.graph import Graph
from service.numerics.tiles import Array, Shape, size


@dataclass(frozen=True)
class Colouring:
    """A colouring of the elements of a tensor of `shape`, of at least one axis.

    Attributes
    ----------
    shape
        Of the tensor.
    periods
        Elements that lie a multiple of them apart, axis by axis, have one colour.
    lowest, highest
        Box of the elements that each term feels, (axes, terms), int64; empty where it feels none.
    together
        How many elements a unit feels at once that reads the tensor.
    """

    shape: Shape
    periods: tuple[int, ...]
    lowest: Array
    highest: Array
    together: int

    @property
    def count(self) -> int:
        """Number of colours."""
        return math.prod(self.periods)

    @cached_property
    def of_elements(self) -> Array:
        """Colour of each element, of the tensor's shape, int64."""
        remainders = [np.arange(length) % period for length, period in zip(self.shape, self.periods, strict=True)]
        return np.ravel_multi_index(np.meshgrid(*remainders, indexing="ij"), self.periods)

    @cached_property
    def _sorted(self) -> tuple[Array, Array]:
        """Flat indices of the elements by colour, and where each colour begins."""
        colours = self.of_elements.ravel()
        order = np.argsort(colours, kind="stable")
        return order, np.searchsorted(colours[order], np.arange(self.count + 1))

    def members(self, colours: Array) -> Array:
        """Flat indices of the elements that have any of the colours."""
        order, starts = self._sorted
        return np.concatenate([order[starts[each] : starts[each + 1]] for each in colours])

    def directions(self, colours: Array) -> Array:
        """1 at the elements of each colour, 0 elsewhere, (colours, ...)."""
        return (self.of_elements == colours.reshape(-1, *(1,) * len(self.shape))).astype(np.float64)

    def felt(self, colours: Array) -> Array:
        """Element, by its flat index, that each term feels of each colour; the tensor's size where it feels none.

        (colours, terms), int64.
        """
        terms = self.lowest.shape[1]
        flat = np.zeros((len(colours), terms), np.int64)
        missing = np.zeros((len(colours), terms), np.bool_)
        for axis, remainder in enumerate(np.unravel_index(colours, self.periods)):
            low, high, period = self.lowest[axis], self.highest[axis], self.periods[axis]
            coordinate = low + (remainder[:, None] - low) % period
            missing |= coordinate > high
            flat = flat * self.shape[axis] + coordinate
        return np.where(missing, size(self.shape), flat)


def coloured(graph: Graph, base: Mapping[str, Array], name: str) -> Colouring:
    """Find a colouring of the elements of a tensor or node.

    Parameters
    ----------
    graph
        The model.
    base
        Every leaf, and node downstream of the name, (1, ...); of the floats only the shapes matter.
    name
        Of the tensor or node.
    """
    # A number counts as one axis of one element.
    shape = graph.shapes[name]
    axes = shape or (1,)
    coordinates = np.indices(axes, dtype=np.float64).reshape(len(axes), *shape)
    spread, ends = graph.spread(base, name, np.concatenate([coordinates, -coordinates]))
    lowest, highest = _boxes(ends)
    readers = [node.name for node in graph.downstream([name]) if name in node.sources]
    together = min(math.prod(_longest(*_boxes(spread[reader].reshape(len(ends), -1)))) for reader in readers)
    return Colouring(axes, _longest(lowest, highest), lowest, highest, together)


def colours(graph: Graph, leaves: Mapping[str, Array], name: str) -> int:
    """Count the colours of a tensor or node before anything is computed; leaves are (1, ...)."""
    nothing = np.float64(0)
    nodes = {node.name: np.broadcast_to(nothing, (1, *graph.shapes[node.name])) for node in graph.nodes}
    return coloured(graph, {**leaves, **nodes}, name).count


def _boxes(ends: Array) -> tuple[Array, Array]:
    """Lowest and highest coordinates, (axes, n), int64, of least coordinates and negatives of them, (2 axes, n)."""
    low, high = np.split(ends, 2)
    felt = np.isfinite(low)
    return np.where(felt, low, 0).astype(np.int64), np.where(felt, -high, -1).astype(np.int64)


def _longest(lowest: Array, highest: Array) -> Shape:
    """Length of the longest box, axis by axis."""
    lengths = (highest - lowest).max(axis=1, initial=0) + 1
    return tuple(int(length) for length in lengths)
