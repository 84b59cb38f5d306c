"""Slices of an axis, diagonals of new matrices, and the patches of an image as columns."""

from typing import Any

import numpy as np

from service.numerics.core.batching import Array, Shape
from service.numerics.ops.axes import normalize_axis
from service.numerics.ops.axis_numbers import Positive
from service.numerics.ops.element_moves import NO_ELEMENT, ElementMove
from service.numerics.ops.op import OpExample, ShapeError, register_op
from service.numerics.ops.pair_attributes import NotNegative, NotNegativePair, PositivePair, to_pair


@register_op("slice")
class Slice(ElementMove):
    """Every `step`-th position of an axis from `start` to before `end`, as Python counts them.

    y[..., k, ...] = x[..., start + k step, ...], so dL/dx is g at these positions, and 0 at the others.
    """

    dim: int = 0
    start: int | None = None
    end: int | None = None
    step: Positive = 1

    examples = (
        OpExample(((5, 2),), {"start": 1}),
        OpExample(((2, 7),), {"dim": -1, "start": -6, "end": 6, "step": 2}),
        OpExample(((3, 2),), {"end": -1}),
    )

    def infer_output_shape(self, input: Shape) -> Shape:
        if not input:
            raise ShapeError("an input of one axis or more")
        axis = normalize_axis(self.dim, len(input))
        count = len(range(*self._axis_slice.indices(input[axis])))
        if not count:
            raise ShapeError(f"a start and an end between which an axis of length {input[axis]} has a position")
        return (*input[:axis], count, *input[axis + 1 :])

    @property
    def _axis_slice(self) -> slice:
        return slice(self.start, self.end, self.step)

    def _make_index(self, rank: int) -> tuple[slice, ...]:
        return (*(slice(None),) * normalize_axis(self.dim, rank), self._axis_slice)

    def move(self, numbers: Array) -> Array:
        return numbers[self._make_index(numbers.ndim)]

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return input[self._make_index(input.ndim)]


@register_op("diag_embed")
class DiagEmbed(ElementMove):
    """Matrices with the last axis as a diagonal, and 0 beside it: y[..., i, i + offset] = x[..., i].

    The rows and the columns become the axes dim1 and dim2. dL/dx[..., i] = g[..., i, i + offset].
    """

    offset: int = 0
    dim1: int = -2
    dim2: int = -1

    examples = (
        OpExample(((3,),)),
        OpExample(((2, 3),), {"offset": 1}),
        OpExample(((2, 3),), {"offset": -2, "dim1": 0, "dim2": 2}),
        OpExample(((2, 2),), {"offset": 1, "dim1": 2, "dim2": 0}),
    )

    def _normalize_dims(self, rank: int) -> tuple[int, int]:
        first, second = (normalize_axis(dim, rank) for dim in (self.dim1, self.dim2))
        if first == second:
            raise ShapeError("two different axes dim1 and dim2")
        return first, second

    def infer_output_shape(self, input: Shape) -> Shape:
        if not input:
            raise ShapeError("an input of one axis or more")
        shape = list(input[:-1])
        for axis in sorted(self._normalize_dims(len(input) + 1)):
            shape.insert(axis, input[-1] + abs(self.offset))
        return tuple(shape)

    def move(self, numbers: Array) -> Array:
        length = numbers.shape[-1]
        side = length + abs(self.offset)
        matrices = np.full((*numbers.shape[:-1], side, side), NO_ELEMENT)
        positions = np.arange(length, dtype=np.int64)
        matrices[..., positions + max(0, -self.offset), positions + max(0, self.offset)] = numbers
        return np.moveaxis(matrices, (-2, -1), self._normalize_dims(numbers.ndim + 1))

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.diag_embed(input, self.offset, self.dim1, self.dim2)


@register_op("unfold")
class Unfold(ElementMove):
    """Patches of an image as columns: (B, C, H, W) or (C, H, W) becomes (B, C kh kw, L) or (C kh kw, L).

    L goes through the places of the kernel, row by row, on the image padded with zeros:
        y[(c kh + i) kw + j, p ow + q] = x[c, p sh + i dh - ph, q sw + j dw - pw]
    dL/dx is the sum of g over the patches that hold an element.
    """

    kernel_size: Positive | PositivePair
    dilation: Positive | PositivePair = 1
    padding: NotNegative | NotNegativePair = 0
    stride: Positive | PositivePair = 1

    examples = (
        OpExample(((2, 2, 3, 4),), {"kernel_size": 2}),
        OpExample(((2, 4, 3),), {"kernel_size": [3, 2], "padding": 1, "stride": [2, 1]}),
        OpExample(((1, 1, 3, 5),), {"kernel_size": [1, 2], "dilation": [1, 2], "padding": [0, 1]}),
    )

    def count_places(self, image: Shape) -> tuple[int, int]:
        """Return the number of places of the kernel along the height and the width of an image."""
        kernel, dilation, padding, stride = map(to_pair, (self.kernel_size, self.dilation, self.padding, self.stride))
        rows, columns = (
            (image[axis] + 2 * padding[axis] - dilation[axis] * (kernel[axis] - 1) - 1) // stride[axis] + 1
            for axis in range(2)
        )
        if min(rows, columns) < 1:
            raise ShapeError("a kernel no larger than the padded image")
        return rows, columns

    def infer_output_shape(self, input: Shape) -> Shape:
        if len(input) not in (3, 4):
            raise ShapeError("an input (B, C, H, W) or (C, H, W)")
        rows, columns = self.count_places(input[-2:])
        height, width = to_pair(self.kernel_size)
        return (*input[:-3], input[-3] * height * width, rows * columns)

    def move(self, numbers: Array) -> Array:
        image = numbers.shape[-2:]
        kernel, dilation, padding, stride = map(to_pair, (self.kernel_size, self.dilation, self.padding, self.stride))
        # Positions along each axis, (kernel, place). No padded image is made, since it may be larger than all patches.
        rows, columns = (
            np.arange(kernel[axis])[:, None] * dilation[axis] + np.arange(count) * stride[axis] - padding[axis]
            for axis, count in enumerate(self.count_places(image))
        )
        rows, columns = rows[:, None, :, None], columns[None, :, None, :]
        is_inside = (rows >= 0) & (rows < image[0]) & (columns >= 0) & (columns < image[1])
        patches = numbers[..., np.clip(rows, 0, image[0] - 1), np.clip(columns, 0, image[1] - 1)]
        return np.where(is_inside, patches, NO_ELEMENT).reshape(self.infer_output_shape(numbers.shape))

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.nn.functional.unfold(input, self.kernel_size, self.dilation, self.padding, self.stride)
