"""Losses of classes: the right one of C, as labels or as probabilities."""

import dataclasses
from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Le

from service.numerics.core.batching import Array, Shape, count_elements
from service.numerics.core.sparsity import take_elementwise_min, take_min_over_axes, take_min_over_elements
from service.numerics.ops.backward_form import BackwardForm
from service.numerics.ops.formula import Scope
from service.numerics.ops.formula_op import FormulaBugs
from service.numerics.ops.loss import LossOp, LossReduction
from service.numerics.ops.multipliers import Multiplier
from service.numerics.ops.op import (
    DependencyLabels,
    Gradients,
    OpExample,
    SensitiveArgument,
    ShapeError,
    declare_bug,
    declare_bug_named,
    register_op,
)
from service.numerics.ops.rounding_errors import MEAN_ROUNDING, ErrorModel
from service.numerics.ops.softmax import (
    estimate_implemented_log_softmax_magnitude,
    estimate_log_softmax_magnitude,
    log_softmax,
    log_softmax_with_errors,
    softmax,
)

_LABEL_REQUIREMENT = "labels from 0 to {last}, or ignore_index ({ignored})"


class ClassLoss(FormulaBugs, LossOp):
    """A loss -sum_c q_c a_c of each sample, with log-probabilities a.

    The classes lie along axis 1 of a or, if it is 1-D, axis 0. Labels y make q_c = w_c [c = y] of the samples that are
    not ignored. If all labels are ignored the mean is NaN, but its gradient 0, as in PyTorch.
    """

    ignore_index: int

    def make_scope(self, gradient: Array, output: Array, *inputs: Any) -> Scope:
        input, target, weight = inputs
        axis = self._get_batched_class_axis(input)
        has_labels = target.ndim != input.ndim

        def expand(weights: Array) -> Array:
            return np.expand_dims(weights, axis)

        losses_shape = tuple(length for position, length in enumerate(input.shape) if position != axis)
        samples = np.ones(losses_shape, input.dtype)
        scope = Scope()
        return scope.add_quantities(
            k=lambda: expand(self._compute_sample_weights(gradient, self.compute_sample_losses(*inputs), *inputs)),
            k_with_ignored=lambda: expand(self._weigh_all_samples(gradient, samples, *inputs)),
            k_by_all_samples=lambda: self._divide_by_all_samples(scope.compute("k"), samples, *inputs),
            w=lambda: self._get_class_weight(input, weight),
            e=lambda: self._make_one_hot(input, target) if has_labels else target,
        )

    def _weigh_all_samples(self, gradient: Array, samples: Array, *inputs: Any) -> Array:
        """Return the gradient of the losses as if no label was ignored, with the right divisor."""
        return super()._compute_sample_weights(gradient, samples, *inputs)

    def _divide_by_all_samples(self, weights: Array, samples: Array, *inputs: Any) -> Array:
        """Return the gradients of the losses, of a mean that counts ignored samples too."""
        if self.reduction != "mean":
            return weights
        divisor = self._cast_divisor(self.compute_reduction_divisor(samples, *inputs), samples)
        if not isinstance(divisor, int):
            divisor = divisor.reshape(-1, *(1,) * (weights.ndim - 1))
        return weights * divisor / count_elements(samples.shape[1:])

    def _compute_sample_weights(self, gradient: Array, losses: Array, *inputs: Any) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            weights = super()._compute_sample_weights(gradient, losses, *inputs)
        target = inputs[1]
        if target.ndim != weights.ndim:
            return weights
        return np.where(target == self.ignore_index, 0, weights).astype(weights.dtype, copy=False)

    def infer_output_shape(self, input: Shape, target: Shape, weight: Shape | None) -> Shape:
        samples = self._get_sample_shape(input)
        self._check_target(input, samples, target)
        classes = input[self._get_class_axis(input)]
        if weight is not None and weight != (classes,):
            raise ShapeError(f"a weight of shape {[classes]}, one for each class")
        return samples if self.reduction == "none" else ()

    @staticmethod
    def _get_class_axis(input: Shape) -> int:
        return 0 if len(input) == 1 else 1

    def _get_sample_shape(self, input: Shape) -> Shape:
        if not input:
            raise ShapeError("an input (C,) or (N, C, ...)")
        axis = self._get_class_axis(input)
        return input[:axis] + input[axis + 1 :]

    def _check_target(self, input: Shape, samples: Shape, target: Shape) -> None:
        if target != samples:
            raise ShapeError(f"labels of shape {list(samples)} for an input {list(input)}")

    def check_values(self, shapes: tuple[Shape, ...], *values: Array | None) -> None:
        target = values[1]
        if target is not None and target.dtype.kind == "i" and target.shape != shapes[0]:
            last_class = shapes[0][self._get_class_axis(shapes[0])] - 1
            is_out_of_range = (target < 0) | (target > last_class)
            if (is_out_of_range & (target != self.ignore_index)).any():
                raise ShapeError(_LABEL_REQUIREMENT.format(last=last_class, ignored=self.ignore_index))

    def propagate_to_losses(self, values: DependencyLabels, *inputs: Any) -> Array:
        input_labels, target_labels, weight_labels = values
        assert input_labels is not None
        class_labels = input_labels if target_labels is None else take_elementwise_min(input_labels, target_labels)
        sample_labels = take_min_over_axes(class_labels, self._get_batched_class_axis(input_labels)).squeeze(
            self._get_batched_class_axis(input_labels)
        )
        if weight_labels is None:
            return sample_labels
        # The divisor of a mean holds every class weight.
        return take_elementwise_min(
            sample_labels, take_min_over_elements(weight_labels).reshape(-1, *(1,) * (sample_labels.ndim - 1))
        )

    def _get_batched_class_axis(self, input: Array) -> int:
        return self._get_class_axis(input.shape[1:]) + 1

    def _get_class_weight(self, input: Array, weight: Array | None) -> Array:
        """Return the class weights, broadcastable to the input."""
        if weight is None:
            return np.ones((1,) * input.ndim, dtype=input.dtype)
        shape = [1] * (input.ndim - 1)
        shape[self._get_batched_class_axis(input) - 1] = weight.shape[1]
        return weight.reshape(weight.shape[0], *shape)

    def _make_one_hot(self, input: Array, target: Array) -> Array:
        """Return 1 at the label of each sample, 0 elsewhere and at ignored labels.

        The result has the shape of the input.
        """
        class_axis = self._get_batched_class_axis(input)
        classes = np.arange(int(input.shape[class_axis])).reshape(-1, *(1,) * (input.ndim - class_axis - 1))
        labels = target.reshape(*target.shape[:class_axis], 1, *target.shape[class_axis:])
        return ((labels == classes) & (labels != self.ignore_index)).astype(input.dtype)

    def _has_counted_label(self, target: Any) -> bool:
        """Return whether PyTorch's target has a label that is not ignored."""
        return bool((target != self.ignore_index).any())

    def list_gradient_multipliers(self, *inputs: Any) -> Sequence[Multiplier]:
        classes = inputs[0].shape[self._get_batched_class_axis(inputs[0])]
        multipliers = [
            *super().list_gradient_multipliers(*inputs),
            Multiplier("sum", f"the {classes} classes", float(classes)),
        ]
        # The divisor of a mean holds the class weights, so no number multiplies their gradient alone.
        return [multiplier._replace(operand_positions=(0,)) for multiplier in multipliers]

    @declare_bug_named(
        "channel_factor_missing",
        "the weights of the classes were left out, but kept in the divisor of the mean",
        lambda shapes: shapes[-1] is not None,
    )
    def forget_class_weights(self, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        weight = self._compute_sample_weights(gradient, self.compute_sample_losses(*inputs), *inputs)
        return self.compute_sample_gradients(weight, *inputs[:2], None)[0], *self.backward(gradient, output, *inputs)[
            1:
        ]

    @declare_bug_named(
        "channel_factor_missing", "the weights of the classes were left out", lambda shapes: shapes[-1] is not None
    )
    def forget_all_class_weights(self, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        return self.backward(gradient, output, *inputs[:2], None)[0], *self.backward(gradient, output, *inputs)[1:]

    def _sum_by_class(self, products: Array, input: Array) -> Array:
        """Return the sum over the samples, (K, C)."""
        sample_axes = tuple(axis for axis in range(1, products.ndim) if axis != self._get_batched_class_axis(input))
        return products.sum(axis=sample_axes)

    def _compute_divisor_gradient(self, spread: Array, mean: Array, input: Array, target: Array) -> Array:
        """Return the part of a class weight's gradient from the mean's divisor."""
        return self._select_at_label(spread * mean.reshape((-1,) + (1,) * (input.ndim - 1)), input, target)

    def _select_at_label(self, array: Array, input: Array, target: Array) -> Array:
        """Return an array at the label of each sample and 0 elsewhere, even for NaN."""
        return np.where(self._make_one_hot(input, target) != 0, array, 0).astype(input.dtype, copy=False)


@register_op("nll_loss")
class NllLoss(ClassLoss):
    """Negative log-likelihood: -w_y a_y for each sample, then none, sum or mean.

    a = input, y is the label of the sample, and the loss is 0 where y = ignore_index. The mean divides by W, the sum of
    the w_y of all samples that are not ignored. With g = dL/d(output), c = 1 (none, sum) or 1/W (mean), l_n the loss of
    a sample, n over the samples:
        dL/da_nc = -g c w_c [c = y_n]
        dL/dw_c = sum_n g c [c = y_n] (-a_nc),  for the mean less sum_n g c [c = y_n] L
    """

    numpy_calls = 6
    reduction: LossReduction = "mean"
    ignore_index: int = -100

    supports_complex_step = True
    # In the formula k = g c is the gradient of the loss of a sample, and e = [c = y].
    backward_form = BackwardForm(
        {"input": "-(k * w * e)"},
        look_alikes={
            "k": {
                "k_by_all_samples": "the mean was divided by the number of all samples",
            },
            "e": {"e_of_next_class": "the gradient went to the class behind the label"},
        },
        declared={"input": ["k * w * e", "-(k * e)"]},
        # The square of a 1 is a 1.
        omitted=("input:factor_squared:e", "input:factor_inverted:e"),
        upstream=("k",),
    )

    def make_scope(self, gradient: Array, output: Array, *inputs: Any) -> Scope:
        scope = super().make_scope(gradient, output, *inputs)
        axis = self._get_batched_class_axis(inputs[0])
        return scope.add_quantities(e_of_next_class=lambda: np.roll(scope.compute("e"), 1, axis))

    inputs = ("input", "target:index", "weight?")
    examples = (
        OpExample(((3, 4), (3,), None), index_limits={"target": 4}),
        OpExample(
            ((2, 4, 3), (2, 3), (4,)), {"reduction": "sum", "ignore_index": 1}, low=0.2, index_limits={"target": 4}
        ),
        OpExample(((5, 3), (5,), (3,)), {"ignore_index": 2}, low=0.2, index_limits={"target": 3}),
        OpExample(((4,), (), None), {"reduction": "none"}, index_limits={"target": 4}),
    )

    def _compute_label_coefficients(self, input: Array, target: Array, weight: Array | None) -> Array:
        return self._make_one_hot(input, target) * self._get_class_weight(input, weight)

    def compute_sample_losses(self, input: Array, target: Array, weight: Array | None) -> Array:
        return -(self._compute_label_coefficients(input, target, weight) * input).sum(
            axis=self._get_batched_class_axis(input)
        )

    def compute_reduction_divisor(self, losses: Array, *inputs: Any) -> Array | int:
        if self.reduction != "mean":
            return 1
        coefficients = self._compute_label_coefficients(*inputs)
        return coefficients.reshape(coefficients.shape[0], -1).sum(axis=1)

    def compute_sample_gradients(
        self, weight: Array, input: Array, target: Array, class_weight: Array | None
    ) -> Gradients:
        class_spread = np.expand_dims(weight, self._get_batched_class_axis(input))
        by_input = self._select_at_label(-class_spread * self._get_class_weight(input, class_weight), input, target)
        if class_weight is None:
            return by_input, None, None
        products = self._select_at_label(-class_spread * input, input, target)
        if self.reduction == "mean":
            mean = self._reduce_losses(
                self.compute_sample_losses(input, target, class_weight), input, target, class_weight
            )
            products = products - self._compute_divisor_gradient(class_spread, mean, input, target)
        return by_input, None, self._sum_by_class(products, input)

    def estimate_sample_gradient_magnitudes(
        self, weight: Array, input: Array, target: Array, class_weight: Array | None
    ) -> Gradients:
        class_spread = np.expand_dims(weight, self._get_batched_class_axis(input))
        by_input = self._select_at_label(
            np.abs(class_spread * self._get_class_weight(input, class_weight)), input, target
        )
        if class_weight is None:
            return by_input, None, None
        magnitudes = self._select_at_label(class_spread * np.abs(input), input, target)
        if self.reduction == "mean":
            mean = np.abs(
                self._reduce_losses(
                    self.compute_sample_losses(input, target, class_weight), input, target, class_weight
                )
            )
            magnitudes = magnitudes + self._compute_divisor_gradient(class_spread, mean, input, target)
        return by_input, None, self._sum_by_class(magnitudes, input)

    @declare_bug("the sign was left out")
    def sign_forgotten(self, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        return self.backward(-gradient, output, *inputs)

    def torch_forward(self, torch: Any, input: Any, target: Any, weight: Any) -> Any:
        if weight is not None and weight.requires_grad and self._has_counted_label(target):
            return self._torch_forward_with_weight(torch, input, target, weight)
        weight = None if weight is None else weight.detach()
        return torch.nn.functional.nll_loss(
            input, target, weight, ignore_index=self.ignore_index, reduction=self.reduction
        )

    def _torch_forward_with_weight(self, torch: Any, input: Any, target: Any, weight: Any) -> Any:
        """Return the loss from primitives: nll_loss has no derivative by its weight."""
        is_counted = target != self.ignore_index
        labels = torch.where(is_counted, target, 0)
        label_weights = weight[labels] * is_counted
        class_axis = self._get_class_axis(tuple(input.shape))
        losses = -label_weights * input.gather(class_axis, labels.unsqueeze(class_axis)).squeeze(class_axis)
        if self.reduction == "none":
            return losses
        return losses.sum() if self.reduction == "sum" else losses.sum() / label_weights.sum()


@register_op("cross_entropy")
class CrossEntropy(ClassLoss):
    """Cross entropy: -sum_c q_c log p_c for each sample, then none, sum or mean.

    p is the softmax of the input over the C classes. With e = label_smoothing and class weights w:
        q_c = w_c ((1 - e) [c = y] + e / C) for a label y, and q_c = 0 for one that is ignored
        q_c = w_c ((1 - e) t_c + e / C) for probabilities t
    The mean divides by D, the sum of the w_y of labels that are not ignored, or the number of samples for
    probabilities. With g = dL/d(output), k = 1 (none, sum) or 1/D (mean), Q = sum_c q_c:
        dL/dx_c = g k (Q p_c - q_c)
        dL/dt_c = -g k (1 - e) w_c log p_c
        dL/dw_c = -sum_n g k (q_c / w_c) log p_c,  for the mean over labels less sum_n g k [c = y_n] L
    """

    numpy_calls = 14
    reduction: LossReduction = "mean"
    ignore_index: int = -100
    label_smoothing: Annotated[float, Ge(0), Le(1)] = 0.0

    inner_casts = ("log_p", "p")
    supports_complex_step = True
    # In the formula k = g / D, or g, is the gradient of the loss of a sample, and e the target without smoothing.
    backward_form = BackwardForm(
        {"input": "k * (Q * p - q)"},
        look_alikes={
            "k": {
                "k_by_all_samples": "the mean was divided by the number of all samples",
            },
            "Q": {"w": "the weight of each class stood for the sum Q of its sample"},
            "p": {
                "l": "log p stood for p",
                "x": "the logits stood for p = softmax(x)",
                "p_along_another_axis": "the softmax was computed along another axis",
                "p_not_normalised": "exp(x), not divided by the sum, stood for p",
            },
            "q": {
                "e": "label smoothing was left out",
                "q_over_others": "the smoothing was shared among C - 1 classes, without that of the label",
                "q_unscaled": "the target was not multiplied by 1 - e, e = label_smoothing",
            },
        },
        alternatives={
            "input": {
                "k_with_ignored * (Q_with_ignored * p - q)": "ignored samples had a gradient, p",
                "k_with_ignored * (Q_with_ignored * p - q_with_ignored)": (
                    "ignored samples had a gradient, as if their label counted"
                ),
            }
        },
        declared={"input": ["k * Q * p"]},
        upstream=("k",),
    )

    def make_scope(self, gradient: Array, output: Array, *inputs: Any) -> Scope:
        input, target, weight = inputs
        axis, other_axis = self._get_batched_class_axis(input), 1 if input.ndim > 2 else input.ndim - 1
        other_axis = other_axis if other_axis != axis else input.ndim - 1
        classes, smoothing = input.shape[axis], self.label_smoothing
        has_labels = self._is_target_labels(input, target)
        is_ignored = np.expand_dims(target == self.ignore_index, axis) if has_labels else np.zeros((1,), np.bool_)
        scope = super().make_scope(gradient, output, *inputs)
        value = scope.compute
        return scope.add_quantities(
            x=lambda: input,
            p=lambda: softmax(input, axis),
            p_along_another_axis=lambda: softmax(input, other_axis),
            p_not_normalised=lambda: np.exp(input),
            l=lambda: log_softmax(input, axis),
            q=lambda: self._compute_class_coefficients(input, target, weight),
            Q=lambda: value("q").sum(axis=axis, keepdims=True),
            Q_with_ignored=lambda: np.where(is_ignored, 1, value("Q")),
            q_with_ignored=lambda: np.where(
                is_ignored, dataclasses.replace(self, ignore_index=-1)._make_one_hot(input, target), value("q")
            ),
            q_over_others=lambda: (
                value("w") * np.where(value("e") > 0, (1 - smoothing) * value("e"), smoothing / max(1, classes - 1))
            ),
            q_unscaled=lambda: value("w") * (value("e") + smoothing / classes),
        )

    inputs = ("input", "target:index|float", "weight?")
    examples = (
        OpExample(((3, 4), (3,), None), index_limits={"target": 4}),
        OpExample(
            ((2, 4, 3), (2, 3), (4,)), {"reduction": "sum", "ignore_index": 1}, low=0.2, index_limits={"target": 4}
        ),
        OpExample(
            ((5, 3), (5,), (3,)), {"ignore_index": 2, "label_smoothing": 0.2}, low=0.2, index_limits={"target": 3}
        ),
        OpExample(((4,), (), None), {"reduction": "none"}, index_limits={"target": 4}),
        OpExample(((3, 4), (3, 4), (4,)), {"label_smoothing": 0.1}, low=0.1),
        OpExample(((2, 3, 2), (2, 3, 2), None), {"reduction": "none"}),
    )

    def _check_target(self, input: Shape, samples: Shape, target: Shape) -> None:
        if target not in (samples, input):
            raise ShapeError(f"labels of shape {list(samples)} or probabilities of shape {list(input)}")
        if target == input and self.ignore_index >= 0:
            raise ShapeError(f"labels of shape {list(samples)} with an ignore_index, not probabilities")

    def check_values(self, shapes: tuple[Shape, ...], *values: Array | None) -> None:
        target = values[1]
        if shapes[1] != shapes[0] and (target is None or target.dtype.kind != "i"):
            raise ShapeError(
                f"integers as labels of shape {list(shapes[1])}, or probabilities of shape {list(shapes[0])}; "
                "the target is of floats"
            )
        super().check_values(shapes, *values)

    @staticmethod
    def _is_target_labels(input: Array, target: Array) -> bool:
        return input.ndim != target.ndim

    def _compute_target_rates(self, input: Array, target: Array) -> Array:
        """Return q / w."""
        classes = input.shape[self._get_batched_class_axis(input)]
        is_counted: Any = 1
        if self._is_target_labels(input, target):
            if self.label_smoothing:
                is_counted = np.expand_dims(target != self.ignore_index, self._get_batched_class_axis(input))
            target = self._make_one_hot(input, target)
        if target.dtype.kind != "c":
            target = target.astype(input.dtype, copy=False)
        if not self.label_smoothing:
            return target
        smoothed_target = (1 - self.label_smoothing) * target + self.label_smoothing / classes * is_counted
        return smoothed_target.astype(target.dtype, copy=False)

    def _compute_class_coefficients(self, input: Array, target: Array, weight: Array | None) -> Array:
        return self._compute_target_rates(input, target) * self._get_class_weight(input, weight)

    def get_sensitive_argument(self, input: Array, target: Array, weight: Array | None) -> SensitiveArgument:
        return SensitiveArgument(input, self._get_batched_class_axis(input))

    def compute_sample_losses(self, input: Array, target: Array, weight: Array | None) -> Array:
        class_axis = self._get_batched_class_axis(input)
        logarithms = log_softmax(input, class_axis)
        if self._is_target_labels(input, target) and not self.label_smoothing:
            if weight is not None:
                logarithms = logarithms * self._get_class_weight(input, weight)
            return -self._select_at_labels(logarithms, target)
        return -(self._compute_class_coefficients(input, target, weight) * logarithms).sum(axis=class_axis)

    def _select_at_labels(self, numbers: Array, target: Array) -> Array:
        """Return the number of each sample's label, of the samples' shape; 0 at ignored labels."""
        is_counted, class_axis = target != self.ignore_index, self._get_batched_class_axis(numbers)
        labels = np.expand_dims(np.where(is_counted, target, 0), class_axis)
        selected_numbers = np.take_along_axis(numbers, labels, class_axis).squeeze(class_axis)
        return selected_numbers if is_counted.all() else np.where(is_counted, selected_numbers, 0)

    def compute_reduction_divisor(self, losses: Array, *inputs: Any) -> Array | int:
        if self.reduction != "mean":
            return 1
        input, target, weight = inputs
        if not self._is_target_labels(input, target):
            return count_elements(losses.shape[1:])
        if weight is None:
            return (target != self.ignore_index).reshape(len(target), -1).sum(axis=1).astype(input.dtype)
        label_weights = self._make_one_hot(input, target) * self._get_class_weight(input, weight)
        return label_weights.reshape(label_weights.shape[0], -1).sum(axis=1)

    def estimate_implemented_loss_magnitudes(self, input: Array, target: Array, weight: Array | None) -> Array:
        log_magnitudes = estimate_implemented_log_softmax_magnitude(input, self._get_batched_class_axis(input))
        return (np.abs(self._compute_class_coefficients(input, target, weight)) * log_magnitudes).sum(
            axis=self._get_batched_class_axis(input)
        )

    def estimate_loss_magnitudes(self, input: Array, target: Array, weight: Array | None) -> Array:
        log_magnitudes = estimate_log_softmax_magnitude(input, self._get_batched_class_axis(input))
        return (np.abs(self._compute_class_coefficients(input, target, weight)) * log_magnitudes).sum(
            axis=self._get_batched_class_axis(input)
        )

    def compute_sample_gradients(
        self, weight: Array, input: Array, target: Array, class_weight: Array | None
    ) -> Gradients:
        class_axis = self._get_batched_class_axis(input)
        logarithms, p = log_softmax(input, class_axis), softmax(input, class_axis)
        return self._compute_partial_gradients_from(weight, logarithms, p, input, target, class_weight)

    def _compute_partial_gradients_from(
        self, weight: Array, logarithms: Array, p: Array, input: Array, target: Array, class_weight: Array | None
    ) -> Gradients:
        class_axis = self._get_batched_class_axis(input)
        class_spread = np.expand_dims(weight, class_axis)
        q = self._compute_class_coefficients(input, target, class_weight)
        by_input = class_spread * (q.sum(axis=class_axis, keepdims=True) * p - q)
        by_target = None
        if not self._is_target_labels(input, target):
            by_target = (
                -class_spread * (1 - self.label_smoothing) * self._get_class_weight(input, class_weight) * logarithms
            )
        if class_weight is None:
            return by_input, by_target, None
        products = -class_spread * self._compute_target_rates(input, target) * logarithms
        if self.reduction == "mean" and self._is_target_labels(input, target):
            losses = -(q * logarithms).sum(axis=class_axis)
            mean = self._reduce_losses(losses, input, target, class_weight)
            products = products - self._compute_divisor_gradient(class_spread, mean, input, target)
        return by_input, by_target, self._sum_by_class(products, input)

    def estimate_sample_gradient_magnitudes(
        self, weight: Array, input: Array, target: Array, class_weight: Array | None
    ) -> Gradients:
        class_axis = self._get_batched_class_axis(input)
        class_spread = np.expand_dims(weight, class_axis)
        q = np.abs(self._compute_class_coefficients(input, target, class_weight))
        logarithms, p = np.abs(log_softmax(input, class_axis)), softmax(input, class_axis)
        product = q.sum(axis=class_axis, keepdims=True) * p
        by_input = class_spread * (np.abs(product - q) + (0 if self._is_target_exact(input, target) else product + q))
        by_target = None
        if not self._is_target_labels(input, target):
            by_target = class_spread * np.abs(self._get_class_weight(input, class_weight)) * logarithms
        if class_weight is None:
            return by_input, by_target, None
        products = class_spread * np.abs(self._compute_target_rates(input, target)) * logarithms
        if self.reduction == "mean" and self._is_target_labels(input, target):
            losses = (q * logarithms).sum(axis=class_axis)
            mean = np.abs(self._reduce_losses(losses, input, target, class_weight))
            products = products + self._compute_divisor_gradient(class_spread, mean, input, target)
        return by_input, by_target, self._sum_by_class(products, input)

    def _is_target_exact(self, input: Array, target: Array) -> bool:
        """Return whether the part subtracted from p is 1 or 0, which does not round."""
        return self._is_target_labels(input, target) and not self.label_smoothing

    def backward_with_errors(self, errors: ErrorModel, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        """Return the gradients with the errors of log p, of p and of their products.

        Notes
        -----
        log p has the errors of log-softmax. p is off by u p times theirs and 2 more, and by no more than twice 1 - p.
        With z = x - max x, and r the sum of all exponentials but the largest: where r is small the largest z is 0,
        log(1 + r) is off by r at most, and so is the exponential of it. Kernels that compute p as exp(x - L), L = max x
        + log S, are off by a rounding of L too, for which `MEAN_ROUNDING` stands. Programs of two kernels, as
        PyTorch's, store log p between them, and p is the exponential of the rounded one. On a CPU it is rounded, too.
        """
        input, target, class_weight = inputs
        class_axis = self._get_batched_class_axis(input)
        logarithms, p = log_softmax(input, class_axis), softmax(input, class_axis)
        log_sum = input.max(axis=class_axis, keepdims=True) - logarithms.max(axis=class_axis, keepdims=True)
        relative_errors = estimate_log_softmax_magnitude(input, class_axis) + MEAN_ROUNDING * np.abs(log_sum) + 2
        weight = self._compute_sample_weights(gradient, self.compute_sample_losses(*inputs), *inputs)
        logarithms_with_errors = log_softmax_with_errors(errors, input, class_axis)
        stored = errors.cast("log_p", logarithms)
        if stored is not logarithms:
            p, logarithms_with_errors = np.exp(stored), logarithms_with_errors + (stored - logarithms)
        p = errors.cast("p", p)
        results = self._compute_partial_gradients_from(weight, logarithms_with_errors, p, input, target, class_weight)
        magnitudes = self.estimate_sample_gradient_magnitudes(np.abs(weight), *inputs)
        terms = self.summand_count + 1, self.summand_count + 1, count_elements(weight.shape[1:]) + 1
        by_input, *other_gradients = (
            None if result is None else errors(result, magnitude, count)
            for result, magnitude, count in zip(results, magnitudes, terms, strict=True)
        )
        assert by_input is not None
        # Next to 1 the error of p is that of the difference 1 - p, of which p itself holds no digits.
        scale = np.abs(self._compute_class_coefficients(input, target, class_weight)).sum(
            axis=class_axis, keepdims=True
        )
        scale = scale * np.abs(np.expand_dims(weight, class_axis))
        largest_error = -2 * scale * np.expm1(logarithms)
        return errors(
            by_input, scale * (p * relative_errors + errors.underflow_loss), most=largest_error
        ), *other_gradients

    @declare_bug("the target was not subtracted: p was taken for p - [c = y]")
    def missing_one_hot(self, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        input, class_axis = inputs[0], self._get_batched_class_axis(inputs[0])
        class_spread = np.expand_dims(
            self._compute_sample_weights(gradient, self.compute_sample_losses(*inputs), *inputs), class_axis
        )
        q = self._compute_class_coefficients(*inputs).sum(axis=class_axis, keepdims=True)
        return class_spread * q * softmax(input, class_axis), *self.backward(gradient, output, *inputs)[1:]

    @declare_bug("only the diagonal of the Jacobian of softmax was used: q (p - 1) for p - q")
    def softmax_jacobian_diagonal_only(self, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        input, class_axis = inputs[0], self._get_batched_class_axis(inputs[0])
        class_spread = np.expand_dims(
            self._compute_sample_weights(gradient, self.compute_sample_losses(*inputs), *inputs), class_axis
        )
        by_input = class_spread * self._compute_class_coefficients(*inputs) * (softmax(input, class_axis) - 1)
        return by_input, *self.backward(gradient, output, *inputs)[1:]

    @declare_bug_named(
        "softmax_jacobian_diagonal_only",
        "p - q, which already holds the Jacobian of softmax, was multiplied by its diagonal p (1 - p) again",
    )
    def multiply_by_softmax_diagonal(self, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        p = softmax(inputs[0], self._get_batched_class_axis(inputs[0]))
        by_input, *other_gradients = self.backward(gradient, output, *inputs)
        assert by_input is not None
        return by_input * p * (1 - p), *other_gradients

    @declare_bug_named(
        "missing_one_hot",
        "the target was not subtracted, nor the weight of its class applied",
        lambda shapes: shapes[-1] is not None,
    )
    def omit_one_hot_and_weight(self, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        input, class_axis = inputs[0], self._get_batched_class_axis(inputs[0])
        class_spread = np.expand_dims(
            self._compute_sample_weights(gradient, self.compute_sample_losses(*inputs), *inputs), class_axis
        )
        q = self._compute_target_rates(*inputs[:2]).sum(axis=class_axis, keepdims=True)
        return class_spread * q * softmax(input, class_axis), *self.backward(gradient, output, *inputs)[1:]

    def torch_forward(self, torch: Any, input: Any, target: Any, weight: Any) -> Any:
        class_axis = self._get_class_axis(tuple(input.shape))
        has_labels = input.ndim != target.ndim
        if not has_labels:
            target = target.to(input.dtype)
        has_counted_samples = not has_labels or self._has_counted_label(target)
        if weight is not None and weight.requires_grad and has_counted_samples:
            return self._torch_forward_with_weight(torch, input, target, weight, class_axis, has_labels)
        weight = None if weight is None else weight.detach()
        return torch.nn.functional.cross_entropy(
            input, target, weight, ignore_index=self.ignore_index, reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )  # fmt: skip

    def _torch_forward_with_weight(
        self, torch: Any, input: Any, target: Any, weight: Any, class_axis: int, labels: bool
    ) -> Any:
        """Return the loss from primitives: cross_entropy has no derivative by its weight."""
        classes = input.shape[class_axis]
        logarithms = torch.log_softmax(input, class_axis)
        is_counted = (target != self.ignore_index) if labels else torch.ones((), dtype=torch.bool)
        rates = target
        if labels:
            one_hot = torch.nn.functional.one_hot(torch.where(is_counted, target, 0), classes).to(input.dtype)
            rates = one_hot.movedim(-1, class_axis) * is_counted.unsqueeze(class_axis)
        counted_spread = is_counted.unsqueeze(class_axis).to(input.dtype) if labels else 1
        smoothed_rates = (1 - self.label_smoothing) * rates + self.label_smoothing / classes * counted_spread
        weights = weight.reshape([-1 if axis == class_axis else 1 for axis in range(input.ndim)])
        losses = -(smoothed_rates * weights * logarithms).sum(class_axis)
        if self.reduction == "none":
            return losses
        divisor = (rates * weights).sum() if labels else losses.numel()
        return losses.sum() if self.reduction == "sum" else losses.sum() / divisor
