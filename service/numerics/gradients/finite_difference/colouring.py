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
from dataclasses import dataclass

import numpy as np

from service.numerics.core.batching import Array, Shape, count_elements
from service.numerics.core.cached_attribute import cached_attribute
from service.numerics.gradients.finite_difference.base_point import BasePoint
from service.numerics.gradients.finite_difference.downstream import DownstreamGraph, make_unreached_labels
from service.numerics.model.graph import Node


@dataclass(frozen=True)
class Colouring:
    """A colouring of the elements of a tensor of `shape`, of at least one axis.

    What feels them are the terms of the loss or, of an operand of a node, the elements of its output.

    Attributes
    ----------
    shape
        Of the tensor.
    periods
        Elements that lie a multiple of them apart, axis by axis, have one colour.
    lowest, highest
        Box of the elements that each of them feels, (axes, terms), int64; empty where it feels none.
    together
        How many elements a unit feels at once that reads the tensor.
    """

    shape: Shape
    axis_periods: tuple[int, ...]
    lowest_felt: Array
    highest_felt: Array
    felt_together: int

    @property
    def colour_count(self) -> int:
        """Number of colours."""
        return math.prod(self.axis_periods)

    @cached_attribute
    def element_colours(self) -> Array:
        """Colour of each element, of the tensor's shape, int64."""
        remainders = [np.arange(length) % period for length, period in zip(self.shape, self.axis_periods, strict=True)]
        return np.ravel_multi_index(np.meshgrid(*remainders, indexing="ij"), self.axis_periods)

    def colours_of(self, elements: Array | None) -> Array:
        """Colours of some elements, by their flat indices; all of them by default."""
        return np.arange(self.colour_count) if elements is None else np.unique(self.element_colours.ravel()[elements])

    def colour_directions(self, colours: Array) -> Array:
        """1 at the elements of each colour, 0 elsewhere, (colours, ...)."""
        return (self.element_colours == colours.reshape(-1, *(1,) * len(self.shape))).astype(np.float64)

    def felt_elements(self, colours: Array) -> Array:
        """Element, by its flat index, that each term feels of each colour; the tensor's size where it feels none.

        (colours, terms), int64.
        """
        return (
            self._felt_by_single_colour
            if self.colour_count == 1 and len(colours) == 1
            else self._find_felt_elements(colours)
        )

    @cached_attribute
    def _felt_by_single_colour(self) -> Array:
        return self._find_felt_elements(np.zeros(1, np.int64))

    def _find_felt_elements(self, colours: Array) -> Array:
        terms = self.lowest_felt.shape[1]
        flat = np.zeros((len(colours), terms), np.int64)
        missing = np.zeros((len(colours), terms), np.bool_)
        for axis, remainder in enumerate(np.unravel_index(colours, self.axis_periods)):
            low, high, period = self.lowest_felt[axis], self.highest_felt[axis], self.axis_periods[axis]
            coordinate = low + (remainder[:, None] - low) % period
            missing |= coordinate > high
            flat = flat * self.shape[axis] + coordinate
        return np.where(missing, count_elements(self.shape), flat)


def colour_elements(suffix: DownstreamGraph) -> Colouring:
    """Colour the elements of what moves a suffix: those of one colour share no term of the loss."""
    shape = suffix.shape
    coordinates = _list_signed_coordinates(shape)
    spread, terms = suffix.propagate_dependencies(coordinates)
    lowest, highest = _find_bounding_boxes(np.concatenate(list(terms.values()), axis=1))
    # A sum of terms feels no more at once than each of these does.
    felt = spread | {name: terms[name] for name in terms if suffix.point.nodes[name].op.ends_in_sum}
    readers = [felt[each] for each in suffix.first_readers if each in felt]
    longest = [_find_longest_box(*_find_bounding_boxes(each.reshape(len(coordinates), -1))) for each in readers]
    return Colouring(
        shape or (1,), _find_longest_box(lowest, highest), lowest, highest, min(map(math.prod, longest), default=1)
    )


def colour_operand(point: BasePoint, node: Node, position: int) -> Colouring:
    """Colour the elements of an operand of a node: those of one colour share no element of the node's output."""
    inputs = point.operand_arrays(node)
    shape = point.graph.shapes[str(node.operands[position])]
    values = [make_unreached_labels(each) for each in inputs]
    values[position] = coordinates = _list_signed_coordinates(shape)
    spread = node.op.propagate_dependencies(values, *inputs)
    ends = np.broadcast_to(spread, (len(coordinates), *spread.shape[1:]))
    lowest, highest = _find_bounding_boxes(ends.reshape(len(ends), -1))
    return Colouring(shape or (1,), _find_longest_box(lowest, highest), lowest, highest, 1)


def _list_signed_coordinates(shape: Shape) -> Array:
    """Coordinates of each element and their negatives, (2 axes, ...); a number counts as one axis of one element."""
    coordinates = np.indices(shape or (1,), dtype=np.float64).reshape(len(shape) or 1, *shape)
    return np.concatenate([coordinates, -coordinates])


def _find_bounding_boxes(least_coordinates: Array) -> tuple[Array, Array]:
    """Lowest and highest coordinates, (axes, n), int64, of least coordinates and negatives of them, (2 axes, n)."""
    low, high = np.split(least_coordinates, 2)
    felt = np.isfinite(low)
    return np.where(felt, low, 0).astype(np.int64), np.where(felt, -high, -1).astype(np.int64)


def _find_longest_box(lowest: Array, highest: Array) -> Shape:
    """Length of the longest box, axis by axis."""
    lengths = (highest - lowest).max(axis=1, initial=0) + 1
    return tuple(int(length) for length in lengths)
