"""The bugs and the declarations that all convolutions share."""

from collections.abc import Callable
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.ops.axis_numbers import spread_over_axes
from service.numerics.ops.backward_form import BackwardForm
from service.numerics.ops.conv_geometry import crop_last_axes, pad_last_axes
from service.numerics.ops.formula import Scope
from service.numerics.ops.formula_op import FormulaBugs
from service.numerics.ops.op import Gradients, declare_bug, declare_bug_named


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


def _fit(kernel: Array, weight: Array) -> Array:
    """Return a kernel, or the weight where the kernel has another shape."""
    return kernel if kernel.shape == weight.shape else weight


class Convolution(FormulaBugs):
    """Sums of products of an input with a kernel, and a bias."""

    multiplying_slots = MappingProxyType({"input": "factor", "weight": "factor"})
    inputs = ("input", "weight", "bias?")
    product_slots = ("input", "weight")
    supports_complex_step = True
    linear_in = MappingProxyType({"input": ("bias",), "weight": ("bias",), "bias": ("input",)})
    kernel_axes: ClassVar[tuple[int, ...]] = (-2, -1)
    backward_form = BackwardForm(
        {"input": "to_input(g)", "weight": "to_weight(g)"},
        alternatives={
            "input": {
                "to_input_flipped(g)": "the kernel was read backwards on the way to the input alone",
                "to_input_exchanged(g)": "the channels of the weight were exchanged on the way to the input",
            },
            "weight": {
                "to_weight_flipped(g)": "the gradient of the kernel was written backwards",
                "to_weight_exchanged(g)": "the channels were exchanged in the gradient of the weight",
            },
        },
        layouts=("to_input", "to_weight"),
        published={
            "input:wrong_formula:to_input_flipped(g)": (
                "kernel_flipped",
                "the kernel was read backwards on the way to the input alone",
            ),
            "weight:wrong_formula:to_weight_flipped(g)": (
                "kernel_flipped",
                "the gradient of the kernel was written backwards",
            ),
        },
    )

    def make_scope(self, gradient: Array, output: Array, *inputs: Any) -> Scope:
        input, weight, bias = inputs

        def differentiate(array: Array, kernel: Array, position: int) -> Array:
            wanted = [number == position for number in range(3)]
            result = self.backward_for(wanted, array, output, input, kernel, bias)[position]
            assert result is not None
            return result

        def exchange_channels(kernel: Array) -> Array:
            return np.swapaxes(kernel, 1, 2) if kernel.ndim > len(self.kernel_axes) + 1 else kernel

        scope = Scope().add_quantities(g=lambda: gradient)
        return scope.add_functions(
            to_input=lambda array: differentiate(array, weight, 0),
            to_input_flipped=lambda array: differentiate(array, np.flip(weight, self.kernel_axes), 0),
            to_input_exchanged=lambda array: differentiate(array, _fit(exchange_channels(weight), weight), 0),
            to_weight=lambda array: differentiate(array, weight, 1),
            to_weight_flipped=lambda array: np.flip(differentiate(array, weight, 1), self.kernel_axes),
            to_weight_exchanged=lambda array: exchange_channels(differentiate(array, weight, 1)),
        )

    @property
    def axis_count(self) -> int:
        return len(self.kernel_axes)

    def list_axis_numbers(self, value: int | list[int]) -> tuple[int, ...]:
        """Return the number of each axis, given one for all or one for each."""
        return spread_over_axes(value, self.axis_count)

    def count_stored_terms(self, position: int, *inputs: Array | None) -> int:
        # On a CPU a product of matrices makes all terms of the input's gradient, one for each element of the kernel.
        weight = inputs[1]
        assert weight is not None
        return int(np.prod([weight.shape[axis] for axis in self.kernel_axes])) if position == 0 else 1

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
