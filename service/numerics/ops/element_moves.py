"""Ops that place the elements of one tensor anew, some of them several times or not at all."""

from abc import abstractmethod
from typing import Annotated, Any

import numpy as np
from annotated_types import Len

from service.numerics.core.batching import Array, Shape, count_elements
from service.numerics.core.sparsity import drop_missing
from service.numerics.ops.axes import normalize_axis
from service.numerics.ops.op import (
    DependencyLabels,
    Gradients,
    OpExample,
    Rounding,
    ShapeError,
    declare_bug,
    register_op,
)
from service.numerics.ops.shape import DataMovementOp

IntegerList = Annotated[list[int], Len(1, 32)]
NO_ELEMENT = -1
"""Number that stands for 0 in place of an element."""


class ElementMove(DataMovementOp):
    """An op that `move` defines by what it does with the numbers of the elements.

    dL/dx is the sum of g over the places at which an element stands.
    """

    numpy_calls = 2

    @abstractmethod
    def move(self, numbers: Array) -> Array:
        """Return the numbers of the elements at their places, given those of the input, in its declared shape."""

    def _list_sources(self, input: Array) -> Array:
        shape = input.shape[1:]
        return self.move(np.arange(count_elements(shape)).reshape(shape))

    def _place(self, input: Array, missing: float) -> Array:
        sources = self._list_sources(input)
        placed = np.take(input.reshape(len(input), -1), np.maximum(sources, 0), axis=1)
        return np.where(sources == NO_ELEMENT, placed.dtype.type(missing), placed)

    def forward(self, input: Array) -> Array:
        return self._place(input, 0)

    def propagate_dependencies(self, values: DependencyLabels, *inputs: Any) -> Array:
        (labels,) = drop_missing(values)
        return self._place(labels, np.inf)

    def backward(self, gradient: Array, output: Array, input: Array) -> Gradients:
        sources = self._list_sources(input)
        result = np.zeros((len(gradient), count_elements(input.shape[1:])), gradient.dtype)
        is_there = sources != NO_ELEMENT
        rows = np.arange(len(gradient))[:, None]
        np.add.at(result, (rows, sources[is_there][None]), gradient[:, is_there])
        return (result.reshape(len(gradient), *input.shape[1:]),)

    def estimate_backward_rounding(self, gradient: Array, output: Array, *inputs: Any) -> tuple[Rounding | None, ...]:
        (input,) = inputs
        sources = self._list_sources(input)
        repeats = int(np.bincount(sources[sources != NO_ELEMENT].ravel(), minlength=1).max())
        if repeats < 2:
            return (None,)
        (magnitude,) = self.backward(np.abs(gradient), output, input)
        assert magnitude is not None
        return (Rounding(magnitude, repeats),)

    @declare_bug("the gradient was handed back in the order of the output")
    def not_moved_back(self, gradient: Array, output: Array, input: Array) -> Gradients:
        size = count_elements(input.shape[1:])
        flat = gradient.reshape(len(gradient), -1)
        return (np.stack([np.resize(row, size) for row in flat]).reshape(len(gradient), *input.shape[1:]),)


@register_op("roll")
class Roll(ElementMove):
    """Cyclic shift along axes, or of all elements row by row if `dims` is left out.

    y[i] = x[(i - s) mod n], so dL/dx[i] = g[(i + s) mod n].
    """

    shifts: int | IntegerList
    dims: int | IntegerList | None = None

    examples = (
        OpExample(((3, 4),), {"shifts": 1, "dims": 0}),
        OpExample(((3, 4),), {"shifts": [1, -2], "dims": [0, 1]}),
        OpExample(((2, 3),), {"shifts": 2}),
    )

    def infer_output_shape(self, input: Shape) -> Shape:
        shifts = [self.shifts] if isinstance(self.shifts, int) else self.shifts
        dims = [self.dims] if isinstance(self.dims, int) else self.dims
        if len(shifts) != len(dims or [0]):
            raise ShapeError("as many shifts as dims")
        for dim in dims or ():
            normalize_axis(dim, len(input))
        return input

    def move(self, numbers: Array) -> Array:
        axes = self.dims if numbers.ndim else None
        return np.roll(numbers, self.shifts, tuple(axes) if isinstance(axes, list) else axes)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.roll(input, self.shifts, () if self.dims is None else self.dims)


class Triangle(ElementMove):
    """One triangle of the last two axes, and 0 beside it."""

    diagonal: int = 0
    examples = (
        OpExample(((3, 4),)),
        OpExample(((2, 4, 3),), {"diagonal": -1}),
        OpExample(((3, 3),), {"diagonal": 1}),
    )

    def infer_output_shape(self, input: Shape) -> Shape:
        if len(input) < 2:
            raise ShapeError("an input of two axes or more")
        return input


@register_op("tril")
class Tril(Triangle):
    """Lower triangle of the last two axes: y_ij = x_ij where j - i <= diagonal, else 0.

    dL/dx_ij = g_ij there, else 0.
    """

    diagonal: int = 0

    def move(self, numbers: Array) -> Array:
        return np.tril(numbers + 1, self.diagonal) - 1

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.tril(input, self.diagonal)


@register_op("triu")
class Triu(Triangle):
    """Upper triangle of the last two axes: y_ij = x_ij where j - i >= diagonal, else 0.

    dL/dx_ij = g_ij there, else 0.
    """

    diagonal: int = 0

    def move(self, numbers: Array) -> Array:
        return np.triu(numbers + 1, self.diagonal) - 1

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.triu(input, self.diagonal)


@register_op("diagonal")
class Diagonal(ElementMove):
    """Diagonal of two axes, as the last axis: y[..., i] = x[..., i, ..., i + offset].

    dL/dx is g on the diagonal, and 0 beside it.
    """

    offset: int = 0
    dim1: int = 0
    dim2: int = 1

    examples = (OpExample(((3, 4),)), OpExample(((2, 3, 4),), {"offset": 1, "dim1": -2, "dim2": -1}))

    def infer_output_shape(self, input: Shape) -> Shape:
        first, second = (normalize_axis(dim, len(input)) for dim in (self.dim1, self.dim2))
        if first == second:
            raise ShapeError("two different axes dim1 and dim2")
        rows, columns = input[first], input[second]
        length = min(rows, columns - self.offset) if self.offset >= 0 else min(rows + self.offset, columns)
        if length < 1:
            raise ShapeError("an offset that leaves an element of the diagonal")
        return (*(n for axis, n in enumerate(input) if axis not in (first, second)), length)

    def move(self, numbers: Array) -> Array:
        return np.diagonal(numbers, self.offset, self.dim1, self.dim2)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.diagonal(input, self.offset, self.dim1, self.dim2)


@register_op("select")
class Select(ElementMove):
    """One position of an axis, without the axis: y = x[..., index, ...].

    dL/dx is g at that position, and 0 at the others.
    """

    dim: int
    index: int

    examples = (OpExample(((3, 4),), {"dim": 0, "index": 1}), OpExample(((2, 3, 4),), {"dim": -1, "index": -1}))

    def infer_output_shape(self, input: Shape) -> Shape:
        if not input:
            raise ShapeError("an input of one axis or more")
        axis = normalize_axis(self.dim, len(input))
        if not -input[axis] <= self.index < input[axis]:
            raise ShapeError(f"an index of the axis, not {self.index}")
        return (*input[:axis], *input[axis + 1 :])

    def move(self, numbers: Array) -> Array:
        return np.take(numbers, self.index, axis=self.dim)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.select(input, self.dim, self.index)


@register_op("movedim")
class Movedim(ElementMove):
    """Axes at other positions, the others in their order: axis source[k] becomes axis destination[k].

    dL/dx is g with the axes moved back.
    """

    source: int | IntegerList
    destination: int | IntegerList

    examples = (
        OpExample(((2, 3, 4),), {"source": 0, "destination": -1}),
        OpExample(((2, 3, 4),), {"source": [2, 0], "destination": [0, 1]}),
    )

    def infer_output_shape(self, input: Shape) -> Shape:
        if not input:
            raise ShapeError("an input of one axis or more")
        source, destination = (
            [normalize_axis(dim, len(input)) for dim in ([dims] if isinstance(dims, int) else dims)]
            for dims in (self.source, self.destination)
        )
        if len(source) != len(destination) or any(len(set(axes)) < len(axes) for axes in (source, destination)):
            raise ShapeError("as many different axes in source as in destination")
        order = [axis for axis in range(len(input)) if axis not in source]
        for target, axis in sorted(zip(destination, source, strict=True)):
            order.insert(target, axis)
        return tuple(input[axis] for axis in order)

    def move(self, numbers: Array) -> Array:
        return np.moveaxis(numbers, self.source, self.destination)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        positions = (self.source, self.destination)
        return torch.movedim(input, *(tuple(dims) if isinstance(dims, list) else dims for dims in positions))
