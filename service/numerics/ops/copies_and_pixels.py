"""Copies of elements, and channels that become pixels or other channels."""

from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Len

from service.numerics.core.batching import Array, Shape, count_elements
from service.numerics.ops.axes import normalize_axis
from service.numerics.ops.axis_numbers import Positive
from service.numerics.ops.element_moves import ElementMove
from service.numerics.ops.op import Gradients, OpExample, ShapeError, declare_bug, register_op


@register_op("repeat")
class Repeat(ElementMove):
    """Copies beside each other: the tensor `repeats[k]` times along axis k, counted from the last.

    dL/dx is the sum of g over the copies.
    """

    repeats: Annotated[list[Positive], Len(1, 32)]

    examples = (OpExample(((3,),), {"repeats": [2]}), OpExample(((2, 3),), {"repeats": [2, 1, 3]}))

    def infer_output_shape(self, input: Shape) -> Shape:
        if len(self.repeats) < len(input):
            raise ShapeError("no more axes than repeats")
        lengths = (1,) * (len(self.repeats) - len(input)) + input
        return tuple(length * count for length, count in zip(lengths, self.repeats, strict=True))

    def move(self, numbers: Array) -> Array:
        return np.tile(numbers, self.repeats)

    @declare_bug("the mean over the copies was taken instead of the sum")
    def mean_of_the_copies(self, gradient: Array, output: Array, input: Array) -> Gradients:
        copies = count_elements(output.shape[1:]) // count_elements(input.shape[1:])
        return self.backward(gradient / copies, output, input)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return input.repeat(self.repeats)


@register_op("repeat_interleave")
class RepeatInterleave(ElementMove):
    """Copies of each element after another: `repeats` times along `dim`, or of all elements row by row.

    dL/dx is the sum of g over the copies.
    """

    repeats: Positive
    dim: int | None = None

    examples = (OpExample(((3, 2),), {"repeats": 2, "dim": 1}), OpExample(((2, 3),), {"repeats": 3}))

    def infer_output_shape(self, input: Shape) -> Shape:
        if self.dim is None:
            return (count_elements(input) * self.repeats,)
        axis = normalize_axis(self.dim, len(input))
        lengths = list(input or (1,))
        lengths[axis] *= self.repeats
        return tuple(lengths)

    def move(self, numbers: Array) -> Array:
        return np.repeat(numbers if numbers.ndim else numbers.reshape(1), self.repeats, self.dim)

    @declare_bug("only the first copy of each element handed its gradient back")
    def first_copy_alone(self, gradient: Array, output: Array, input: Array) -> Gradients:
        size = count_elements(input.shape[1:])
        sources = self._list_sources(input).ravel()
        first = np.array([np.flatnonzero(sources == number)[0] for number in range(size)])
        return (gradient.reshape(len(gradient), -1)[:, first].reshape(len(gradient), *input.shape[1:]),)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.repeat_interleave(input, self.repeats, self.dim)


def _split_axis(numbers: Array, axis: int, lengths: Shape) -> Array:
    """Return the array with an axis, counted from the end, split into several."""
    axis += numbers.ndim
    return numbers.reshape(*numbers.shape[:axis], *lengths, *numbers.shape[axis + 1 :])


@register_op("pixel_shuffle")
class PixelShuffle(ElementMove):
    """Channels as finer pixels: (..., C r^2, H, W) becomes (..., C, H r, W r), r = upscale_factor.

    y[c, h r + i, w r + j] = x[(c r + i) r + j, h, w]. dL/dx is g moved back.
    """

    upscale_factor: Positive

    examples = (OpExample(((1, 4, 2, 3),), {"upscale_factor": 2}), OpExample(((8, 1, 2),), {"upscale_factor": 2}))

    def infer_output_shape(self, input: Shape) -> Shape:
        factor = self.upscale_factor
        if len(input) < 3 or input[-3] % factor**2:
            raise ShapeError("an input (..., C, H, W) with C a multiple of upscale_factor squared")
        return (*input[:-3], input[-3] // factor**2, input[-2] * factor, input[-1] * factor)

    def move(self, numbers: Array) -> Array:
        factor = self.upscale_factor
        split = _split_axis(numbers, -3, (-1, factor, factor))
        return np.moveaxis(split, (-4, -3), (-3, -1)).reshape(self.infer_output_shape(numbers.shape))

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.nn.functional.pixel_shuffle(input, self.upscale_factor)


@register_op("pixel_unshuffle")
class PixelUnshuffle(ElementMove):
    """Fine pixels as channels: (..., C, H r, W r) becomes (..., C r^2, H, W), r = downscale_factor.

    y[(c r + i) r + j, h, w] = x[c, h r + i, w r + j]. dL/dx is g moved back.
    """

    downscale_factor: Positive

    examples = (OpExample(((1, 1, 4, 2),), {"downscale_factor": 2}), OpExample(((2, 2, 6),), {"downscale_factor": 2}))

    def infer_output_shape(self, input: Shape) -> Shape:
        factor = self.downscale_factor
        if len(input) < 3 or input[-2] % factor or input[-1] % factor:
            raise ShapeError("an input (..., C, H, W) with H and W multiples of downscale_factor")
        return (*input[:-3], input[-3] * factor**2, input[-2] // factor, input[-1] // factor)

    def move(self, numbers: Array) -> Array:
        factor = self.downscale_factor
        split = _split_axis(_split_axis(numbers, -2, (-1, factor)), -1, (-1, factor))
        return np.moveaxis(split, (-3, -1), (-4, -3)).reshape(self.infer_output_shape(numbers.shape))

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.nn.functional.pixel_unshuffle(input, self.downscale_factor)


@register_op("channel_shuffle")
class ChannelShuffle(ElementMove):
    """Channels of several groups in turn: channel (i, j) of `groups` rows becomes channel (j, i).

    dL/dx is g with the channels moved back.
    """

    groups: Annotated[int, Ge(1)]

    examples = (OpExample(((1, 6, 2, 1),), {"groups": 2}), OpExample(((2, 6, 2),), {"groups": 3}))

    def infer_output_shape(self, input: Shape) -> Shape:
        if len(input) < 3 or input[1] % self.groups:
            raise ShapeError("an input (B, C, ...) of three axes or more, with C a multiple of groups")
        return input

    def move(self, numbers: Array) -> Array:
        split = numbers.reshape(len(numbers), self.groups, -1, *numbers.shape[2:])
        return np.swapaxes(split, 1, 2).reshape(numbers.shape)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return torch.nn.functional.channel_shuffle(input, self.groups)
