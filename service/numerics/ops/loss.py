"""Losses of pairs of elements, with PyTorch's reductions."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
from annotated_types import Ge, Gt

from service.numerics.core.batching import Array, Shape, align_rank, count_elements
from service.numerics.core.sparsity import drop_missing, take_elementwise_min, take_min_over_elements
from service.numerics.ops.backward_form import BackwardForm
from service.numerics.ops.formula import Scope
from service.numerics.ops.formula_op import FormulaBugs
from service.numerics.ops.multipliers import Multiplier, declare_count_multipliers, declare_division, declare_factor
from service.numerics.ops.op import (
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
from service.numerics.ops.subgradient_choices import SubgradientChoices, choose_between_derivatives

LossReduction = Literal["none", "sum", "mean"]

REDUCTION_EXAMPLES = (
    OpExample(((3, 4), (3, 4))),
    OpExample(((5,), (5,)), {"reduction": "sum"}),
    OpExample(((), ()), {"reduction": "none"}),
    OpExample(((2, 3), (2, 3)), {"reduction": "none"}),
)


def reduce_by_torch(reduction: str, losses: Any) -> Any:
    """Return a tensor of PyTorch's after the reduction."""
    return losses if reduction == "none" else losses.sum() if reduction == "sum" else losses.mean()


class LossOp(Op):
    """A loss of samples l, reduced by `reduction`: none, sum or mean.

    c = 1 (none, sum) or 1 over the divisor of the mean. With g = dL/d(output), the gradient of each input is that of g
    c l, sample by sample.
    """

    reduction: Any

    ends_in_sum = True

    @abstractmethod
    def compute_sample_losses(self, *inputs: Any) -> Array:
        """Return the losses of the samples, behind a tile axis."""

    @abstractmethod
    def compute_sample_gradients(self, weight: Array, *inputs: Any) -> Gradients:
        """Return the gradients of sum weight l, weight of the shape of the losses."""

    def estimate_loss_magnitudes(self, *inputs: Any) -> Array:
        """Return the losses in their textbook form, on absolute values."""
        return np.abs(self.compute_sample_losses(*inputs))

    def estimate_sample_gradient_magnitudes(self, weight: Array, *inputs: Any) -> Gradients:
        """Return the gradients in their textbook form, on absolute values.

        `weight` is not negative.
        """
        return tuple(
            None if gradient is None else np.abs(gradient)
            for gradient in self.compute_sample_gradients(weight, *inputs)
        )

    summand_count = 1
    """Length of the longest sum in one loss or share."""

    def compute_reduction_divisor(self, losses: Array, *inputs: Any) -> Array | int:
        """Return the divisor of the reduction."""
        return count_elements(losses.shape[1:]) if self.reduction == "mean" else 1

    def list_gradient_multipliers(self, *inputs: Any) -> Sequence[Multiplier]:
        if self.reduction == "none":
            return ()
        losses = self.compute_sample_losses(*inputs)
        shape = losses.shape[1:]
        if self.reduction == "sum":
            return declare_count_multipliers("sum", shape)
        divisor = float(np.max(self.compute_reduction_divisor(losses, *inputs)))
        counts = declare_count_multipliers("mean", shape)
        if divisor == count_elements(shape):
            return counts
        matching_counts = [multiplier for multiplier in counts if multiplier.value == divisor]
        return matching_counts or [declare_division(divisor, "division of the mean by")]

    def _reduce_losses(self, losses: Array, *inputs: Any) -> Array:
        if self.reduction == "none":
            return losses
        loss_sums = losses.reshape(losses.shape[0], -1).sum(axis=1)
        return loss_sums / self._cast_divisor(self.compute_reduction_divisor(losses, *inputs), losses)

    @staticmethod
    def _cast_divisor(divisor: Array | int, losses: Array) -> Any:
        return divisor if isinstance(divisor, int) else divisor.astype(losses.dtype, copy=False)

    def _compute_sample_weights(self, gradient: Array, losses: Array, *inputs: Any) -> Array:
        """Return dL/d(output) brought to each sample: the reduction's own gradient."""
        if self.reduction == "none":
            return gradient
        loss_gradient = gradient / self._cast_divisor(self.compute_reduction_divisor(losses, *inputs), losses)
        shape = loss_gradient.shape[:1] + losses.shape[1:]
        return np.broadcast_to(loss_gradient.reshape(loss_gradient.shape[:1] + (1,) * (losses.ndim - 1)), shape)

    def propagate_to_losses(self, values: DependencyLabels, *inputs: Any) -> Array:
        """Return for each sample's loss the least label that reaches it, (K, ...).

        By default labels reach losses element by element.
        """
        return take_elementwise_min(*(align_rank(labels, inputs[0].ndim - 1) for labels in drop_missing(values)))

    def propagate_dependencies(self, values: DependencyLabels, *inputs: Any) -> Array:
        loss_labels = self.propagate_to_losses(values, *inputs)
        return loss_labels if self.reduction == "none" else take_min_over_elements(loss_labels)

    def propagate_to_terms(self, output_labels: Array, values: DependencyLabels, *inputs: Any) -> Array:
        loss_labels = self.propagate_to_losses(values, *inputs)
        return loss_labels.reshape(len(loss_labels), -1)

    def forward(self, *inputs: Any) -> Array:
        return self._reduce_losses(self.compute_sample_losses(*inputs), *inputs)

    def backward(self, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        return self.compute_sample_gradients(
            self._compute_sample_weights(gradient, self.compute_sample_losses(*inputs), *inputs), *inputs
        )

    def estimate_forward_rounding(self, output: Array, *inputs: Any) -> Rounding:
        magnitudes = self.estimate_loss_magnitudes(*inputs)
        count = 1 if self.reduction == "none" else count_elements(magnitudes.shape[1:])
        return Rounding(np.abs(self._reduce_losses(magnitudes, *inputs)), count + self.summand_count)

    def estimate_backward_rounding(self, gradient: Array, output: Array, *inputs: Any) -> tuple[Rounding | None, ...]:
        weight = np.abs(self._compute_sample_weights(gradient, self.compute_sample_losses(*inputs), *inputs))
        magnitudes = self.estimate_sample_gradient_magnitudes(weight, *inputs)
        return tuple(
            None if magnitude is None else Rounding(magnitude, self.summand_count + 1) for magnitude in magnitudes
        )

    def split_terms(self, output: Array | None, *inputs: Any) -> Array:
        return self._get_loss_terms(self.compute_sample_losses(*inputs), *inputs)

    def _get_loss_terms(self, losses: Array, *inputs: Any) -> Array:
        flat_losses = losses.reshape(losses.shape[0], -1)
        divisor = self._cast_divisor(self.compute_reduction_divisor(losses, *inputs), losses)
        if isinstance(divisor, int):
            return flat_losses if divisor == 1 else flat_losses / divisor
        return flat_losses / divisor[:, None]

    def estimate_implemented_loss_magnitudes(self, *inputs: Any) -> Array:
        """Return the losses on absolute values in the form computed here."""
        return self.estimate_loss_magnitudes(*inputs)

    def estimate_terms_rounding(self, terms: Array, *inputs: Any) -> Rounding:
        magnitudes = np.abs(self._get_loss_terms(self.estimate_implemented_loss_magnitudes(*inputs), *inputs))
        # One rounding of the difference, which squaring doubles, one of the square, one of the division.
        return Rounding(np.abs(terms) + magnitudes, 4 + self.summand_count)

    @declare_bug_named(
        "scaled", "the sum over the samples was used where the loss takes the mean", is_declared_as_multiplier=True
    )
    def skip_averaging(self, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        losses = self.compute_sample_losses(*inputs)
        loss_gradient = gradient.reshape(gradient.shape[0], *(1,) * (losses.ndim - 1)) if output.ndim == 1 else gradient
        return self.compute_sample_gradients(np.broadcast_to(loss_gradient, losses.shape), *inputs)


class PiecewiseLoss(LossOp):
    """A loss whose samples are on pieces of a function.

    `select_branch` returns the piece of each sample, and `compute_losses_on_branch` continues it.
    """

    @abstractmethod
    def select_branch(self, *inputs: Any) -> Array:
        """Return the piece of each sample."""

    @abstractmethod
    def compute_losses_on_branch(self, branch: Array, *inputs: Any) -> Array:
        """Return the losses of the samples, on the pieces of `branch`."""

    def compute_sample_losses(self, *inputs: Any) -> Array:
        return self.compute_losses_on_branch(self.select_branch(*inputs), *inputs)

    def forward_on_branch(self, branch: Array, *inputs: Any) -> Array:
        return self._reduce_losses(self.compute_losses_on_branch(branch, *inputs), *inputs)

    def _get_output_flat_indices(self, samples: Array) -> Array:
        """Return the flat index of the output that each of some samples enters."""
        return samples if self.reduction == "none" else np.zeros_like(samples)

    def compute_terms_on_branch(self, branch: Array, output: Array | None, *inputs: Any) -> Array:
        return self._get_loss_terms(self.compute_losses_on_branch(branch, *inputs), *inputs)


class ElementPairLoss(LossOp):
    """A loss of each element of an input and a target of one shape."""

    inputs = ("input", "target")
    examples = REDUCTION_EXAMPLES

    def infer_output_shape(self, input: Shape, target: Shape) -> Shape:
        if input != target:
            raise ShapeError("two inputs of one shape")
        return input if self.reduction == "none" else ()

    @declare_bug("the sign of the target's gradient was left out")
    def sign_of_the_target(self, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        by_input, by_target = self.backward(gradient, output, *inputs)
        assert by_target is not None
        return by_input, -by_target


class PairFormula(FormulaBugs, LossOp):
    """A loss of pairs with formulas in the input a, the target y, d = a - y and w = g c, the gradient of a sample."""

    def make_scope(self, gradient: Array, output: Array, *inputs: Any) -> Scope:
        a, y = inputs
        return Scope().add_quantities(
            w=lambda: self._compute_sample_weights(gradient, self.compute_sample_losses(*inputs), *inputs),
            a=lambda: a,
            y=lambda: y,
            d=lambda: a - y,
            s=lambda: np.sign(a - y),
        )


_SLOPE_OF_ABSOLUTE = "the derivative sign(a - y) of the absolute error was used"


class SquaredDifferenceLoss(ElementPairLoss):
    """A loss of squared differences, which are their own magnitudes."""

    def estimate_loss_magnitudes(self, *inputs: Any) -> Array:
        return self.compute_sample_losses(*inputs)

    def estimate_terms_rounding(self, terms: Array, *inputs: Any) -> Rounding:
        # The rounding of any loss, with a term equal to its magnitude.
        return Rounding(2 * terms, 4 + self.summand_count)


@register_op("half_squared_error")
class HalfSquaredError(PairFormula, SquaredDifferenceLoss):
    """Half squared error: 0.5 (a - y)^2 for each element, then none, sum or mean.

    With g = dL/d(output), a and y of shape (...) and N elements, c = 1 (none, sum) or 1/N (mean):
        dL/da = g c (a - y)        dL/dy = -dL/da
    """

    numpy_calls = 4
    reduction: LossReduction = "mean"

    backward_form = BackwardForm(
        {"input": "w * (a - y)", "target": "-(w * (a - y))"},
        alternatives={"input": {"w * s": _SLOPE_OF_ABSOLUTE, "w * d * d": "the square was not differentiated"}},
        declared={"target": ["w * (a - y)"]},
        upstream=("w",),
    )

    supports_complex_step = True

    def compute_sample_losses(self, input: Array, target: Array) -> Array:
        losses = input - target
        losses *= losses
        losses /= 2
        return losses

    def compute_sample_gradients(self, weight: Array, input: Array, target: Array) -> Gradients:
        by_input = weight * (input - target)
        return by_input, -by_input

    def torch_forward(self, torch: Any, input: Any, target: Any) -> Any:
        return torch.nn.functional.mse_loss(input, target, reduction=self.reduction) / 2


@register_op("mse_loss")
class MseLoss(PairFormula, SquaredDifferenceLoss):
    """Squared error: (a - y)^2 for each element, then none, sum or mean.

    With g = dL/d(output), N elements, c = 1 (none, sum) or 1/N (mean):
        dL/da = 2 g c (a - y)        dL/dy = -dL/da
    """

    numpy_calls = 3
    reduction: LossReduction = "mean"

    backward_form = BackwardForm(
        {"input": "2 * w * (a - y)", "target": "-(2 * w * (a - y))"},
        alternatives={
            "input": {
                "w * s": _SLOPE_OF_ABSOLUTE,
                "2 * w * s": "sign(a - y) stood for a - y",
                "w * d * d": "the square was not differentiated",
            }
        },
        declared={"target": ["2 * w * (a - y)"]},
        upstream=("w",),
    )

    supports_complex_step = True

    def compute_sample_losses(self, input: Array, target: Array) -> Array:
        return np.square(input - target)

    def compute_sample_gradients(self, weight: Array, input: Array, target: Array) -> Gradients:
        by_input = weight * (2 * (input - target))
        return by_input, -by_input

    def list_gradient_multipliers(self, *inputs: Any) -> Sequence[Multiplier]:
        return [*super().list_gradient_multipliers(*inputs), declare_factor(2)]

    def torch_forward(self, torch: Any, input: Any, target: Any) -> Any:
        return torch.nn.functional.mse_loss(input, target, reduction=self.reduction)


class AbsoluteDifferenceLoss(PiecewiseLoss, ElementPairLoss):
    """A loss of d = a - y, even, that is linear for abs(d) beyond some width.

    Within the width it is quadratic.
    """

    @property
    def _quadratic_width(self) -> float:
        return 0.0

    def select_branch(self, input: Array, target: Array) -> Array:
        difference = input - target
        return np.where(np.abs(difference) < self._quadratic_width, 0, np.sign(difference)).astype(np.int8)

    def list_subgradient_choices(
        self, input_errors: Sequence[Array | None], input: Array, target: Array
    ) -> SubgradientChoices | None:
        """Return the choice of a slope s in [-1, 1] of abs(a - y) for a = y.

        The slope of the target is -s. With a width there is no kink.
        """
        if self._quadratic_width:
            return None
        assert input_errors[0] is not None
        assert input_errors[1] is not None
        difference = (input - target).ravel()
        positions = np.flatnonzero(
            np.abs(difference) <= np.broadcast_to(input_errors[0] + input_errors[1], input.shape).ravel()
        )
        share = (1 + np.sign(difference[positions])) / 2
        factor = 1 / (difference.size if self.reduction == "mean" else 1)
        lower_derivatives, upper_derivatives = (
            [(0, positions, sign * factor), (1, positions, -sign * factor)] for sign in (-1, 1)
        )
        return choose_between_derivatives(
            self._get_output_flat_indices(positions),
            share,
            difference[positions] == 0,
            lower_derivatives,
            upper_derivatives,
        )


@register_op("l1_loss")
class L1Loss(PairFormula, AbsoluteDifferenceLoss):
    """Absolute error: abs(a - y) for each element, then none, sum or mean.

    With g = dL/d(output), N elements, c = 1 (none, sum) or 1/N (mean):
        dL/da = g c sign(a - y), 0 where a = y        dL/dy = -dL/da
    """

    numpy_calls = 8
    reduction: LossReduction = "mean"

    backward_form = BackwardForm(
        {"input": "w * s", "target": "-(w * s)"},
        look_alikes={"s": {"d": "a - y stood for its sign"}},
        alternatives={
            "input": {
                "w": "the sign of a - y was left out",
                "2 * w * d": "the derivative of the squared error was used",
            }
        },
        declared={"target": ["w * s"]},
        upstream=("w",),
        # It is its own reciprocal, and 0 at 0.
        multipliers=("s",),
    )

    @declare_bug_named(
        "to_both", "the gradient went to both operands with one sign where they are equal", shows_only_at_ties=True
    )
    def give_one_sign_at_ties(self, gradient: Array, output: Array, input: Array, target: Array) -> Gradients:
        by_input, by_target = self.backward(gradient, output, input, target)
        assert by_input is not None
        assert by_target is not None
        weight_at_ties = self._compute_sample_weights(
            gradient, self.compute_sample_losses(input, target), input, target
        ) * (input == target)
        return by_input + weight_at_ties, by_target + weight_at_ties

    def compute_losses_on_branch(self, branch: Array, input: Array, target: Array) -> Array:
        return (input - target) * branch.astype(input.dtype)

    def compute_sample_gradients(self, weight: Array, input: Array, target: Array) -> Gradients:
        by_input = weight * np.sign(input - target)
        return by_input, -by_input

    def torch_forward(self, torch: Any, input: Any, target: Any) -> Any:
        return torch.nn.functional.l1_loss(input, target, reduction=self.reduction)


@register_op("smooth_l1_loss")
class SmoothL1Loss(PairFormula, AbsoluteDifferenceLoss):
    """Absolute error, quadratic below a width b = beta, then none, sum or mean.

    With d = a - y the loss is d^2 / (2 b) where abs(d) < b, else abs(d) - b / 2. With g = dL/d(output), N elements, c =
    1 (none, sum) or 1/N (mean):
        dL/da = g c d / b where abs(d) < b, else g c sign(d);  dL/dy = -dL/da
    """

    numpy_calls = 14
    reduction: LossReduction = "mean"
    beta: Annotated[float, Ge(0)] = 1.0

    backward_form = BackwardForm(
        {"input": "w * k", "target": "-(w * k)"},
        look_alikes={
            "k": {
                "d": "a - y was used everywhere, and not bounded",
                "s": "sign(a - y) was used everywhere",
                "k_unbounded": "the slope (a - y) / b was used everywhere",
                "k_of_width_1": "the slope (a - y) / b was used up to a width of 1",
                "k_exchanged": "the slopes inside and outside of the width were exchanged",
            }
        },
        declared={"target": ["w * k"]},
        upstream=("w",),
    )

    def make_scope(self, gradient: Array, output: Array, *inputs: Any) -> Scope:
        scope = super().make_scope(gradient, output, *inputs)
        value = scope.compute
        width = self.beta or 1.0
        return scope.add_quantities(
            k=lambda: np.where(np.abs(value("d")) < self.beta, value("d") / width, value("s")),
            k_unbounded=lambda: value("d") / width,
            k_of_width_1=lambda: np.where(np.abs(value("d")) < 1, value("d") / width, value("s")),
            k_exchanged=lambda: np.where(np.abs(value("d")) < self.beta, value("s"), value("d") / width),
        )

    examples = (*REDUCTION_EXAMPLES, OpExample(((7,), (7,)), {"beta": 0.4}), OpExample(((4,), (4,)), {"beta": 0}))

    @property
    def _quadratic_width(self) -> float:
        return self.beta

    def compute_losses_on_branch(self, branch: Array, input: Array, target: Array) -> Array:
        difference = input - target
        linear = difference * branch.astype(input.dtype) - self.beta / 2
        return np.where(branch == 0, np.square(difference) / self.beta / 2 if self.beta else 0, linear)

    def compute_sample_gradients(self, weight: Array, input: Array, target: Array) -> Gradients:
        difference = input - target
        slope = np.where(
            np.abs(difference) < self.beta, difference / self.beta if self.beta else 0, np.sign(difference)
        )
        by_input = weight * slope
        return by_input, -by_input

    def estimate_loss_magnitudes(self, input: Array, target: Array) -> Array:
        return np.abs(self.compute_sample_losses(input, target)) + self.beta / 2 * (
            self.select_branch(input, target) != 0
        )

    def list_gradient_multipliers(self, *inputs: Any) -> Sequence[Multiplier]:
        is_inside = self.select_branch(*inputs) == 0
        beta = declare_division(self.beta)._replace(applies_at=is_inside, location_note=" inside of it")
        return [*super().list_gradient_multipliers(*inputs), *([beta] if self.beta else [])]

    def torch_forward(self, torch: Any, input: Any, target: Any) -> Any:
        return torch.nn.functional.smooth_l1_loss(input, target, reduction=self.reduction, beta=self.beta)


@register_op("huber_loss")
class HuberLoss(PairFormula, AbsoluteDifferenceLoss):
    """Huber's loss, quadratic below a width delta, then none, sum or mean.

    With d = a - y the loss is d^2 / 2 where abs(d) < delta, else delta (abs(d) - delta / 2). With g = dL/d(output), N
    elements, c = 1 (none, sum) or 1/N (mean):
        dL/da = g c d where abs(d) < delta, else g c delta sign(d);  dL/dy = -dL/da
    """

    numpy_calls = 14
    reduction: LossReduction = "mean"
    delta: Annotated[float, Gt(0)] = 1.0

    backward_form = BackwardForm(
        {"input": "w * k", "target": "-(w * k)"},
        look_alikes={
            "k": {
                "d": "a - y was used everywhere, and not bounded by delta",
                "s": "sign(a - y) was used everywhere",
                "k_of_sign": "delta sign(a - y) was used everywhere",
                "k_of_width_1": "a - y was bounded at a width of 1 instead of delta",
                "k_exchanged": "the slopes inside and outside of delta were exchanged",
            }
        },
        declared={"target": ["w * k"]},
        upstream=("w",),
    )

    def make_scope(self, gradient: Array, output: Array, *inputs: Any) -> Scope:
        scope = super().make_scope(gradient, output, *inputs)
        value = scope.compute
        return scope.add_quantities(
            k=lambda: np.where(np.abs(value("d")) < self.delta, value("d"), self.delta * value("s")),
            k_of_sign=lambda: self.delta * value("s"),
            k_of_width_1=lambda: np.where(np.abs(value("d")) < 1, value("d"), value("s")),
            k_exchanged=lambda: np.where(np.abs(value("d")) < self.delta, self.delta * value("s"), value("d")),
        )

    examples = (*REDUCTION_EXAMPLES, OpExample(((7,), (7,)), {"delta": 0.4}))

    @property
    def _quadratic_width(self) -> float:
        return self.delta

    def compute_losses_on_branch(self, branch: Array, input: Array, target: Array) -> Array:
        difference = input - target
        linear = self.delta * (difference * branch.astype(input.dtype) - self.delta / 2)
        return np.where(branch == 0, np.square(difference) / 2, linear)

    def compute_sample_gradients(self, weight: Array, input: Array, target: Array) -> Gradients:
        difference = input - target
        # Clipping would hide a NaN.
        slope = np.where(np.abs(difference) < self.delta, difference, self.delta * np.sign(difference))
        by_input = weight * slope
        return by_input, -by_input

    def estimate_loss_magnitudes(self, input: Array, target: Array) -> Array:
        return np.abs(self.compute_sample_losses(input, target)) + self.delta * (self.delta / 2) * (
            self.select_branch(input, target) != 0
        )

    def list_gradient_multipliers(self, *inputs: Any) -> Sequence[Multiplier]:
        is_outside = self.select_branch(*inputs) != 0
        return [
            *super().list_gradient_multipliers(*inputs),
            declare_factor(self.delta)._replace(applies_at=is_outside, location_note=" outside of it"),
        ]

    def torch_forward(self, torch: Any, input: Any, target: Any) -> Any:
        return torch.nn.functional.huber_loss(input, target, reduction=self.reduction, delta=self.delta)
