"""Linear maps of the last axes that are products of maps along each of them: average pools and interpolation."""

from abc import abstractmethod
from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from service.numerics.core.batching import Array, Shape, count_elements
from service.numerics.ops.axis_tables import AxisTable
from service.numerics.ops.op import ComputeCost, DependencyLabels, Gradients, Op, ShapeError, declare_bug
from service.numerics.ops.rounding_errors import Rounding

_CALLS_PER_AXIS = 3
"""Calls of NumPy along one axis: elements are picked, multiplied and added."""


class SeparableMap(Op):
    """A linear map along the last axes of (B, C, ...) or (C, ...), one axis after the other.

    y = M_1 M_2 ... x with a matrix M_i along axis i, so dL/dx = M_1^T M_2^T ... g.
    """

    inputs = ("input",)
    supports_complex_step = True
    linear_in = MappingProxyType({"input": ()})

    @abstractmethod
    def list_axis_tables(self, lengths: Shape) -> list[AxisTable]:
        """Return the matrix of each axis, given the lengths of the axes."""

    @abstractmethod
    def get_axis_count(self, input: Shape) -> int:
        """Return the number of axes that change."""

    def _list_tables(self, shape: Shape) -> list[AxisTable]:
        """Return the matrices for an input of a shape with a tile axis."""
        return self.list_axis_tables(shape[len(shape) - self.get_axis_count(shape[1:]) :])

    def forward(self, input: Array) -> Array:
        return _apply_tables(self._list_tables(input.shape), input)

    def backward(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (self._apply_transposed(self._list_tables(input.shape), gradient, input),)

    @staticmethod
    def _apply_transposed(tables: Sequence[AxisTable], gradient: Array, input: Array) -> Array:
        lengths = input.shape[input.ndim - len(tables) :]
        return _apply_tables([table.transpose(length) for table, length in zip(tables, lengths, strict=True)], gradient)

    def propagate_dependencies(self, values: DependencyLabels, *inputs: Any) -> Array:
        (labels,) = values
        assert labels is not None
        tables = self._list_tables(labels.shape)
        for axis, table in enumerate(reversed(tables), start=1):
            labels = table.take_least(labels, -axis)
        return labels

    def estimate_forward_rounding(self, output: Array, input: Array) -> Rounding:
        tables = self.list_magnitude_tables(input.shape)
        return Rounding(_apply_tables(tables, np.abs(input)), _count_terms(tables))

    def estimate_backward_rounding(self, gradient: Array, output: Array, input: Array) -> tuple[Rounding]:
        tables = self.list_magnitude_tables(input.shape)
        terms = _count_terms(
            [table.transpose(n) for table, n in zip(tables, input.shape[input.ndim - len(tables) :], strict=True)]
        )
        return (Rounding(self._apply_transposed(tables, np.abs(gradient), input), terms),)

    def list_magnitude_tables(self, shape: Shape) -> list[AxisTable]:
        """Return the matrices whose products with absolute values are the magnitude of the rounding.

        The default is that of weights that are exact, or rounded once.
        """
        return [table.take_absolute_weights() for table in self._list_tables(shape)]

    def estimate_cost(self, output: Shape, *shapes: Shape | None) -> ComputeCost:
        (shape,) = shapes
        assert shape is not None
        tables = self._list_tables((1, *shape))
        lengths, work, largest = list(shape), 0, max(count_elements(output), count_elements(shape))
        for axis, table in enumerate(reversed(tables), start=1):
            lengths[-axis] = len(table.indices)
            products = count_elements(tuple(lengths)) * table.row_length
            work, largest = work + _CALLS_PER_AXIS * products, max(largest, products)
        return ComputeCost(work, largest, _CALLS_PER_AXIS * len(tables))

    @declare_bug("the gradients of several results overwrote each other instead of adding up: the last one is left")
    def scatter_without_accumulate(self, gradient: Array, output: Array, input: Array) -> Gradients:
        tables, lengths = self._list_tables(input.shape), input.shape[-self.get_axis_count(input.shape[1:]) :]
        transposed = [table.transpose(n).keep_last_entries() for table, n in zip(tables, lengths, strict=True)]
        return (_apply_tables(transposed, gradient),)


def _apply_tables(tables: Sequence[AxisTable], x: Array) -> Array:
    for axis, table in enumerate(reversed(tables), start=1):
        x = table.apply(x, -axis)
    return x


def _count_terms(tables: Sequence[AxisTable]) -> int:
    return sum(table.row_length for table in tables)


def check_image_rank(shape: Shape, axis_count: int) -> None:
    """Refuse a shape that is neither (B, C, ...) nor (C, ...) with a number of further axes."""
    names = ", ".join(("D", "H", "W")[3 - axis_count :]) if axis_count > 1 else "L"
    if len(shape) not in (axis_count + 1, axis_count + 2):
        raise ShapeError(f"an input (B, C, {names}) or (C, {names})")
