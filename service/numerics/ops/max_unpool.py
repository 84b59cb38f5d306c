"""Undone maximum pooling: elements at the places from which a pool took them."""

from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

from service.numerics.core.batching import Array, Shape, count_elements
from service.numerics.core.sparsity import drop_missing
from service.numerics.ops.axis_numbers import (
    NotNegative,
    NotNegativeSingle,
    NotNegativeTriple,
    Positive,
    PositiveSingle,
    PositiveTriple,
    spread_over_axes,
)
from service.numerics.ops.op import DependencyLabels, Gradients, Op, OpExample, ShapeError, declare_bug, register_op
from service.numerics.ops.pair_attributes import NotNegativePair, PositivePair
from service.numerics.ops.placement import refuse_indices_out_of_range
from service.numerics.ops.separable import check_image_rank


class MaxUnpool(Op):
    """Elements of (B, C, ...) or (C, ...) at the places of a larger image that the indices name, 0 elsewhere.

    The default of `stride` is kernel_size, and the axes of the result have (n - 1) stride - 2 padding + kernel_size
    elements, or those of `output_size`.
    """

    kernel_size: Any
    stride: Any
    padding: Any
    output_size: Any

    axis_count: ClassVar[int]
    inputs = ("input", "indices:index")
    positional = ("input", "indices", "kernel_size", "stride", "padding", "output_size")
    linear_in = MappingProxyType({"input": ()})
    supports_complex_step = True

    def infer_output_shape(self, input: Shape, indices: Shape) -> Shape:
        check_image_rank(input, self.axis_count)
        if input != indices:
            raise ShapeError("an input and indices of one shape")
        front, lengths = input[: -self.axis_count], input[-self.axis_count :]
        kernel, stride, padding = (
            spread_over_axes(number, self.axis_count)
            for number in (self.kernel_size, self.kernel_size if self.stride is None else self.stride, self.padding)
        )
        result = tuple((n - 1) * s - 2 * p + k for n, s, p, k in zip(lengths, stride, padding, kernel, strict=True))
        if self.output_size is None:
            if min(result) < 1:
                raise ShapeError("a padding that leaves an element of each axis")
            return (*front, *result)
        wanted = tuple(self.output_size)[-self.axis_count :]
        if len(self.output_size) not in (self.axis_count, len(input)):
            raise ShapeError(f"an output_size of {self.axis_count} numbers")
        if any(abs(n - m) >= s for n, m, s in zip(wanted, result, stride, strict=True)):
            raise ShapeError(f"an output_size less than a stride from {list(result)}")
        return (*front, *wanted)

    def check_values(self, shapes: tuple[Shape, ...], *values: Array | None) -> None:
        indices = values[1]
        if indices is None:
            return
        size = count_elements(self.infer_output_shape(*shapes)[-self.axis_count :])
        refuse_indices_out_of_range(indices, size)
        planes = np.sort(indices.reshape(-1, count_elements(shapes[0][-self.axis_count :])), axis=1)
        if (np.diff(planes, axis=1) == 0).any():
            raise ShapeError(
                "indices without repeats in a plane, since PyTorch leaves open which of several elements stays; pool "
                "windows that do not overlap"
            )

    def _list_targets(self, indices: Array, shape: Shape) -> Array:
        """Return the flat place of each element in the output, of the shape of the indices."""
        plane = count_elements(shape[-self.axis_count :])
        of_plane = indices[0].reshape(-1, count_elements(indices.shape[1 + len(shape) - self.axis_count :]))
        return of_plane + plane * np.arange(len(of_plane))[:, None]

    def _place(self, values: Array, indices: Array, missing: float) -> Array:
        shape = self.infer_output_shape(values.shape[1:], indices.shape[1:])
        result = np.full((len(values), count_elements(shape)), missing, values.dtype)
        result[:, self._list_targets(indices, shape).ravel()] = values.reshape(len(values), -1)
        return result.reshape(len(values), *shape)

    def forward(self, input: Array, indices: Array) -> Array:
        return self._place(input, indices, 0)

    def propagate_dependencies(self, values: DependencyLabels, *inputs: Any) -> Array:
        (labels,) = drop_missing(values)
        return self._place(labels, inputs[1], np.inf)

    def backward(self, gradient: Array, output: Array, input: Array, indices: Array) -> Gradients:
        targets = self._list_targets(indices, gradient.shape[1:]).ravel()
        return gradient.reshape(len(gradient), -1)[:, targets].reshape(len(gradient), *input.shape[1:]), None

    def estimate_forward_rounding(self, output: Array, *inputs: Any) -> None:
        return None

    def estimate_backward_rounding(self, gradient: Array, output: Array, *inputs: Any) -> tuple[None, None]:
        return None, None

    @declare_bug("each element got the gradients of all places of its plane, and not that of its own")
    def to_every_element(self, gradient: Array, output: Array, input: Array, indices: Array) -> Gradients:
        axes = tuple(range(gradient.ndim - self.axis_count, gradient.ndim))
        return gradient.sum(axis=axes, keepdims=True) + 0 * input, None

    def torch_forward(self, torch: Any, input: Any, indices: Any) -> Any:
        function = getattr(torch.nn.functional, self.name)
        return function(input, indices, self.kernel_size, self.stride, self.padding, self.output_size)


@register_op("max_unpool1d")
class MaxUnpool1d(MaxUnpool):
    """Undone max_pool1d: y[..., i[p]] = x[p] with the indices i in each channel, y = 0 elsewhere.

    dL/dx[p] = g[..., i[p]].
    """

    kernel_size: Positive | PositiveSingle
    stride: Positive | PositiveSingle | None = None
    padding: NotNegative | NotNegativeSingle = 0
    output_size: list[Positive] | None = None

    axis_count = 1
    examples = (
        OpExample(((2, 3, 1), (2, 3, 1)), {"kernel_size": 3}, index_limits={"indices": 3}),
        OpExample(((2, 1), (2, 1)), {"kernel_size": [4], "stride": 2, "padding": 1}, index_limits={"indices": 2}),
    )


@register_op("max_unpool2d")
class MaxUnpool2d(MaxUnpool):
    """Undone max_pool2d: y[..., i[p]] = x[p] with flat indices i in each plane, y = 0 elsewhere.

    dL/dx[p] = g[..., i[p]].
    """

    kernel_size: Positive | PositivePair
    stride: Positive | PositivePair | None = None
    padding: NotNegative | NotNegativePair = 0
    output_size: list[Positive] | None = None

    axis_count = 2
    examples = (
        OpExample(((2, 2, 1, 1), (2, 2, 1, 1)), {"kernel_size": 2}, index_limits={"indices": 4}),
        OpExample(((3, 1, 1), (3, 1, 1)), {"kernel_size": [2, 3], "output_size": [3, 4]}, index_limits={"indices": 12}),
    )


@register_op("max_unpool3d")
class MaxUnpool3d(MaxUnpool):
    """Undone max_pool3d: y[..., i[p]] = x[p] with flat indices i in each volume, y = 0 elsewhere.

    dL/dx[p] = g[..., i[p]].
    """

    kernel_size: Positive | PositiveTriple
    stride: Positive | PositiveTriple | None = None
    padding: NotNegative | NotNegativeTriple = 0
    output_size: list[Positive] | None = None

    axis_count = 3
    examples = (OpExample(((2, 2, 1, 1, 1), (2, 2, 1, 1, 1)), {"kernel_size": [2, 1, 2]}, index_limits={"indices": 4}),)
