"""Colours: elements of a tensor that no term of the loss feels together.

The elements of a colour move in one evaluation. Every term is felt by elements within a box: in each axis from a lowest
to a highest coordinate, which the ops' `propagate_dependencies` find. If the widest box has length p in an axis,
elements p apart in it share no term. So the coordinates modulo the lengths p are a colouring, of as many colours as the
product of the p: one for the weight of a function of elements, the size of the kernel for the input of a convolution,
the number of features for a batch of samples. And it can be inverted: in a box no longer than p there is one coordinate
at most of each remainder, so that arithmetic yields the element of a colour that a term feels.

References
----------
Curtis, Powell and Reid, J. Inst. Maths Applics 13 (1974) 117-119, for colouring differences.
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
    """A colouring of the elements of a tensor of `shape`, with at least one axis.

    The terms of the loss feel its elements. For an operand of a node it is the elements of the node's output.

    Attributes
    ----------
    shape
        Shape of the tensor.
    axis_periods
        Periods along each axis: elements a multiple of them apart have one colour.
    lowest_felt, highest_felt
        Box of the elements that each term feels, (axes, terms), int64; empty for a term that feels none.
    felt_together
        Number of elements that a reader of the tensor feels at once.
    """

    shape: Shape
    axis_periods: tuple[int, ...]
    lowest_felt: Array
    highest_felt: Array
    felt_together: int

    @property
    def colour_count(self) -> int:
        """Return the number of colours."""
        return math.prod(self.axis_periods)

    @cached_attribute
    def element_colours(self) -> Array:
        """Return the colour of each element, of the tensor's shape, int64."""
        remainders = [np.arange(length) % period for length, period in zip(self.shape, self.axis_periods, strict=True)]
        return np.ravel_multi_index(np.meshgrid(*remainders, indexing="ij"), self.axis_periods)

    def get_colours(self, elements: Array | None) -> Array:
        """Return the colours of some elements, by flat index; of all by default."""
        return np.arange(self.colour_count) if elements is None else np.unique(self.element_colours.ravel()[elements])

    def colour_directions(self, colours: Array) -> Array:
        """Return 1 at the elements of each colour, 0 elsewhere, (colours, ...)."""
        return (self.element_colours == colours.reshape(-1, *(1,) * len(self.shape))).astype(np.float64)

    def find_felt_elements(self, colours: Array) -> Array:
        """Return the flat index of the element of each colour that each term feels.

        The shape is (colours, terms), int64. The tensor's size stands for no element.
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
        flat_indices = np.zeros((len(colours), terms), np.int64)
        is_missing = np.zeros((len(colours), terms), np.bool_)
        for axis, remainder in enumerate(np.unravel_index(colours, self.axis_periods)):
            lowest, highest, period = self.lowest_felt[axis], self.highest_felt[axis], self.axis_periods[axis]
            coordinate = lowest + (remainder[:, None] - lowest) % period
            is_missing |= coordinate > highest
            flat_indices = flat_indices * self.shape[axis] + coordinate
        return np.where(is_missing, count_elements(self.shape), flat_indices)


def colour_elements(downstream: DownstreamGraph) -> Colouring:
    """Return a colouring of a moving name.

    The elements of one colour share no term of the loss.
    """
    shape = downstream.shape
    coordinates = _list_signed_coordinates(shape)
    node_labels, terms = downstream.propagate_dependencies(coordinates)
    lowest, highest = _find_bounding_boxes(np.concatenate(list(terms.values()), axis=1))
    # A sum of terms feels no more at once than each term does.
    labels = node_labels | {name: terms[name] for name in terms if downstream.point.nodes[name].op.ends_in_sum}
    reader_labels = [labels[name] for name in downstream.first_readers if name in labels]
    longest_boxes = [
        _find_longest_box(*_find_bounding_boxes(array.reshape(len(coordinates), -1))) for array in reader_labels
    ]
    return Colouring(
        shape or (1,),
        _find_longest_box(lowest, highest),
        lowest,
        highest,
        min(map(math.prod, longest_boxes), default=1),
    )


def colour_operand(point: BasePoint, node: Node, position: int) -> Colouring:
    """Return a colouring of an operand of a node.

    The elements of one colour share no element of the node's output.
    """
    inputs = point.get_operand_arrays(node)
    shape = point.graph.shapes[str(node.operands[position])]
    operand_labels = [make_unreached_labels(array) for array in inputs]
    operand_labels[position] = coordinates = _list_signed_coordinates(shape)
    output_labels = node.op.propagate_dependencies(operand_labels, *inputs)
    expanded_labels = np.broadcast_to(output_labels, (len(coordinates), *output_labels.shape[1:]))
    lowest, highest = _find_bounding_boxes(expanded_labels.reshape(len(expanded_labels), -1))
    return Colouring(shape or (1,), _find_longest_box(lowest, highest), lowest, highest, 1)


def _list_signed_coordinates(shape: Shape) -> Array:
    """Return the coordinates of each element and their negatives, (2 axes, ...).

    A number counts as one axis of one element.
    """
    coordinates = np.indices(shape or (1,), dtype=np.float64).reshape(len(shape) or 1, *shape)
    return np.concatenate([coordinates, -coordinates])


def _find_bounding_boxes(least_coordinates: Array) -> tuple[Array, Array]:
    """Return the lowest and highest coordinates, each (axes, n), int64.

    Parameters
    ----------
    least_coordinates
        Least coordinates, and least negatives of them, (2 axes, n).
    """
    lowest, least_negative = np.split(least_coordinates, 2)
    is_felt = np.isfinite(lowest)
    return np.where(is_felt, lowest, 0).astype(np.int64), np.where(is_felt, -least_negative, -1).astype(np.int64)


def _find_longest_box(lowest: Array, highest: Array) -> Shape:
    """Return the length of the longest box along each axis."""
    lengths = (highest - lowest).max(axis=1, initial=0) + 1
    return tuple(int(length) for length in lengths)
