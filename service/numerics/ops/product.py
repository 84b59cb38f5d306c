"""Products along axes, as a whole and step by step.

Their derivatives are products of the other factors, so that factors of 0 need no division.
"""

from typing import Any

import numpy as np

from service.numerics.core.batching import Array, Shape
from service.numerics.core.sparsity import drop_missing
from service.numerics.ops.axes import AxisSelection, normalize_axis
from service.numerics.ops.op import DependencyLabels, DtypeName, Gradients, Op, OpExample, declare_bug, register_op
from service.numerics.ops.reduction import ReductionOp
from service.numerics.ops.rounding_errors import ErrorModel, Rounding
from service.numerics.ops.running_sums import sum_discounted_from_end


def multiply_before(factors: Array) -> Array:
    """Return for each element of the last axis the product of those before it, 1 for the first."""
    shifted = np.concatenate([np.ones_like(factors[..., :1]), factors[..., :-1]], axis=-1)
    return np.cumprod(shifted, axis=-1)


@register_op("prod")
class Prod(ReductionOp):
    """Product: y = prod x.

    dL/dx_i = g times the product of the x_j with j other than i: those before i times those behind, not y / x_i.
    """

    dim: AxisSelection = None
    keepdim: bool = False
    dtype: DtypeName | None = None

    positional = ("input",)
    supports_complex_step = True

    def forward(self, input: Array) -> Array:
        return self._shape_result(np.prod(input, axis=self._get_batched_axes(input), keepdims=True), input)

    def backward(self, gradient: Array, output: Array, input: Array) -> Gradients:
        axes = self._get_batched_axes(input)
        last_axes = tuple(range(input.ndim - len(axes), input.ndim))
        moved = np.moveaxis(input, axes, last_axes)
        factors = moved.reshape(*moved.shape[: input.ndim - len(axes)], self._count_reduced(input))
        others = multiply_before(factors) * np.flip(multiply_before(np.flip(factors, -1)), -1)
        return (self._restore_axes(gradient, input) * np.moveaxis(others.reshape(moved.shape), last_axes, axes),)

    def estimate_forward_rounding(self, output: Array, input: Array) -> Rounding:
        return Rounding(np.abs(output), self._count_reduced(input))

    def estimate_backward_rounding(self, gradient: Array, output: Array, input: Array) -> tuple[Rounding]:
        # PyTorch divides the product by a factor, where none is 0.
        (by_input,) = self.backward(gradient, output, input)
        assert by_input is not None
        return (Rounding(np.abs(by_input), self._count_reduced(input) + 3),)

    @declare_bug("the factor itself was left in the product: g y stood for g y / x")
    def own_factor_kept(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (self._restore_axes(gradient * output, input) + 0 * input,)

    @declare_bug("the product was left out: g / x, the derivative of its logarithm")
    def derivative_of_the_logarithm(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (self._restore_axes(gradient, input) / input,)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        axes = self._torch_dim(input)
        for axis in reversed(axes):
            input = torch.prod(input, axis, self.keepdim)
        return input if axes else torch.prod(input)


@register_op("cumprod")
class Cumprod(Op):
    """Cumulative product along one axis: y_i = prod_{j <= i} x_j.

    dL/dx_k = P_k S_k with P_k = prod_{j < k} x_j and S_k = sum_{i >= k} g_i prod_{k < j <= i} x_j, so that
        S_k = g_k + x_{k+1} S_{k+1}
    """

    dim: int
    dtype: DtypeName | None = None

    inputs = ("input",)
    supports_complex_step = True
    examples = (
        OpExample(((3, 4),), {"dim": 1}),
        OpExample(((2, 3, 4),), {"dim": -2}),
        OpExample(((5,),), {"dim": 0}),
    )

    def infer_output_shape(self, input: Shape) -> Shape:
        normalize_axis(self.dim, len(input))
        return input

    def _get_batched_axis(self, array: Array) -> int:
        return normalize_axis(self.dim, array.ndim - 1) + 1

    def propagate_dependencies(self, values: DependencyLabels, *inputs: Any) -> Array:
        (labels,) = drop_missing(values)
        return labels if labels.ndim == 1 else np.minimum.accumulate(labels, axis=self._get_batched_axis(labels))

    def forward(self, input: Array) -> Array:
        return np.cumprod(input, axis=self._get_batched_axis(input)) if input.ndim > 1 else input

    def backward(self, gradient: Array, output: Array, input: Array) -> Gradients:
        if input.ndim == 1:
            return (gradient,)
        axis = self._get_batched_axis(input)
        x, g = np.moveaxis(input, axis, -1), np.moveaxis(gradient, axis, -1)
        return (np.moveaxis(multiply_before(x) * sum_discounted_from_end(g, np.roll(x, -1, -1)), -1, axis),)

    def _get_axis_length(self, input: Array) -> int:
        return input.shape[self._get_batched_axis(input)] if input.ndim > 1 else 1

    def estimate_forward_rounding(self, output: Array, input: Array) -> Rounding:
        return Rounding(np.abs(output), self._get_axis_length(input))

    def estimate_backward_rounding(self, gradient: Array, output: Array, input: Array) -> tuple[Rounding]:
        # Each term is off as a product, and their sum as a sum; PyTorch divides sums of g y by x.
        (by_input,) = self.backward(np.abs(gradient), output, np.abs(input))
        assert by_input is not None
        return (Rounding(2 * by_input, self._get_axis_length(input) + 3),)

    def backward_with_errors(self, errors: ErrorModel, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        (x,) = inputs
        (by_input,) = self.backward(gradient, output, x)
        (rounding,) = self.estimate_backward_rounding(gradient, output, x)
        assert by_input is not None
        # PyTorch's division by x scales up again what its products lose below the normal numbers.
        sums_behind = np.abs(gradient)
        if x.ndim > 1:
            axis = self._get_batched_axis(x)
            sums_behind = np.flip(np.cumsum(np.flip(sums_behind, axis), axis), axis)
        lost = sums_behind * errors.underflow_loss / np.where(x == 0, np.inf, np.abs(x))
        return (errors(by_input, rounding.magnitude + lost, rounding.term_count),)

    @declare_bug("the outputs behind were left out: each element got the gradient of its own output alone")
    def own_output_alone(self, gradient: Array, output: Array, input: Array) -> Gradients:
        if input.ndim == 1:
            return (gradient * input,)
        axis = self._get_batched_axis(input)
        before = multiply_before(np.moveaxis(input, axis, -1))
        # The last element has no outputs behind: its own factor is left in as well.
        before[..., -1] *= np.moveaxis(input, axis, -1)[..., -1]
        return (gradient * np.moveaxis(before, -1, axis),)

    @declare_bug("the sum of g y was not divided by the element: its own factor was left in")
    def own_factor_kept(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (self.backward(gradient, output, input)[0] * input,)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.cumprod(input, self.dim)
