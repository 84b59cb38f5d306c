"""Logarithms of running sums of exponentials."""

from typing import Any

import numpy as np

from service.numerics.core.batching import Array, Shape
from service.numerics.core.sparsity import drop_missing
from service.numerics.ops import analytic_continuation
from service.numerics.ops.axes import normalize_axis
from service.numerics.ops.op import DependencyLabels, Gradients, Op, OpExample, declare_bug, register_op
from service.numerics.ops.rounding_errors import Rounding
from service.numerics.ops.running_sums import sum_discounted_from_end


@register_op("logcumsumexp")
class Logcumsumexp(Op):
    """Logarithm of a cumulative sum of exponentials along one axis: y_i = log sum_{j <= i} exp(x_j).

    dL/dx_j = sum_{i >= j} g_i exp(x_j - y_i) = exp(x_j - y_j) R_j, with
        R_j = sum_{i >= j} g_i exp(y_j - y_i) = g_j + exp(y_j - y_{j+1}) R_{j+1}
    No exponent is positive, since x_j <= y_j <= y_{j+1}.
    """

    dim: int

    inputs = ("input",)
    supports_complex_step = True
    examples = (
        OpExample(((3, 4),), {"dim": 1}),
        OpExample(((2, 3, 4),), {"dim": -2}, low=-8, high=8),
        OpExample(((5,),), {"dim": 0}),
    )

    def infer_output_shape(self, input: Shape) -> Shape:
        normalize_axis(self.dim, len(input))
        return input

    def _get_batched_axis(self, array: Array) -> int:
        return normalize_axis(self.dim, array.ndim - 1) + 1

    def _move_last(self, array: Array) -> Array:
        """Return a view whose last axis is that of the sums; a number has one of length 1."""
        return np.moveaxis(array, self._get_batched_axis(array), -1) if array.ndim > 1 else array[:, None]

    def _move_back(self, array: Array, input: Array) -> Array:
        return np.moveaxis(array, -1, self._get_batched_axis(input)) if input.ndim > 1 else array[:, 0]

    def propagate_dependencies(self, values: DependencyLabels, *inputs: Any) -> Array:
        (labels,) = drop_missing(values)
        return self._move_back(np.minimum.accumulate(self._move_last(labels), axis=-1), labels)

    def forward(self, input: Array) -> Array:
        moved = self._move_last(input)
        if input.dtype.kind != "c":
            return self._move_back(np.logaddexp.accumulate(moved, axis=-1), input)
        sums, distance = moved.copy(), 1
        while distance < sums.shape[-1]:
            joined = analytic_continuation.logaddexp(sums[..., :-distance], sums[..., distance:])
            sums[..., distance:] = joined
            distance *= 2
        return self._move_back(sums, input)

    def backward(self, gradient: Array, output: Array, input: Array) -> Gradients:
        g, y, x = map(self._move_last, (gradient, output, input))
        shares = np.exp(np.minimum(y - np.roll(y, -1, -1), 0))
        return (self._move_back(np.exp(x - y) * sum_discounted_from_end(g, shares), input),)

    def _take_running_size(self, output: Array, input: Array) -> Array:
        """Return the largest absolute value so far, and 1 at least."""
        size = np.maximum(np.abs(output), np.abs(input))
        return np.maximum.accumulate(np.maximum(self._move_last(size), 1), axis=-1)

    def estimate_forward_rounding(self, output: Array, input: Array) -> Rounding:
        # Each step rounds a logarithm as large as those so far.
        size = self._move_back(self._take_running_size(output, input), input)
        return Rounding(2 * size, self._move_last(input).shape[-1])

    def estimate_backward_rounding(self, gradient: Array, output: Array, input: Array) -> tuple[Rounding]:
        # PyTorch sums exp(log abs(g) - y) as logarithms, each off by u of its size.
        (by_input,) = self.backward(np.abs(gradient), output, input)
        assert by_input is not None
        g = np.abs(self._move_last(gradient))
        log_size = np.abs(np.log(np.where(g > 0, g, 1))).max(axis=-1, keepdims=True)
        size = self._take_running_size(output, input)[..., -1:]
        magnitude = np.abs(self._move_last(by_input)) * (3 * size + 2 * log_size)
        return (Rounding(self._move_back(magnitude, input), self._move_last(input).shape[-1] + 1),)

    @declare_bug("the outputs behind were left out: each element got g exp(x - y) of its own output alone")
    def own_output_alone(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient * np.exp(input - output),)

    @declare_bug("the exponentials were not divided by their sums")
    def not_normalised(self, gradient: Array, output: Array, input: Array) -> Gradients:
        from_end = np.flip(np.cumsum(np.flip(self._move_last(gradient), -1), axis=-1), -1)
        return (self._move_back(np.exp(self._move_last(input)) * from_end, input),)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.logcumsumexp(input, self.dim)
