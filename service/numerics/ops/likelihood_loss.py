"""Losses of an element and its target by a logarithm: the soft margin and Poisson's likelihood."""

import math
from typing import Annotated, Any

import numpy as np
from annotated_types import Gt

from service.numerics.core.batching import Array, Shape
from service.numerics.ops import analytic_continuation
from service.numerics.ops.activation import compute_sigmoid_derivative, sigmoid
from service.numerics.ops.composed_loss import reduce_losses
from service.numerics.ops.composite import CompositeOp, Expansion
from service.numerics.ops.loss import ElementPairLoss, LossReduction, reduce_by_torch
from service.numerics.ops.op import Gradients, Op, OpExample, declare_bug, make_form, register_form, register_op


@register_op("soft_margin_loss")
class SoftMarginLoss(ElementPairLoss):
    """Soft margin: log(1 + exp(-y x)) for each element, then none, sum or mean; the target y is 1 or -1.

    With z = -y x, s = sigmoid(z), g = dL/d(output) and c = 1 (none, sum) or 1/N (mean) for N elements:
        dL/dx = -g c y s        dL/dy = -g c x s
    """

    numpy_calls = 10
    reduction: LossReduction = "mean"

    supports_complex_step = True

    def compute_sample_losses(self, input: Array, target: Array) -> Array:
        z = -input * target
        positive_part = np.where(analytic_continuation.take_real_part(z) > 0, z, 0)
        return positive_part + analytic_continuation.log1p(np.exp(-analytic_continuation.take_absolute_value(z)))

    def compute_sample_gradients(self, weight: Array, input: Array, target: Array) -> Gradients:
        share = weight * sigmoid(-input * target)
        return -share * target, -share * input

    def estimate_loss_magnitudes(self, *inputs: Any) -> Array:
        # z is off by u z, and the loss by s times that.
        input, target = inputs
        z = -input * target
        return self.compute_sample_losses(input, target) + np.abs(z) * sigmoid(z)

    def estimate_sample_gradient_magnitudes(self, weight: Array, *inputs: Any) -> Gradients:
        input, target = inputs
        z = -input * target
        share = weight * (2 * sigmoid(z) + np.abs(z) * compute_sigmoid_derivative(z))
        return share * np.abs(target), share * np.abs(input)

    @declare_bug("the share s was taken at y x in place of -y x")
    def other_share(self, gradient: Array, output: Array, input: Array, target: Array) -> Gradients:
        weight = self._compute_sample_weights(gradient, self.compute_sample_losses(input, target), input, target)
        share = weight * sigmoid(input * target)
        return -share * target, -share * input

    def torch_forward(self, torch: Any, input: Any, target: Any) -> Any:
        # PyTorch's own loss has no derivative by its target.
        z = -input * target
        return reduce_by_torch(self.reduction, torch.logaddexp(torch.zeros_like(z), z))


@register_op("poisson_nll_loss")
class PoissonNllLoss(ElementPairLoss):
    """Poisson's likelihood without its constant: for each element exp(x) - y x, then none, sum or mean.

    Without `log_input` it is x - y log(x + e), e = eps. With g = dL/d(output) and c = 1 (none, sum) or 1/N (mean) for N
    elements:
        log_input:  dL/dx = g c (exp(x) - y)          dL/dy = -g c x
        else:       dL/dx = g c (1 - y / (x + e))     dL/dy = -g c log(x + e)
    `full` adds Stirling's approximation of the constant log(y!) where y > 1, s = y log(y) - y + log(2 pi y) / 2, which
    adds g c (log(y) + 1 / (2 y)) to dL/dy there. It jumps at y = 1.
    """

    numpy_calls = 6
    positional = ("input", "target", "log_input", "full")
    log_input: bool = True
    full: bool = False
    eps: Annotated[float, Gt(0)] = 1e-8
    reduction: LossReduction = "mean"

    supports_complex_step = True
    examples = (
        OpExample(((3, 4), (3, 4))),
        OpExample(((5,), (5,)), {"reduction": "sum"}),
        OpExample(((2, 3), (2, 3)), {"log_input": False, "reduction": "none"}, low=0.2, high=3),
        OpExample(((), ()), {"log_input": False, "eps": 0.1}, low=0.5, high=3),
    )

    def select_form(self, *shapes: Shape | None) -> Op:
        if not self.full:
            return self
        attributes = {"log_input": self.log_input, "eps": self.eps, "reduction": self.reduction}
        return make_form("poisson_nll_loss", "full", **attributes)

    def compute_sample_losses(self, input: Array, target: Array) -> Array:
        if self.log_input:
            return np.exp(input) - target * input
        return input - target * np.log(input + self.eps)

    def compute_sample_gradients(self, weight: Array, input: Array, target: Array) -> Gradients:
        if self.log_input:
            return weight * (np.exp(input) - target), -weight * input
        shifted = input + self.eps
        return weight * (1 - target / shifted), -weight * np.log(shifted)

    def estimate_loss_magnitudes(self, *inputs: Any) -> Array:
        input, target = inputs
        if self.log_input:
            return 2 * np.exp(input) + np.abs(target * input)
        return np.abs(input) + np.abs(target) * (1 + np.abs(np.log(input + self.eps)))

    def estimate_sample_gradient_magnitudes(self, weight: Array, *inputs: Any) -> Gradients:
        input, target = inputs
        if self.log_input:
            return weight * (2 * np.exp(input) + np.abs(target)), weight * np.abs(input)
        shifted = input + self.eps
        return weight * (1 + 2 * np.abs(target / shifted)), weight * (1 + np.abs(np.log(shifted)))

    @declare_bug("the target was not subtracted")
    def target_forgotten(self, gradient: Array, output: Array, input: Array, target: Array) -> Gradients:
        weight = self._compute_sample_weights(gradient, self.compute_sample_losses(input, target), input, target)
        by_input = weight * np.exp(input) if self.log_input else weight
        return by_input, self.compute_sample_gradients(weight, input, target)[1]

    def torch_forward(self, torch: Any, input: Any, target: Any) -> Any:
        if self.full:
            return self.select_form().torch_forward(torch, input, target)
        return torch.nn.functional.poisson_nll_loss(
            input, target, log_input=self.log_input, eps=self.eps, reduction=self.reduction
        )


@register_form("poisson_nll_loss", "full")
class FullPoissonNllLoss(CompositeOp):
    """Poisson's likelihood with Stirling's approximation of its constant where the target is above 1.

    The approximation is taken of max(y, 1), so that its logarithm has a value where it does not count.
    """

    log_input: bool
    eps: float
    reduction: LossReduction

    inputs = PoissonNllLoss.inputs

    def expand(self, step: Expansion, input: str, target: str) -> str:
        attributes = {"log_input": self.log_input, "eps": self.eps, "reduction": "none"}
        losses = step("poisson_nll_loss", input, target, **attributes)
        counts = step("clamp", target, min=1.0)
        logarithm = step("log", counts)
        product = step("sub", step("mul", counts, logarithm), counts)
        root = step("add", step("mul", logarithm, 0.5), math.log(2 * math.pi) / 2)
        constants = step("where", step("gt", target, 1.0), step("add", product, root), 0.0)
        return reduce_losses(step, step("add", losses, constants), self.reduction)

    def torch_forward(self, torch: Any, input: Any, target: Any) -> Any:
        losses = torch.nn.functional.poisson_nll_loss(
            input, target, log_input=self.log_input, eps=self.eps, reduction="none"
        )
        # PyTorch's own derivative by a target of 0 is NaN, though nothing is added there.
        is_counted = target > 1
        counts = torch.where(is_counted, target, torch.ones_like(target))
        stirling = counts * torch.log(counts) - counts + 0.5 * torch.log(2 * math.pi * counts)
        return reduce_by_torch(self.reduction, losses + torch.where(is_counted, stirling, torch.zeros_like(stirling)))
