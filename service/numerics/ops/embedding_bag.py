"""Sums, means and maxima of the rows of a table over bags of indices."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from service.numerics.core.batching import Array, Shape, count_elements, flat_indices
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
from service.numerics.ops.placement import refuse_indices_out_of_range
from service.numerics.ops.rounding_errors import count_running_terms
from service.numerics.ops.subgradient_choices import SubgradientChoices, choose_among_elements

_MAXIMUM_CALLS = 10
"""Calls of NumPy that find a maximum and select it."""


@register_op("embedding_bag")
class EmbeddingBag(Op):
    """Rows of a weight W (V, D) by index, joined over bags: sum, mean or max.

    The indices i are (B, n), a bag a row, or (n,) with offsets, at which the bags begin; with include_last_offset the
    last offset is the end. Rows of the index padding_idx take no part, and a bag without rows is 0. A sum may have
    weights w_k:
        sum: y[b] = sum of w_k W[i_k]
            dL/dW[v] = sum of w_k g[b_k] over the k with i_k = v        dL/dw_k = sum_d g[b_k] W[i_k]
        mean: the same with w_k = 1 / (number of rows of the bag)
        max: y[b, d] is the first largest W[i_k, d] of the bag, and alone gets g[b, d]
    """

    mode: Literal["sum", "mean", "max"] = "mean"
    include_last_offset: bool = False
    padding_idx: int | None = None

    numpy_calls = 4
    scratch_arrays = 2
    inputs = ("input:index", "weight", "offsets?:index", "per_sample_weights?")
    positional = ("input", "weight", "offsets")
    examples = (
        OpExample(((3, 4), (5, 2), None, None), index_limits={"input": 5}),
        OpExample(((7,), (4, 3), (1,), None), {"mode": "max"}, index_limits={"input": 4, "offsets": 1}),
        OpExample(((2, 3), (4, 2), None, (2, 3)), {"mode": "sum"}, index_limits={"input": 4}),
        OpExample(((3, 3), (4, 2), None, None), {"mode": "max", "padding_idx": 1}, index_limits={"input": 4}),
        OpExample(((3, 3), (3, 2), None, None), {"padding_idx": -1}, index_limits={"input": 3}),
    )

    def infer_output_shape(
        self, input: Shape, weight: Shape, offsets: Shape | None, per_sample_weights: Shape | None
    ) -> Shape:
        if len(weight) != 2:
            raise ShapeError("a weight (V, D) with indices (B, n), or (n,) with offsets")
        if len(input) != (2 if offsets is None else 1):
            raise ShapeError("indices (B, n) without offsets, or (n,) with offsets")
        if offsets is not None and (len(offsets) != 1 or offsets[0] < 1 + self.include_last_offset):
            raise ShapeError("offsets (B,), one for each bag, and one behind with include_last_offset")
        if self.padding_idx is not None and not -weight[0] <= self.padding_idx < weight[0]:
            raise ShapeError(f"a padding_idx from {-weight[0]} to {weight[0] - 1}")
        if per_sample_weights is not None and (self.mode != "sum" or per_sample_weights != input):
            raise ShapeError('per_sample_weights of the shape of the indices, and mode "sum" with them')
        bags = input[0] if offsets is None else offsets[0] - self.include_last_offset
        return (bags, weight[1])

    def check_values(self, shapes: tuple[Shape, ...], *values: Array | None) -> None:
        if values[0] is not None:
            refuse_indices_out_of_range(values[0], shapes[1][0])
        offsets, length = values[2], count_elements(shapes[0])
        if offsets is None or not offsets.size:
            return
        if offsets[0] != 0 or (np.diff(offsets) < 0).any() or offsets[-1] > length:
            raise ShapeError(f"offsets that begin with 0, do not fall and end at {length} at most")
        if self.include_last_offset and offsets[-1] != length:
            raise ShapeError(f"a last offset of {length}, the number of indices")

    def _list_bags(self, input: Array, weight: Array, offsets: Array | None) -> tuple[Array, Array, int]:
        """Return the index and the bag of each row that takes part, its number among all, and the number of bags."""
        indices = input[0].ravel()
        if offsets is None:
            bag_count = input.shape[1]
            bags = np.repeat(np.arange(int(bag_count)), count_elements(input.shape[2:]))
        else:
            bag_count = offsets.shape[1] - self.include_last_offset
            bags = np.searchsorted(offsets[0][:bag_count], np.arange(int(indices.size)), side="right") - 1
        return indices, bags, bag_count

    def _list_rows(self, input: Array, weight: Array, offsets: Array | None) -> tuple[Array, Array, Array, int]:
        """Return index, bag and number of each row that takes part, and the number of bags."""
        indices, bags, bag_count = self._list_bags(input, weight, offsets)
        padding = None if self.padding_idx is None else self.padding_idx % weight.shape[1]
        numbers = np.arange(indices.size) if padding is None else np.flatnonzero(indices != padding)
        return indices[numbers], bags[numbers], numbers, bag_count

    @staticmethod
    def _join(operation: np.ufunc, rows: Array, bags: Array, bag_count: int, identity: float) -> Array:
        result = np.full((len(rows), bag_count, rows.shape[-1]), identity, rows.dtype)
        positions: Any = (slice(None), bags)
        operation.at(result, positions, rows)
        return result

    @staticmethod
    def _get_factors(per_sample_weights: Array | None, numbers: Array) -> Array | int:
        """Return the weight of each row, (K, rows, 1)."""
        if per_sample_weights is None:
            return 1
        return per_sample_weights.reshape(len(per_sample_weights), -1)[:, numbers, None]

    def select_branch(
        self, input: Array, weight: Array, offsets: Array | None, per_sample_weights: Array | None
    ) -> Array:
        """Return the share of each row, (K, rows, D), or (1, rows, 1)."""
        indices, bags, _, bag_count = self._list_rows(input, weight, offsets)
        if self.mode != "max":
            counts = np.bincount(bags, minlength=bag_count)[bags] if self.mode == "mean" else np.ones(len(bags))
            return (1 / counts)[None, :, None]
        rows = weight[:, indices]
        largest = self._join(np.maximum, rows, bags, bag_count, -np.inf)[:, bags]
        places = np.where(np.equal(rows, largest), np.arange(len(bags))[:, None], len(bags))
        first = self._join(np.minimum, places, bags, bag_count, len(bags))[:, bags]
        return np.equal(places, first) & np.less(places, len(bags))

    def forward_on_branch(
        self, branch: Array, input: Array, weight: Array, offsets: Array | None, per_sample_weights: Array | None
    ) -> Array:
        indices, bags, numbers, bag_count = self._list_rows(input, weight, offsets)
        rows = weight[:, indices] * self._get_factors(per_sample_weights, numbers)
        rows = np.where(branch == 0, rows.dtype.type(0), rows * branch.astype(rows.dtype))
        return self._join(np.add, rows, bags, bag_count, 0)

    def forward(self, *inputs: Any) -> Array:
        return self.forward_on_branch(self.select_branch(*inputs), *inputs)

    def propagate_dependencies(self, values: DependencyLabels, *inputs: Any) -> Array:
        _, weight_labels, _, factor_labels = values
        assert weight_labels is not None
        indices, bags, numbers, bag_count = self._list_rows(inputs[0], inputs[1], inputs[2])
        rows = weight_labels[:, indices]
        if factor_labels is not None:
            rows = np.minimum(rows, self._get_factors(factor_labels, numbers))
        return self._join(np.minimum, rows, bags, bag_count, np.inf)

    def backward(
        self,
        gradient: Array,
        output: Array,
        input: Array,
        weight: Array,
        offsets: Array | None,
        per_sample_weights: Array | None,
    ) -> Gradients:
        indices, bags, numbers, _ = self._list_rows(input, weight, offsets)
        branch = self.select_branch(input, weight, offsets, per_sample_weights)
        by_row = gradient[:, bags] * branch.astype(gradient.dtype)
        by_weight = self._add_rows(by_row * self._get_factors(per_sample_weights, numbers), indices, weight)
        if per_sample_weights is None:
            return None, by_weight, None, None
        products = (by_row * weight[:, indices]).sum(axis=-1)
        by_factor = np.zeros((len(products), count_elements(input.shape[1:])), products.dtype)
        by_factor[:, numbers] = products
        return None, by_weight, None, by_factor.reshape(len(products), *input.shape[1:])

    @staticmethod
    def _add_rows(by_row: Array, indices: Array, weight: Array) -> Array:
        by_weight = np.zeros((len(by_row), *weight.shape[1:]), by_row.dtype)
        positions: Any = (slice(None), indices)
        np.add.at(by_weight, positions, by_row)
        return by_weight

    def list_subgradient_choices(
        self,
        input_errors: Sequence[Array | None],
        input: Array,
        weight: Array,
        offsets: Array | None,
        per_sample_weights: Array | None,
    ) -> SubgradientChoices | None:
        """Return weights that sum to one of the elements that attain a maximum."""
        if self.mode != "max":
            return None
        assert input_errors[1] is not None
        indices, bags, _, bag_count = self._list_rows(input, weight, offsets)
        # The same row several times is no tie.
        pairs, first = np.unique(np.stack([bags, indices]), axis=1, return_index=True)
        bags, indices = pairs
        rows = weight[:1, indices]
        reach = np.broadcast_to(input_errors[1][:1], (1, *weight.shape[1:]))[:, indices]
        threshold = self._join(np.maximum, rows - reach, bags, bag_count, -np.inf)[:, bags]
        largest = self._join(np.maximum, rows, bags, bag_count, -np.inf)[:, bags]
        units = bags[:, None] * weight.shape[-1] + np.arange(int(weight.shape[-1]))
        near = np.nonzero((rows + reach >= threshold)[0])
        order = np.argsort(units[near], kind="stable")
        near = near[0][order], near[1][order]
        elements = flat_indices(weight[0])[indices][near]
        shares = self.select_branch(input, weight[:1], offsets, per_sample_weights)[0, first][near]
        choices = choose_among_elements(
            units[near], units[near], elements, shares.astype(np.float64), (rows == largest)[0][near]
        )
        # The elements are those of the weight, the second operand.
        return None if choices is None else replace(choices, entry_positions=np.ones_like(choices.entry_positions))

    def estimate_forward_rounding(self, output: Array, *inputs: Any) -> Rounding | None:
        if self.mode == "max":
            return None
        return self.estimate_rounding_on_branch(self.select_branch(*inputs), output, *inputs)

    def estimate_rounding_on_branch(self, branch: Array, output: Array, *inputs: Any) -> Rounding:
        input, weight, offsets, per_sample_weights = inputs
        factors = None if per_sample_weights is None else np.abs(per_sample_weights)
        _, bags, _, bag_count = self._list_rows(input, weight, offsets)
        terms = int(np.bincount(bags, minlength=bag_count).max(initial=1)) + 1
        return Rounding(self.forward_on_branch(branch, input, np.abs(weight), offsets, factors), terms)

    def estimate_backward_rounding(self, gradient: Array, output: Array, *inputs: Any) -> tuple[Rounding | None, ...]:
        input, weight, offsets, per_sample_weights = inputs
        indices, bags, numbers, _ = self._list_rows(input, weight, offsets)
        branch = self.select_branch(*inputs)
        by_row = np.abs(gradient)[:, bags] * branch
        by_row = by_row * np.abs(self._get_factors(per_sample_weights, numbers))
        repeats = int(np.bincount(indices, minlength=1).max(initial=1)) + 1
        terms = count_running_terms(repeats, gradient, lambda ones: self._add_rows(ones[:, bags], indices, weight))
        by_weight = Rounding(self._add_rows(by_row, indices, weight), terms)
        if per_sample_weights is None:
            return None, by_weight, None, None
        by_factor = self.backward(np.abs(gradient), output, input, np.abs(weight), offsets, per_sample_weights)[3]
        assert by_factor is not None
        return None, by_weight, None, Rounding(np.abs(by_factor), weight.shape[-1] + 1)

    def estimate_cost(self, output: Shape, *shapes: Shape | None) -> ComputeCost:
        assert shapes[0] is not None
        rows = count_elements(shapes[0]) * output[-1]
        largest = max(rows, *(count_elements(shape) for shape in (output, *shapes) if shape is not None))
        calls = _MAXIMUM_CALLS if self.mode == "max" else self.numpy_calls
        return ComputeCost(calls * rows, largest, calls)

    @declare_bug("the gradients of a row that is looked up several times were not added up: the last one is left")
    def scatter_without_accumulate(self, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        input, weight, offsets, per_sample_weights = inputs
        indices, bags, numbers, _ = self._list_rows(input, weight, offsets)
        by_row = gradient[:, bags] * self.select_branch(*inputs) * self._get_factors(per_sample_weights, numbers)
        by_weight = np.zeros((len(by_row), *weight.shape[1:]), gradient.dtype)
        by_weight[:, indices] = by_row
        return None, by_weight, None, self.backward(gradient, output, *inputs)[3]

    @declare_bug_named("scaled", "the mean over a bag was not divided by the number of its rows")
    def sum_for_mean(self, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        input, weight, offsets, per_sample_weights = inputs
        indices, bags, numbers, _ = self._list_rows(input, weight, offsets)
        by_row = gradient[:, bags] * (self.select_branch(*inputs) != 0) * self._get_factors(per_sample_weights, numbers)
        return None, self._add_rows(by_row, indices, weight), None, self.backward(gradient, output, *inputs)[3]

    @declare_bug("the row of padding_idx got a gradient")
    def padding_with_gradient(self, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        indices, bags, _ = self._list_bags(*inputs[:3])
        by_weight = self._add_rows(gradient[:, bags], indices, inputs[1])
        right = self.backward(gradient, output, *inputs)
        assert right[1] is not None
        if self.padding_idx is None:
            return right
        right[1][:, self.padding_idx] = by_weight[:, self.padding_idx]
        return right

    def torch_forward(self, torch: Any, input: Any, weight: Any, offsets: Any, per_sample_weights: Any) -> Any:
        return torch.nn.functional.embedding_bag(
            input, weight, offsets, mode=self.mode, per_sample_weights=per_sample_weights,
            include_last_offset=self.include_last_offset, padding_idx=self.padding_idx,
        )  # fmt: skip
