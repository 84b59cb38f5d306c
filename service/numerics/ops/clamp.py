"""Clamping between two ends, numbers or tensors."""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from service.numerics.core.batching import Array, Shape, align_rank, count_repeats, sum_broadcast_axes
from service.numerics.core.sparsity import drop_missing, take_elementwise_min
from service.numerics.ops.binary import align_ranks, broadcast_flat_indices, broadcast_shapes
from service.numerics.ops.elementwise import PiecewiseUnary
from service.numerics.ops.op import (
    DependencyLabels,
    Gradients,
    Op,
    OpExample,
    ShapeError,
    declare_bug,
    make_form,
    register_form,
    register_op,
)
from service.numerics.ops.rounding_errors import Rounding
from service.numerics.ops.subgradient_choices import SubgradientChoices, choose_between_derivatives, merge_choices


@register_form("clamp", "numbers")
class ClampByNumbers(PiecewiseUnary):
    """Clamping: y = min(max(x, low), high). dL/dx = g where low <= x <= high, else 0."""

    numpy_calls = 7
    min: float | None = None
    max: float | None = None

    rounds_nothing = True

    def infer_output_shape(self, input: Shape) -> Shape:
        if self.min is None and self.max is None:
            raise ShapeError("a min, a max or both, and has neither")
        return input

    def round_constants(self, nearest: Callable[[float], float]) -> Op:
        low, high = (None if end is None else nearest(end) for end in (self.min, self.max))
        return dataclasses.replace(self, min=low, max=high)

    @property
    def kink_positions(self) -> tuple[float, ...]:
        ends = [end for end in (self.min, self.max) if end is not None]
        return tuple(dict.fromkeys(ends)) if len(ends) < 2 or ends[0] <= ends[1] else ()

    def select_branch(self, input: Array) -> Array:
        is_below = np.zeros(input.shape, np.int8) if self.min is None else (input < self.min).astype(np.int8)
        above = np.zeros(input.shape, np.int8) if self.max is None else (input > self.max).astype(np.int8)
        # PyTorch gives max where min > max.
        return np.where(above > 0, 1, -is_below)

    def forward_on_branch(self, branch: Array, input: Array) -> Array:
        ends = (0.0 if self.min is None else self.min, 0.0 if self.max is None else self.max)
        low = ends[0] if self.max is None else min(ends)
        return np.select([branch < 0, branch > 0], [low, ends[1]], input).astype(input.dtype, copy=False)

    def evaluate_derivative(self, x: Array, y: Array) -> Array:
        return (self.select_branch(x) == 0).astype(x.dtype)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.clamp(input, self.min, self.max)


@register_op("clamp")
class Clamp(ClampByNumbers):
    """Clamping: y = min(max(x, low), high), where both ends are numbers, or tensors with broadcasting.

    dL/dx = g where low <= x <= high, else 0. For tensors dL/dhigh = g where x > high or low > high, and dL/dlow = g
    where x < low and low < high, all summed over broadcast axes.
    """

    min: float | None = None
    max: float | None = None

    inputs = ("input", "min?", "max?")
    positional = ("input", "min", "max")
    examples = (
        OpExample(((3, 4), None, None), {"min": -1.0, "max": 1}),
        OpExample(((5,), None, None), {"min": 0.3}),
        OpExample(((5,), None, None), {"max": 0.3}),
    )

    def infer_output_shape(self, input: Shape, min: Shape | None = None, max: Shape | None = None) -> Shape:
        ends = [end for end in (min, max) if end is not None]
        if not ends:
            return super().infer_output_shape(input)
        if self.min is not None or self.max is not None:
            raise ShapeError("two numbers, or two tensors, as min and max; a number may be a tensor of one element")
        return broadcast_shapes(input, *ends)

    def select_form(self, *shapes: Shape | None) -> Op:
        if shapes[1] is None and shapes[2] is None:
            return ClampByNumbers(min=self.min, max=self.max)
        return make_form("clamp", "tensors")

    def torch_forward(self, torch: Any, input: Any, min: Any = None, max: Any = None) -> Any:
        if min is None and max is None:
            return torch.clamp(input, self.min, self.max)
        return make_form("clamp", "tensors").torch_forward(torch, input, min, max)


_LOW, _INSIDE, _HIGH = -1, 0, 1


@register_form("clamp", "tensors")
class ClampByTensors(Op):
    """y = min(max(x, low), high) of tensors: dL/dx = g where low <= x <= high, the rest goes to the end that is y.

    If both ends are equal and x lies below them, PyTorch gives the gradient to none of the two. That is no derivative:
    both ends together move y by as much. Here the high end has it, and any shares of the two that add up are accepted.
    """

    numpy_calls = 8
    inputs = ("input", "min?", "max?")
    examples = (
        OpExample(((3, 4), (3, 4), (3, 4))),
        OpExample(((2, 3, 4), (4,), None)),
        OpExample(((2, 3), None, (3, 2, 1))),
        OpExample(((3, 1), (1, 4), ())),
    )

    def infer_output_shape(self, *shapes: Shape | None) -> Shape:
        return broadcast_shapes(*(shape for shape in shapes if shape is not None))

    def select_branch(self, input: Array, min: Array | None, max: Array | None) -> Array:
        x, low, high = _align_ends(input, min, max)
        is_low = x < low
        # PyTorch gives max where min > max.
        return np.where((np.where(is_low, low, x) > high) | (is_low & (low >= high)), _HIGH, np.where(is_low, _LOW, 0))

    def forward(self, input: Array, min: Array | None, max: Array | None) -> Array:
        x, low, high = _align_ends(input, min, max)
        return np.minimum(np.maximum(x, low), high)

    def forward_on_branch(self, branch: Array, input: Array, min: Array | None, max: Array | None) -> Array:
        x, low, high = _align_ends(input, min, max)
        return np.select([branch == _LOW, branch == _HIGH], [low, high], x)

    def backward(self, gradient: Array, output: Array, input: Array, min: Array | None, max: Array | None) -> Gradients:
        branch = self.select_branch(input, min, max)
        return tuple(
            None if operand is None else sum_broadcast_axes(np.where(branch == piece, gradient, 0), operand.shape[1:])
            for piece, operand in ((_INSIDE, input), (_LOW, min), (_HIGH, max))
        )

    def propagate_dependencies(self, values: DependencyLabels, *inputs: Any) -> Array:
        return take_elementwise_min(*align_ranks(*drop_missing(values)))

    def estimate_forward_rounding(self, output: Array, *inputs: Any) -> None:
        return None

    def estimate_rounding_on_branch(self, branch: Array, output: Array, *inputs: Any) -> None:
        return None

    def estimate_backward_rounding(self, gradient: Array, output: Array, *inputs: Any) -> tuple[Rounding | None, ...]:
        magnitudes = self.backward(np.abs(gradient), output, *inputs)
        return tuple(
            None if magnitude is None else Rounding(magnitude, count_repeats(output.shape[1:], magnitude.shape[1:]))
            for magnitude in magnitudes
        )

    def list_subgradient_choices(
        self, input_errors: Sequence[Array | None], input: Array, min: Array | None, max: Array | None
    ) -> SubgradientChoices | None:
        """Return the choices between the two of x, low and high that are near a tie, one for each element at most."""
        operands = (input, min, max)
        shape = self.forward(*operands).shape
        x, low, high = (np.broadcast_to(end, shape).ravel() for end in _align_ends(*operands))
        x_error, low_error, high_error = (
            np.zeros(x.shape)
            if array is None or error is None
            else np.broadcast_to(align_rank(np.broadcast_to(error, array.shape), len(shape) - 1), shape).ravel()
            for array, error in zip(operands, input_errors, strict=True)
        )
        numbers = [None if array is None else broadcast_flat_indices(array, shape) for array in operands]
        branch = np.broadcast_to(self.select_branch(*operands), shape).ravel()
        is_between_ends = (x < low) & (np.abs(low - high) <= low_error + high_error)
        is_at_low = ~is_between_ends & (low < high) & (np.abs(x - low) <= x_error + low_error)
        is_at_high = ~is_between_ends & ~is_at_low & (low < high) & (np.abs(x - high) <= x_error + high_error)
        return merge_choices(
            [
                _choose(is_between_ends, low == high, branch == _HIGH, numbers, (1, 2)),
                _choose(is_at_low, x == low, branch == _INSIDE, numbers, (1, 0)),
                _choose(is_at_high, x == high, branch == _HIGH, numbers, (0, 2)),
            ]
        )

    @declare_bug("the gradient of the clamped elements did not go to the ends")
    def ends_constant(self, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        return tuple(
            result if position == 0 or result is None else 0 * result
            for position, result in enumerate(self.backward(gradient, output, *inputs))
        )

    @declare_bug("the gradient passed the clamp as if nothing were clamped")
    def passed_on(self, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        return sum_broadcast_axes(gradient, inputs[0].shape[1:]), *self.backward(gradient, output, *inputs)[1:]

    def torch_forward(self, torch: Any, input: Any, min: Any, max: Any) -> Any:
        # PyTorch 2.13 refuses the backward pass of ends that are broadcast.
        given = [array for array in (input, min, max) if array is not None]
        shape = torch.broadcast_shapes(*(array.shape for array in given))
        x, low, high = (None if array is None else array.expand(shape) for array in (input, min, max))
        output = torch.clamp(x, low, high)
        return output if low is None or high is None else torch.where((low == high) & (x < low), high, output)


def _align_ends(input: Array, low: Array | None, high: Array | None) -> tuple[Array, Array, Array]:
    """Return x and both ends with axes alike, an end that is left out beyond all numbers."""
    ends = (
        np.full((1,), end, input.dtype) if array is None else array for end, array in ((-np.inf, low), (np.inf, high))
    )
    x, low_end, high_end = align_ranks(input, *ends)
    return x, low_end, high_end


def _choose(
    mask: Array, is_tied: Array, is_upper: Array, numbers: Sequence[Array | None], positions: tuple[int, int]
) -> SubgradientChoices | None:
    """Return the choice between two operands at the elements of a mask, all of them flat."""
    lower, upper = (numbers[position] for position in positions)
    if lower is None or upper is None:
        return None
    outputs = np.flatnonzero(mask)
    return choose_between_derivatives(
        outputs,
        is_upper[outputs].astype(np.float64),
        is_tied[outputs],
        [(positions[0], lower[outputs], 1.0)],
        [(positions[1], upper[outputs], 1.0)],
    )
