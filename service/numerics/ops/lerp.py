"""Linear interpolation between two tensors, element by element."""

from types import MappingProxyType
from typing import Any

import numpy as np

from service.numerics.core.batching import Array, Shape, align_rank, count_repeats
from service.numerics.core.sparsity import drop_missing, take_elementwise_min
from service.numerics.ops.binary import align_ranks, broadcast_shapes
from service.numerics.ops.op import DependencyLabels, Gradients, Op, OpExample, declare_bug, register_op
from service.numerics.ops.pointwise import sum_to_operands
from service.numerics.ops.rounding_errors import Rounding


@register_op("lerp")
class Lerp(Op):
    """Linear interpolation: y = a + w (b - a), with broadcasting; w = weight, a tensor or a number.

    dL/da = sum g (1 - w), dL/db = sum g w, dL/dw = sum g (b - a), over the axes along which each was broadcast.
    """

    inputs = ("input", "end", "weight")
    numpy_calls = 5
    supports_complex_step = True
    linear_in = MappingProxyType({"input": ("end",), "end": ("input",)})
    examples = (
        OpExample(((3, 4), (3, 4), (3, 4))),
        OpExample(((2, 3, 4), (4,), ())),
        OpExample(((3, 1), (1, 4), (4,))),
        OpExample(((), (), ())),
    )

    def infer_output_shape(self, input: Shape, end: Shape, weight: Shape) -> Shape:
        return broadcast_shapes(input, end, weight)

    def forward(self, input: Array, end: Array, weight: Array) -> Array:
        a, b, w = align_ranks(input, end, weight)
        return a * (1 - w) + b * w

    def propagate_dependencies(self, values: DependencyLabels, *inputs: Any) -> Array:
        # A node's labels are those of the operands that have some; the others broadcast too.
        rank = max(array.ndim for array in inputs) - 1
        labels = [align_rank(label, rank) for label in drop_missing(values)]
        least = take_elementwise_min(*labels)
        return np.broadcast_to(least, (len(least), *self.infer_output_shape(*(array.shape[1:] for array in inputs))))

    def backward(self, gradient: Array, output: Array, input: Array, end: Array, weight: Array) -> Gradients:
        a, b, w = align_ranks(input, end, weight)
        return self._sum_shares((gradient * (1 - w), gradient * w, gradient * (b - a)), (input, end, weight))

    @staticmethod
    def _sum_shares(shares: tuple[Array, ...], operands: tuple[Array, ...]) -> Gradients:
        return sum_to_operands(shares, operands)

    def estimate_forward_rounding(self, output: Array, input: Array, end: Array, weight: Array) -> Rounding:
        # The difference b - a, or 1 - w, is rounded before the product.
        a, b, w = align_ranks(input, end, weight)
        size = np.abs(w) + 1
        return Rounding((np.abs(a) + np.abs(b)) * size, 2)

    def estimate_backward_rounding(
        self, gradient: Array, output: Array, input: Array, end: Array, weight: Array
    ) -> tuple[Rounding | None, ...]:
        a, b, w = align_ranks(input, end, weight)
        g, operands = np.abs(gradient), (input, end, weight)
        sizes = self._sum_shares((g * (1 + np.abs(w)), g * np.abs(w), g * (np.abs(a) + np.abs(b))), operands)
        return tuple(
            None if size is None else Rounding(size, 1 + count_repeats(output.shape[1:], operand.shape[1:]))
            for size, operand in zip(sizes, operands, strict=True)
        )

    @declare_bug("the weights of the two ends were exchanged")
    def ends_exchanged(self, gradient: Array, output: Array, input: Array, end: Array, weight: Array) -> Gradients:
        a, b, w = align_ranks(input, end, weight)
        return self._sum_shares((gradient * w, gradient * (1 - w), gradient * (b - a)), (input, end, weight))

    @declare_bug("the sign of the weight's gradient was wrong")
    def sign_of_the_weight(self, gradient: Array, output: Array, input: Array, end: Array, weight: Array) -> Gradients:
        by_input, by_end, by_weight = self.backward(gradient, output, input, end, weight)
        assert by_weight is not None
        return by_input, by_end, -by_weight

    def torch_forward(self, torch: Any, input: Any, end: Any, weight: Any) -> Any:
        return torch.lerp(input, end, weight)
