"""Products of matrices."""

from collections.abc import Sequence
from types import MappingProxyType
from typing import Any

import numpy as np

from service.numerics.core.batching import (
    Array,
    Shape,
    align_rank,
    count_elements,
    flat_indices,
    sum_broadcast_axes,
)
from service.numerics.core.sparsity import drop_missing, take_elementwise_min, take_min_over_axes
from service.numerics.ops.backward_form import BackwardForm
from service.numerics.ops.formula import Scope
from service.numerics.ops.formula_op import FormulaBugs
from service.numerics.ops.op import (
    ComputeCost,
    DependencyLabels,
    Gradients,
    OpExample,
    ProductExpansion,
    Rounding,
    ShapeError,
    declare_bug,
    declare_bug_named,
    get_declared_shapes,
    register_op,
)

_BIAS_POSITION = 2


def _expand_matrix_product(position: int, a: Array, b: Array, element_numbers: Array) -> ProductExpansion:
    """Return the products of matrices a, (..., n, k), and b, (..., k, m).

    `element_numbers` takes the place of the operand at `position`.
    """
    shape = (*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])
    rows, columns = (element_numbers, b) if position == 0 else (a, element_numbers)
    inner_indices = range(a.shape[-1])
    factor_pair = [rows[..., :, i : i + 1] for i in inner_indices], [columns[..., i : i + 1, :] for i in inner_indices]
    return ProductExpansion(shape, factor_pair[position], factor_pair[1 - position])


@register_op("linear")
class Linear(FormulaBugs):
    """Product with a weight along the last axis, and a bias: y = x W^T + b.

    With g = dL/dy and n over the leading axes of x:
        dL/dx = g W               (..., in)
        dL/dW = sum_n g_n^T x_n   (out, in)
        dL/db = sum_n g_n         (out,)
    """

    multiplying_slots = MappingProxyType({"input": "factor", "weight": "factor"})
    inputs = ("input", "weight", "bias?")
    product_slots = ("input", "weight")
    supports_complex_step = True
    linear_in = MappingProxyType({"input": ("bias",), "weight": ("bias",), "bias": ("input",)})
    examples = (
        OpExample(((2, 3), (3, 3), (3,))),
        OpExample(((5, 4), (3, 4), (3,))),
        OpExample(((2, 5, 4), (1, 4), None)),
        OpExample(((4,), (3, 4), (3,))),
        OpExample(((4,), (4,), ())),
        OpExample(((3, 4), (4,), ())),
    )

    backward_form = BackwardForm(
        {"input": "to_input(g @ W)", "weight": "to_weight(T(g) @ x)", "bias": "to_bias(sum(g))"},
        look_alikes={"x": {"y": "the output y stood for the input x"}},
        layouts=("to_input", "to_weight", "to_bias"),
        # A bias of another shape has a bug of its own.
        omitted=("bias:reduction_missing:sum(g)",),
    )

    def make_scope(self, gradient: Array, output: Array, *inputs: Any) -> Scope:
        input, weight, bias = inputs
        x, w = self._flatten_to_matrices(input, weight)
        scope = Scope().add_quantities(
            g=lambda: gradient.reshape(gradient.shape[0], x.shape[1], w.shape[1]),
            W=lambda: w,
            x=lambda: x,
            y=lambda: output.reshape(output.shape[0], x.shape[1], w.shape[1]),
        )
        return scope.add_functions(
            sum=lambda array: array.sum(axis=1),
            to_input=lambda array: array.reshape(array.shape[:1] + input.shape[1:]),
            to_weight=lambda array: array.reshape(array.shape[:1] + weight.shape[1:]),
            to_bias=lambda array: array.reshape(array.shape[:1] + bias.shape[1:]),
        )

    def infer_output_shape(self, input: Shape, weight: Shape, bias: Shape | None) -> Shape:
        if not input or len(weight) not in (1, 2) or weight[-1] != input[-1]:
            raise ShapeError("input (..., in) with weight (out, in) or (in,)")
        if bias is not None and bias != weight[:-1]:
            raise ShapeError(f"a bias of shape {list(weight[:-1])}")
        return input[:-1] + weight[:-1]

    @staticmethod
    def _flatten_to_matrices(x: Array, weight: Array) -> tuple[Array, Array]:
        """Return x as (K, n, in) and the weight as (K, out, in)."""
        return x.reshape(x.shape[0], -1, x.shape[-1]), weight.reshape(weight.shape[0], -1, weight.shape[-1])

    def forward(self, input: Array, weight: Array, bias: Array | None) -> Array:
        x, w = self._flatten_to_matrices(input, weight)
        # One weight for all evaluations makes one large product, which is faster than many small ones.
        y = x @ np.swapaxes(w, 1, 2) if len(w) > 1 else x.reshape(len(x) * x.shape[1], x.shape[2]) @ w[0].T
        output = y.reshape(max(len(x), len(w)), *input.shape[1:-1], *weight.shape[1:-1])
        return output if bias is None else output + align_rank(bias, output.ndim - 1)

    def expand_products(
        self, position: int, input: Array, weight: Array, bias: Array | None
    ) -> ProductExpansion | None:
        if position == _BIAS_POSITION:
            return None
        x, w = self._flatten_to_matrices(input, weight)
        return _expand_matrix_product(
            position, x[0], w[0].T, (flat_indices(w[0]).T if position else flat_indices(x[0]))
        )

    def propagate_dependencies(self, values: DependencyLabels, *inputs: Any) -> Array:
        input_labels, weight_labels, *bias_labels = drop_missing(values)
        leading_rank = input_labels.ndim - 2
        row_labels = (
            take_min_over_axes(input_labels, input_labels.ndim - 1)
            if weight_labels.ndim == 3
            else input_labels.min(axis=-1)
        )
        parameter_labels = (
            align_rank(labels, leading_rank + weight_labels.ndim - 2)
            for labels in (weight_labels.min(axis=-1), *bias_labels)
        )
        return take_elementwise_min(row_labels, *parameter_labels)

    def backward(self, gradient: Array, output: Array, input: Array, weight: Array, bias: Array | None) -> Gradients:
        return self.backward_for((True, True, True), gradient, output, input, weight, bias)

    def backward_for(self, wanted: Sequence[bool], gradient: Array, output: Array, *inputs: Any) -> Gradients:
        input, weight, bias = inputs
        x, w = self._flatten_to_matrices(input, weight)
        g = gradient.reshape(gradient.shape[0], x.shape[1], w.shape[1])
        by_input = g @ w if wanted[0] else None
        by_weight = np.swapaxes(g, 1, 2) @ x
        by_bias = None if bias is None else g.sum(axis=1).reshape(g.shape[:1] + bias.shape[1:])
        return (
            None if by_input is None else by_input.reshape(by_input.shape[:1] + input.shape[1:]),
            by_weight.reshape(by_weight.shape[:1] + weight.shape[1:]),
            by_bias,
        )

    def estimate_forward_rounding(self, output: Array, input: Array, weight: Array, bias: Array | None) -> Rounding:
        magnitude = self.forward(np.abs(input), np.abs(weight), None if bias is None else np.abs(bias))
        return Rounding(magnitude, input.shape[-1] + 1)

    def estimate_backward_rounding(
        self, gradient: Array, output: Array, input: Array, weight: Array, bias: Array | None
    ) -> tuple[Rounding | None, ...]:
        magnitudes = self.backward(np.abs(gradient), output, np.abs(input), np.abs(weight), bias)
        rows = count_elements(input.shape[1:-1])
        terms = (count_elements(weight.shape[1:-1]), rows, rows)
        return tuple(
            None if magnitude is None else Rounding(magnitude, count)
            for magnitude, count in zip(magnitudes, terms, strict=True)
        )

    def estimate_cost(self, output: Shape, *shapes: Shape | None) -> ComputeCost:
        assert shapes[0] is not None
        return ComputeCost(count_elements(output) * shapes[0][-1], super().estimate_cost(output, *shapes).largest_array)

    @declare_bug_named(
        "transposed",
        "the gradient was multiplied by the weight transposed on the way to the input",
        lambda shapes: shapes[2][:-1] == shapes[2][-1:],
    )
    def skip_weight_transposition(
        self, gradient: Array, output: Array, input: Array, weight: Array, bias: Array | None
    ) -> Gradients:
        correct_gradients = self.backward(gradient, output, input, weight, bias)
        if weight.shape[1:-1] != weight.shape[-1:]:
            return correct_gradients
        return self.backward(gradient, output, input, np.swapaxes(weight, 1, 2), bias)[0], *correct_gradients[1:]

    @declare_bug_named("scaled", "the mean over the rows of the batch was taken instead of the sum")
    def average_over_rows(
        self, gradient: Array, output: Array, input: Array, weight: Array, bias: Array | None
    ) -> Gradients:
        rows = count_elements(input.shape[1:-1])
        by_input, by_weight, by_bias = self.backward(gradient, output, input, weight, bias)
        assert by_weight is not None
        return by_input, by_weight / rows, None if by_bias is None else by_bias / rows

    @declare_bug("the features were read backwards")
    def backwards_through_the_features(
        self, gradient: Array, output: Array, input: Array, weight: Array, bias: Array | None
    ) -> Gradients:
        return self.backward(gradient, output, np.flip(input, -1), np.flip(weight, -1), bias)

    def torch_forward(self, torch: Any, input: Any, weight: Any, bias: Any) -> Any:
        if weight.ndim == 1:
            # PyTorch's documentation allows this form, but its matrix product does not with a bias.
            bias = None if bias is None else bias.reshape(1)
            return torch.nn.functional.linear(input, weight[None], bias)[..., 0]
        return torch.nn.functional.linear(input, weight, bias)


@register_op("matmul")
class Matmul(FormulaBugs):
    """Product of matrices: y = a b, with leading axes broadcast.

    A 1-D operand is a row on the left, and a column on the right. With g = dL/dy, and sums over the leading axes along
    which each operand was broadcast:
        dL/da = g b^T        dL/db = a^T g
    """

    multiplying_slots = MappingProxyType({"input": "factor", "other": "factor"})
    inputs = ("input", "other")
    product_slots = ("input", "other")
    supports_complex_step = True
    linear_in = MappingProxyType({"input": (), "other": ()})
    examples = (
        OpExample(((3, 4), (4, 5))),
        OpExample(((2, 3), (3, 3))),
        OpExample(((3, 3), (3, 3))),
        OpExample(((2, 1, 3, 4), (5, 4, 2))),
        OpExample(((4,), (4,))),
        OpExample(((4,), (2, 4, 3))),
        OpExample(((2, 3, 4), (4,))),
    )

    backward_form = BackwardForm(
        {"input": "to_a(g @ T(b))", "other": "to_b(T(a) @ g)"},
        look_alikes={
            "a": {"b": "b stood for a", "y": "the product y stood for a"},
            "b": {"a": "a stood for b", "y": "the product y stood for b"},
        },
        layouts=("to_a", "to_b"),
    )

    def make_scope(self, gradient: Array, output: Array, *inputs: Any) -> Scope:
        input, other = inputs
        a, b = self._broadcast_to_matrices(input, other)
        shape = (*np.broadcast_shapes(a.shape[1:-2], b.shape[1:-2]), a.shape[-2], b.shape[-1])
        scope = Scope().add_quantities(
            g=lambda: gradient.reshape(gradient.shape[:1] + shape),
            a=lambda: a,
            b=lambda: b,
            y=lambda: output.reshape(output.shape[:1] + shape),
        )
        return scope.add_functions(
            to_a=lambda array: _sum_to_operand(array, a, input), to_b=lambda array: _sum_to_operand(array, b, other)
        )

    def infer_output_shape(self, input: Shape, other: Shape) -> Shape:
        if not input or not other or input[-1] != other[0 if len(other) == 1 else -2]:
            raise ShapeError("(..., n, k) with (..., k, m), or a vector (k,) on either side")
        try:
            leading_axes = np.broadcast_shapes(input[:-2], other[:-2])
        except ValueError:
            raise ShapeError("leading axes that broadcast together") from None
        rows = input[-2:-1] if len(input) > 1 else ()
        columns = other[-1:] if len(other) > 1 else ()
        return leading_axes + rows + columns

    @staticmethod
    def _broadcast_to_matrices(input: Array, other: Array) -> tuple[Array, Array]:
        """Return both operands as matrices with as many leading axes."""
        a = input[:, None, :] if input.ndim == 2 else input
        b = other[:, :, None] if other.ndim == 2 else other
        rank = max(a.ndim, b.ndim) - 1
        return align_rank(a, rank), align_rank(b, rank)

    def forward(self, input: Array, other: Array) -> Array:
        a, b = self._broadcast_to_matrices(input, other)
        y = a @ b
        return y.reshape(y.shape[:1] + self.infer_output_shape(input.shape[1:], other.shape[1:]))

    def expand_products(self, position: int, input: Array, other: Array) -> ProductExpansion:
        a, b = self._broadcast_to_matrices(input, other)
        return _expand_matrix_product(position, a[0], b[0], flat_indices((a, b)[position][0]))

    def propagate_dependencies(self, values: DependencyLabels, *inputs: Any) -> Array:
        input_labels, other_labels = self._broadcast_to_matrices(*drop_missing(values))
        labels = take_elementwise_min(
            take_min_over_axes(input_labels, input_labels.ndim - 1),
            take_min_over_axes(other_labels, other_labels.ndim - 2),
        )
        return labels.reshape(len(labels), *self.infer_output_shape(*get_declared_shapes(inputs)))

    def backward(self, gradient: Array, output: Array, input: Array, other: Array) -> Gradients:
        a, b = self._broadcast_to_matrices(input, other)
        g = gradient.reshape(
            gradient.shape[:1] + np.broadcast_shapes(a.shape[1:-2], b.shape[1:-2]) + (a.shape[-2], b.shape[-1])
        )
        by_a = sum_broadcast_axes(g @ np.swapaxes(b, -1, -2), a.shape[1:])
        by_b = sum_broadcast_axes(np.swapaxes(a, -1, -2) @ g, b.shape[1:])
        return (
            by_a.reshape(by_a.shape[:1] + input.shape[1:]),
            by_b.reshape(by_b.shape[:1] + other.shape[1:]),
        )

    def estimate_forward_rounding(self, output: Array, input: Array, other: Array) -> Rounding:
        return Rounding(self.forward(np.abs(input), np.abs(other)), input.shape[-1])

    def estimate_backward_rounding(
        self, gradient: Array, output: Array, input: Array, other: Array
    ) -> tuple[Rounding | None, ...]:
        magnitudes = self.backward(np.abs(gradient), output, np.abs(input), np.abs(other))
        products = count_elements(output.shape[1:]) * input.shape[-1]
        return tuple(
            None if magnitude is None else Rounding(magnitude, products // count_elements(operand.shape[1:]))
            for magnitude, operand in zip(magnitudes, (input, other), strict=True)
        )

    def estimate_cost(self, output: Shape, *shapes: Shape | None) -> ComputeCost:
        assert shapes[0] is not None
        return ComputeCost(count_elements(output) * shapes[0][-1], super().estimate_cost(output, *shapes).largest_array)

    @declare_bug_named(
        "transposed",
        "each square factor was used as it is where the gradient of the other one needs it transposed",
        lambda shapes: any(shape[-2:-1] == shape[-1:] for shape in shapes[1:]),
    )
    def skip_factor_transposition(self, gradient: Array, output: Array, input: Array, other: Array) -> Gradients:
        a, b = (np.swapaxes(operand, -1, -2) if _is_square(operand) else operand for operand in (input, other))
        by_a, by_b = self.backward(gradient, output, input, b), self.backward(gradient, output, a, other)
        return by_a[0], by_b[1]

    @declare_bug("the summed axis was read backwards")
    def backwards_through_what_is_summed(self, gradient: Array, output: Array, input: Array, other: Array) -> Gradients:
        flipped = np.flip(input, -1), np.flip(other, 1 if other.ndim == 2 else -2)
        return self.backward(gradient, output, *flipped)

    def torch_forward(self, torch: Any, input: Any, other: Any) -> Any:
        return torch.matmul(input, other)


def _sum_to_operand(array: Array, matrices: Array, operand: Array) -> Array:
    """Return gradients of matrices summed over broadcast axes, in the shape of the operand."""
    total = sum_broadcast_axes(array, matrices.shape[1:])
    return total.reshape(total.shape[:1] + operand.shape[1:])


def _is_square(array: Array) -> bool:
    return array.ndim > 2 and array.shape[-1] == array.shape[-2]
