"""One-dimensional convolution."""

from dataclasses import replace
from typing import Annotated, Any, Literal

from annotated_types import Ge, Len

from service.numerics.ops.conv import Conv2d, Convolution
from service.numerics.ops.op import Case, Cost, Gradients, Products, Rounding, ShapeError, Spreading, op
from service.numerics.reach import given
from service.numerics.tiles import Array, Shape

Positive = Annotated[int, Ge(1)]
NotNegative = Annotated[int, Ge(0)]
PositiveOne = Annotated[list[Positive], Len(1, 1)]
NotNegativeOne = Annotated[list[NotNegative], Len(1, 1)]


def _one(value: int | list[int]) -> int:
    return value if isinstance(value, int) else value[0]


@op("conv1d")
class Conv1d(Convolution):
    """One-dimensional cross-correlation, in groups of channels.

    Input x (B, C, L) or (C, L), weight w (O, C/groups, k), bias b (O,). With p over the output and x padded with
    zeros, in each group:

        y[n, o, p] = b[o] + sum_{c, i} w[o, c, i] x[n, c, p s + i d]

    With g = dL/dy of shape (B, O, out), each factor of each product meets the other and g:

        dL/dx[n, c, p s + i d] += sum_o w[o, c, i] g[n, o, p]     for all i, p
        dL/dw[o, c, i] = sum_{n, p} g[n, o, p] x[n, c, p s + i d]
        dL/db[o] = sum_{n, p} g[n, o, p]

    It is computed as the two-dimensional one of one row.
    """

    stride: Positive | PositiveOne = 1
    padding: NotNegative | NotNegativeOne | Literal["valid", "same"] = 0
    dilation: Positive | PositiveOne = 1
    groups: Positive = 1

    kernel_axes = (-1,)
    cases = (
        Case(((2, 3, 7), (4, 3, 3), (4,)), {"stride": 2, "padding": 1}),
        Case(((2, 6), (4, 1, 2), None), {"groups": 2, "dilation": [2]}),
        Case(((1, 2, 5), (2, 2, 4), (2,)), {"padding": "same"}),
    )

    def output_shape(self, input: Shape, weight: Shape, bias: Shape | None) -> Shape:
        if len(input) not in (2, 3) or len(weight) != 3:
            raise ShapeError("input (B, C, L) or (C, L) with weight (out, C/groups, k)")
        shape = self._plane.output_shape((*input[:-1], 1, input[-1]), (*weight[:-1], 1, weight[-1]), bias)
        return (*shape[:-2], shape[-1])

    @property
    def _plane(self) -> Any:
        """The two-dimensional convolution of one row."""
        padding: Any = self.padding if isinstance(self.padding, str) else [0, _one(self.padding)]
        return Conv2d(
            stride=[1, _one(self.stride)], padding=padding, dilation=[1, _one(self.dilation)], groups=self.groups
        )

    @staticmethod
    def _rows(*arrays: Array) -> tuple[Array, ...]:
        return tuple(array[..., None, :] for array in arrays)

    def unpadded(self, weight: Array) -> tuple[Convolution, list[tuple[int, int]]]:
        return replace(self, padding=0), self._plane.unpadded(*self._rows(weight))[1][1:]

    def forward(self, input: Array, weight: Array, bias: Array | None) -> Array:
        return self._plane.forward(*self._rows(input, weight), bias)[..., 0, :]

    def products(self, position: int, input: Array, weight: Array, bias: Array | None) -> Products | None:
        return self._plane.products(position, *self._rows(input, weight), bias)

    def spread(self, values: Spreading, *inputs: Any) -> Array:
        x, w, bias = inputs
        of_bias = given(values)[2:]
        rows = (*self._rows(*given(values)[:2]), *(of_bias or (None,)))
        return self._plane.spread(rows, *self._rows(x, w), bias)[..., 0, :]

    def backward(self, gradient: Array, output: Array, input: Array, weight: Array, bias: Array | None) -> Gradients:
        by_input, by_weight, by_bias = self._plane.backward(*self._rows(gradient, output, input, weight), bias)
        assert by_input is not None
        assert by_weight is not None
        return by_input[..., 0, :], by_weight[..., 0, :], by_bias

    def rounding(self, output: Array, input: Array, weight: Array, bias: Array | None) -> Rounding:
        magnitude, terms = self._plane.rounding(*self._rows(output, input, weight), bias)
        return Rounding(magnitude[..., 0, :], terms)

    def backward_rounding(
        self, gradient: Array, output: Array, input: Array, weight: Array, bias: Array | None
    ) -> tuple[Rounding | None, ...]:
        roundings = self._plane.backward_rounding(*self._rows(gradient, output, input, weight), bias)
        return tuple(
            Rounding(each.magnitude[..., 0, :], each.terms) if position < 2 and each is not None else each
            for position, each in enumerate(roundings)
        )

    def cost(self, output: Shape, *shapes: Shape | None) -> Cost:
        return self._plane.cost((*output[:-1], 1, output[-1]), *self._with_rows(shapes))

    def spreading(self, output: Shape, *shapes: Shape | None) -> int:
        return self._plane.spreading((*output[:-1], 1, output[-1]), *self._with_rows(shapes))

    def longest_call(self, output: Shape, *shapes: Shape | None) -> int:
        return self._plane.longest_call((*output[:-1], 1, output[-1]), *self._with_rows(shapes))

    @staticmethod
    def _with_rows(shapes: tuple[Shape | None, ...]) -> list[Shape | None]:
        return [shape if shape is None or len(shape) < 2 else (*shape[:-1], 1, shape[-1]) for shape in shapes]

    def twin(self, torch: Any, input: Any, weight: Any, bias: Any) -> Any:
        return self._plane.twin(torch, *(each.unsqueeze(-2) for each in (input, weight)), bias).squeeze(-2)
