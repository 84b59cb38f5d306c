"""Placements at positions of an index."""

from typing import Any

import numpy as np

from service.numerics.core.batching import Array, Shape, count_elements
from service.numerics.ops.axes import normalize_axis
from service.numerics.ops.binary import is_broadcastable
from service.numerics.ops.composite import CompositeOp, Expansion
from service.numerics.ops.op import (
    Gradients,
    Op,
    OpExample,
    ShapeError,
    declare_bug,
    make_form,
    register_form,
    register_op,
)
from service.numerics.ops.placement import (
    REPEATED_INDEX,
    AddingPlacement,
    Placement,
    ReplacingPlacement,
    declare_joint_linearity,
    refuse_indices_out_of_range,
    refuse_repeats,
)


def cut_to_index(src: Any, index: Any) -> Any:
    """Return the part of a tensor of PyTorch's that an index reaches, since its gradients fail for a larger src.

    They fail as well for a number beside an index with an axis, and the other way round.
    """
    if src.ndim != index.ndim:
        return src.reshape(index.shape)
    return src[tuple(slice(length) for length in index.shape)]


def _is_number(shape: Shape) -> bool:
    """Return whether a tensor has one element, and one axis at most: it stands for a number."""
    return shape in ((), (1,))


def _get_axis_length(shape: Shape, dim: int) -> int:
    """Return the length of an axis; a number counts as an axis of length 1."""
    return (shape or (1,))[normalize_axis(dim, len(shape))]


class PositionIndex(Op):
    """An op whose index replaces the coordinate `dim` of its own positions."""

    dim: Any

    inputs = ("input", "index:index", "src")
    positional = ("input", "dim", "index", "src")
    linear_in = declare_joint_linearity("src")

    def infer_output_shape(self, input: Shape, index: Shape, src: Shape) -> Shape:
        if not input and _is_number(index) and _is_number(src):
            normalize_axis(self.dim, 0)
            return input
        if not input or not len(input) == len(index) == len(src):
            raise ShapeError("an input, an index and a src with equally many axes")
        axis = normalize_axis(self.dim, len(input))
        if any(i > n for k, (i, n) in enumerate(zip(index, input, strict=True)) if k != axis):
            raise ShapeError(f"an index not longer than the input in any axis but {self.dim}")
        if any(i > s for i, s in zip(index, src, strict=True)):
            raise ShapeError("an index not longer than src in any axis")
        return input

    def pick(self, numbers: Array, index: Array) -> Array:
        if not numbers.ndim:
            return numbers
        positions: list[Any] = list(np.indices(index.shape, sparse=True))
        positions[normalize_axis(self.dim, numbers.ndim)] = index
        return numbers[tuple(positions)]

    def check_values(self, shapes: tuple[Shape, ...], *values: Array | None) -> None:
        if values[1] is not None:
            refuse_indices_out_of_range(values[1], _get_axis_length(shapes[0], self.dim))


@register_op("scatter_add")
class ScatterAdd(PositionIndex, AddingPlacement):
    """Sum into positions: y[p with its coordinate `dim` replaced by i[p]] += src[p], y = x before.

    p goes through the positions of the index. dL/dx = g, and dL/dsrc[p] is g where src[p] was added, 0 beyond the
    index.
    """

    dim: int

    examples = (
        OpExample(((3, 4), (3, 6), (3, 6)), {"dim": 1}, index_limits={"index": 4}),
        OpExample(((3, 4, 2), (2, 3, 1), (4, 3, 2)), {"dim": 0}, index_limits={"index": 3}),
        OpExample(((5,), (2,), (2,)), {"dim": -1}, index_limits={"index": 5}),
    )

    def torch_forward(self, torch: Any, input: Any, index: Any, src: Any) -> Any:
        return torch.scatter_add(input, self.dim, index, cut_to_index(src, index))


@register_op("scatter")
class Scatter(PositionIndex, ReplacingPlacement):
    """Replacement by position: y[p with its coordinate `dim` replaced by i[p]] = src[p], y = x elsewhere.

    p goes through the positions of the index, which replace no element twice. dL/dx = g, 0 where x was replaced.
    dL/dsrc[p] is g where src[p] stands, 0 beyond the index.
    """

    dim: int

    examples = (
        OpExample(((3, 4), (3, 1), (3, 1)), {"dim": 1}, index_limits={"index": 4}),
        OpExample(((3, 4, 2), (1, 3, 2), (2, 3, 2)), {"dim": 0}, index_limits={"index": 3}),
        OpExample(((5,), (1,), (2,)), {"dim": -1}, index_limits={"index": 5}),
    )

    def check_values(self, shapes: tuple[Shape, ...], *values: Array | None) -> None:
        super().check_values(shapes, *values)
        if values[1] is not None and shapes[0]:
            # Two positions of the index that differ in another axis replace different elements.
            axis = normalize_axis(self.dim, len(shapes[0]))
            if (np.diff(np.sort(values[1], axis=axis), axis=axis) == 0).any():
                raise ShapeError(REPEATED_INDEX)

    def torch_forward(self, torch: Any, input: Any, index: Any, src: Any) -> Any:
        return torch.scatter(input, self.dim, index, cut_to_index(src, index))


class AxisIndex(Op):
    """An op whose index has positions of the axis `dim`."""

    dim: Any

    inputs = ("input", "index:index", "source")
    positional = ("input", "dim", "index", "source")
    linear_in = declare_joint_linearity("source")

    def infer_output_shape(self, input: Shape, index: Shape, source: Shape) -> Shape:
        axis = normalize_axis(self.dim, len(input))
        if not input and _is_number(index) and not source:
            return input
        if not input or len(index) > 1:
            raise ShapeError("an input with at least one axis and an index (n,), or numbers")
        if source != (expected := (*input[:axis], count_elements(index), *input[axis + 1 :])):
            raise ShapeError(f"a source of shape {list(expected)}")
        return input

    def pick(self, numbers: Array, index: Array) -> Array:
        return np.take(numbers, index.ravel(), axis=self.dim) if numbers.ndim else numbers

    def check_values(self, shapes: tuple[Shape, ...], *values: Array | None) -> None:
        if values[1] is not None:
            refuse_indices_out_of_range(values[1], _get_axis_length(shapes[0], self.dim))


@register_op("index_add")
class IndexAdd(AxisIndex, AddingPlacement):
    """Sum into positions of an axis: y[..., i_k, ...] += alpha s[..., k, ...] for each k, y = x before.

    dL/dx = g, dL/ds[..., k, ...] = alpha g[..., i_k, ...].
    """

    dim: int
    alpha: float = 1

    examples = (
        OpExample(((3, 4), (6,), (3, 6)), {"dim": 1}, index_limits={"index": 4}),
        OpExample(((3, 2, 2), (2,), (2, 2, 2)), {"dim": -3}, index_limits={"index": 3}),
    )

    def select_form(self, *shapes: Shape | None) -> Op:
        return self if self.alpha == 1 else make_form("index_add", "scaled", dim=self.dim, alpha=self.alpha)

    def torch_forward(self, torch: Any, input: Any, index: Any, source: Any) -> Any:
        return torch.index_add(input, self.dim, index, source, alpha=self.alpha)


@register_form("index_add", "scaled")
class ScaledIndexAdd(CompositeOp):
    """Sum of a source, multiplied by a number, into positions of an axis."""

    dim: int
    alpha: float

    inputs = IndexAdd.inputs

    def expand(self, step: Expansion, input: str, index: str, source: str) -> str:
        return step("index_add", input, index, step("mul", source, self.alpha), dim=self.dim)

    def torch_forward(self, torch: Any, *inputs: Any) -> Any:
        return IndexAdd(dim=self.dim, alpha=self.alpha).torch_forward(torch, *inputs)


@register_op("index_copy")
class IndexCopy(AxisIndex, ReplacingPlacement):
    """Replacement along an axis: y[..., i_k, ...] = s[..., k, ...] for each k, y = x elsewhere.

    No position is replaced twice. dL/dx = g, 0 where x was replaced, and dL/ds[..., k, ...] = g[..., i_k, ...].
    """

    dim: int

    examples = (
        OpExample(((3, 4), (1,), (3, 1)), {"dim": 1}, index_limits={"index": 4}),
        OpExample(((3, 2, 2), (1,), (1, 2, 2)), {"dim": -3}, index_limits={"index": 3}),
    )

    def check_values(self, shapes: tuple[Shape, ...], *values: Array | None) -> None:
        super().check_values(shapes, *values)
        if values[1] is not None:
            refuse_repeats(values[1])

    def torch_forward(self, torch: Any, input: Any, index: Any, source: Any) -> Any:
        return torch.index_copy(input, self.dim, index, source)


@register_op("index_put")
class IndexPut(Placement):
    """Values at positions with the coordinates i_1[k], i_2[k], ... along the first axes, the other axes whole.

    With `accumulate` they are added: y[i_1[k], i_2[k], ...] += v[k], dL/dx = g. Otherwise they replace, none of them
    twice: dL/dx = g, 0 where x was replaced. Either way dL/dv[k] = g[i_1[k], i_2[k], ...].
    """

    accumulate: bool = False

    inputs = ("input", "values", "indices*:index")
    positional = ("input",)
    source_position = 1
    linear_in = declare_joint_linearity("values")
    examples = (
        OpExample(((3, 4), (6, 4), (6,)), {"accumulate": True}, index_limits={"indices": 3}),
        OpExample(((3, 4, 2), (2, 5, 2), (2, 5), (5,)), {"accumulate": True}, index_limits={"indices": 3}),
        OpExample(((3, 4), (1,), (1,), (1,)), index_limits={"indices": 3}),
        OpExample(((3, 2), (1, 2), (1,)), index_limits={"indices": 3}),
    )

    @property
    def adds(self) -> bool:
        return self.accumulate

    def infer_output_shape(self, input: Shape, values: Shape, *indices: Shape) -> Shape:
        if len(indices) > len(input):
            raise ShapeError("no more indices than the input has axes")
        expected = self.infer_values_shape(input, *indices)
        if not is_broadcastable(values, expected):
            raise ShapeError(f"values that broadcast to shape {list(expected)}")
        return input

    @staticmethod
    def infer_values_shape(input: Shape, *indices: Shape) -> Shape:
        """Return the shape of the elements that the indices name, or raise ShapeError."""
        try:
            return (*np.broadcast_shapes(*indices), *input[len(indices) :])
        except ValueError:
            raise ShapeError("indices that broadcast together") from None

    def select_form(self, *shapes: Shape | None) -> Op:
        input, values, *indices = (shape for shape in shapes if shape is not None)
        has_all_values = len(indices) > len(input) or values == self.infer_values_shape(input, *indices)
        return self if has_all_values else make_form("index_put", "with broadcast values", accumulate=self.accumulate)

    def pick(self, numbers: Array, *indices: Array) -> Array:
        return numbers[indices]

    def check_values(self, shapes: tuple[Shape, ...], *values: Array | None) -> None:
        indices = [index for index in values[2:] if index is not None]
        for index, length in zip(values[2:], shapes[0], strict=False):
            if index is not None:
                refuse_indices_out_of_range(index, length)
        if not self.accumulate and len(indices) == len(shapes) - 2:
            refuse_repeats(np.ravel_multi_index(tuple(np.broadcast_arrays(*indices)), shapes[0][: len(indices)]))

    @declare_bug("the gradient of the input was that of the other mode: 0 where values were added, kept where replaced")
    def other_mode(self, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        targets = self._list_targets(output.shape[1:], inputs)
        by_values = self.backward(gradient, output, *inputs)[1]
        assert by_values is not None
        return self._arrange(self._clear(gradient, targets) if self.adds else gradient, by_values, inputs)

    def torch_forward(self, torch: Any, input: Any, values: Any, *indices: Any) -> Any:
        return torch.index_put(input, indices, values, accumulate=self.accumulate)


@register_form("index_put", "with broadcast values")
class BroadcastIndexPut(CompositeOp):
    """Values that are broadcast to the elements that the indices name."""

    accumulate: bool

    inputs = IndexPut.inputs

    def expand(self, step: Expansion, input: str, values: str, *indices: str) -> str:
        shape = IndexPut.infer_values_shape(step.get_shape(input), *map(step.get_shape, indices))
        expanded = step("expand", values, size=list(shape))
        return step("index_put", input, expanded, *indices, accumulate=self.accumulate)

    def torch_forward(self, torch: Any, input: Any, values: Any, *indices: Any) -> Any:
        return torch.index_put(input, indices, values, accumulate=self.accumulate)
