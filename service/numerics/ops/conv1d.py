"""One-dimensional convolution."""

from dataclasses import replace
from typing import Annotated, Any, Literal

from annotated_types import Ge, Len

from service.numerics.core.batching import Array, Shape
from service.numerics.core.sparsity import drop_missing
from service.numerics.ops.conv import Conv2d, Convolution
from service.numerics.ops.op import (
    ComputeCost,
    DependencyLabels,
    Gradients,
    OpExample,
    ProductExpansion,
    Rounding,
    ShapeError,
    register_op,
)

Positive = Annotated[int, Ge(1)]
NotNegative = Annotated[int, Ge(0)]
PositiveSingle = Annotated[list[Positive], Len(1, 1)]
NotNegativeSingle = Annotated[list[NotNegative], Len(1, 1)]


def _to_single_value(value: int | list[int]) -> int:
    return value if isinstance(value, int) else value[0]


@register_op("conv1d")
class Conv1d(Convolution):
    """One-dimensional cross-correlation, in groups of channels.

    Input x (B, C, L) or (C, L), weight w (O, C/groups, k), bias b (O,). With p over the output and x padded with zeros,
    in each group:

        y[n, o, p] = b[o] + sum_{c, i} w[o, c, i] x[n, c, p s + i d]

    With g = dL/dy of shape (B, O, out), each factor of each product meets the other and g:

        dL/dx[n, c, p s + i d] += sum_o w[o, c, i] g[n, o, p]     for all i, p
        dL/dw[o, c, i] = sum_{n, p} g[n, o, p] x[n, c, p s + i d]
        dL/db[o] = sum_{n, p} g[n, o, p]

    It is computed as the two-dimensional one of one row.
    """

    stride: Positive | PositiveSingle = 1
    padding: NotNegative | NotNegativeSingle | Literal["valid", "same"] = 0
    dilation: Positive | PositiveSingle = 1
    groups: Positive = 1

    kernel_axes = (-1,)
    examples = (
        OpExample(((2, 3, 7), (4, 3, 3), (4,)), {"stride": 2, "padding": 1}),
        OpExample(((2, 6), (4, 1, 2), None), {"groups": 2, "dilation": [2]}),
        OpExample(((1, 2, 5), (2, 2, 4), (2,)), {"padding": "same"}),
    )

    def infer_output_shape(self, input: Shape, weight: Shape, bias: Shape | None) -> Shape:
        if len(input) not in (2, 3) or len(weight) != 3:
            raise ShapeError("input (B, C, L) or (C, L) with weight (out, C/groups, k)")
        shape = self._as_conv2d.infer_output_shape((*input[:-1], 1, input[-1]), (*weight[:-1], 1, weight[-1]), bias)
        return (*shape[:-2], shape[-1])

    @property
    def _as_conv2d(self) -> Any:
        """Return the two-dimensional convolution of one row."""
        padding: Any = self.padding if isinstance(self.padding, str) else [0, _to_single_value(self.padding)]
        return Conv2d(
            stride=[1, _to_single_value(self.stride)],
            padding=padding,
            dilation=[1, _to_single_value(self.dilation)],
            groups=self.groups,
        )

    @staticmethod
    def _add_row_axis(*arrays: Array) -> tuple[Array, ...]:
        return tuple(array[..., None, :] for array in arrays)

    def without_padding(self, weight: Array) -> tuple[Convolution, list[tuple[int, int]]]:
        return replace(self, padding=0), self._as_conv2d.without_padding(*self._add_row_axis(weight))[1][1:]

    def forward(self, input: Array, weight: Array, bias: Array | None) -> Array:
        return self._as_conv2d.forward(*self._add_row_axis(input, weight), bias)[..., 0, :]

    def expand_products(
        self, position: int, input: Array, weight: Array, bias: Array | None
    ) -> ProductExpansion | None:
        return self._as_conv2d.expand_products(position, *self._add_row_axis(input, weight), bias)

    def propagate_dependencies(self, values: DependencyLabels, *inputs: Any) -> Array:
        input, weight, bias = inputs
        bias_labels = drop_missing(values)[2:]
        row_labels = (*self._add_row_axis(*drop_missing(values)[:2]), *(bias_labels or (None,)))
        return self._as_conv2d.propagate_dependencies(row_labels, *self._add_row_axis(input, weight), bias)[..., 0, :]

    def backward(self, gradient: Array, output: Array, input: Array, weight: Array, bias: Array | None) -> Gradients:
        by_input, by_weight, by_bias = self._as_conv2d.backward(
            *self._add_row_axis(gradient, output, input, weight), bias
        )
        assert by_input is not None
        assert by_weight is not None
        return by_input[..., 0, :], by_weight[..., 0, :], by_bias

    def estimate_forward_rounding(self, output: Array, input: Array, weight: Array, bias: Array | None) -> Rounding:
        magnitude, terms = self._as_conv2d.estimate_forward_rounding(*self._add_row_axis(output, input, weight), bias)
        return Rounding(magnitude[..., 0, :], terms)

    def estimate_backward_rounding(
        self, gradient: Array, output: Array, input: Array, weight: Array, bias: Array | None
    ) -> tuple[Rounding | None, ...]:
        roundings = self._as_conv2d.estimate_backward_rounding(
            *self._add_row_axis(gradient, output, input, weight), bias
        )
        return tuple(
            Rounding(rounding.magnitude[..., 0, :], rounding.term_count)
            if position < 2 and rounding is not None
            else rounding
            for position, rounding in enumerate(roundings)
        )

    def estimate_cost(self, output: Shape, *shapes: Shape | None) -> ComputeCost:
        return self._as_conv2d.estimate_cost((*output[:-1], 1, output[-1]), *self._add_row_axis_to_shapes(shapes))

    def count_propagation_elements(self, output: Shape, *shapes: Shape | None) -> int:
        return self._as_conv2d.count_propagation_elements(
            (*output[:-1], 1, output[-1]), *self._add_row_axis_to_shapes(shapes)
        )

    def estimate_longest_call_work(self, output: Shape, *shapes: Shape | None) -> int:
        return self._as_conv2d.estimate_longest_call_work(
            (*output[:-1], 1, output[-1]), *self._add_row_axis_to_shapes(shapes)
        )

    @staticmethod
    def _add_row_axis_to_shapes(shapes: tuple[Shape | None, ...]) -> list[Shape | None]:
        return [shape if shape is None or len(shape) < 2 else (*shape[:-1], 1, shape[-1]) for shape in shapes]

    def torch_forward(self, torch: Any, input: Any, weight: Any, bias: Any) -> Any:
        return self._as_conv2d.torch_forward(
            torch, *(tensor.unsqueeze(-2) for tensor in (input, weight)), bias
        ).squeeze(-2)
