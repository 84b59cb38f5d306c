"""Maximum pools whose windows are lists of elements."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np

from service.numerics.core.batching import Array, Shape, count_elements
from service.numerics.ops.op import (
    ComputeCost,
    DependencyLabels,
    Gradients,
    Op,
    Rounding,
    declare_bug,
    declare_bug_named,
)
from service.numerics.ops.rounding_errors import count_running_terms
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
