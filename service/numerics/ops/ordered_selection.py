"""The elements at the positions of an order: the values of `sort`, `topk`, `median` and the like.

Notes
-----
The element of rank r is a continuous function of the elements, and piecewise linear: on each piece it is one of them.
The pieces are the positions (`ranks.py`). If several elements equal it within their errors, the corners of its Clarke
derivative are the gradients of these elements, one unit for each rank: the same mechanism as at a maximum.

Several ranks of m equal elements take them in one order: the gradients that m results hand back are those of a
permutation, or a mean of permutations. They lie in the permutohedron of the results' gradients g: no k elements have
more than the k largest of g together, nor less than the k smallest (Rado). The units here choose for each rank by
itself, so that only the sum is kept, and the verdict holds each element between its one-sided derivatives, which are
the largest and the smallest of g. That is all for m = 2 and 3, since k = m - 1 elements have the sum without one. From
m = 4 on, pairs would be free, and there are no choices. One result is free among any number of equal elements.

References
----------
Rado, An Inequality (1952).

Clarke, Optimization and Nonsmooth Analysis (1990), section 2.3.
"""

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from service.numerics.core.batching import Array, Shape, count_elements
from service.numerics.ops.axes import normalize_axis
from service.numerics.ops.op import (
    DependencyLabels,
    Gradients,
    Op,
    OpExample,
    Rounding,
    declare_bug,
    declare_step_op,
)
from service.numerics.ops.ranks import MAX_CHOICE_TABLE, Ordering
from service.numerics.ops.rounding_errors import count_running_terms
from service.numerics.ops.subgradient_choices import SubgradientChoices, choose_among_elements

_FEWEST_OPEN = 4
"""Equal elements of which the choices of several ranks are no longer free of one another: their ties are undecided."""


@declare_step_op("selection by order")
class OrderedSelection(Op):
    """Elements at the positions i of an order: y[p] = x[p with its coordinate `dim` replaced by i[p]].

    dL/dx[q] = sum of g[p] over the positions p that read q.
    """

    dim: int
    order: Ordering
    is_running: bool = False
    """True if each result is of the elements up to it."""

    inputs = ("input",)
    examples: ClassVar[tuple[OpExample, ...]] = ()
    numpy_calls = 12
    scratch_arrays = 2

    def infer_output_shape(self, input: Shape) -> Shape:
        return self.order.infer_output_shape(input)

    def select_branch(self, input: Array) -> Array:
        """Return the positions."""
        return self.order.forward(input)

    def _to_rows(self, array: Array) -> Array:
        """Return an array with the ordered axis last, (tiles, ..., n)."""
        if array.ndim == 1:
            return array[:, None]
        return np.moveaxis(array, 1 + normalize_axis(self.dim, array.ndim - 1), -1)

    def _to_flat_rows(self, array: Array) -> Array:
        rows = self._to_rows(array)
        return rows.reshape(-1, rows.shape[-1])

    def _from_rows(self, rows: Array, rank: int) -> Array:
        return np.moveaxis(rows, -1, 1 + normalize_axis(self.dim, rank)) if rank else rows[:, 0]

    def forward_on_branch(self, branch: Array, input: Array) -> Array:
        rows, positions = self._to_rows(input), self._to_rows(branch)
        tiles = max(len(rows), len(positions))
        rows = np.broadcast_to(rows, (tiles, *rows.shape[1:]))
        positions = np.broadcast_to(positions, (tiles, *positions.shape[1:]))
        return self._from_rows(np.take_along_axis(rows, positions, axis=-1), input.ndim - 1)

    def forward(self, input: Array) -> Array:
        return self.forward_on_branch(self.select_branch(input), input)

    def _scatter(self, gradient: Array, input: Array) -> tuple[Array, Array, Array]:
        """Return zeros, positions and gradients by row, (rows, n), (rows, count)."""
        positions, rows = self._to_rows(self.select_branch(input)), self._to_rows(input)
        tiles = max(len(gradient), len(input))
        shape = (tiles, *positions.shape[1:])
        result = np.zeros((count_elements(shape[:-1]), rows.shape[-1]), gradient.dtype)
        return (
            result,
            np.broadcast_to(positions, shape).reshape(len(result), -1),
            np.broadcast_to(self._to_rows(gradient), shape).reshape(len(result), -1),
        )

    def _shape_result(self, result: Array, input: Array) -> Array:
        rows = self._to_rows(input)
        return self._from_rows(result.reshape(-1, *rows.shape[1:]), input.ndim - 1)

    def backward(self, gradient: Array, output: Array, input: Array) -> Gradients:
        result, positions, gradients = self._scatter(gradient, input)
        np.add.at(result, (np.arange(len(result))[:, None], positions), gradients)
        return (self._shape_result(result, input),)

    def propagate_dependencies(self, values: DependencyLabels, *inputs: Any) -> Array:
        """Return the least label along the axis: any element may be the one."""
        (labels,) = values
        assert labels is not None
        rows = self._to_rows(labels)
        shape = self.infer_output_shape(labels.shape[1:])
        count = self._to_rows(np.empty((1, *shape), np.bool_)).shape[-1]
        least = np.broadcast_to(rows.min(axis=-1, keepdims=True), (*rows.shape[:-1], count))
        return self._from_rows(least, labels.ndim - 1)

    def estimate_forward_rounding(self, output: Array, input: Array) -> None:
        return None

    def estimate_backward_rounding(self, gradient: Array, output: Array, input: Array) -> tuple[Rounding | None]:
        """Return none, unless an element is several results."""
        if not self.is_running:
            return (None,)

        def scatter(array: Array) -> Array:
            (by_input,) = self.backward(array, output[: len(array)], input[: len(array)])
            assert by_input is not None
            return by_input

        terms = max(1, self._to_rows(output).shape[-1] - 1)
        return (Rounding(scatter(np.abs(gradient)), count_running_terms(terms, gradient, scatter)),)

    def list_subgradient_choices(self, input_errors: Sequence[Array | None], input: Array) -> SubgradientChoices | None:
        """Return weights that sum to one of the elements that equal the selected one within their errors."""
        (error,) = input_errors
        assert error is not None
        chosen_positions = self.select_branch(input[:1])
        input_numbers = np.arange(count_elements(input.shape[1:]))
        rows, errors, positions, outputs, elements = map(
            self._to_flat_rows,
            (
                input[:1],
                np.broadcast_to(error, input.shape)[:1],
                chosen_positions,
                np.arange(chosen_positions.size).reshape(chosen_positions.shape),
                input_numbers.reshape(1, *input.shape[1:]),
            ),
        )
        count, length = positions.shape[-1], rows.shape[-1]
        chosen, chosen_errors = (np.take_along_axis(array, positions, axis=-1) for array in (rows, errors))
        rows_per_block = max(1, MAX_CHOICE_TABLE // (count * length))
        units, candidates = list[Array](), list[Array]()
        for start in range(0, len(rows), rows_per_block):
            block = slice(start, start + rows_per_block)
            distance = np.abs(rows[block, None, :] - chosen[block, :, None])
            is_near = ~(distance > errors[block, None, :] + chosen_errors[block, :, None])
            if self.is_running:
                is_near &= np.tri(count, length, dtype=np.bool_)
            np.put_along_axis(is_near, positions[block][..., None], np.True_, axis=-1)
            counts = is_near.sum(axis=-1, keepdims=True)
            is_near &= counts > 1
            if not self.is_running:
                shared: Array = np.take_along_axis(is_near, positions[block, None, :], axis=-1)
                is_near &= (counts < _FEWEST_OPEN) | (shared.sum(axis=-1, keepdims=True) == 1)
            row, result, candidate = np.nonzero(is_near)
            units.append((row + start) * count + result)
            candidates.append(candidate)
        unit, candidate = np.concatenate(units), np.concatenate(candidates)
        row, result = np.divmod(unit, count)
        return choose_among_elements(
            unit,
            outputs[row, result],
            elements[row, candidate],
            positions[row, result] == candidate,
            rows[row, candidate] == chosen[row, result],
        )

    @declare_bug("the gradient was handed back in the order of the output")
    def not_scattered(self, gradient: Array, output: Array, input: Array) -> Gradients:
        result, _, gradients = self._scatter(gradient, input)
        count = min(result.shape[-1], gradients.shape[-1])
        result[:, :count] = gradients[:, :count]
        return (self._shape_result(result, input),)

    @declare_bug("the gradients of an element that is several results overwrote each other: the last one is left")
    def scatter_without_accumulate(self, gradient: Array, output: Array, input: Array) -> Gradients:
        result, positions, gradients = self._scatter(gradient, input)
        np.put_along_axis(result, positions, gradients, axis=-1)
        return (self._shape_result(result, input),)

    def torch_forward(self, torch: Any, input: Any) -> Any:
        order = self.order.torch_forward(torch, input)
        return torch.gather(input, self.dim, order)
