"""Losses of classes whose scores are to be a margin apart."""

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Le

from service.numerics.core.batching import Array, Shape, count_elements
from service.numerics.core.sparsity import drop_missing, take_elementwise_min, take_min_over_axes
from service.numerics.ops.half_precision import widen_half
from service.numerics.ops.loss import LossReduction, PiecewiseLoss, reduce_by_torch
from service.numerics.ops.multipliers import Multiplier, declare_division
from service.numerics.ops.op import (
    ComputeCost,
    DependencyLabels,
    Gradients,
    OpExample,
    ShapeError,
    declare_bug,
    declare_bug_named,
    register_op,
)
from service.numerics.ops.subgradient_choices import SubgradientChoices, choose_between_derivatives


def match_classes(labels: Array, classes: int) -> Array:
    """Return for each label and class whether they are the same, (..., C)."""
    return np.equal(labels[..., None], np.arange(classes))


class ClassMarginLoss(PiecewiseLoss):
    """A sum over pairs of a right class j and another class i: w max(0, m - x_j + x_i)^p / C, then none, sum or mean.

    The classes lie along the last axis of x, (N, C) or (C,). The pieces are those of the pairs, (..., T, C), with T
    right classes.
    """

    scratch_arrays = 4
    numpy_calls = 16

    @property
    def margin_and_power(self) -> tuple[float, int]:
        """Return m and p."""
        return 1.0, 1

    @abstractmethod
    def list_right_classes(self, input: Array, target: Array) -> tuple[Array, Array]:
        """Return the right classes, (K, ..., T), and the mask of those that count."""

    def _select_pairs(self, input: Array, target: Array) -> tuple[Array, Array]:
        """Return the right classes, (K, ..., T), and the mask of the pairs that count, (K, ..., T, C)."""
        right, counts = self.list_right_classes(input, target)
        is_right: Array = np.logical_or.reduce(match_classes(right, input.shape[-1]) & counts[..., None], axis=-2)
        return right, counts[..., None] & ~is_right[..., None, :]

    def _compute_gaps(self, input: Array, right: Array, sign: int = -1) -> Array:
        """Return m - x_j + x_i of each pair; on absolute values with sign 1, their magnitude."""
        margin, _ = self.margin_and_power
        tiles = np.broadcast_to(right, (len(input), *right.shape[1:]))
        right_scores = np.take_along_axis(input, tiles, axis=-1)[..., None]
        return input.dtype.type(abs(margin) if sign > 0 else margin) + sign * right_scores + input[..., None, :]

    def select_branch(self, *inputs: Any) -> Array:
        input, target = inputs[:2]
        right, pairs = self._select_pairs(input, target)
        return pairs & ~(self._compute_gaps(input, right) <= 0)

    def _get_pair_weights(self, *inputs: Any) -> Array:
        """Return the factor of each sample's pairs, (K, ..., 1, 1)."""
        classes = inputs[0].shape[-1]
        shape: Shape = (1,) * (inputs[0].ndim + 1)
        return np.full(shape, 1 / classes, inputs[0].dtype)

    def compute_losses_on_branch(self, branch: Array, *inputs: Any) -> Array:
        right, _ = self._select_pairs(*inputs[:2])
        gaps = np.where(branch, self._compute_gaps(inputs[0], right), inputs[0].dtype.type(0))
        return (np.power(gaps, self.margin_and_power[1]) * self._get_pair_weights(*inputs)).sum(axis=(-2, -1))

    def estimate_loss_magnitudes(self, *inputs: Any) -> Array:
        right, pairs = self._select_pairs(*inputs[:2])
        power = self.margin_and_power[1]
        sizes = self._compute_gaps(np.abs(inputs[0]), right, 1)
        gaps = np.where(self.select_branch(*inputs), self._compute_gaps(inputs[0], right), 0)
        magnitudes = (gaps > 0) * sizes if power == 1 else gaps * (gaps + 2 * sizes)
        factor = math.sqrt(count_elements(pairs.shape[-2:]))
        return factor * (magnitudes * np.abs(self._get_pair_weights(*inputs))).sum(axis=(-2, -1))

    def _add_up_pairs(self, by_pair: Array, by_right: Array, input: Array, right: Array) -> Array:
        """Return the sum over pairs at class i, plus that at class j."""
        result = by_pair.sum(axis=-2)
        totals = by_right.sum(axis=-1)
        for place in range(right.shape[-1]):
            is_class = match_classes(right[..., place], input.shape[-1])
            result = result + totals[..., place, None] * is_class
        return result

    def _spread_over_pairs(self, weight: Array, *inputs: Any) -> Array:
        """Return the derivative of each pair's share by its gap, times the weight."""
        right, _ = self._select_pairs(*inputs[:2])
        power = self.margin_and_power[1]
        slopes: Any = self.select_branch(*inputs)
        if power == 2:
            slopes = np.where(slopes, 2 * self._compute_gaps(inputs[0], right), 0)
        return weight[..., None, None] * self._get_pair_weights(*inputs) * slopes.astype(weight.dtype, copy=False)

    def compute_sample_gradients(self, weight: Array, *inputs: Any) -> Gradients:
        right, _ = self._select_pairs(*inputs[:2])
        by_gap = self._spread_over_pairs(weight, *inputs)
        return self._add_up_pairs(by_gap, -by_gap, inputs[0], right), None

    def estimate_sample_gradient_magnitudes(self, weight: Array, *inputs: Any) -> Gradients:
        right, pairs = self._select_pairs(*inputs[:2])
        magnitudes = np.abs(self._spread_over_pairs(weight, *inputs))
        if self.margin_and_power[1] == 2:
            sizes = self._compute_gaps(np.abs(inputs[0]), right, 1)
            factors = weight[..., None, None] * np.abs(self._get_pair_weights(*inputs))
            magnitudes = magnitudes + 2 * factors * sizes * self.select_branch(*inputs)
        factor = math.sqrt(count_elements(pairs.shape[-2:]))
        return factor * self._add_up_pairs(magnitudes, magnitudes, inputs[0], right), None

    def list_subgradient_choices(self, input_errors: Sequence[Array | None], *inputs: Any) -> SubgradientChoices | None:
        """Return the choice of all or nothing of each pair whose gap is 0, for p = 1."""
        if self.margin_and_power[1] != 1:
            return None
        assert input_errors[0] is not None
        input: Array = inputs[0][:1]
        right, pairs = self._select_pairs(input, inputs[1][:1])
        classes = input.shape[-1]
        gaps = self._compute_gaps(input, right)
        errors = np.broadcast_to(input_errors[0][:1], input.shape)
        tiles = np.broadcast_to(right, (1, *right.shape[1:]))
        reach = np.take_along_axis(errors, tiles, axis=-1)[..., None] + errors[..., None, :]
        reach = reach + 2 * np.spacing(self._compute_gaps(np.abs(input), right, 1))
        near = (np.abs(gaps) <= reach) & pairs
        samples, places, others = (array for array in np.nonzero(near.reshape(-1, *near.shape[-2:])))
        rights = right.reshape(-1, right.shape[-1])[samples, places]
        weights = np.broadcast_to(self._get_pair_weights(*inputs)[:1], (*gaps.shape[:-2], 1, 1)).reshape(-1)[samples]
        factors = weights / (near[..., 0, 0].size if self.reduction == "mean" else 1)
        gap = gaps[near]
        derivatives = [(0, samples * classes + others, factors), (0, samples * classes + rights, -factors)]
        return choose_between_derivatives(
            self._get_output_flat_indices(samples), (gap > 0) * 1.0, gap == 0, [], derivatives
        )

    def propagate_to_losses(self, values: DependencyLabels, *inputs: Any) -> Array:
        (labels, *others) = drop_missing(values)
        least = take_min_over_axes(labels, labels.ndim - 1)[..., 0]
        for weight_labels in others:
            rows = np.broadcast_to(inputs[1], (len(weight_labels), *inputs[1].shape[1:]))
            flat = np.take_along_axis(weight_labels, rows.reshape(len(rows), -1), axis=1)
            least = take_elementwise_min(least, flat.reshape(rows.shape))
        return least

    def list_gradient_multipliers(self, *inputs: Any) -> Sequence[Multiplier]:
        classes = inputs[0].shape[-1]
        return [*super().list_gradient_multipliers(*inputs), declare_division(float(classes))]

    def estimate_cost(self, output: Shape, *shapes: Shape | None) -> ComputeCost:
        assert shapes[0] is not None
        pairs = count_elements(shapes[0]) * self.count_right_classes(shapes[0][-1])
        return ComputeCost(self.numpy_calls * pairs, pairs, self.numpy_calls)

    def count_right_classes(self, classes: int) -> int:
        """Return the largest number of right classes, T."""
        return 1

    @declare_bug("the share of the right classes was left out")
    def right_class_forgotten(self, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        right, _ = self._select_pairs(*inputs[:2])
        weight = self._compute_sample_weights(gradient, self.compute_sample_losses(*inputs), *inputs)
        by_gap = self._spread_over_pairs(weight, *inputs)
        return self._add_up_pairs(by_gap, 0 * by_gap, inputs[0], right), *self.backward(gradient, output, *inputs)[1:]

    @declare_bug("the right class got the share of one other class, and not that of all")
    def right_class_counted_once(self, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        right, _ = self._select_pairs(*inputs[:2])
        weight = self._compute_sample_weights(gradient, self.compute_sample_losses(*inputs), *inputs)
        by_gap = self._spread_over_pairs(weight, *inputs)
        counts = np.maximum((by_gap != 0).sum(axis=-1, keepdims=True), 1)
        results = self.backward(gradient, output, *inputs)
        return self._add_up_pairs(by_gap, -by_gap / counts, inputs[0], right), *results[1:]


@register_op("multi_margin_loss")
class MultiMarginLoss(ClassMarginLoss):
    """Margin loss of one class y of C: sum over i != y of w_y max(0, m - x_y + x_i)^p / C, then none, sum or mean.

    p is 1 or 2, m = margin. With g = dL/d(output), c = 1 (none, sum) or 1/N (mean), z_i = max(0, m - x_y + x_i), where
    z_i is positive:
        dL/dx_i = g c w_y p z_i^(p-1) / C for i != y        dL/dx_y = -(sum of these)
        dL/dw_k = sum of g c z_i^p / C over i and the samples of class k
    """

    p: Annotated[int, Ge(1), Le(2)] = 1
    margin: float = 1.0
    reduction: LossReduction = "mean"

    inputs = ("input", "target:index", "weight?")
    positional = ("input", "target", "p", "margin", "weight")
    examples = (
        OpExample(((3, 4), (3,), None), index_limits={"target": 4}),
        OpExample(((4, 3), (4,), (3,)), {"p": 2, "reduction": "sum"}, index_limits={"target": 3}),
        OpExample(((2, 5), (2,), (5,)), {"margin": 0.5, "reduction": "none"}, index_limits={"target": 5}),
        OpExample(((4,), (), None), {"p": 2}, index_limits={"target": 4}),
    )

    @property
    def margin_and_power(self) -> tuple[float, int]:
        return self.margin, self.p

    def infer_output_shape(self, input: Shape, target: Shape, weight: Shape | None) -> Shape:
        if len(input) not in (1, 2) or target != input[:-1]:
            raise ShapeError("an input (N, C) with a target (N,), or (C,) with ()")
        if weight is not None and weight != input[-1:]:
            raise ShapeError(f"a weight of shape {list(input[-1:])}, one for each class")
        return target if self.reduction == "none" else ()

    def check_values(self, shapes: tuple[Shape, ...], *values: Array | None) -> None:
        target = values[1]
        if target is not None and ((target < 0) | (target >= shapes[0][-1])).any():
            raise ShapeError(f"labels from 0 to {shapes[0][-1] - 1}")

    def list_right_classes(self, input: Array, target: Array) -> tuple[Array, Array]:
        return target[..., None], np.ones((*target.shape, 1), np.bool_)

    def _get_pair_weights(self, *inputs: Any) -> Array:
        _, target, weight = inputs
        weights = super()._get_pair_weights(*inputs)
        if weight is None:
            return weights
        tiles = np.broadcast_to(target, (len(weight), *target.shape[1:]))
        chosen = np.take_along_axis(weight, tiles.reshape(len(weight), -1), axis=1)
        return weights * chosen.reshape(len(weight), *target.shape[1:], 1, 1)

    def _compute_weight_gradient(self, weight: Array, *inputs: Any) -> Array | None:
        input, target, class_weight = inputs
        if class_weight is None:
            return None
        shares = weight * self.compute_sample_losses(input, target, None)
        is_class = match_classes(target, input.shape[-1])
        return (shares[..., None] * is_class).reshape(len(shares), -1, input.shape[-1]).sum(axis=1)

    def compute_sample_gradients(self, weight: Array, *inputs: Any) -> Gradients:
        return *super().compute_sample_gradients(weight, *inputs), self._compute_weight_gradient(weight, *inputs)

    def estimate_sample_gradient_magnitudes(self, weight: Array, *inputs: Any) -> Gradients:
        by_input = super().estimate_sample_gradient_magnitudes(weight, *inputs)
        input, target, class_weight = inputs
        if class_weight is None:
            return *by_input, None
        magnitudes = weight * self.estimate_loss_magnitudes(input, target, None)
        is_class = match_classes(target, input.shape[-1])
        by_class = (magnitudes[..., None] * is_class).reshape(len(magnitudes), -1, input.shape[-1]).sum(axis=1)
        return *by_input, math.sqrt(count_elements(target.shape[1:])) * by_class

    @declare_bug_named(
        "channel_factor_missing", "the weights of the classes were left out", lambda shapes: shapes[-1] is not None
    )
    def forget_class_weights(self, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        return self.backward(gradient, output, *inputs[:2], None)[0], *self.backward(gradient, output, *inputs)[1:]

    def torch_forward(self, torch: Any, input: Any, target: Any, weight: Any) -> Any:
        function = torch.nn.functional.multi_margin_loss
        wide, wide_weight = widen_half(torch, input, weight)
        if weight is None or not weight.requires_grad:
            losses = function(wide, target, self.p, self.margin, wide_weight, reduction=self.reduction)
            return losses.to(input.dtype)
        # PyTorch has no derivative by the weight.
        losses = function(wide, target, self.p, self.margin, reduction="none") * wide_weight[target]
        return reduce_by_torch(self.reduction, losses).to(input.dtype)


@register_op("multilabel_margin_loss")
class MultilabelMarginLoss(ClassMarginLoss):
    """Margin loss of several right classes of C: sum of max(0, 1 - x_j + x_i) / C, then none, sum or mean.

    The sum is over right classes j and other classes i. The right classes stand in the target, of the input's shape,
    before its first -1. With g = dL/d(output), c = 1 (none, sum) or 1/N (mean), over the pairs (j, i) whose loss is
    positive:
        dL/dx_i = g c / C for each j        dL/dx_j = -g c / C for each i
    """

    reduction: LossReduction = "mean"

    inputs = ("input", "target:index")
    positional = ("input", "target")
    examples = (
        OpExample(((3, 4), (3, 4)), index_limits={"target": 4}),
        OpExample(((2, 5), (2, 5)), {"reduction": "sum"}, index_limits={"target": 5}),
        OpExample(((4, 3), (4, 3)), {"reduction": "none"}, index_limits={"target": 3}),
        OpExample(((5,), (5,)), index_limits={"target": 5}),
    )

    def infer_output_shape(self, input: Shape, target: Shape) -> Shape:
        if len(input) not in (1, 2) or target != input:
            raise ShapeError("an input (N, C) or (C,) with a target of the same shape")
        return input[:-1] if self.reduction == "none" else ()

    def check_values(self, shapes: tuple[Shape, ...], *values: Array | None) -> None:
        target = values[1]
        if target is not None and ((target < -1) | (target >= shapes[0][-1])).any():
            raise ShapeError(f"labels from 0 to {shapes[0][-1] - 1}, and -1 behind the last")

    def list_right_classes(self, input: Array, target: Array) -> tuple[Array, Array]:
        return np.maximum(target, 0), np.logical_and.accumulate(target >= 0, axis=-1)

    def count_right_classes(self, classes: int) -> int:
        return classes

    def propagate_to_losses(self, values: DependencyLabels, *inputs: Any) -> Array:
        (labels,) = drop_missing(values)
        return take_min_over_axes(labels, labels.ndim - 1)[..., 0]

    def torch_forward(self, torch: Any, input: Any, target: Any) -> Any:
        wide = widen_half(torch, input)
        return torch.nn.functional.multilabel_margin_loss(wide, target, reduction=self.reduction).to(input.dtype)
