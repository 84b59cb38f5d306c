"""The bugs and the declarations that all convolutions share."""

from collections.abc import Callable
from types import MappingProxyType
from typing import ClassVar

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.ops.axis_numbers import spread_over_axes
from service.numerics.ops.conv_geometry import crop_last_axes, pad_last_axes
from service.numerics.ops.op import Gradients, Op, declare_bug, declare_bug_named


def shift_by_one(x: Array, axes: tuple[int, ...], step: int) -> Array:
    """Return x moved by one position along some axes, with zeros coming in."""
    shifted = np.roll(x, (step,) * len(axes), axes)
    for axis in axes:
        np.moveaxis(shifted, axis, 0)[0 if step > 0 else -1] = 0
    return shifted


def _make_off_by_one_bug(kernel_axes: slice, step: int) -> Callable[..., Gradients]:
    """Return the bug of a convolution that reads its input one position off."""

    @declare_bug_named(
        "shifted", "the input was read one position off, as with a padding or an offset that is off by one"
    )
    def read_one_element_further(
        self: "Convolution", gradient: Array, output: Array, input: Array, weight: Array, bias: Array | None
    ) -> Gradients:
        axes = self.kernel_axes[kernel_axes]
        unpadded, padding_widths = self.without_padding(weight)
        padded = pad_last_axes(input, padding_widths)
        by_padded, by_weight, by_bias = unpadded.backward(
            gradient, output, shift_by_one(padded, axes, step), weight, bias
        )
        assert by_padded is not None
        return crop_last_axes(shift_by_one(by_padded, axes, -step), padding_widths), by_weight, by_bias

    return read_one_element_further


class Convolution(Op):
    """Sums of products of an input with a kernel, and a bias."""

    multiplying_slots = MappingProxyType({"input": "factor", "weight": "factor"})
    inputs = ("input", "weight", "bias?")
    product_slots = ("input", "weight")
    supports_complex_step = True
    linear_in = MappingProxyType({"input": ("bias",), "weight": ("bias",), "bias": ("input",)})
    kernel_axes: ClassVar[tuple[int, ...]] = (-2, -1)

    @property
    def axis_count(self) -> int:
        return len(self.kernel_axes)

    def list_axis_numbers(self, value: int | list[int]) -> tuple[int, ...]:
        """Return the number of each axis, given one for all or one for each."""
        return spread_over_axes(value, self.axis_count)

    def without_padding(self, weight: Array) -> tuple["Convolution", list[tuple[int, int]]]:
        """Return the op for a padded input, and its (before, after) widths.

        The default is the op itself with widths of 0.
        """
        return self, [(0, 0)] * len(self.kernel_axes)

    @declare_bug("the kernel was read backwards, as a convolution in mathematics reads it")
    def kernel_flipped(
        self, gradient: Array, output: Array, input: Array, weight: Array, bias: Array | None
    ) -> Gradients:
        return self._backward_with_flipped_kernel(self.kernel_axes, gradient, output, input, weight, bias)

    @declare_bug_named("kernel_flipped", "the kernel was read backwards along its first axis")
    def flip_rows(self, gradient: Array, output: Array, input: Array, weight: Array, bias: Array | None) -> Gradients:
        return self._backward_with_flipped_kernel(self.kernel_axes[:1], gradient, output, input, weight, bias)

    @declare_bug_named("kernel_flipped", "the kernel was read backwards along its last axis")
    def flip_columns(
        self, gradient: Array, output: Array, input: Array, weight: Array, bias: Array | None
    ) -> Gradients:
        return self._backward_with_flipped_kernel(self.kernel_axes[-1:], gradient, output, input, weight, bias)

    def _backward_with_flipped_kernel(
        self, axes: tuple[int, ...], gradient: Array, output: Array, input: Array, weight: Array, bias: Array | None
    ) -> Gradients:
        by_input, by_weight, by_bias = self.backward(gradient, output, input, np.flip(weight, axes), bias)
        assert by_weight is not None
        return by_input, np.flip(by_weight, axes), by_bias

    one_down_and_right = _make_off_by_one_bug(slice(None), 1)
    one_up_and_left = _make_off_by_one_bug(slice(None), -1)
    one_right = _make_off_by_one_bug(slice(-1, None), 1)
    one_left = _make_off_by_one_bug(slice(-1, None), -1)
    one_down = _make_off_by_one_bug(slice(1), 1)
    one_up = _make_off_by_one_bug(slice(1), -1)

    @declare_bug_named(
        "channels_of_the_bias_averaged",
        "the gradient of the bias was averaged over its channels",
        lambda shapes: shapes[-1] is not None,
    )
    def average_bias_channels(
        self, gradient: Array, output: Array, input: Array, weight: Array, bias: Array | None
    ) -> Gradients:
        by_input, by_weight, by_bias = self.backward(gradient, output, input, weight, bias)
        return by_input, by_weight, None if by_bias is None else 0 * by_bias + by_bias.mean()
