"""Maximum pools along one axis or three, and with a given number of windows: each window by a list of its elements."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

from service.numerics.core.batching import Array, Shape, count_elements
from service.numerics.ops.average_pool import count_windows, list_adaptive_windows
from service.numerics.ops.axis_numbers import (
    NotNegative,
    NotNegativeSingle,
    NotNegativeTriple,
    Positive,
    PositiveSingle,
    PositiveTriple,
    spread_over_axes,
)
from service.numerics.ops.op import (
    ComputeCost,
    DependencyLabels,
    Gradients,
    Op,
    OpExample,
    Rounding,
    ShapeError,
    declare_bug,
    declare_bug_named,
    register_op,
)
from service.numerics.ops.pair_attributes import PositivePair
from service.numerics.ops.pointwise import find_torch_function
from service.numerics.ops.rounding_errors import count_running_terms
from service.numerics.ops.separable import check_image_rank
from service.numerics.ops.subgradient_choices import SubgradientChoices, choose_among_elements

_CALLS = 8
"""Calls of a forward pass, over the elements of all windows and over the windows."""


class AxisWindow(NamedTuple):
    """Windows along one axis: elements (windows, length), and which of them are there."""

    elements: Array
    is_present: Array


class TableMaxPool(Op):
    """The largest element of each window of the last axes, the first of equal ones."""

    inputs = ("input",)
    axis_count: ClassVar[int]

    @abstractmethod
    def list_axis_windows(self, lengths: Shape) -> list[AxisWindow]:
        """Return the windows along each axis, given its length."""

    def _list_elements(self, shape: Shape) -> Array:
        """Return the flat index of each element of each window, (windows, n), the count of the elements for none."""
        lengths = shape[-self.axis_count :]
        elements, is_present = np.zeros((1, 1), np.int64), np.ones((1, 1), np.bool_)
        for length, window in zip(lengths, self.list_axis_windows(lengths), strict=True):
            count, width = len(elements) * len(window.elements), elements.shape[1] * window.elements.shape[1]
            along, beside = window.elements[None, :, None, :], window.is_present[None, :, None, :]
            elements = (elements[:, None, :, None] * length + along).reshape(count, width)
            is_present = (is_present[:, None, :, None] & beside).reshape(count, width)
        return np.where(is_present, elements, count_elements(lengths))

    def _flatten(self, array: Array, missing: float) -> Array:
        """Return an array with its last axes as one, and a value behind for an element that is missing."""
        flat = array.reshape(*array.shape[: -self.axis_count], -1)
        filler = np.full_like(flat, missing, shape=(*flat.shape[:-1], 1))
        return np.concatenate([flat, filler], axis=-1)

    def select_branch(self, input: Array) -> Array:
        """Return the flat index of the chosen element of each window; NaN comes before every number."""
        elements = self._list_elements(input.shape)
        windows = self._flatten(input, -np.inf)[..., elements]
        chosen = np.argmax(windows, axis=-1)
        return elements[np.arange(len(elements)), chosen].reshape(
            *input.shape[: -self.axis_count], *self.infer_output_shape(input.shape[1:])[-self.axis_count :]
        )

    def forward_on_branch(self, branch: Array, input: Array) -> Array:
        values = self._flatten(input, -np.inf)
        flat = branch.reshape(*branch.shape[: -self.axis_count], -1)
        picked = np.take_along_axis(values, np.broadcast_to(flat, (*values.shape[:-1], flat.shape[-1])), axis=-1)
        return picked.reshape(len(picked), *branch.shape[1:])

    def forward(self, input: Array) -> Array:
        return self.forward_on_branch(self.select_branch(input), input)

    def _scatter_positions(self, gradient: Array, input: Array) -> tuple[Array, Array, Array]:
        """Return zeros with a last element for none, (rows, n), the positions of the chosen elements, and gradients."""
        tiles = max(len(gradient), len(input))
        branch = np.broadcast_to(self.select_branch(input), (tiles, *gradient.shape[1:]))
        rows = count_elements(branch.shape[: -self.axis_count])
        length = count_elements(input.shape[-self.axis_count :]) + 1
        positions = branch.reshape(rows, -1) + length * np.arange(rows)[:, None]
        gradients = np.broadcast_to(gradient, branch.shape).reshape(rows, -1)
        return np.zeros((rows, length), gradient.dtype), positions, gradients

    def _shape_result(self, scattered: Array, input: Array) -> Array:
        return scattered[:, :-1].reshape(-1, *input.shape[1:])

    def backward(self, gradient: Array, output: Array, input: Array) -> Gradients:
        result, positions, gradients = self._scatter_positions(gradient, input)
        np.add.at(result.reshape(-1), positions.ravel(), gradients.ravel())
        return (self._shape_result(result, input),)

    def propagate_dependencies(self, values: DependencyLabels, *inputs: Any) -> Array:
        (labels,) = values
        assert labels is not None
        least = self._flatten(labels, np.inf)[..., self._list_elements(labels.shape)].min(axis=-1)
        return least.reshape(len(labels), *self.infer_output_shape(labels.shape[1:]))

    def list_subgradient_choices(self, input_errors: Sequence[Array | None], input: Array) -> SubgradientChoices | None:
        """Return weights that sum to one of the elements that attain a window's largest."""
        assert input_errors[0] is not None
        x = input[:1]
        elements = self._list_elements(x.shape)
        values = self._flatten(x, -np.inf)[..., elements]
        errors = self._flatten(np.broadcast_to(input_errors[0], input.shape)[:1], 0)[..., elements]
        lower_bounds = (values - errors).max(axis=-1, keepdims=True)
        numbers = self._flatten(np.arange(x.size).reshape(x.shape), -1)[..., elements]
        chosen = self._flatten(np.arange(x.size).reshape(x.shape), -1)
        chosen = np.take_along_axis(chosen, self.select_branch(x).reshape(*chosen.shape[:-1], -1), axis=-1)[..., None]
        is_candidate = (values + errors >= lower_bounds) & (values > -np.inf)
        windows = np.broadcast_to(np.arange(chosen.size).reshape(chosen.shape), values.shape)
        return choose_among_elements(
            windows[is_candidate],
            windows[is_candidate],
            numbers[is_candidate],
            (numbers == chosen)[is_candidate],
            (values == values.max(axis=-1, keepdims=True))[is_candidate],
        )

    def estimate_forward_rounding(self, output: Array, input: Array) -> None:
        return None

    def estimate_backward_rounding(self, gradient: Array, output: Array, input: Array) -> tuple[Rounding]:
        def scatter(array: Array) -> Array:
            (by_input,) = self.backward(array, output[: len(array)], input[: len(array)])
            assert by_input is not None
            return by_input

        terms = max(1, self._list_elements(input.shape).shape[1] - 1)
        return (Rounding(scatter(np.abs(gradient)), count_running_terms(terms, gradient, scatter)),)

    def estimate_cost(self, output: Shape, *shapes: Shape | None) -> ComputeCost:
        (shape,) = shapes
        assert shape is not None
        windows, width = self._list_elements(shape).shape
        images = count_elements(output) // windows
        in_windows, size = images * windows * width, count_elements(shape)
        return ComputeCost(2 * in_windows + 2 * size + 2 * count_elements(output), max(in_windows, size), _CALLS)

    @declare_bug("the gradients of several windows overwrote each other instead of adding up: the last one is left")
    def scatter_without_accumulate(self, gradient: Array, output: Array, input: Array) -> Gradients:
        result, positions, gradients = self._scatter_positions(gradient, input)
        result.reshape(-1)[positions.ravel()] = gradients.ravel()
        return (self._shape_result(result, input),)

    def _give_to_elements(self, gradient: Array, input: Array, shares: Array) -> Array:
        """Return the gradient of each window, times shares of its elements, added up by element."""
        tiles = max(len(gradient), len(input))
        rows, length = (
            count_elements((tiles, *input.shape[1 : -self.axis_count])),
            count_elements(input.shape[-self.axis_count :]),
        )
        result, elements = np.zeros((rows, length + 1), gradient.dtype), self._list_elements(input.shape)
        positions = elements + (length + 1) * np.arange(rows)[:, None, None]
        given = gradient.reshape(*gradient.shape[: -self.axis_count], -1)[..., None] * shares
        np.add.at(result.reshape(-1), positions.ravel(), np.broadcast_to(given, (tiles, *given.shape[1:])).ravel())
        return self._shape_result(result, input)

    @declare_bug("the gradient of the maximum went to every element of the window")
    def to_every_element(self, gradient: Array, output: Array, input: Array) -> Gradients:
        return (self._give_to_elements(gradient, input, np.ones(self._list_elements(input.shape).shape)),)

    @declare_bug_named(
        "to_every_element",
        "the whole gradient of the maximum went to every element of the window that attains it, where several do",
        shows_only_at_ties=True,
    )
    def give_every_largest(self, gradient: Array, output: Array, input: Array) -> Gradients:
        values = self._flatten(input, -np.inf)[..., self._list_elements(input.shape)]
        is_largest = values == values.max(axis=-1, keepdims=True)
        return (self._give_to_elements(gradient, input, is_largest.astype(gradient.dtype)),)


class MaxPool(TableMaxPool):
    """A maximum pool with windows of kernel_size at every stride."""

    kernel_size: Any
    stride: Any
    padding: Any
    dilation: Any
    ceil_mode: bool

    def _list_window_numbers(self) -> list[tuple[int, int, int, int]]:
        """Return kernel, stride, padding and dilation of each axis."""
        stride = self.kernel_size if self.stride is None else self.stride
        values = (self.kernel_size, stride, self.padding, self.dilation)
        return list(zip(*(spread_over_axes(value, self.axis_count) for value in values), strict=True))

    def infer_output_shape(self, input: Shape) -> Shape:
        check_image_rank(input, self.axis_count)
        numbers = self._list_window_numbers()
        if any(2 * padding > kernel for kernel, _, padding, _ in numbers):
            raise ShapeError("a padding of at most half the kernel_size")
        counts = tuple(
            count_windows(length, *window, ceil_mode=self.ceil_mode)
            for length, window in zip(input[-self.axis_count :], numbers, strict=True)
        )
        if min(counts) < 1:
            raise ShapeError("a window no larger than the padded input")
        return (*input[: -self.axis_count], *counts)

    def list_axis_windows(self, lengths: Shape) -> list[AxisWindow]:
        windows: list[AxisWindow] = []
        for length, (kernel, stride, padding, dilation) in zip(lengths, self._list_window_numbers(), strict=True):
            count = count_windows(length, kernel, stride, padding, dilation, ceil_mode=self.ceil_mode)
            elements = (np.arange(count) * stride - padding)[:, None] + dilation * np.arange(kernel)
            windows.append(AxisWindow(elements, (elements >= 0) & (elements < length)))
        return windows

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return find_torch_function(torch, "nn.functional", self.name)(
            input, self.kernel_size, self.stride, self.padding, self.dilation, self.ceil_mode
        )


@register_op("max_pool1d")
class MaxPool1d(MaxPool):
    """Maximum pooling along the last axis: y = the largest element of each window, the first of equal ones.

    dL/dx = sum of g over the windows whose largest element x is.
    """

    kernel_size: Positive | PositiveSingle
    stride: Positive | PositiveSingle | None = None
    padding: NotNegative | NotNegativeSingle = 0
    dilation: Positive | PositiveSingle = 1
    ceil_mode: bool = False

    axis_count = 1
    examples = (
        OpExample(((2, 7),), {"kernel_size": 3, "stride": 1}),
        OpExample(((2, 1, 7),), {"kernel_size": 3, "stride": 2, "padding": 1}),
        OpExample(((1, 8),), {"kernel_size": [2], "stride": 3, "ceil_mode": True, "dilation": 2}),
    )


@register_op("max_pool3d")
class MaxPool3d(MaxPool):
    """Maximum pooling over the last three axes: y = the largest element of each window.

    Among equal ones it is the first in the window, row by row. dL/dx = sum of g over the windows whose largest element
    x is.
    """

    kernel_size: Positive | PositiveTriple
    stride: Positive | PositiveTriple | None = None
    padding: NotNegative | NotNegativeTriple = 0
    dilation: Positive | PositiveTriple = 1
    ceil_mode: bool = False

    axis_count = 3
    examples = (
        OpExample(((1, 3, 3, 3),), {"kernel_size": 2, "stride": 1}),
        OpExample(((1, 2, 2, 4, 3),), {"kernel_size": [1, 2, 2]}),
        OpExample(((1, 3, 3, 3),), {"kernel_size": 2, "padding": 1, "stride": [1, 2, 2], "ceil_mode": True}),
    )


class AdaptiveMaxPool(TableMaxPool):
    """A maximum pool with a given number of windows, which cover each axis evenly."""

    output_size: Any

    def infer_output_shape(self, input: Shape) -> Shape:
        check_image_rank(input, self.axis_count)
        return (*input[: -self.axis_count], *spread_over_axes(self.output_size, self.axis_count))

    def list_axis_windows(self, lengths: Shape) -> list[AxisWindow]:
        windows: list[AxisWindow] = []
        for length, count in zip(lengths, spread_over_axes(self.output_size, self.axis_count), strict=True):
            starts, sizes = list_adaptive_windows(length, count)
            offsets = np.arange(int(sizes.max()))
            windows.append(AxisWindow(starts[:, None] + offsets, offsets < sizes[:, None]))
        return windows

    def torch_forward(self, torch: Any, input: Any) -> Any:
        return find_torch_function(torch, "nn.functional", self.name)(input, self.output_size)


@register_op("adaptive_max_pool1d")
class AdaptiveMaxPool1d(AdaptiveMaxPool):
    """Maximum pooling to a given length: y = the largest element of each window, the first of equal ones.

    With n = output_size windows of an axis of length L, window o holds the elements from floor(o L / n) on and before
    ceil((o + 1) L / n). dL/dx = sum of g over the windows whose largest element x is.
    """

    output_size: Positive | PositiveSingle

    axis_count = 1
    examples = (OpExample(((2, 5),), {"output_size": 4}), OpExample(((2, 1, 5),), {"output_size": [1]}))


@register_op("adaptive_max_pool2d")
class AdaptiveMaxPool2d(AdaptiveMaxPool):
    """Maximum pooling to a given height and width: y = the largest element of each window, the first of equal ones.

    With n windows of an axis of length L, window o holds the elements from floor(o L / n) on and before
    ceil((o + 1) L / n). dL/dx = sum of g over the windows whose largest element x is.
    """

    output_size: Positive | PositivePair

    axis_count = 2
    examples = (OpExample(((2, 5, 4),), {"output_size": [2, 3]}), OpExample(((2, 1, 4, 3),), {"output_size": 1}))


@register_op("adaptive_max_pool3d")
class AdaptiveMaxPool3d(AdaptiveMaxPool):
    """Maximum pooling to a given depth, height and width: y = the largest element of each window, the first of equals.

    With n windows of an axis of length L, window o holds the elements from floor(o L / n) on and before
    ceil((o + 1) L / n). dL/dx = sum of g over the windows whose largest element x is.
    """

    output_size: Positive | PositiveTriple

    axis_count = 3
    examples = (
        OpExample(((1, 3, 4, 3),), {"output_size": [2, 3, 1]}),
        OpExample(((1, 2, 3, 2, 3),), {"output_size": 2}),
    )
