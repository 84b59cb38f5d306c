"""Losses of classes: which of C is right, as labels or as probabilities."""

from collections.abc import Sequence
from typing import Annotated, Any

import numpy as np
from annotated_types import Ge, Le

from service.numerics.ops.errors import ONE_ROUNDING, Errors
from service.numerics.ops.loss import Loss, Reduction
from service.numerics.ops.multiplier import Multiplier
from service.numerics.ops.op import Argument, Case, Gradients, ShapeError, Spreading, mutant, mutant_of, op
from service.numerics.ops.softmax import (
    log_softmax,
    log_softmax_own_size,
    log_softmax_size,
    log_softmax_with_errors,
    softmax,
)
from service.numerics.reach import joined, least, least_of_all
from service.numerics.tiles import Array, Shape, size

_LABELS = "labels from 0 to {last}, or ignore_index ({ignored})"


class ClassLoss(Loss):
    """A loss -sum_c q_c a_c of each sample, where a (log-probabilities) has the classes along its axis 1 or, if 1-D, 0.

    Labels y make q_c = w_c [c = y] of the samples that are not ignored. Of labels that are all ignored the
    mean is NaN, but its gradient 0, as PyTorch has it.
    """

    ignore_index: int

    def _weights(self, gradient: Array, losses: Array, *inputs: Any) -> Array:
        with np.errstate(divide="ignore", invalid="ignore"):
            weights = super()._weights(gradient, losses, *inputs)
        target = inputs[1]
        if target.ndim != weights.ndim:
            return weights
        return np.where(target == self.ignore_index, 0, weights).astype(weights.dtype, copy=False)

    def output_shape(self, input: Shape, target: Shape, weight: Shape | None) -> Shape:
        samples = self._samples(input)
        self._check_target(input, samples, target)
        classes = input[self._axis(input)]
        if weight is not None and weight != (classes,):
            raise ShapeError(f"a weight of shape {[classes]}, one for each class")
        return samples if self.reduction == "none" else ()

    @staticmethod
    def _axis(input: Shape) -> int:
        return 0 if len(input) == 1 else 1

    def _samples(self, input: Shape) -> Shape:
        if not input:
            raise ShapeError("an input (C,) or (N, C, ...)")
        axis = self._axis(input)
        return input[:axis] + input[axis + 1 :]

    def _check_target(self, input: Shape, samples: Shape, target: Shape) -> None:
        if target != samples:
            raise ShapeError(f"labels of shape {list(samples)} for an input {list(input)}")

    def check_values(self, shapes: tuple[Shape, ...], *values: Array | None) -> None:
        target = values[1]
        if target is not None and target.dtype.kind == "i" and target.shape != shapes[0]:
            last = shapes[0][self._axis(shapes[0])] - 1
            wrong = (target < 0) | (target > last)
            if (wrong & (target != self.ignore_index)).any():
                raise ShapeError(_LABELS.format(last=last, ignored=self.ignore_index))

    def spread_losses(self, values: Spreading, *inputs: Any) -> Array:
        of_input, of_target, of_weight = values
        assert of_input is not None
        of_classes = of_input if of_target is None else joined(of_input, of_target)
        reached = least(of_classes, self._along(of_input)).squeeze(self._along(of_input))
        if of_weight is None:
            return reached
        # A class weight is part of what a mean divides by.
        return joined(reached, least_of_all(of_weight).reshape(-1, *(1,) * (reached.ndim - 1)))

    def _along(self, input: Array) -> int:
        return self._axis(input.shape[1:]) + 1

    def _weight(self, input: Array, weight: Array | None) -> Array:
        """Class weights, broadcastable to the input."""
        if weight is None:
            return np.ones((1,) * input.ndim, dtype=input.dtype)
        shape = [1] * (input.ndim - 1)
        shape[self._along(input) - 1] = weight.shape[1]
        return weight.reshape(weight.shape[0], *shape)

    def _hot(self, input: Array, target: Array) -> Array:
        """1 at the label of each sample, 0 elsewhere and where it is ignored; of the input's shape."""
        along = self._along(input)
        classes = np.expand_dims(np.arange(int(input.shape[along])), tuple(range(1, input.ndim - along)))
        labels = np.expand_dims(target, along)
        return ((labels == classes) & (labels != self.ignore_index)).astype(input.dtype)

    def _any(self, target: Any) -> bool:
        """Whether any label of PyTorch's is not ignored."""
        return bool((target != self.ignore_index).any())

    def multipliers(self, *inputs: Any) -> Sequence[Multiplier]:
        classes = inputs[0].shape[self._along(inputs[0])]
        found = [*super().multipliers(*inputs), Multiplier("sum", f"the {classes} classes", float(classes))]
        # The weights of the classes are part of what a mean divides by, and nothing multiplies their gradient alone.
        return [each._replace(positions=(0,)) for each in found]

    @mutant_of("channel_factor_missing", lambda shapes: shapes[-1] is not None)
    def class_weights_forgotten(self, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        """The weights of the classes were left out, but not of what the mean divides by."""
        weight = self._weights(gradient, self.losses(*inputs), *inputs)
        return self.shares(weight, *inputs[:2], None)[0], *self.backward(gradient, output, *inputs)[1:]

    @mutant_of("channel_factor_missing", lambda shapes: shapes[-1] is not None)
    def class_weights_forgotten_throughout(self, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        """The weights of the classes were left out."""
        return self.backward(gradient, output, *inputs[:2], None)[0], *self.backward(gradient, output, *inputs)[1:]

    def _by_class(self, products: Array, input: Array) -> Array:
        """Sum over the samples, (K, C)."""
        others = tuple(axis for axis in range(1, products.ndim) if axis != self._along(input))
        return products.sum(axis=others)

    def _of_divisor(self, spread: Array, mean: Array, input: Array, target: Array) -> Array:
        """What a class weight does to a mean by being part of what it divides by."""
        return self._at_label(spread * mean.reshape((-1,) + (1,) * (input.ndim - 1)), input, target)

    def _at_label(self, array: Array, input: Array, target: Array) -> Array:
        """An array at the label of each sample, 0 elsewhere, whatever it is there."""
        return np.where(self._hot(input, target) != 0, array, 0).astype(input.dtype, copy=False)


@op("nll_loss")
class NllLoss(ClassLoss):
    """-w_y a_y for each sample, a = input, y its label, 0 where y = ignore_index; then none, sum or mean.

    The mean divides by W = sum of the w_y of all samples that are not ignored. With g = dL/d(output), c = 1 (none,
    sum) or 1/W (mean), l_n the loss of a sample, n over the samples:
        dL/da_nc = -g c w_c [c = y_n]
        dL/dw_c = sum_n g c [c = y_n] (-a_nc),  for the mean less sum_n g c [c = y_n] L
    """

    passes = 6
    reduction: Reduction = "mean"
    ignore_index: int = -100

    analytic = True
    inputs = ("input", "target:index", "weight?")
    cases = (
        Case(((3, 4), (3,), None), below={"target": 4}),
        Case(((2, 4, 3), (2, 3), (4,)), {"reduction": "sum", "ignore_index": 1}, low=0.2, below={"target": 4}),
        Case(((5, 3), (5,), (3,)), {"ignore_index": 2}, low=0.2, below={"target": 3}),
        Case(((4,), (), None), {"reduction": "none"}, below={"target": 4}),
    )

    def _coefficients(self, input: Array, target: Array, weight: Array | None) -> Array:
        return self._hot(input, target) * self._weight(input, weight)

    def losses(self, input: Array, target: Array, weight: Array | None) -> Array:
        return -(self._coefficients(input, target, weight) * input).sum(axis=self._along(input))

    def divisor(self, losses: Array, *inputs: Any) -> Array | int:
        if self.reduction != "mean":
            return 1
        total = self._coefficients(*inputs)
        return total.reshape(total.shape[0], -1).sum(axis=1)

    def shares(self, weight: Array, input: Array, target: Array, class_weight: Array | None) -> Gradients:
        spread = np.expand_dims(weight, self._along(input))
        by_input = self._at_label(-spread * self._weight(input, class_weight), input, target)
        if class_weight is None:
            return by_input, None, None
        products = self._at_label(-spread * input, input, target)
        if self.reduction == "mean":
            mean = self._reduced(self.losses(input, target, class_weight), input, target, class_weight)
            products = products - self._of_divisor(spread, mean, input, target)
        return by_input, None, self._by_class(products, input)

    def share_sizes(self, weight: Array, input: Array, target: Array, class_weight: Array | None) -> Gradients:
        spread = np.expand_dims(weight, self._along(input))
        by_input = self._at_label(np.abs(spread * self._weight(input, class_weight)), input, target)
        if class_weight is None:
            return by_input, None, None
        sizes = self._at_label(spread * np.abs(input), input, target)
        if self.reduction == "mean":
            mean = np.abs(self._reduced(self.losses(input, target, class_weight), input, target, class_weight))
            sizes = sizes + self._of_divisor(spread, mean, input, target)
        return by_input, None, self._by_class(sizes, input)

    @mutant
    def sign_forgotten(self, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        """The sign was left out."""
        return self.backward(-gradient, output, *inputs)

    def twin(self, torch: Any, input: Any, target: Any, weight: Any) -> Any:
        if weight is not None and weight.requires_grad and self._any(target):
            return self._with_weight(torch, input, target, weight)
        weight = None if weight is None else weight.detach()
        return torch.nn.functional.nll_loss(
            input, target, weight, ignore_index=self.ignore_index, reduction=self.reduction
        )

    def _with_weight(self, torch: Any, input: Any, target: Any, weight: Any) -> Any:
        """Spelled out, since nll_loss itself has no derivative by its weight."""
        kept = target != self.ignore_index
        labels = torch.where(kept, target, 0)
        of_label = weight[labels] * kept
        along = self._axis(tuple(input.shape))
        losses = -of_label * input.gather(along, labels.unsqueeze(along)).squeeze(along)
        if self.reduction == "none":
            return losses
        return losses.sum() if self.reduction == "sum" else losses.sum() / of_label.sum()


@op("cross_entropy")
class CrossEntropy(ClassLoss):
    """-sum_c q_c log p_c for each sample, p = softmax of the input over the classes; then none, sum or mean.

    With e = label_smoothing, C classes, class weights w: for a label y that is not ignored
    q_c = w_c ((1 - e) [c = y] + e / C), 0 for one that is; for probabilities t, q_c = w_c ((1 - e) t_c + e / C).
    The mean divides by D, the sum of the w_y of labels, or the number of samples for probabilities. With
    g = dL/d(output), k = 1 (none, sum) or 1/D (mean), Q = sum_c q_c:
        dL/dx_c = g k (Q p_c - q_c)
        dL/dt_c = -g k (1 - e) w_c log p_c
        dL/dw_c = -sum_n g k (q_c / w_c) log p_c,  for the mean over labels less sum_n g k [c = y_n] L
    """

    passes = 14
    reduction: Reduction = "mean"
    ignore_index: int = -100
    label_smoothing: Annotated[float, Ge(0), Le(1)] = 0.0

    analytic = True
    inputs = ("input", "target:index|float", "weight?")
    cases = (
        Case(((3, 4), (3,), None), below={"target": 4}),
        Case(((2, 4, 3), (2, 3), (4,)), {"reduction": "sum", "ignore_index": 1}, low=0.2, below={"target": 4}),
        Case(((5, 3), (5,), (3,)), {"ignore_index": 2, "label_smoothing": 0.2}, low=0.2, below={"target": 3}),
        Case(((4,), (), None), {"reduction": "none"}, below={"target": 4}),
        Case(((3, 4), (3, 4), (4,)), {"label_smoothing": 0.1}, low=0.1),
        Case(((2, 3, 2), (2, 3, 2), None), {"reduction": "none"}),
    )

    def _check_target(self, input: Shape, samples: Shape, target: Shape) -> None:
        if target not in (samples, input):
            raise ShapeError(f"labels of shape {list(samples)} or probabilities of shape {list(input)}")
        if target == input and self.ignore_index >= 0:
            raise ShapeError(f"labels of shape {list(samples)} where there is an ignore_index")

    def check_values(self, shapes: tuple[Shape, ...], *values: Array | None) -> None:
        target = values[1]
        if shapes[1] != shapes[0] and (target is None or target.dtype.kind != "i"):
            raise ShapeError(
                f"integers as labels of shape {list(shapes[1])}, or probabilities of shape {list(shapes[0])}; "
                "the target is of floats"
            )
        super().check_values(shapes, *values)

    @staticmethod
    def _are_labels(input: Array, target: Array) -> bool:
        return input.ndim != target.ndim

    def _rates(self, input: Array, target: Array) -> Array:
        """q / w."""
        classes = input.shape[self._along(input)]
        kept: Any = 1
        if self._are_labels(input, target):
            kept = np.expand_dims(target != self.ignore_index, self._along(input))
            target = self._hot(input, target)
        if target.dtype.kind != "c":
            target = target.astype(input.dtype, copy=False)
        if not self.label_smoothing:
            return target
        smooth = (1 - self.label_smoothing) * target + self.label_smoothing / classes * kept
        return smooth.astype(target.dtype, copy=False)

    def _coefficients(self, input: Array, target: Array, weight: Array | None) -> Array:
        return self._rates(input, target) * self._weight(input, weight)

    def argument(self, input: Array, target: Array, weight: Array | None) -> Argument:
        return Argument(input, self._along(input))

    def losses(self, input: Array, target: Array, weight: Array | None) -> Array:
        logarithms = log_softmax(input, self._along(input))
        return -(self._coefficients(input, target, weight) * logarithms).sum(axis=self._along(input))

    def divisor(self, losses: Array, *inputs: Any) -> Array | int:
        if self.reduction != "mean":
            return 1
        input, target, weight = inputs
        if not self._are_labels(input, target):
            return size(losses.shape[1:])
        total = self._hot(input, target) * self._weight(input, weight)
        return total.reshape(total.shape[0], -1).sum(axis=1)

    def own_loss_sizes(self, input: Array, target: Array, weight: Array | None) -> Array:
        sizes = log_softmax_own_size(input, self._along(input))
        return (np.abs(self._coefficients(input, target, weight)) * sizes).sum(axis=self._along(input))

    def loss_sizes(self, input: Array, target: Array, weight: Array | None) -> Array:
        sizes = log_softmax_size(input, self._along(input))
        return (np.abs(self._coefficients(input, target, weight)) * sizes).sum(axis=self._along(input))

    def shares(self, weight: Array, input: Array, target: Array, class_weight: Array | None) -> Gradients:
        along = self._along(input)
        logarithms, p = log_softmax(input, along), softmax(input, along)
        return self._shares(weight, logarithms, p, input, target, class_weight)

    def _shares(
        self, weight: Array, logarithms: Array, p: Array, input: Array, target: Array, class_weight: Array | None
    ) -> Gradients:
        along = self._along(input)
        spread = np.expand_dims(weight, along)
        q = self._coefficients(input, target, class_weight)
        by_input = spread * (q.sum(axis=along, keepdims=True) * p - q)
        by_target = None
        if not self._are_labels(input, target):
            by_target = -spread * (1 - self.label_smoothing) * self._weight(input, class_weight) * logarithms
        if class_weight is None:
            return by_input, by_target, None
        products = -spread * self._rates(input, target) * logarithms
        if self.reduction == "mean" and self._are_labels(input, target):
            losses = -(q * logarithms).sum(axis=along)
            mean = self._reduced(losses, input, target, class_weight)
            products = products - self._of_divisor(spread, mean, input, target)
        return by_input, by_target, self._by_class(products, input)

    def share_sizes(self, weight: Array, input: Array, target: Array, class_weight: Array | None) -> Gradients:
        along = self._along(input)
        spread = np.expand_dims(weight, along)
        q = np.abs(self._coefficients(input, target, class_weight))
        logarithms, p = np.abs(log_softmax(input, along)), softmax(input, along)
        product = q.sum(axis=along, keepdims=True) * p
        by_input = spread * (np.abs(product - q) + (0 if self._whole(input, target) else product + q))
        by_target = None
        if not self._are_labels(input, target):
            by_target = spread * np.abs(self._weight(input, class_weight)) * logarithms
        if class_weight is None:
            return by_input, by_target, None
        products = spread * np.abs(self._rates(input, target)) * logarithms
        if self.reduction == "mean" and self._are_labels(input, target):
            losses = (q * logarithms).sum(axis=along)
            mean = np.abs(self._reduced(losses, input, target, class_weight))
            products = products + self._of_divisor(spread, mean, input, target)
        return by_input, by_target, self._by_class(products, input)

    def _whole(self, input: Array, target: Array) -> bool:
        """Whether what is subtracted from p is 1 or 0, which does not round."""
        return self._are_labels(input, target) and not self.label_smoothing

    def backward_with_errors(self, errors: Errors, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        """Add errors: log p as log-softmax has them; p by u p (those + 2), and no more than twice 1 - p.

        With z = x - max x, and r the sum of all exponentials but the largest: where r is small the largest z is 0,
        log(1 + r) is off by r at most, and so is the exponential of it. Kernels that find p as exp(x - L), L = max x +
        log S, are off by a rounding of L too, which is `ONE_ROUNDING`.
        """
        input, target, class_weight = inputs
        along = self._along(input)
        logarithms, p = log_softmax(input, along), softmax(input, along)
        largest = input.max(axis=along, keepdims=True) - logarithms.max(axis=along, keepdims=True)
        sizes = log_softmax_size(input, along) + ONE_ROUNDING * np.abs(largest) + 2
        weight = self._weights(gradient, self.losses(*inputs), *inputs)
        with_errors = log_softmax_with_errors(errors, input, along)
        results = self._shares(weight, with_errors, p, input, target, class_weight)
        magnitudes = self.share_sizes(np.abs(weight), *inputs)
        terms = self.summands + 1, self.summands + 1, size(weight.shape[1:]) + 1
        by_input, *others = (
            None if result is None else errors(result, magnitude, count)
            for result, magnitude, count in zip(results, magnitudes, terms, strict=True)
        )
        assert by_input is not None
        # Of what p is off by next to 1, p itself has no digits: it is that of the difference.
        scale = np.abs(self._coefficients(input, target, class_weight)).sum(axis=along, keepdims=True)
        scale = scale * np.abs(np.expand_dims(weight, along))
        lost = -2 * scale * np.expm1(logarithms)
        return errors(by_input, scale * (p * sizes + errors.flush), most=lost), *others

    @mutant
    def missing_one_hot(self, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        """The target was not subtracted: p was taken for p - [c = y]."""
        input, along = inputs[0], self._along(inputs[0])
        spread = np.expand_dims(self._weights(gradient, self.losses(*inputs), *inputs), along)
        q = self._coefficients(*inputs).sum(axis=along, keepdims=True)
        return spread * q * softmax(input, along), *self.backward(gradient, output, *inputs)[1:]

    @mutant
    def softmax_jacobian_diagonal_only(self, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        """Of the Jacobian of softmax only the diagonal was taken: q (p - 1) for p - q."""
        input, along = inputs[0], self._along(inputs[0])
        spread = np.expand_dims(self._weights(gradient, self.losses(*inputs), *inputs), along)
        by_input = spread * self._coefficients(*inputs) * (softmax(input, along) - 1)
        return by_input, *self.backward(gradient, output, *inputs)[1:]

    @mutant_of("softmax_jacobian_diagonal_only")
    def diagonal_on_top(self, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        """P - q, which holds the Jacobian of softmax already, was multiplied by its diagonal p (1 - p)."""
        p = softmax(inputs[0], self._along(inputs[0]))
        by_input, *others = self.backward(gradient, output, *inputs)
        assert by_input is not None
        return by_input * p * (1 - p), *others

    @mutant_of("missing_one_hot", lambda shapes: shapes[-1] is not None)
    def missing_one_hot_and_weight(self, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        """The target was not subtracted, nor the weight of its class applied."""
        input, along = inputs[0], self._along(inputs[0])
        spread = np.expand_dims(self._weights(gradient, self.losses(*inputs), *inputs), along)
        q = self._rates(*inputs[:2]).sum(axis=along, keepdims=True)
        return spread * q * softmax(input, along), *self.backward(gradient, output, *inputs)[1:]

    def twin(self, torch: Any, input: Any, target: Any, weight: Any) -> Any:
        along = self._axis(tuple(input.shape))
        labels = input.ndim != target.ndim
        if not labels:
            target = target.to(input.dtype)
        counts = not labels or self._any(target)
        if weight is not None and weight.requires_grad and counts:
            return self._with_weight(torch, input, target, weight, along, labels)
        weight = None if weight is None else weight.detach()
        return torch.nn.functional.cross_entropy(
            input, target, weight, ignore_index=self.ignore_index, reduction=self.reduction,
            label_smoothing=self.label_smoothing,
        )  # fmt: skip

    def _with_weight(self, torch: Any, input: Any, target: Any, weight: Any, along: int, labels: bool) -> Any:
        """Spelled out, since cross_entropy itself has no derivative by its weight."""
        classes = input.shape[along]
        logarithms = torch.log_softmax(input, along)
        kept = (target != self.ignore_index) if labels else torch.ones((), dtype=torch.bool)
        rates = target
        if labels:
            hot = torch.nn.functional.one_hot(torch.where(kept, target, 0), classes).to(input.dtype)
            rates = hot.movedim(-1, along) * kept.unsqueeze(along)
        spread = kept.unsqueeze(along).to(input.dtype) if labels else 1
        smooth = (1 - self.label_smoothing) * rates + self.label_smoothing / classes * spread
        weights = weight.reshape([-1 if axis == along else 1 for axis in range(input.ndim)])
        losses = -(smooth * weights * logarithms).sum(along)
        if self.reduction == "none":
            return losses
        divisor = (rates * weights).sum() if labels else losses.numel()
        return losses.sum() if self.reduction == "sum" else losses.sum() / divisor
