"""Ops that join several tensors."""

from types import MappingProxyType
from typing import Any

import numpy as np

from service.numerics.core.batching import Array, Shape
from service.numerics.ops.axes import normalize_axis
from service.numerics.ops.op import Gradients, OpExample, ShapeError, register_op
from service.numerics.ops.shape import DataMovementOp


def _match_batch_sizes(arrays: tuple[Array, ...]) -> list[Array]:
    """Return the arrays broadcast to the same number of tiles."""
    tiles = max(array.shape[0] for array in arrays)
    return [np.broadcast_to(array, (tiles, *array.shape[1:])) for array in arrays]


@register_op("cat")
class Cat(DataMovementOp):
    """Concatenation of tensors along `dim`.

    Each tensor takes back its part: dL/dx_k = g[..., from a_k to b_k, ...].
    """

    dim: int = 0

    inputs = ("tensors*",)
    linear_in = MappingProxyType({"tensors": ("tensors",)})
    examples = (
        OpExample(((3, 4), (2, 4))),
        OpExample(((2, 3), (2, 1), (2, 2)), {"dim": -1}),
        OpExample(((3,),)),
    )

    def infer_output_shape(self, *tensors: Shape) -> Shape:
        first = tensors[0]
        if not first or any(len(shape) != len(first) for shape in tensors):
            raise ShapeError("tensors with equally many axes, at least one")
        axis = normalize_axis(self.dim, len(first))
        if any(shape[:axis] + shape[axis + 1 :] != first[:axis] + first[axis + 1 :] for shape in tensors):
            raise ShapeError(f"tensors that differ in length along axis {self.dim} only")
        return (*first[:axis], sum(shape[axis] for shape in tensors), *first[axis + 1 :])

    def _get_batched_axis(self, array: Array) -> int:
        return normalize_axis(self.dim, array.ndim - 1) + 1

    def forward(self, *tensors: Array) -> Array:
        return np.concatenate(_match_batch_sizes(tensors), axis=self._get_batched_axis(tensors[0]))

    def backward(self, gradient: Array, output: Array, *tensors: Array) -> Gradients:
        axis = self._get_batched_axis(gradient)
        ends = np.cumsum([tensor.shape[axis] for tensor in tensors])[:-1]
        return tuple(np.split(gradient, ends, axis=axis))

    def torch_forward(self, torch: Any, *tensors: Any) -> Any:
        return torch.cat(tensors, self.dim)


@register_op("stack")
class Stack(DataMovementOp):
    """Stack of tensors of one shape along a new axis `dim`.

    Each tensor takes back its part: dL/dx_k = g[..., k, ...].
    """

    dim: int = 0

    inputs = ("tensors*",)
    linear_in = MappingProxyType({"tensors": ("tensors",)})
    examples = (
        OpExample(((3, 4), (3, 4))),
        OpExample(((2,), (2,), (2,)), {"dim": -1}),
        OpExample(((), ())),
    )

    def infer_output_shape(self, *tensors: Shape) -> Shape:
        first = tensors[0]
        if any(shape != first for shape in tensors):
            raise ShapeError("tensors of one shape")
        axis = normalize_axis(self.dim, len(first) + 1)
        return (*first[:axis], len(tensors), *first[axis:])

    def forward(self, *tensors: Array) -> Array:
        return np.stack(_match_batch_sizes(tensors), axis=normalize_axis(self.dim, tensors[0].ndim) + 1)

    def backward(self, gradient: Array, output: Array, *tensors: Array) -> Gradients:
        return tuple(np.moveaxis(gradient, normalize_axis(self.dim, gradient.ndim - 1) + 1, 0))

    def torch_forward(self, torch: Any, *tensors: Any) -> Any:
        return torch.stack(tensors, self.dim)
