"""Ops that move values without computing any."""

import dataclasses
from abc import abstractmethod
from collections.abc import Callable
from types import MappingProxyType
from typing import Annotated, Any, Literal

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
    """Each element of the output is one of the input, or a constant."""

    inputs = ("input",)
    supports_complex_step = True
    linear_in = MappingProxyType({"input": ()})

    def propagate_dependencies(self, values: DependencyLabels, *inputs: Any) -> Array:
        return self.forward(*drop_missing(values))

    def expand_products(self, position: int, *inputs: Any) -> ProductExpansion:
        return self.expand_selection(position, *inputs)

    def forward_rounding(self, output: Array, *inputs: Any) -> None:
        return None

    def backward_rounding(self, gradient: Array, output: Array, *inputs: Any) -> tuple[Rounding | None, ...]:
        return (None,) * len(inputs)

    @declare_bug("the elements came back one position off")
    def displaced_by_one(self, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        results = self.backward(gradient, output, *inputs)
        return tuple(None if each is None else np.roll(each, 1) for each in results)


class ReshapingOp(DataMovementOp):
    """Elements stay in their order, row by row: dL/dx is g in the shape of x."""

    def forward(self, input: Array) -> Array:
        return input.reshape(input.shape[:1] + self.output_shape(input.shape[1:]))

    def backward(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (gradient.reshape(gradient.shape[:1] + input.shape[1:]),)


@register_op("flatten")
class Flatten(ReshapingOp):
    """Axes start_dim to end_dim, both included, become one, row by row.

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

    def output_shape(self, input: Shape) -> Shape:
        if not input:
            # As in PyTorch, a number counts as one axis of one element.
            return self.output_shape((1,))
        start, end = normalize_axis(self.start_dim, len(input)), normalize_axis(self.end_dim, len(input))
        if start > end:
            raise ShapeError(f"start_dim ({self.start_dim}) not behind end_dim ({self.end_dim})")
        merged = count_elements(input[start : end + 1])
        return (*input[:start], merged, *input[end + 1 :])

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.flatten(input, self.start_dim, self.end_dim)


@register_op("reshape")
class Reshape(ReshapingOp):
    """The elements of x, row by row, in another shape; one length may be -1. dL/dx is g in the shape of x."""

    shape: Annotated[list[Annotated[int, Ge(-1)]], Len(0, 32)]

    examples = (
        OpExample(((3, 4),), {"shape": [2, 6]}),
        OpExample(((2, 3, 4),), {"shape": [4, -1]}),
        OpExample(((1,),), {"shape": []}),
    )

    def output_shape(self, input: Shape) -> Shape:
        known = count_elements(tuple(length for length in self.shape if length != -1))
        free = self.shape.count(-1)
        if free > 1 or known == 0 or count_elements(input) % known or (not free and known != count_elements(input)):
            raise ShapeError(f"an input of as many elements as the shape {self.shape}")
        return tuple(count_elements(input) // known if length == -1 else length for length in self.shape)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.reshape(input, self.shape)


@register_op("squeeze")
class Squeeze(ReshapingOp):
    """x without its axes of length 1, all or those of `dim` (an empty list: none): dL/dx is g in the shape of x."""

    dim: AxisSelection = None

    examples = (
        OpExample(((1, 3, 1),)),
        OpExample(((1, 3, 1),), {"dim": -1}),
        OpExample(((1, 3, 1),), {"dim": [0, 1]}),
        OpExample(((1, 3, 1),), {"dim": []}),
    )

    def _squeezed_axes(self, rank: int) -> tuple[int, ...]:
        return () if self.dim == [] else normalize_axes(self.dim, rank)

    def resolve_shape_defaults(self, *shapes: Shape | None) -> Op:
        input = shapes[0]
        assert input is not None
        return dataclasses.replace(self, dim=list(self._squeezed_axes(len(input)))) if self.dim is None else self

    def output_shape(self, input: Shape) -> Shape:
        chosen = self._squeezed_axes(len(input))
        return tuple(length for i, length in enumerate(input) if length != 1 or i not in chosen)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.squeeze(input, self._squeezed_axes(input.ndim))


@register_op("unsqueeze")
class Unsqueeze(ReshapingOp):
    """x with an axis of length 1 put in at `dim`: dL/dx is g in the shape of x."""

    dim: int

    examples = (OpExample(((3, 4),), {"dim": 1}), OpExample(((3, 4),), {"dim": -1}), OpExample(((),), {"dim": 0}))

    def output_shape(self, input: Shape) -> Shape:
        at = normalize_axis(self.dim, len(input) + 1)
        return (*input[:at], 1, *input[at:])

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.unsqueeze(input, self.dim)


class PermutingOp(DataMovementOp):
    """The axes in another order; the gradient goes back to theirs."""

    @abstractmethod
    def _axis_order(self, rank: int) -> tuple[int, ...]:
        """Which axis of the input each axis of the output is."""

    def output_shape(self, input: Shape) -> Shape:
        return tuple(input[each] for each in self._axis_order(len(input)))

    def forward(self, input: Array) -> Array:
        return input.transpose(0, *shift_past_batch_axis(self._axis_order(input.ndim - 1)))

    def backward(self, gradient: Array, output: Array, input: Array) -> Gradients:
        back = tuple(int(each) for each in np.argsort(self._axis_order(input.ndim - 1)))
        return (gradient.transpose(0, *shift_past_batch_axis(back)),)


@register_op("transpose")
class Transpose(PermutingOp):
    """x with two axes exchanged: dL/dx is g with the same two exchanged."""

    dim0: int
    dim1: int

    examples = (
        OpExample(((3, 4),), {"dim0": 0, "dim1": 1}),
        OpExample(((2, 3, 4),), {"dim0": -1, "dim1": 0}),
        OpExample(((),), {"dim0": 0, "dim1": -1}),
    )

    def _axis_order(self, rank: int) -> tuple[int, ...]:
        first, second = normalize_axis(self.dim0, rank), normalize_axis(self.dim1, rank)
        order = list(range(rank))
        if rank:
            order[first], order[second] = second, first
        return tuple(order)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.transpose(input, self.dim0, self.dim1)


@register_op("permute")
class Permute(PermutingOp):
    """x with its axes in the order `dims`: dL/dx is g with them back in theirs."""

    dims: list[int]

    examples = (
        OpExample(((2, 3, 4),), {"dims": [2, 0, 1]}),
        OpExample(((3, 4),), {"dims": [-1, 0]}),
        OpExample(((),), {"dims": []}),
    )

    def _axis_order(self, rank: int) -> tuple[int, ...]:
        order = tuple(normalize_axis(each, rank) for each in self.dims)
        if sorted(order) != list(range(rank)):
            raise ShapeError(f"an input of as many axes as dims {self.dims}, each named once")
        return order

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.permute(input, self.dims)


@register_op("flip")
class Flip(DataMovementOp):
    """x read backwards along `dims`: dL/dx is g read backwards along them."""

    dims: int | list[int]

    examples = (
        OpExample(((3, 4),), {"dims": 1}),
        OpExample(((2, 3, 4),), {"dims": [0, -1]}),
        OpExample(((3,),), {"dims": []}),
    )

    def _flipped_axes(self, rank: int) -> tuple[int, ...]:
        return () if self.dims == [] else normalize_axes(self.dims, rank)

    def output_shape(self, input: Shape) -> Shape:
        self._flipped_axes(len(input))
        return input

    def forward(self, input: Array) -> Array:
        return np.flip(input, shift_past_batch_axis(self._flipped_axes(input.ndim - 1)))

    def backward(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (np.flip(gradient, shift_past_batch_axis(self._flipped_axes(input.ndim - 1))),)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.flip(input, self._flipped_axes(input.ndim))


@register_op("narrow")
class Narrow(DataMovementOp):
    """x from `start` on along `dim`, `length` long: dL/dx is g there and 0 elsewhere."""

    dim: int
    start: int
    length: Annotated[int, Ge(1)]

    examples = (
        OpExample(((3, 4),), {"dim": 1, "start": 1, "length": 2}),
        OpExample(((2, 3, 4),), {"dim": -2, "start": -2, "length": 1}),
        OpExample(((5,),), {"dim": 0, "start": 0, "length": 5}),
    )

    def _axis_and_start(self, input: Shape) -> tuple[int, int]:
        """Axis and start, both from 0."""
        if not input:
            raise ShapeError("an input of at least one axis")
        along = normalize_axis(self.dim, len(input))
        start = self.start + input[along] if self.start < 0 else self.start
        if not 0 <= start <= input[along] - self.length:
            raise ShapeError(f"start={self.start} and length={self.length} within axis {self.dim}")
        return along, start

    def output_shape(self, input: Shape) -> Shape:
        along, _ = self._axis_and_start(input)
        return (*input[:along], self.length, *input[along + 1 :])

    def _input_slices(self, input: Array) -> tuple[slice, ...]:
        along, start = self._axis_and_start(input.shape[1:])
        return (slice(None),) * (along + 1) + (slice(start, start + self.length),)

    def forward(self, input: Array) -> Array:
        return input[self._input_slices(input)]

    def backward(self, gradient: Array, output: Array, input: Array) -> Gradients:
        by_input = np.zeros(gradient.shape[:1] + input.shape[1:], dtype=gradient.dtype)
        by_input[self._input_slices(input)] = gradient
        return (by_input,)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.narrow(input, self.dim, self.start, self.length)


@register_op("pad")
class Pad(DataMovementOp):
    """x with `value` put before and behind it, from the last axis on: pad = [before, behind, before, behind, ...].

    Where a width is negative as much is cut off. dL/dx is g where x went, and 0 where x was cut off.
    """

    pad: list[int]
    mode: Literal["constant"] = "constant"
    value: float | None = 0.0

    examples = (
        OpExample(((3, 4),), {"pad": [1, 2]}),
        OpExample(((2, 3, 4),), {"pad": [0, 1, -1, 2], "value": 0.5}),
        OpExample(((3,),), {"pad": []}),
    )

    @property
    def _fill_value(self) -> float:
        return 0.0 if self.value is None else self.value

    def resolve_dtype_defaults(self, epsilon: float) -> Op:
        return dataclasses.replace(self, value=self._fill_value)

    def round_constants(self, nearest: Callable[[float], float]) -> Op:
        return dataclasses.replace(self, value=nearest(self._fill_value))

    def _pad_widths(self, rank: int) -> list[tuple[int, int]]:
        """Before and behind, for each axis."""
        if len(self.pad) % 2 or len(self.pad) > 2 * rank:
            raise ShapeError(f"pairs of widths for {rank} axes at most; pad is {self.pad}")
        pairs = list(zip(self.pad[::2], self.pad[1::2], strict=True))
        return [(0, 0)] * (rank - len(pairs)) + pairs[::-1]

    def output_shape(self, input: Shape) -> Shape:
        widths = self._pad_widths(len(input))
        kept = [length + min(b, 0) + min(a, 0) for length, (b, a) in zip(input, widths, strict=True)]
        found = tuple(length + b + a for length, (b, a) in zip(input, widths, strict=True))
        if any(length < 1 for length in kept) or any(length < 1 for length in found):
            raise ShapeError(f"an input of which something is left; pad is {self.pad}")
        return found

    def _source_and_target_slices(self, input: Array) -> tuple[tuple[slice, ...], tuple[slice, ...]]:
        """What is taken of the input, and where it goes."""
        source, target = [slice(None)], [slice(None)]
        for length, (before, behind) in zip(input.shape[1:], self._pad_widths(input.ndim - 1), strict=True):
            first, last = max(0, -before), length - max(0, -behind)
            source.append(slice(first, last))
            target.append(slice(max(0, before), max(0, before) + last - first))
        return tuple(source), tuple(target)

    def forward(self, input: Array) -> Array:
        source, target = self._source_and_target_slices(input)
        shape = input.shape[:1] + self.output_shape(input.shape[1:])
        output = np.full(shape, self._fill_value, dtype=input.dtype)
        output[target] = input[source]
        return output

    def linear_response(self, position: int, direction: Array, *inputs: Any) -> Array:
        return dataclasses.replace(self, value=0.0).forward(direction)

    def propagate_dependencies(self, values: DependencyLabels, *inputs: Any) -> Array:
        return dataclasses.replace(self, value=np.inf).forward(*drop_missing(values))

    def backward(self, gradient: Array, output: Array, input: Array) -> Gradients:
        source, target = self._source_and_target_slices(input)
        by_input = np.zeros(gradient.shape[:1] + input.shape[1:], dtype=gradient.dtype)
        by_input[source] = gradient[target]
        return (by_input,)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.nn.functional.pad(input, self.pad, self.mode, self.value)


@register_op("expand")
class Expand(DataMovementOp):
    """x repeated along axes of length 1, and along new ones in front, to `size`; -1 leaves an axis as it is.

    dL/dx = sum of g over the axes along which x was repeated.
    """

    size: Annotated[list[Annotated[int, Ge(-1)]], Len(1, 32)]

    examples = (
        OpExample(((3, 1),), {"size": [3, 4]}),
        OpExample(((1, 4),), {"size": [2, 3, -1]}),
        OpExample(((),), {"size": [2, 2]}),
    )

    def output_shape(self, input: Shape) -> Shape:
        new = len(self.size) - len(input)
        lengths = [1] * max(new, 0) + list(input)
        fits = new >= 0 and all(
            asked in (-1 if i >= new else asked, length) or (length == 1 and asked > 0)
            for i, (asked, length) in enumerate(zip(self.size, lengths, strict=True))
        )
        if not fits or 0 in self.size or -1 in self.size[: max(new, 0)]:
            raise ShapeError(f"an input that can be repeated to size {self.size}")
        return tuple(length if asked == -1 else asked for asked, length in zip(self.size, lengths, strict=True))

    def forward(self, input: Array) -> Array:
        shape = self.output_shape(input.shape[1:])
        front = (1,) * (len(shape) - (input.ndim - 1))
        return np.broadcast_to(input.reshape(input.shape[:1] + front + input.shape[1:]), input.shape[:1] + shape)

    def backward(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (sum_broadcast_axes(gradient, input.shape[1:]),)

    def backward_rounding(self, gradient: Array, output: Array, *inputs: Any) -> tuple[Rounding]:
        magnitude = sum_broadcast_axes(np.abs(gradient), inputs[0].shape[1:])
        return (Rounding(magnitude, count_repeats(output.shape[1:], inputs[0].shape[1:])),)

    @declare_bug_named("scaled", "the mean over the expanded axes was taken instead of the sum")
    def averaged(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (sum_broadcast_axes(gradient, input.shape[1:]) / count_repeats(output.shape[1:], input.shape[1:]),)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return input.expand(self.size)
