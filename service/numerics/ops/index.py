"""Ops that pick elements by index.

An element that is picked several times gets the sum of all gradients.
"""

from collections.abc import Iterator
from types import MappingProxyType
from typing import Any

import numpy as np

from service.numerics.core.batching import Array, Shape, count_elements
from service.numerics.ops.axes import normalize_axis
from service.numerics.ops.backward_form import BackwardForm
from service.numerics.ops.formula import Scope
from service.numerics.ops.formula_op import FormulaBugs
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
    make_form,
    register_form,
    register_op,
)
from service.numerics.ops.rounding_errors import count_running_terms


def _check_index_range(index: Array | None, length: int) -> None:
    if index is not None and ((index < 0) | (index >= length)).any():
        raise ShapeError(f"an index from 0 to {length - 1}; its values are {int(index.min())} to {int(index.max())}")


class SelectionOp(Op):
    """An op that picks elements by an index."""

    supports_complex_step = True
    linear_in = MappingProxyType({"input": ()})

    def propagate_dependencies(self, values: DependencyLabels, *inputs: Any) -> Array:
        return self.forward(
            *(array if labels is None else labels for labels, array in zip(values, inputs, strict=True))
        )

    def expand_products(self, position: int, *inputs: Any) -> ProductExpansion:
        return self.expand_selection(position, *inputs)

    def estimate_forward_rounding(self, output: Array, *inputs: Any) -> None:
        return None

    def _scatter(self, gradient: Array, output: Array, *inputs: Any) -> Array:
        """Return the one gradient that `backward` returns."""
        (by_values,) = (result for result in self.backward(gradient, output, *inputs) if result is not None)
        return by_values

    def estimate_backward_rounding(self, gradient: Array, output: Array, *inputs: Any) -> tuple[Rounding | None, ...]:
        magnitudes = self.backward(np.abs(gradient), output, *inputs)
        # Every pick takes an addition. Half of the output's size stands for the picks of one element, since counting
        # them is not worth its time.
        terms = max(1, count_elements(output.shape[1:]) // 2)
        terms = count_running_terms(terms, gradient, lambda ones: self._scatter(ones, output, *inputs))
        return tuple(None if magnitude is None else Rounding(magnitude, terms) for magnitude in magnitudes)


@register_op("index_select")
class IndexSelect(SelectionOp):
    """Selection along `dim`: y[..., k, ...] = x[..., i_k, ...].

    dL/dx[..., i, ...] = sum of g[..., k, ...] over the k with i_k = i.
    """

    dim: int

    inputs = ("input", "index:index")
    positional = ("input", "dim", "index")
    examples = (
        OpExample(((3, 4), (6,)), {"dim": 1}, index_limits={"index": 4}),
        OpExample(((3, 2, 2), (2,)), {"dim": -3}, index_limits={"index": 3}),
        OpExample(((5,), ()), {"dim": 0}, index_limits={"index": 5}),
    )

    def infer_output_shape(self, input: Shape, index: Shape) -> Shape:
        if not input and count_elements(index) == 1 and len(index) <= 1:
            normalize_axis(self.dim, 0)
            return ()
        if not input or len(index) > 1:
            raise ShapeError("an input with at least one axis and an index (n,), or a number and an index (1,)")
        axis = normalize_axis(self.dim, len(input))
        return (*input[:axis], count_elements(index), *input[axis + 1 :])

    def check_values(self, shapes: tuple[Shape, ...], *values: Array | None) -> None:
        _check_index_range(values[1], (shapes[0] or (1,))[normalize_axis(self.dim, len(shapes[0]))])

    def select_form(self, *shapes: Shape | None) -> Op:
        return self if shapes[0] else make_form("index_select", "of a number", dim=self.dim)

    def _get_batched_axis(self, input: Array) -> int:
        return normalize_axis(self.dim, input.ndim - 1) + 1

    def forward(self, input: Array, index: Array) -> Array:
        return np.take(input, index.ravel(), axis=self._get_batched_axis(input))

    def backward(self, gradient: Array, output: Array, input: Array, index: Array) -> Gradients:
        by_input = np.zeros(gradient.shape[:1] + input.shape[1:], dtype=gradient.dtype)
        axis_first = np.moveaxis(by_input, self._get_batched_axis(input), 0)
        np.add.at(axis_first, index.ravel(), np.moveaxis(gradient, self._get_batched_axis(input), 0))
        return by_input, None

    @declare_bug("the gradients of a repeated index overwrote each other instead of adding up: the last one is left")
    def scatter_without_accumulate(self, gradient: Array, output: Array, input: Array, index: Array) -> Gradients:
        by_input = np.zeros_like(input)
        np.moveaxis(by_input, self._get_batched_axis(input), 0)[index.ravel()] = np.moveaxis(
            gradient, self._get_batched_axis(input), 0
        )
        return by_input, None

    @declare_bug_named(
        "scatter_without_accumulate", "the gradients of a repeated index were not added up: the first one is left"
    )
    def keep_first_occurrence(self, gradient: Array, output: Array, input: Array, index: Array) -> Gradients:
        reversed_gradient = np.flip(gradient, self._get_batched_axis(input))
        return self.scatter_without_accumulate(reversed_gradient, output, input, np.flip(index.ravel()))

    def torch_forward(self, torch: Any, input: Any, index: Any) -> Any:
        return torch.index_select(input, self.dim, index)


class SelectionOfNumber(SelectionOp):
    """Selection from a tensor without axes, by an index of one element, 0: y = x, dL/dx = g."""

    dim: int

    def infer_output_shape(self, input: Shape, index: Shape) -> Shape:
        return ()

    def check_values(self, shapes: tuple[Shape, ...], *values: Array | None) -> None:
        _check_index_range(values[1], 1)

    def forward(self, input: Array, index: Array) -> Array:
        return input

    def backward(self, gradient: Array, output: Array, input: Array, index: Array) -> Gradients:
        return gradient, None


@register_form("index_select", "of a number")
class IndexSelectOfNumber(SelectionOfNumber):
    """Selection of a number along an axis that it has not: y = x, dL/dx = g."""

    dim: int

    inputs = ("input", "index:index")

    def torch_forward(self, torch: Any, input: Any, index: Any) -> Any:
        return torch.index_select(input, self.dim, index)


@register_form("gather", "of a number")
class GatherOfNumber(SelectionOfNumber):
    """Selection of a number by position: y = x, dL/dx = g."""

    dim: int

    inputs = ("input", "index:index")

    def torch_forward(self, torch: Any, input: Any, index: Any) -> Any:
        return torch.gather(input, self.dim, index)


@register_op("gather")
class Gather(SelectionOp):
    """Selection by position: y[p] = x[p with its coordinate `dim` replaced by i[p]].

    p goes through the positions of the index. dL/dx[q] = sum of g[p] over the positions p that read q.
    """

    dim: int

    inputs = ("input", "index:index")
    positional = ("input", "dim", "index")
    examples = (
        OpExample(((3, 4), (3, 6)), {"dim": 1}, index_limits={"index": 4}),
        OpExample(((3, 4, 2), (2, 3, 1)), {"dim": 0}, index_limits={"index": 3}),
        OpExample(((5,), (2,)), {"dim": -1}, index_limits={"index": 5}),
    )

    def infer_output_shape(self, input: Shape, index: Shape) -> Shape:
        if len(input) != len(index):
            raise ShapeError("an input and an index with equally many axes")
        axis = normalize_axis(self.dim, len(input))
        if any(i > n for k, (i, n) in enumerate(zip(index, input, strict=True)) if k != axis):
            raise ShapeError(f"an index not longer than the input in any axis but {self.dim}")
        return index

    def check_values(self, shapes: tuple[Shape, ...], *values: Array | None) -> None:
        _check_index_range(values[1], (shapes[0] or (1,))[normalize_axis(self.dim, len(shapes[0]))])

    def select_form(self, *shapes: Shape | None) -> Op:
        return self if shapes[0] else make_form("gather", "of a number", dim=self.dim)

    def _get_source_positions(self, input: Array, index: Array) -> tuple[Any, ...]:
        """Return the index into the input, behind all tiles, of each element."""
        positions: list[Any] = list(np.indices(index.shape[1:], sparse=True))
        positions[normalize_axis(self.dim, input.ndim - 1)] = index[0]
        return (slice(None), *positions)

    def forward(self, input: Array, index: Array) -> Array:
        return input[self._get_source_positions(input, index)]

    def backward(self, gradient: Array, output: Array, input: Array, index: Array) -> Gradients:
        by_input = np.zeros(gradient.shape[:1] + input.shape[1:], dtype=gradient.dtype)
        np.add.at(by_input, self._get_source_positions(input, index), gradient)
        return by_input, None

    @declare_bug("the gradients of a repeated index overwrote each other instead of adding up: the last one is left")
    def scatter_without_accumulate(self, gradient: Array, output: Array, input: Array, index: Array) -> Gradients:
        by_input = np.zeros_like(input)
        by_input[self._get_source_positions(input, index)] = gradient
        return by_input, None

    def torch_forward(self, torch: Any, input: Any, index: Any) -> Any:
        return torch.gather(input, self.dim, index)


def _list_occurrences(numbers: Array) -> Iterator[Array]:
    """Yield the places of the first occurrence of each number, then those of the second, and so on."""
    order = np.argsort(numbers, kind="stable")
    ordered = numbers[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    ranks = np.arange(len(ordered)) - np.repeat(starts, np.diff(np.r_[starts, len(ordered)]))
    by_rank = np.argsort(ranks, kind="stable")
    yield from np.split(order[by_rank], np.cumsum(np.bincount(ranks))[:-1])


@register_op("embedding")
class Embedding(FormulaBugs, SelectionOp):
    """Rows of a weight W (V, D) by index: y[...] = W[i[...]].

    dL/dW[v] = sum of g[...] over the places where i is v.
    """

    inputs = ("input:index", "weight")
    linear_in = MappingProxyType({"weight": ()})
    examples = (
        OpExample(((7,), (5, 3)), index_limits={"input": 5}),
        OpExample(((2, 3), (4, 2)), index_limits={"input": 4}),
        OpExample(((), (4, 2)), index_limits={"input": 4}),
        OpExample(((6,), (2, 3)), index_limits={"input": 2}),
    )
    # `add` adds each row of g to the row of its index.
    backward_form = BackwardForm(
        {"weight": "add(g)"},
        alternatives={
            "weight": {
                "add_behind(g)": "each gradient went to the row behind that of its index",
                "add_before(g)": "each gradient went to the row before that of its index",
                "average(g)": "the mean of the gradients of a row was taken for their sum",
                "add_without_first(g)": "the gradient of row 0 was left out, as that of padding",
            }
        },
        layouts=("add",),
    )

    def make_scope(self, gradient: Array, output: Array, *inputs: Any) -> Scope:
        index, weight = inputs
        rows: int = weight.shape[1]
        counts = np.maximum(np.bincount(index[0].ravel(), minlength=rows), 1)[:, None]

        def add(array: Array, move: int = 0) -> Array:
            total = np.zeros(array.shape[:1] + weight.shape[1:], dtype=array.dtype)
            places: Any = (slice(None), (index[0] + move) % rows)
            np.add.at(total, places, array)
            return total

        is_behind_first: Array = np.arange(rows)[:, None] > 0
        scope = Scope().add_quantities(g=lambda: gradient)
        return scope.add_functions(
            add=add,
            add_behind=lambda array: add(array, 1),
            add_before=lambda array: add(array, -1),
            average=lambda array: add(array) / counts,
            add_without_first=lambda array: add(array) * is_behind_first,
        )

    def infer_output_shape(self, input: Shape, weight: Shape) -> Shape:
        if len(weight) != 2:
            raise ShapeError("a weight (V, D) with indices of any shape")
        return (*input, weight[1])

    def check_values(self, shapes: tuple[Shape, ...], *values: Array | None) -> None:
        _check_index_range(values[0], shapes[1][0])

    def count_stored_terms(self, position: int, *inputs: Array | None) -> int:
        # A CPU adds up the rows of one number in the dtype of the tensors.
        numbers = inputs[0]
        assert numbers is not None
        return int(np.bincount(numbers[0].ravel()).max(initial=1)) if position == 1 else 1

    def measure_stored_sums(self, position: int, gradient: Array, output: Array, *inputs: Any) -> Array | None:
        numbers, weight = inputs
        terms = gradient[0].reshape(-1, weight.shape[2])
        total, squares = np.zeros(weight.shape[1:]), np.zeros(weight.shape[1:])
        for rank, places in enumerate(_list_occurrences(numbers[0].ravel())):
            rows = numbers[0].ravel()[places]
            total[rows] += terms[places]
            # The first term of a row is stored as it is.
            squares[rows] += np.square(total[rows]) if rank else 0.0
        return np.sqrt(squares)[None]

    def forward(self, input: Array, weight: Array) -> Array:
        return weight[:, input[0]]

    def backward(self, gradient: Array, output: Array, input: Array, weight: Array) -> Gradients:
        by_weight = np.zeros(gradient.shape[:1] + weight.shape[1:], dtype=gradient.dtype)
        rows: Any = (slice(None), input[0])
        np.add.at(by_weight, rows, gradient)
        return None, by_weight

    @declare_bug("the gradients of a row that is looked up several times were not added up: the last one is left")
    def scatter_without_accumulate(self, gradient: Array, output: Array, input: Array, weight: Array) -> Gradients:
        by_weight = np.zeros_like(weight)
        by_weight[:, input[0]] = gradient
        return None, by_weight

    @declare_bug_named(
        "scatter_without_accumulate",
        "the gradients of a row that is looked up several times were not added up: the first one is left",
    )
    def keep_first_occurrence(self, gradient: Array, output: Array, input: Array, weight: Array) -> Gradients:
        flat_indices = input.reshape(1, -1)
        rows = gradient.reshape(gradient.shape[0], flat_indices.shape[1], -1)
        return self.scatter_without_accumulate(np.flip(rows, 1), output, np.flip(flat_indices, 1), weight)

    def torch_forward(self, torch: Any, input: Any, weight: Any) -> Any:
        return torch.nn.functional.embedding(input, weight)
