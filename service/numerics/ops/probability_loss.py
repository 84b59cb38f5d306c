"""Losses between probabilities."""

from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from service.numerics.core.batching import (
    Array,
    Shape,
    align_rank,
    count_elements,
    is_broadcastable,
    sum_broadcast_axes,
)
from service.numerics.ops import analytic_continuation
from service.numerics.ops.activation import compute_sigmoid_derivative, sigmoid
from service.numerics.ops.backward_form import BackwardForm
from service.numerics.ops.formula import Scope
from service.numerics.ops.formula_op import FormulaBugs
from service.numerics.ops.loss import ElementPairLoss, LossOp, LossReduction, PairFormula, reduce_by_torch
from service.numerics.ops.op import Gradients, OpExample, ShapeError, declare_bug, declare_bug_named, register_op
from service.numerics.ops.rounding_errors import ErrorModel


class WeightedLoss(LossOp):
    """A loss of each element times an optional weight, broadcast to the elements."""

    multiplying_slots = MappingProxyType({"weight": "factor"})
    examples = (
        OpExample(((3, 4), (3, 4), None), low=0.05, high=0.95),
        OpExample(((3, 4), (3, 4), (4,)), {"reduction": "sum"}, low=0.05, high=0.95),
        OpExample(((5,), (5,), (5,)), {"reduction": "none"}, low=0.05, high=0.95),
        OpExample(((), (), None), low=0.05, high=0.95),
    )

    @staticmethod
    def _check_weight(input: Shape, weight: Shape | None, name: str) -> None:
        if weight is not None and not is_broadcastable(weight, input):
            raise ShapeError(f"a {name} that broadcasts to {list(input)}")


def _multiply_by_weight(weight: Array | None, array: Array) -> Array:
    return array if weight is None else array * align_rank(weight, array.ndim - 1)


def _compute_weight_gradient(weight: Array | None, products: Array) -> Array | None:
    return None if weight is None else sum_broadcast_axes(products, weight.shape[1:])


_MIN_LOGARITHM = -100.0
_MIN_VARIANCE = 1e-12
_UNKNOWN_MAGNITUDE = 2.0**60
"""Magnitude of an unknown result: its rounding in float64 is a hundred times 1."""


@register_op("binary_cross_entropy")
class BinaryCrossEntropy(FormulaBugs, WeightedLoss):
    """Binary cross entropy of probabilities p, then none, sum or mean.

    The loss of an element is -w (y log p + (1 - y) log(1 - p)), logarithms not below -100. With g = dL/d(output), N
    elements, l the loss of one, c = 1 (none, sum) or 1/N (mean):
        dL/dp = g c w (p - y) / (p (1 - p))
        dL/dy = g c w (log(1 - p) - log p)
        dL/dw = g c l / w, summed over the axes along which w was broadcast
    """

    numpy_calls = 12
    reduction: LossReduction = "mean"

    # In the formulas u = c g w is the gradient of the loss of one element, without its weight v.
    backward_form = BackwardForm(
        {"input": "v * u * d", "target": "v * u * (m - l)"},
        definitions={"d": "(p - y) / (p * (1 - p))"},
        spellings={"d": ["(1 - y) / (1 - p) - y / p"]},
        declared={"d": ["1 / (1 - p)"], "input": ["u * (p - y)"]},
        # Edits of the second spelling that equal one of the first.
        omitted=(
            "d:term_missing:1 again",
            "d:term_doubled:1 again",
            "d:term_sign:1 again",
            "d:wrong_factor:y for p again again",
            "d:wrong_factor:y for p again again again",
        ),
        look_alikes={"p": {"y": "the target y stood for p"}},
        upstream=("u",),
    )

    def make_scope(self, gradient: Array, output: Array, *inputs: Any) -> Scope:
        p, y, weight = inputs
        return Scope().add_quantities(
            u=lambda: self._compute_sample_weights(gradient, self.compute_sample_losses(*inputs), *inputs),
            v=lambda: _multiply_by_weight(weight, np.ones_like(p)),
            p=lambda: p,
            y=lambda: y,
            l=lambda: self._compute_clamped_logarithms(p)[0],
            m=lambda: self._compute_clamped_logarithms(p)[1],
        )

    inputs = ("input", "target", "weight?")

    def infer_output_shape(self, input: Shape, target: Shape, weight: Shape | None) -> Shape:
        if input != target:
            raise ShapeError("an input and a target of one shape")
        self._check_weight(input, weight, "weight")
        return input if self.reduction == "none" else ()

    @staticmethod
    def _compute_clamped_logarithms(p: Array) -> tuple[Array, Array]:
        with np.errstate(divide="ignore"):
            return np.maximum(np.log(p), _MIN_LOGARITHM), np.maximum(np.log1p(-p), _MIN_LOGARITHM)

    def compute_sample_losses(self, input: Array, target: Array, weight: Array | None) -> Array:
        log_p, log_complement = self._compute_clamped_logarithms(input)
        return _multiply_by_weight(weight, -(target * log_p + (1 - target) * log_complement))

    def estimate_implemented_loss_magnitudes(self, input: Array, target: Array, weight: Array | None) -> Array:
        log_p, log_complement = self._compute_clamped_logarithms(input)
        return np.abs(_multiply_by_weight(weight, np.abs(target * log_p) + np.abs((1 - target) * log_complement)))

    def estimate_loss_magnitudes(self, input: Array, target: Array, weight: Array | None) -> Array:
        log_p, log_complement = self._compute_clamped_logarithms(input)
        magnitudes = np.abs(target * log_p) + np.abs(1 - target) * (np.abs(log_complement) + np.abs(input))
        return np.abs(_multiply_by_weight(weight, magnitudes))

    def compute_sample_gradients(self, weight: Array, input: Array, target: Array, rescale: Array | None) -> Gradients:
        log_p, log_complement = self._compute_clamped_logarithms(input)
        scaled_weight = _multiply_by_weight(rescale, weight)
        variance = np.maximum(input * (1 - input), _MIN_VARIANCE).astype(input.dtype, copy=False)
        by_rescale = _compute_weight_gradient(rescale, weight * self.compute_sample_losses(input, target, None))
        return scaled_weight * ((input - target) / variance), scaled_weight * (log_complement - log_p), by_rescale

    def estimate_sample_gradient_magnitudes(
        self, weight: Array, input: Array, target: Array, rescale: Array | None
    ) -> Gradients:
        log_p, log_complement = self._compute_clamped_logarithms(input)
        scaled_weight = np.abs(_multiply_by_weight(rescale, weight))
        variance = np.maximum(input * (1 - input), _MIN_VARIANCE)
        # The derivatives of the two logarithms, (1 - y) / (1 - p) and y / p, cancel where p is near y.
        absolute_sum = np.abs(target * (1 - input)) + np.abs((1 - target) * input)
        by_input = scaled_weight * (absolute_sum / variance + self._estimate_undefined_derivative_error(input, target))
        is_clamped = (log_p == _MIN_LOGARITHM) | (log_complement == _MIN_LOGARITHM)
        by_target = (
            scaled_weight * (np.abs(log_complement) + np.abs(log_p)) * np.where(is_clamped, _UNKNOWN_MAGNITUDE, 1)
        )
        by_rescale = _compute_weight_gradient(rescale, weight * self.estimate_loss_magnitudes(input, target, None))
        return by_input, by_target, by_rescale

    @staticmethod
    def _estimate_undefined_derivative_error(input: Array, target: Array) -> Array:
        """Return the uncertainty of the derivative where p (1 - p) is below 1e-12.

        PyTorch's derivative there is not that of its loss, so it is as uncertain as it is large.
        """
        variance = np.abs(input * (1 - input))
        uncertainty = np.abs(input - target) / np.where(variance > 0, variance, _MIN_VARIANCE) * _UNKNOWN_MAGNITUDE
        return np.where(variance < _MIN_VARIANCE, uncertainty, 0)

    @declare_bug("the target was not subtracted: p was taken for p - y")
    def missing_one_hot(self, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        weight = self._compute_sample_weights(gradient, self.compute_sample_losses(*inputs), *inputs)
        by_input = _multiply_by_weight(inputs[2], weight) / np.maximum(1 - inputs[0], _MIN_VARIANCE)
        return by_input, *self.backward(gradient, output, *inputs)[1:]

    @declare_bug("the gradient p - y of the logits was used for that of the probabilities")
    def gradient_of_logits(self, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        input, target = inputs[:2]
        weight = self._compute_sample_weights(gradient, self.compute_sample_losses(*inputs), *inputs)
        return weight * (input - target), *self.backward(gradient, output, *inputs)[1:]

    def torch_forward(self, torch: Any, input: Any, target: Any, weight: Any) -> Any:
        log_p, log_complement = (
            logarithm.clamp(min=_MIN_LOGARITHM) for logarithm in (torch.log(input), torch.log1p(-input))
        )
        if all(bool(((tensor >= 0) & (tensor <= 1)).all()) for tensor in (input, target)):
            # PyTorch's own derivative by the target has no least logarithm, and is infinite at 0 and 1.
            held_target = target.detach()
            losses = torch.nn.functional.binary_cross_entropy(input, held_target, reduction="none")
            losses = losses + (target - held_target) * (log_complement - log_p).detach()
        else:
            # PyTorch refuses these inputs. The formula has a value, or NaN.
            losses = -(target * log_p + (1 - target) * log_complement)
        return reduce_by_torch(self.reduction, losses if weight is None else losses * weight)


@register_op("binary_cross_entropy_with_logits")
class BinaryCrossEntropyWithLogits(FormulaBugs, WeightedLoss):
    """Binary cross entropy of logits z, then none, sum or mean.

    The loss of an element is l = -w (v y log s + (1 - y) log(1 - s)) with s = sigmoid(z), v = pos_weight, computed
    without overflow: with q = 1 + (v - 1) y and t = max(-z, 0) + log(1 + exp(-abs(z))) = -log s
        l = w ((1 - y) z + q t)
    With g = dL/d(output), N elements, c = 1 (none, sum) or 1/N (mean):
        dL/dz = g c w ((1 - y) - q sigmoid(-z)) = g c w (q sigmoid(z) - v y)
        dL/dy = g c w ((v - 1) t - z)
        dL/dv = sum g c w y t,   dL/dw = sum g c l / w, over the axes along which each was broadcast
    """

    numpy_calls = 15
    reduction: LossReduction = "mean"

    # In the formulas u = g c, s = sigmoid(z), and v y is the target times pos_weight.
    backward_form = BackwardForm(
        {"input": "w * u * (q * s - v * y)"},
        look_alikes={
            "s": {"z": "the logit z stood for s = sigmoid(z)", "s_of_minus": "sigmoid(-z) stood for sigmoid(z)"},
            "q": {"v": "v stood for q = 1 + (v - 1) y"},
        },
        alternatives={
            "input": {"w * u * (q * s - v * y) * s * (1 - s)": "the derivative of sigmoid was applied again"}
        },
        declared={"input": ["w * u * q * s"]},
        upstream=("u",),
    )

    def make_scope(self, gradient: Array, output: Array, *inputs: Any) -> Scope:
        z, y, weight, pos_weight = inputs
        return Scope().add_quantities(
            u=lambda: self._compute_sample_weights(gradient, self.compute_sample_losses(*inputs), *inputs),
            w=lambda: _multiply_by_weight(weight, np.ones_like(z)),
            v=lambda: _multiply_by_weight(pos_weight, np.ones_like(z)),
            q=lambda: self._log_sigmoid_factor(y, pos_weight),
            y=lambda: y,
            z=lambda: z,
            s=lambda: sigmoid(z),
            s_of_minus=lambda: sigmoid(-z),
        )

    supports_complex_step = True
    inputs = ("input", "target", "weight?", "pos_weight?")
    positional = ("input", "target", "weight")
    examples = (
        OpExample(((3, 4), (3, 4), None, None), low=-3, high=3),
        OpExample(((3, 4), (3, 4), (3, 1), (4,)), {"reduction": "sum"}, low=0.1, high=3),
        OpExample(((5,), (5,), None, ()), {"reduction": "none"}, low=0.1, high=3),
        OpExample(((), (), (), None), low=-30, high=30),
    )

    def infer_output_shape(self, input: Shape, target: Shape, weight: Shape | None, pos_weight: Shape | None) -> Shape:
        if input != target:
            raise ShapeError("an input and a target of one shape")
        self._check_weight(input, weight, "weight")
        self._check_weight(input, pos_weight, "pos_weight")
        return input if self.reduction == "none" else ()

    @staticmethod
    def _compute_negative_log_sigmoid(z: Array) -> Array:
        return np.maximum(-z, 0) + np.log1p(np.exp(-np.abs(z)))

    @staticmethod
    def _compute_positive_target_weight(target: Array, pos_weight: Array | None) -> Array:
        """Return v y."""
        return target if pos_weight is None else _multiply_by_weight(pos_weight, target)

    @staticmethod
    def _log_sigmoid_factor(target: Array, pos_weight: Array | None) -> Array:
        return np.ones_like(target) if pos_weight is None else 1 + _multiply_by_weight(pos_weight - 1, target)

    def compute_sample_losses(
        self, input: Array, target: Array, weight: Array | None, pos_weight: Array | None
    ) -> Array:
        # For z < 0 the parts in z are (1 - y) z - q z = -v y z. Added up first, they do not cancel.
        linear = (
            np.where(
                analytic_continuation.take_real_part(input) < 0,
                -self._compute_positive_target_weight(target, pos_weight),
                1 - target,
            )
            * input
        )
        tail = analytic_continuation.log1p(np.exp(-analytic_continuation.take_absolute_value(input)))
        return _multiply_by_weight(weight, linear + self._log_sigmoid_factor(target, pos_weight) * tail)

    def estimate_implemented_loss_magnitudes(
        self, input: Array, target: Array, weight: Array | None, pos_weight: Array | None
    ) -> Array:
        linear = np.where(input < 0, self._compute_positive_target_weight(target, pos_weight), 1 - target) * input
        tail = self._log_sigmoid_factor(target, pos_weight) * self._compute_negative_log_sigmoid(input)
        return np.abs(_multiply_by_weight(weight, np.abs(linear) + np.abs(tail)))

    def estimate_loss_magnitudes(
        self, input: Array, target: Array, weight: Array | None, pos_weight: Array | None
    ) -> Array:
        factor = np.abs(self._log_sigmoid_factor(target, pos_weight))
        if pos_weight is not None:
            factor = factor + np.abs(_multiply_by_weight(pos_weight - 1, target))
        magnitudes = np.abs((1 - target) * input) + factor * self._compute_negative_log_sigmoid(input)
        return np.abs(_multiply_by_weight(weight, magnitudes))

    def _compute_logit_derivative(self, input: Array, target: Array, pos_weight: Array | None) -> Array:
        """Return the derivative of one element's loss by z, without its weight."""
        tail = self._log_sigmoid_factor(target, pos_weight) * sigmoid(-np.abs(input))
        return np.where(input < 0, tail - self._compute_positive_target_weight(target, pos_weight), (1 - target) - tail)

    def compute_sample_gradients(
        self, weight: Array, input: Array, target: Array, rescale: Array | None, pos_weight: Array | None
    ) -> Gradients:
        t, scaled_weight = self._compute_negative_log_sigmoid(input), _multiply_by_weight(rescale, weight)
        by_input = scaled_weight * self._compute_logit_derivative(input, target, pos_weight)
        excess = -input if pos_weight is None else _multiply_by_weight(pos_weight - 1, t) - input
        by_rescale = _compute_weight_gradient(
            rescale, weight * self.compute_sample_losses(input, target, None, pos_weight)
        )
        return (
            by_input,
            scaled_weight * excess,
            by_rescale,
            _compute_weight_gradient(pos_weight, scaled_weight * target * t),
        )

    def estimate_sample_gradient_magnitudes(
        self, weight: Array, input: Array, target: Array, rescale: Array | None, pos_weight: Array | None
    ) -> Gradients:
        t, scaled_weight = self._compute_negative_log_sigmoid(input), np.abs(_multiply_by_weight(rescale, weight))
        factor_magnitudes = None if pos_weight is None else np.abs(pos_weight) + 2
        by_input = 2 * scaled_weight * np.abs(self._compute_logit_derivative(input, target, pos_weight))
        if pos_weight is not None:
            by_input = by_input + scaled_weight * self._estimate_factor_magnitude(input, target, pos_weight)
        excess = (
            np.abs(input) if factor_magnitudes is None else _multiply_by_weight(factor_magnitudes, t) + np.abs(input)
        )
        by_rescale = _compute_weight_gradient(
            rescale, weight * self.estimate_loss_magnitudes(input, target, None, pos_weight)
        )
        return (
            by_input,
            scaled_weight * excess,
            by_rescale,
            _compute_weight_gradient(pos_weight, scaled_weight * np.abs(target) * t),
        )

    def _estimate_factor_magnitude(self, input: Array, target: Array, pos_weight: Array) -> Array:
        """Return the magnitude of the summands of q, weighted by s and 1 - s.

        q is v y + 1 - y beside s, and 1 + (v - 1) y beside 1 - s. It is exactly 1 where y is 0.
        """
        s, q = sigmoid(input), np.abs(self._log_sigmoid_factor(target, pos_weight))
        beside_s = np.abs(self._compute_positive_target_weight(target, pos_weight)) + 1 + q
        beside_complement = np.abs(_multiply_by_weight(pos_weight - 1, target)) + q
        return (beside_s * s + beside_complement * (1 - s)) * (target != 0)

    def backward_with_errors(self, errors: ErrorModel, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        """Return the gradients with the error of s, or of 1 - s.

        It is off by u, but by no more than e = exp(-abs(z)). The bound serves both: in q s - v y as well as in (1 - y)
        - q (1 - s) one of the two is near 1 where abs(z) is large.
        """
        by_input, by_target, by_rescale, by_positive = super().backward_with_errors(errors, gradient, output, *inputs)
        assert by_input is not None
        input, target, rescale, pos_weight = inputs
        weight = np.abs(
            _multiply_by_weight(
                rescale, self._compute_sample_weights(gradient, self.compute_sample_losses(*inputs), *inputs)
            )
        )
        factor = weight * np.abs(self._log_sigmoid_factor(target, pos_weight))
        by_input = errors(by_input, factor, most=factor * np.exp(-np.abs(input)))
        by_input = errors(by_input, factor * errors.underflow_loss)
        if by_positive is not None:
            by_positive = errors(
                by_positive, _compute_weight_gradient(pos_weight, weight * np.abs(target) * errors.underflow_loss)
            )
        return by_input, by_target, by_rescale, by_positive

    @declare_bug("the target was not subtracted: s was taken for s - y")
    def missing_one_hot(self, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        input, target, rescale, pos_weight = inputs
        weight = _multiply_by_weight(
            rescale, self._compute_sample_weights(gradient, self.compute_sample_losses(*inputs), *inputs)
        )
        by_input = weight * self._log_sigmoid_factor(target, pos_weight) * sigmoid(input)
        return by_input, *self.backward(gradient, output, *inputs)[1:]

    @declare_bug("the gradient (s - y) / (s (1 - s)) of the probabilities was used for that of the logits")
    def missing_activation_derivative(self, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        by_input, *other_gradients = self.backward(gradient, output, *inputs)
        assert by_input is not None
        return by_input / compute_sigmoid_derivative(inputs[0]), *other_gradients

    @declare_bug_named(
        "channel_factor_missing",
        "the factor pos_weight of the positive class was left out",
        lambda shapes: shapes[-1] is not None,
    )
    def forget_pos_weight(self, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        by_input = self.backward(gradient, output, *inputs[:-1], None)[0]
        return by_input, *self.backward(gradient, output, *inputs)[1:]

    def torch_forward(self, torch: Any, input: Any, target: Any, weight: Any, pos_weight: Any) -> Any:
        if pos_weight is not None and pos_weight.requires_grad:
            # From primitives, since PyTorch's own function has no derivative by pos_weight.
            minus_log = torch.nn.functional.softplus(-input)
            losses = (1 - target) * input + (1 + (pos_weight - 1) * target) * minus_log
        else:
            losses = torch.nn.functional.binary_cross_entropy_with_logits(
                input, target, pos_weight=pos_weight, reduction="none"
            )
        return reduce_by_torch(self.reduction, losses if weight is None else losses * weight)


@register_op("kl_div")
class KlDiv(PairFormula, ElementPairLoss):
    """Kullback-Leibler divergence, then none, sum, mean or batchmean.

    The loss of an element is p (log p - x), p = target or, if `log_target`, its exponential. With g = dL/d(output), N
    elements, c = 1 (none, sum), 1/N (mean) or 1/B, B the first axis (batchmean):
        dL/dx = -g c p
        dL/dp = g c (log p - x + 1);  for the logarithm t of p: dL/dt = g c p (t - x + 1)
    """

    numpy_calls = 10
    reduction: Literal["none", "sum", "mean", "batchmean"] = "mean"
    log_target: bool = False

    # In the formulas w = g c, l = log p and e = exp(x); q is p for a logarithm as target, else 1.
    backward_form = BackwardForm(
        {"input": "-(w * p)", "target": "w * q * (l - x + 1)"},
        look_alikes={"p": {"e": "exp(x) stood for p", "y": "the target, a logarithm, stood for p"}},
        alternatives={"input": {"w * (e - p)": "the softmax in front of the logarithm was differentiated again"}},
        upstream=("w",),
    )

    def make_scope(self, gradient: Array, output: Array, *inputs: Any) -> Scope:
        x, target = inputs
        return (
            super()
            .make_scope(gradient, output, *inputs)
            .add_quantities(
                x=lambda: x,
                e=lambda: np.exp(x),
                p=lambda: self._get_target_and_logarithm(target)[0],
                q=lambda: self._get_target_and_logarithm(target)[0] if self.log_target else np.ones_like(target),
                l=lambda: self._get_target_and_logarithm(target)[1],
            )
        )

    supports_complex_step = True
    examples = (
        OpExample(((3, 4), (3, 4)), low=0.1, high=2),
        OpExample(((3, 4), (3, 4)), {"reduction": "batchmean"}, low=0.1, high=2),
        OpExample(((5,), (5,)), {"reduction": "sum", "log_target": True}),
        OpExample(((2, 3), (2, 3)), {"reduction": "none"}, low=0.1, high=2),
    )

    def infer_output_shape(self, input: Shape, target: Shape) -> Shape:
        if self.reduction == "batchmean" and not input:
            raise ShapeError("an input with a first axis for reduction='batchmean'")
        return super().infer_output_shape(input, target)

    def compute_reduction_divisor(self, losses: Array, *inputs: Any) -> int:
        if self.reduction == "batchmean":
            return losses.shape[1]
        return count_elements(losses.shape[1:]) if self.reduction == "mean" else 1

    def _get_target_and_logarithm(self, target: Array) -> tuple[Array, Array]:
        """Return p and log p."""
        if self.log_target:
            return np.exp(target), target
        with np.errstate(divide="ignore"):
            return target, np.log(target)

    def compute_sample_losses(self, input: Array, target: Array) -> Array:
        p, logarithm = self._get_target_and_logarithm(target)
        # p log p is 0 at p = 0.
        losses = np.where(p == 0, -p * input, p * (np.where(p == 0, 0, logarithm) - input))
        return losses.astype(np.result_type(input, target), copy=False)

    def estimate_loss_magnitudes(self, input: Array, target: Array) -> Array:
        p, logarithm = self._get_target_and_logarithm(target)
        return np.abs(p) * self._measure_differences(np.where(p == 0, 0, logarithm), input)

    def _measure_differences(self, logarithm: Array, input: Array) -> Array:
        """Return the magnitude of log p - x.

        With `log_target` both numbers are inputs and the difference itself is the magnitude. Else it is that of p log p
        and p x.
        """
        return 2 * np.abs(logarithm - input) if self.log_target else np.abs(logarithm) + np.abs(input)

    def compute_sample_gradients(self, weight: Array, input: Array, target: Array) -> Gradients:
        p, logarithm = self._get_target_and_logarithm(target)
        by_target = weight * (logarithm - input + 1)
        return -weight * p, by_target * p if self.log_target else by_target

    def estimate_sample_gradient_magnitudes(self, weight: Array, input: Array, target: Array) -> Gradients:
        p, logarithm = self._get_target_and_logarithm(target)
        by_target = weight * (self._measure_differences(logarithm, input) + 1)
        return weight * np.abs(p), by_target * p if self.log_target else by_target

    def backward_with_errors(self, errors: ErrorModel, gradient: Array, output: Array, *inputs: Any) -> Gradients:
        """Return the gradients with the errors of p = exp(t) for a logarithm t.

        p may be below the normal numbers of the dtype.
        """
        if not self.log_target:
            return super().backward_with_errors(errors, gradient, output, *inputs)
        input, target = inputs
        p = np.exp(target)
        p = errors(p, 2 * p + errors.underflow_loss)
        weight = self._compute_sample_weights(gradient, self.compute_sample_losses(*inputs), *inputs)
        difference = errors(target - input + 1, np.abs(target - input) + 1)
        return errors(-weight * p), errors(weight * difference * p, terms=3)

    def torch_forward(self, torch: Any, input: Any, target: Any) -> Any:
        losses = torch.nn.functional.kl_div(input, target, reduction="none", log_target=self.log_target)
        return (
            losses.sum() / input.shape[0] if self.reduction == "batchmean" else reduce_by_torch(self.reduction, losses)
        )
