"""Rectifier with a slope that is a tensor."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from service.numerics.core.batching import Array, Shape, count_elements, count_repeats
from service.numerics.core.sparsity import drop_missing, take_elementwise_min
from service.numerics.ops.op import (
    DependencyLabels,
    Gradients,
    Op,
    OpExample,
    ShapeError,
    declare_bug,
    register_op,
)
from service.numerics.ops.pointwise import sum_to_operands
from service.numerics.ops.rounding_errors import Rounding
from service.numerics.ops.subgradient_choices import SubgradientChoices, choose_between_derivatives


@register_op("prelu")
class Prelu(Op):
    """Rectifier with a slope that is learnt: y = x where x > 0, else a x.

    a = weight, one number, or one for each channel, axis 1 of x.
        dL/dx = g where x > 0, else g a
        dL/da = the sum of g x over the elements with x <= 0 of the channel
    """

    numpy_calls = 3
    inputs = ("input", "weight")
    examples = (OpExample(((3, 4), (1,))), OpExample(((2, 3, 4), (3,))), OpExample(((5,), (1,))), OpExample(((), (1,))))

    def infer_output_shape(self, input: Shape, weight: Shape) -> Shape:
        channels = input[1] if len(input) > 1 else 1
        if len(weight) > 1 or count_elements(weight) not in (1, channels):
            raise ShapeError("an input (B, C, ...) and a weight (C,) or (1,)")
        return input

    @staticmethod
    def _align(input: Array, weight: Array) -> Array:
        """Return the weight with the axes of the input."""
        rank = input.ndim - 1
        channel_axes = (-1,) if rank < 2 else (1, -1, *(1,) * (rank - 2))
        return weight.reshape(len(weight), *channel_axes) if rank else weight.reshape(len(weight))

    def select_branch(self, input: Array, weight: Array) -> Array:
        return input > 0

    def forward_on_branch(self, branch: Array, input: Array, weight: Array) -> Array:
        return np.where(branch, input, self._align(input, weight) * input)

    def forward(self, input: Array, weight: Array) -> Array:
        return self.forward_on_branch(input > 0, input, weight)

    def list_subgradient_choices(
        self, input_errors: Sequence[Array | None], input: Array, weight: Array
    ) -> SubgradientChoices | None:
        """Return the choice of a slope between the weight and 1 of each element that may be 0."""
        assert input_errors[0] is not None
        x = input[:1]
        positions = np.flatnonzero(np.abs(x) <= np.broadcast_to(input_errors[0], input.shape)[:1])
        slopes = np.broadcast_to(self._align(x, weight[:1]), x.shape).ravel()[positions]
        elements = x.ravel()[positions]
        return choose_between_derivatives(
            positions, (elements > 0) * 1.0, elements == 0, [(0, positions, slopes)], [(0, positions, 1.0)]
        )

    def propagate_dependencies(self, values: DependencyLabels, *inputs: Any) -> Array:
        input_labels, weight_labels = values
        labels = [input_labels] if weight_labels is None else [input_labels, self._align(inputs[0], weight_labels)]
        return np.broadcast_to(
            take_elementwise_min(*drop_missing(labels)),
            (max(map(len, drop_missing(labels))), *inputs[0].shape[1:]),
        )

    def backward(self, gradient: Array, output: Array, input: Array, weight: Array) -> Gradients:
        by_input = gradient * np.where(input > 0, input.dtype.type(1), self._align(input, weight))
        return by_input, self._sum_over_channels(gradient * np.where(input > 0, 0, input), weight)

    def _sum_over_channels(self, products: Array, weight: Array) -> Array:
        (by_weight,) = sum_to_operands((products,), (self._align(products, weight),))
        assert by_weight is not None
        return by_weight.reshape(len(by_weight), *weight.shape[1:])

    def estimate_forward_rounding(self, output: Array, input: Array, weight: Array) -> Rounding:
        return Rounding(np.where(input > 0, 0, np.abs(output)), 1)

    def estimate_rounding_on_branch(self, branch: Array, output: Array, input: Array, weight: Array) -> Rounding:
        return Rounding(np.where(branch, 0, np.abs(output)), 1)

    def estimate_backward_rounding(
        self, gradient: Array, output: Array, input: Array, weight: Array
    ) -> tuple[Rounding | None, ...]:
        g = np.abs(gradient)
        by_input = g * np.where(input > 0, 0, np.abs(self._align(input, weight)))
        by_weight = self._sum_over_channels(g * np.where(input > 0, 0, np.abs(input)), weight)
        return Rounding(by_input, 1), Rounding(by_weight, 1 + count_repeats(output.shape[1:], weight.shape[1:]))

    @declare_bug("the slope below 0 was treated as 0, as in relu")
    def zero_below(self, gradient: Array, output: Array, input: Array, weight: Array) -> Gradients:
        return gradient * (input > 0), self.backward(gradient, output, input, weight)[1]

    @declare_bug("the weight's gradient was summed over the positive elements too")
    def weight_of_all_elements(self, gradient: Array, output: Array, input: Array, weight: Array) -> Gradients:
        by_input, _ = self.backward(gradient, output, input, weight)
        return by_input, self._sum_over_channels(gradient * input, weight)

    def torch_forward(self, torch: Any, input: Any, weight: Any) -> Any:
        return torch.nn.functional.prelu(input, weight)
