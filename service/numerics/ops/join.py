"""Ops that put several tensors together."""

from types import MappingProxyType
from typing import Any

import numpy as np

from service.numerics.ops.axes import axis
from service.numerics.ops.op import Case, Gradients, ShapeError, op
from service.numerics.ops.shape import Moving
from service.numerics.tiles import Array, Shape


def _in_step(arrays: tuple[Array, ...]) -> list[Array]:
    """All with as many tiles."""
    tiles = max(array.shape[0] for array in arrays)
    return [np.broadcast_to(array, (tiles, *array.shape[1:])) for array in arrays]


@op("cat")
class Cat(Moving):
    """Tensors one behind the other along `dim`: each takes back its part, dL/dx_k = g[..., from a_k to b_k, ...]."""

    dim: int = 0

    inputs = ("tensors*",)
    linear_in = MappingProxyType({"tensors": ("tensors",)})
    cases = (
        Case(((3, 4), (2, 4))),
        Case(((2, 3), (2, 1), (2, 2)), {"dim": -1}),
        Case(((3,),)),
    )

    def output_shape(self, *tensors: Shape) -> Shape:
        first = tensors[0]
        if not first or any(len(each) != len(first) for each in tensors):
            raise ShapeError("tensors of as many axes, at least one")
        along = axis(self.dim, len(first))
        if any(each[:along] + each[along + 1 :] != first[:along] + first[along + 1 :] for each in tensors):
            raise ShapeError(f"tensors that differ in length along axis {self.dim} only")
        return (*first[:along], sum(each[along] for each in tensors), *first[along + 1 :])

    def _along(self, array: Array) -> int:
        return axis(self.dim, array.ndim - 1) + 1

    def forward(self, *tensors: Array) -> Array:
        return np.concatenate(_in_step(tensors), axis=self._along(tensors[0]))

    def backward(self, gradient: Array, output: Array, *tensors: Array) -> Gradients:
        along = self._along(gradient)
        ends = np.cumsum([each.shape[along] for each in tensors])[:-1]
        return tuple(np.split(gradient, ends, axis=along))

    def twin(self, torch: Any, *tensors: Any) -> Any:
        return torch.cat(tensors, self.dim)


@op("stack")
class Stack(Moving):
    """Tensors of one shape side by side along a new axis `dim`: each takes back its part, dL/dx_k = g[..., k, ...]."""

    dim: int = 0

    inputs = ("tensors*",)
    linear_in = MappingProxyType({"tensors": ("tensors",)})
    cases = (
        Case(((3, 4), (3, 4))),
        Case(((2,), (2,), (2,)), {"dim": -1}),
        Case(((), ())),
    )

    def output_shape(self, *tensors: Shape) -> Shape:
        first = tensors[0]
        if any(each != first for each in tensors):
            raise ShapeError("tensors of one shape")
        at = axis(self.dim, len(first) + 1)
        return (*first[:at], len(tensors), *first[at:])

    def forward(self, *tensors: Array) -> Array:
        return np.stack(_in_step(tensors), axis=axis(self.dim, tensors[0].ndim) + 1)

    def backward(self, gradient: Array, output: Array, *tensors: Array) -> Gradients:
        return tuple(np.moveaxis(gradient, axis(self.dim, gradient.ndim - 1) + 1, 0))

    def twin(self, torch: Any, *tensors: Any) -> Any:
        return torch.stack(tensors, self.dim)
