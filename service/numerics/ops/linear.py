"""Products of matrices."""

from types import MappingProxyType
from typing import Any

import numpy as np

from service.numerics.ops.op import (
    Case,
    Cost,
    Gradients,
    Op,
    Products,
    Rounding,
    ShapeError,
    Spreading,
    mutant,
    mutant_of,
    op,
    shapes_of,
)
from service.numerics.reach import given, joined, least
from service.numerics.tiles import Array, Shape, aligned, numbered, size, unbroadcast

_BIAS = 2


def _matrix_products(position: int, a: Array, b: Array, numbers: Array) -> Products:
    """Products of matrices a, (..., n, k), with b, (..., k, m), the one at `position` numbered."""
    shape = (*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])
    rows, columns = (numbers, b) if position == 0 else (a, numbers)
    summed = range(a.shape[-1])
    pair = [rows[..., :, i : i + 1] for i in summed], [columns[..., i : i + 1, :] for i in summed]
    return Products(shape, pair[position], pair[1 - position])


@op("linear")
class Linear(Op):
    """y = x W^T + b on the last axis.

    With g = dL/dy and n over the leading axes of x:
        dL/dx = g W               (..., in)
        dL/dW = sum_n g_n^T x_n   (out, in)
        dL/db = sum_n g_n         (out,)
    """

    multiplies = MappingProxyType({"input": "factor", "weight": "factor"})
    inputs = ("input", "weight", "bias?")
    analytic = True
    linear_in = MappingProxyType({"input": ("bias",), "weight": ("bias",), "bias": ("input",)})
    cases = (
        Case(((2, 3), (3, 3), (3,))),
        Case(((5, 4), (3, 4), (3,))),
        Case(((2, 5, 4), (1, 4), None)),
        Case(((4,), (3, 4), (3,))),
        Case(((4,), (4,), ())),
        Case(((3, 4), (4,), ())),
    )

    def output_shape(self, input: Shape, weight: Shape, bias: Shape | None) -> Shape:
        if not input or len(weight) not in (1, 2) or weight[-1] != input[-1]:
            raise ShapeError("input (..., in) with weight (out, in) or (in,)")
        if bias is not None and bias != weight[:-1]:
            raise ShapeError(f"a bias of shape {list(weight[:-1])}")
        return input[:-1] + weight[:-1]

    @staticmethod
    def _flat(x: Array, weight: Array) -> tuple[Array, Array]:
        """Flatten x to (K, n, in) and the weight to (K, out, in)."""
        return x.reshape(x.shape[0], -1, x.shape[-1]), weight.reshape(weight.shape[0], -1, weight.shape[-1])

    def forward(self, input: Array, weight: Array, bias: Array | None) -> Array:
        x, w = self._flat(input, weight)
        y = x @ np.swapaxes(w, 1, 2)
        output = y.reshape(y.shape[:1] + input.shape[1:-1] + weight.shape[1:-1])
        return output if bias is None else output + aligned(bias, output.ndim - 1)

    def products(self, position: int, input: Array, weight: Array, bias: Array | None) -> Products | None:
        if position == _BIAS:
            return None
        x, w = self._flat(input, weight)
        return _matrix_products(position, x[0], w[0].T, (numbered(w[0]).T if position else numbered(x[0])))

    def spread(self, values: Spreading, *inputs: Any) -> Array:
        of_input, of_weight, *of_bias = given(values)
        rank = of_input.ndim - 2
        rows = least(of_input, of_input.ndim - 1) if of_weight.ndim == 3 else of_input.min(axis=-1)
        parameters = (aligned(each, rank + of_weight.ndim - 2) for each in (of_weight.min(axis=-1), *of_bias))
        return joined(rows, *parameters)

    def backward(self, gradient: Array, output: Array, input: Array, weight: Array, bias: Array | None) -> Gradients:
        x, w = self._flat(input, weight)
        g = gradient.reshape(gradient.shape[0], x.shape[1], w.shape[1])
        by_input, by_weight = g @ w, np.swapaxes(g, 1, 2) @ x
        by_bias = None if bias is None else g.sum(axis=1).reshape(g.shape[:1] + bias.shape[1:])
        return (
            by_input.reshape(by_input.shape[:1] + input.shape[1:]),
            by_weight.reshape(by_weight.shape[:1] + weight.shape[1:]),
            by_bias,
        )

    def rounding(self, output: Array, input: Array, weight: Array, bias: Array | None) -> Rounding:
        magnitude = self.forward(np.abs(input), np.abs(weight), None if bias is None else np.abs(bias))
        return Rounding(magnitude, input.shape[-1] + 1)

    def backward_rounding(
        self, gradient: Array, output: Array, input: Array, weight: Array, bias: Array | None
    ) -> tuple[Rounding | None, ...]:
        magnitudes = self.backward(np.abs(gradient), output, np.abs(input), np.abs(weight), bias)
        rows = size(input.shape[1:-1])
        terms = (size(weight.shape[1:-1]), rows, rows)
        return tuple(
            None if magnitude is None else Rounding(magnitude, count)
            for magnitude, count in zip(magnitudes, terms, strict=True)
        )

    def cost(self, output: Shape, *shapes: Shape | None) -> Cost:
        assert shapes[0] is not None
        return Cost(size(output) * shapes[0][-1], super().cost(output, *shapes).elements)

    @mutant_of("transposed", lambda shapes: shapes[2][:-1] == shapes[2][-1:])
    def weight_not_transposed(
        self, gradient: Array, output: Array, input: Array, weight: Array, bias: Array | None
    ) -> Gradients:
        """The gradient was multiplied by the weight transposed on the way to the input."""
        right = self.backward(gradient, output, input, weight, bias)
        if weight.shape[1:-1] != weight.shape[-1:]:
            return right
        return self.backward(gradient, output, input, np.swapaxes(weight, 1, 2), bias)[0], *right[1:]

    @mutant_of("scaled")
    def averaged_over_rows(
        self, gradient: Array, output: Array, input: Array, weight: Array, bias: Array | None
    ) -> Gradients:
        """The mean over the rows of the batch was taken instead of the sum."""
        rows = size(input.shape[1:-1])
        by_input, by_weight, by_bias = self.backward(gradient, output, input, weight, bias)
        assert by_weight is not None
        return by_input, by_weight / rows, None if by_bias is None else by_bias / rows

    @mutant
    def backwards_through_the_features(
        self, gradient: Array, output: Array, input: Array, weight: Array, bias: Array | None
    ) -> Gradients:
        """The features were read backwards."""
        return self.backward(gradient, output, np.flip(input, -1), np.flip(weight, -1), bias)

    def twin(self, torch: Any, input: Any, weight: Any, bias: Any) -> Any:
        if weight.ndim == 1:
            # PyTorch's documentation takes this form; its matrix product does not, with a bias.
            bias = None if bias is None else bias.reshape(1)
            return torch.nn.functional.linear(input, weight[None], bias)[..., 0]
        return torch.nn.functional.linear(input, weight, bias)


@op("matmul")
class Matmul(Op):
    """y = a b, products of matrices, with leading axes broadcast; a 1-D operand is a row, or a column.

    With g = dL/dy, the leading axes of each operand that was broadcast summed:
        dL/da = g b^T        dL/db = a^T g
    """

    multiplies = MappingProxyType({"input": "factor", "other": "factor"})
    inputs = ("input", "other")
    analytic = True
    linear_in = MappingProxyType({"input": (), "other": ()})
    cases = (
        Case(((3, 4), (4, 5))),
        Case(((2, 3), (3, 3))),
        Case(((2, 1, 3, 4), (5, 4, 2))),
        Case(((4,), (4,))),
        Case(((4,), (2, 4, 3))),
        Case(((2, 3, 4), (4,))),
    )

    def output_shape(self, input: Shape, other: Shape) -> Shape:
        if not input or not other or input[-1] != other[0 if len(other) == 1 else -2]:
            raise ShapeError("(..., n, k) with (..., k, m), or a vector (k,) on either side")
        try:
            leading = np.broadcast_shapes(input[:-2], other[:-2])
        except ValueError:
            raise ShapeError("leading axes that broadcast together") from None
        rows = input[-2:-1] if len(input) > 1 else ()
        columns = other[-1:] if len(other) > 1 else ()
        return leading + rows + columns

    @staticmethod
    def _matrices(input: Array, other: Array) -> tuple[Array, Array]:
        """Make matrices of vectors, and give both as many leading axes."""
        a = input[:, None, :] if input.ndim == 2 else input
        b = other[:, :, None] if other.ndim == 2 else other
        rank = max(a.ndim, b.ndim) - 1
        return aligned(a, rank), aligned(b, rank)

    def forward(self, input: Array, other: Array) -> Array:
        a, b = self._matrices(input, other)
        y = a @ b
        return y.reshape(y.shape[:1] + self.output_shape(input.shape[1:], other.shape[1:]))

    def products(self, position: int, input: Array, other: Array) -> Products:
        a, b = self._matrices(input, other)
        return _matrix_products(position, a[0], b[0], numbered((a, b)[position][0]))

    def spread(self, values: Spreading, *inputs: Any) -> Array:
        a, b = self._matrices(*given(values))
        reached = joined(least(a, a.ndim - 1), least(b, b.ndim - 2))
        return reached.reshape(len(reached), *self.output_shape(*shapes_of(inputs)))

    def backward(self, gradient: Array, output: Array, input: Array, other: Array) -> Gradients:
        a, b = self._matrices(input, other)
        g = gradient.reshape(
            gradient.shape[:1] + np.broadcast_shapes(a.shape[1:-2], b.shape[1:-2]) + (a.shape[-2], b.shape[-1])
        )
        by_a = unbroadcast(g @ np.swapaxes(b, -1, -2), a.shape[1:])
        by_b = unbroadcast(np.swapaxes(a, -1, -2) @ g, b.shape[1:])
        return (
            by_a.reshape(by_a.shape[:1] + input.shape[1:]),
            by_b.reshape(by_b.shape[:1] + other.shape[1:]),
        )

    def rounding(self, output: Array, input: Array, other: Array) -> Rounding:
        return Rounding(self.forward(np.abs(input), np.abs(other)), input.shape[-1])

    def backward_rounding(
        self, gradient: Array, output: Array, input: Array, other: Array
    ) -> tuple[Rounding | None, ...]:
        magnitudes = self.backward(np.abs(gradient), output, np.abs(input), np.abs(other))
        products = size(output.shape[1:]) * input.shape[-1]
        return tuple(
            None if magnitude is None else Rounding(magnitude, products // size(each.shape[1:]))
            for magnitude, each in zip(magnitudes, (input, other), strict=True)
        )

    def cost(self, output: Shape, *shapes: Shape | None) -> Cost:
        assert shapes[0] is not None
        return Cost(size(output) * shapes[0][-1], super().cost(output, *shapes).elements)

    @mutant_of("transposed", lambda shapes: any(each[-2:-1] == each[-1:] for each in shapes[1:]))
    def factors_not_transposed(self, gradient: Array, output: Array, input: Array, other: Array) -> Gradients:
        """Each square factor was taken as it is where the other one's gradient wants it transposed."""
        a, b = (np.swapaxes(each, -1, -2) if _square(each) else each for each in (input, other))
        by_a, by_b = self.backward(gradient, output, input, b), self.backward(gradient, output, a, other)
        return by_a[0], by_b[1]

    @mutant
    def backwards_through_what_is_summed(self, gradient: Array, output: Array, input: Array, other: Array) -> Gradients:
        """What is summed over was read backwards."""
        flipped = np.flip(input, -1), np.flip(other, 1 if other.ndim == 2 else -2)
        return self.backward(gradient, output, *flipped)

    def twin(self, torch: Any, input: Any, other: Any) -> Any:
        return torch.matmul(input, other)


def _square(array: Array) -> bool:
    return array.ndim > 2 and array.shape[-1] == array.shape[-2]
