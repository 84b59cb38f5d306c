"""Placements of elements where a mask is true."""

from typing import Any

import numpy as np

from service.numerics.core.batching import Array, Shape, count_elements
from service.numerics.ops.binary import is_broadcastable
from service.numerics.ops.element_moves import NO_ELEMENT
from service.numerics.ops.op import OpExample, ShapeError, register_op
from service.numerics.ops.placement import ReplacingPlacement, declare_joint_linearity


@register_op("masked_scatter")
class MaskedScatter(ReplacingPlacement):
    """Replacement where a mask is true, by the elements of a source one after the other, row by row.

    y[t_k] = s[k] with t_k the k-th position at which the mask is true, y = x elsewhere. The mask may broadcast to x.
    dL/dx = g, 0 where x was replaced. dL/ds[k] = g[t_k], 0 for elements of the source that are left over.
    """

    inputs = ("input", "mask:bool", "source")
    linear_in = declare_joint_linearity("source")
    examples = (
        OpExample(((3, 4), (3, 4), (3, 4))),
        OpExample(((2, 3, 2), (3, 1), (15,))),
        OpExample(((4,), (), (2, 3))),
    )

    def infer_output_shape(self, input: Shape, mask: Shape, source: Shape) -> Shape:
        if not is_broadcastable(mask, input):
            raise ShapeError("a mask that broadcasts to the shape of the input")
        return input

    def check_values(self, shapes: tuple[Shape, ...], *values: Array | None) -> None:
        if values[1] is not None:
            count, available = np.count_nonzero(np.broadcast_to(values[1], shapes[0])), count_elements(shapes[2])
            if count > available:
                raise ShapeError(f"a source of at least {count} elements, since so many positions of the mask are true")

    def pick(self, numbers: Array, *indices: Array) -> Array:
        (mask,) = indices
        return numbers[np.broadcast_to(mask, numbers.shape)]

    def _list_targets(self, shape: Shape, inputs: tuple[Any, ...]) -> Array:
        picked = self.pick(np.arange(count_elements(shape)).reshape(shape), inputs[1][0])
        source_shape: Shape = inputs[self.source_position].shape[1:]
        targets: Array = np.full(count_elements(source_shape), NO_ELEMENT)
        targets[: picked.size] = picked
        return np.reshape(targets, source_shape)

    def torch_forward(self, torch: Any, input: Any, mask: Any, source: Any) -> Any:
        return torch.masked_scatter(input, mask, source)
