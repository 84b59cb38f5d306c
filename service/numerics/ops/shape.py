"""Ops that move values without computing any."""

import dataclasses
from abc import abstractmethod
from types import MappingProxyType
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Len

from service.numerics.core.batching import Array, Shape, count_elements, count_repeats, sum_broadcast_axes
from service.numerics.core.sparsity import drop_missing
from service.numerics.ops.axes import AxisSelection, normalize_axes, normalize_axis, shift_past_batch_axis
from service.numerics.ops.op import (
    DependencyLabels,
    Gradients,
    Op,
    OpExample,
    ProductExpansion,
    Rounding,
    ShapeError,
    declare_bug,
    declare_bug_named,
    register_op,
)


class DataMovementOp(Op):
    """An op each element of whose output is an element of the input, or a constant."""

    inputs = ("input",)
    supports_complex_step = True
    linear_in = MappingProxyType({"input": ()})

    def propagate_dependencies(self, values: DependencyLabels, *inputs: Any) -> Array:
        return self.forward(*drop_missing(values))

    def expand_products(self, position: int, *inputs: Any) -> ProductExpansion:
        return self.expand_selection(position, *inputs)

    def estimate_forward_rounding(self, output: Array, *inputs: Any) -> None:
        return None

    def estimate_backward_rounding(self, gradient: Array, output: Array, *inputs: Any) -> tuple[Rounding | None, ...]:
        return (None,) * len(inputs)

    @declare_bug("the elements came back one position off")
    def displaced_by_one(self, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        results = self.backward(gradient, output, *inputs)
        return tuple(
            None if gradient_of_input is None else np.roll(gradient_of_input, 1) for gradient_of_input in results
        )


class ReshapingOp(DataMovementOp):
    """An op that keeps the order of elements, row by row: dL/dx is g reshaped."""

    def forward(self, input: Array) -> Array:
        return input.reshape(input.shape[:1] + self.infer_output_shape(input.shape[1:]))

    def backward(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient.reshape(gradient.shape[:1] + input.shape[1:]),)


@register_op("flatten")
class Flatten(ReshapingOp):
    """Flattening: axes start_dim to end_dim, both included, become one, row by row.

    y[..., i W + j, ...] = x[..., i, j, ...] has one source for each element, so dL/dx is g in the shape of x.
    """

    start_dim: int = 0
    end_dim: int = -1

    examples = (
        OpExample(((3, 4),)),
        OpExample(((),)),
        OpExample(((2, 3, 4, 2),), {"start_dim": 1}),
        OpExample(((2, 3, 4, 2),), {"start_dim": 1, "end_dim": -2}),
    )

    def infer_output_shape(self, input: Shape) -> Shape:
        if not input:
            # In PyTorch a number counts as one axis of one element.
            return self.infer_output_shape((1,))
        start, end = normalize_axis(self.start_dim, len(input)), normalize_axis(self.end_dim, len(input))
        if start > end:
            raise ShapeError(f"a start_dim ({self.start_dim}) not behind end_dim ({self.end_dim})")
        merged_length = count_elements(input[start : end + 1])
        return (*input[:start], merged_length, *input[end + 1 :])

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.flatten(input, self.start_dim, self.end_dim)


@register_op("reshape")
class Reshape(ReshapingOp):
    """Reshaping: the elements of x, row by row, in another shape.

    One length may be -1, for as many as fit. dL/dx is g in the shape of x.
    """

    shape: Annotated[list[Annotated[int, Ge(-1)]], Len(0, 32)]

    examples = (
        OpExample(((3, 4),), {"shape": [2, 6]}),
        OpExample(((2, 3, 4),), {"shape": [4, -1]}),
        OpExample(((1,),), {"shape": []}),
    )

    def infer_output_shape(self, input: Shape) -> Shape:
        known_count = count_elements(tuple(length for length in self.shape if length != -1))
        free_count = self.shape.count(-1)
        if known_count == 0 and not free_count and count_elements(input) == 0:
            return tuple(self.shape)
        if (
            free_count > 1
            or known_count == 0
            or count_elements(input) % known_count
            or (not free_count and known_count != count_elements(input))
        ):
            raise ShapeError(f"an input with as many elements as the shape {self.shape}")
        return tuple(count_elements(input) // known_count if length == -1 else length for length in self.shape)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.reshape(input, self.shape)


@register_op("squeeze")
class Squeeze(ReshapingOp):
    """Removal of the axes of length 1, all or those of `dim` (an empty list: none).

    dL/dx is g in the shape of x.
    """

    dim: AxisSelection = None

    examples = (
        OpExample(((1, 3, 1),)),
        OpExample(((1, 3, 1),), {"dim": -1}),
        OpExample(((1, 3, 1),), {"dim": [0, 1]}),
        OpExample(((1, 3, 1),), {"dim": []}),
    )

    def _get_squeezed_axes(self, rank: int) -> tuple[int, ...]:
        return () if self.dim == [] else normalize_axes(self.dim, rank)

    def resolve_shape_defaults(self, *shapes: Shape | None) -> Op:
        input = shapes[0]
        assert input is not None
        return dataclasses.replace(self, dim=list(self._get_squeezed_axes(len(input)))) if self.dim is None else self

    def infer_output_shape(self, input: Shape) -> Shape:
        squeezed_axes = self._get_squeezed_axes(len(input))
        return tuple(length for i, length in enumerate(input) if length != 1 or i not in squeezed_axes)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.squeeze(input, self._get_squeezed_axes(input.ndim))


@register_op("unsqueeze")
class Unsqueeze(ReshapingOp):
    """Insertion of an axis of length 1 at `dim`: dL/dx is g in the shape of x."""

    dim: int

    examples = (OpExample(((3, 4),), {"dim": 1}), OpExample(((3, 4),), {"dim": -1}), OpExample(((),), {"dim": 0}))

    def infer_output_shape(self, input: Shape) -> Shape:
        axis = normalize_axis(self.dim, len(input) + 1)
        return (*input[:axis], 1, *input[axis:])

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.unsqueeze(input, self.dim)


class PermutingOp(DataMovementOp):
    """An op that permutes the axes: the gradient goes back to their order in x."""

    @abstractmethod
    def _get_axis_order(self, rank: int) -> tuple[int, ...]:
        """Return the input axis of each output axis."""

    def infer_output_shape(self, input: Shape) -> Shape:
        return tuple(input[axis] for axis in self._get_axis_order(len(input)))

    def forward(self, input: Array) -> Array:
        return input.transpose(0, *shift_past_batch_axis(self._get_axis_order(input.ndim - 1)))

    def backward(self, gradient: Array, output: Array, input: Array) -> Gradients:
        inverse_order = tuple(int(axis) for axis in np.argsort(self._get_axis_order(input.ndim - 1)))
        return (gradient.transpose(0, *shift_past_batch_axis(inverse_order)),)


@register_op("transpose")
class Transpose(PermutingOp):
    """Exchange of two axes: dL/dx is g with the same two exchanged."""

    dim0: int
    dim1: int

    examples = (
        OpExample(((3, 4),), {"dim0": 0, "dim1": 1}),
        OpExample(((2, 3, 4),), {"dim0": -1, "dim1": 0}),
        OpExample(((),), {"dim0": 0, "dim1": -1}),
    )

    def _get_axis_order(self, rank: int) -> tuple[int, ...]:
        first, second = normalize_axis(self.dim0, rank), normalize_axis(self.dim1, rank)
        order = list(range(rank))
        if rank:
            order[first], order[second] = second, first
        return tuple(order)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.transpose(input, self.dim0, self.dim1)


@register_op("permute")
class Permute(PermutingOp):
    """Permutation of the axes into the order `dims`.

    dL/dx is g with its axes back in the order of x.
    """

    dims: list[int]

    examples = (
        OpExample(((2, 3, 4),), {"dims": [2, 0, 1]}),
        OpExample(((3, 4),), {"dims": [-1, 0]}),
        OpExample(((),), {"dims": []}),
    )

    def _get_axis_order(self, rank: int) -> tuple[int, ...]:
        order = tuple(normalize_axis(axis, rank) for axis in self.dims)
        if sorted(order) != list(range(rank)):
            raise ShapeError(f"an input with as many axes as dims {self.dims}, each of them once")
        return order

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.permute(input, self.dims)


@register_op("flip")
class Flip(DataMovementOp):
    """Reversal of x along `dims`: dL/dx is g reversed along them."""

    dims: int | list[int]

    examples = (
        OpExample(((3, 4),), {"dims": 1}),
        OpExample(((2, 3, 4),), {"dims": [0, -1]}),
        OpExample(((3,),), {"dims": []}),
    )

    def _get_flipped_axes(self, rank: int) -> tuple[int, ...]:
        return () if self.dims == [] else normalize_axes(self.dims, rank)

    def infer_output_shape(self, input: Shape) -> Shape:
        self._get_flipped_axes(len(input))
        return input

    def forward(self, input: Array) -> Array:
        return np.flip(input, shift_past_batch_axis(self._get_flipped_axes(input.ndim - 1)))

    def backward(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (np.flip(gradient, shift_past_batch_axis(self._get_flipped_axes(input.ndim - 1))),)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.flip(input, self._get_flipped_axes(input.ndim))


@register_op("narrow")
class Narrow(DataMovementOp):
    """Slice of x along `dim`, from `start` on and `length` long.

    dL/dx is g there and 0 elsewhere.
    """

    dim: int
    start: int
    length: Annotated[int, Ge(0)]

    examples = (
        OpExample(((3, 4),), {"dim": 1, "start": 1, "length": 2}),
        OpExample(((2, 3, 4),), {"dim": -2, "start": -2, "length": 1}),
        OpExample(((5,),), {"dim": 0, "start": 0, "length": 5}),
    )

    def _get_axis_and_start(self, input: Shape) -> tuple[int, int]:
        """Return axis and start, both counted from 0."""
        if not input:
            raise ShapeError("an input with at least one axis")
        axis = normalize_axis(self.dim, len(input))
        start = self.start + input[axis] if self.start < 0 else self.start
        if not 0 <= start <= input[axis] - self.length:
            raise ShapeError(f"start={self.start} and length={self.length} inside axis {self.dim}")
        return axis, start

    def infer_output_shape(self, input: Shape) -> Shape:
        axis, _ = self._get_axis_and_start(input)
        return (*input[:axis], self.length, *input[axis + 1 :])

    def _get_input_slices(self, input: Array) -> tuple[slice, ...]:
        axis, start = self._get_axis_and_start(input.shape[1:])
        return (slice(None),) * (axis + 1) + (slice(start, start + self.length),)

    def forward(self, input: Array) -> Array:
        return input[self._get_input_slices(input)]

    def backward(self, gradient: Array, output: Array, input: Array) -> Gradients:
        by_input = np.zeros(gradient.shape[:1] + input.shape[1:], dtype=gradient.dtype)
        by_input[self._get_input_slices(input)] = gradient
        return (by_input,)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.narrow(input, self.dim, self.start, self.length)


@register_op("expand")
class Expand(DataMovementOp):
    """Repetition along axes of length 1, and along new ones in front, to `size`.

    A size of -1 leaves an axis as it is. dL/dx = sum of g over the axes along which x was repeated.
    """

    size: Annotated[list[Annotated[int, Ge(-1)]], Len(0, 32)]

    examples = (
        OpExample(((3, 1),), {"size": [3, 4]}),
        OpExample(((1, 4),), {"size": [2, 3, -1]}),
        OpExample(((),), {"size": [2, 2]}),
    )

    def infer_output_shape(self, input: Shape) -> Shape:
        new_axis_count = len(self.size) - len(input)
        lengths = [1] * max(new_axis_count, 0) + list(input)
        is_expandable = new_axis_count >= 0 and all(
            requested_length in (-1 if i >= new_axis_count else requested_length, input_length)
            or (input_length == 1 and requested_length > 0)
            for i, (requested_length, input_length) in enumerate(zip(self.size, lengths, strict=True))
        )
        if not is_expandable or 0 in self.size or -1 in self.size[: max(new_axis_count, 0)]:
            raise ShapeError(f"an input that can be repeated to size {self.size}")
        return tuple(
            input_length if requested_length == -1 else requested_length
            for requested_length, input_length in zip(self.size, lengths, strict=True)
        )

    def forward(self, input: Array) -> Array:
        shape = self.infer_output_shape(input.shape[1:])
        new_axes = (1,) * (len(shape) - (input.ndim - 1))
        return np.broadcast_to(input.reshape(input.shape[:1] + new_axes + input.shape[1:]), input.shape[:1] + shape)

    def backward(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (sum_broadcast_axes(gradient, input.shape[1:]),)

    def estimate_backward_rounding(self, gradient: Array, output: Array, *inputs: Any) -> tuple[Rounding]:
        magnitude = sum_broadcast_axes(np.abs(gradient), inputs[0].shape[1:])
        return (Rounding(magnitude, count_repeats(output.shape[1:], inputs[0].shape[1:])),)

    @declare_bug_named("scaled", "the mean over the expanded axes was taken instead of the sum")
    def averaged(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (sum_broadcast_axes(gradient, input.shape[1:]) / count_repeats(output.shape[1:], input.shape[1:]),)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return input.expand(self.size)
