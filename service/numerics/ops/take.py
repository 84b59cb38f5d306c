"""Selection by the position in the whole tensor."""

from typing import Any

import numpy as np

from service.numerics.core.batching import Array, Shape, count_elements
from service.numerics.ops.index import SelectionOp
from service.numerics.ops.op import Gradients, OpExample, declare_bug, register_op
from service.numerics.ops.placement import refuse_indices_out_of_range


@register_op("take")
class Take(SelectionOp):
    """Selection by position, counted row by row: y[p] = x_i[p] of the elements x_0, x_1, ...

    dL/dx_k = sum of g[p] over the p with i[p] = k.
    """

    inputs = ("input", "index:index")
    examples = (
        OpExample(((3, 4), (2, 5)), index_limits={"index": 12}),
        OpExample(((5,), (7,)), index_limits={"index": 5}),
        OpExample(((2, 2), ()), index_limits={"index": 4}),
    )

    def infer_output_shape(self, input: Shape, index: Shape) -> Shape:
        return index

    def check_values(self, shapes: tuple[Shape, ...], *values: Array | None) -> None:
        if values[1] is not None:
            refuse_indices_out_of_range(values[1], count_elements(shapes[0]))

    def forward(self, input: Array, index: Array) -> Array:
        return np.take(input.reshape(len(input), -1), index[0], axis=1)

    def backward(self, gradient: Array, output: Array, input: Array, index: Array) -> Gradients:
        by_input = np.zeros((len(gradient), count_elements(input.shape[1:])), gradient.dtype)
        positions: Any = (slice(None), index[0])
        np.add.at(by_input, positions, gradient)
        return by_input.reshape(len(gradient), *input.shape[1:]), None

    @declare_bug("the gradients of a repeated index overwrote each other instead of adding up: the last one is left")
    def scatter_without_accumulate(self, gradient: Array, output: Array, input: Array, index: Array) -> Gradients:
        by_input = np.zeros((len(gradient), count_elements(input.shape[1:])), gradient.dtype)
        by_input[:, index[0]] = gradient
        return by_input.reshape(len(gradient), *input.shape[1:]), None

    @declare_bug("the gradient was handed back in the order of the output")
    def not_scattered(self, gradient: Array, output: Array, input: Array, index: Array) -> Gradients:
        size = count_elements(input.shape[1:])
        rows = [np.resize(row, size) for row in gradient.reshape(len(gradient), -1)]
        return np.stack(rows).reshape(len(gradient), *input.shape[1:]), None

    def torch_forward(self, torch: Any, input: Any, index: Any) -> Any:
        return torch.take(input, index)
