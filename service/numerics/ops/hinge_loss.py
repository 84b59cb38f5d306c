"""Loss of distances with a hinge."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from service.numerics.core.batching import Array, Shape
from service.numerics.ops.loss import LossReduction, PiecewiseLoss
from service.numerics.ops.op import Gradients, OpExample, ShapeError, declare_bug, register_op
from service.numerics.ops.subgradient_choices import SubgradientChoices, choose_between_derivatives

_IN_LOSS, _IN_HINGE = 1, 2
"""Bits of the pieces of `hinge_embedding_loss`."""


@register_op("hinge_embedding_loss")
class HingeEmbeddingLoss(PiecewiseLoss):
    """Loss of distances x: x for target 1, max(0, margin - x) for target -1, then none, sum or mean.

    Any other target adds both. With g = dL/d(output), N elements, c = 1 (none, sum) or 1/N (mean):
        dL/dx = g c for target 1,    -g c for target -1 where x <= margin, else 0
    """

    numpy_calls = 8
    margin: float = 1.0
    reduction: LossReduction = "mean"

    inputs = ("input", "target:float|index")
    positional = ("input", "target", "margin")
    examples = (
        OpExample(((3, 4), (3, 4)), sign_slots=("target",)),
        OpExample(((6,), (6,)), {"reduction": "sum", "margin": 0.3}, sign_slots=("target",)),
        OpExample(((5,), (5,)), {"reduction": "none"}, sign_slots=("target",)),
    )

    def infer_output_shape(self, input: Shape, target: Shape) -> Shape:
        if input != target:
            raise ShapeError("an input and a target of one shape")
        return input if self.reduction == "none" else ()

    def select_branch(self, input: Array, target: Array) -> Array:
        is_in_hinge = (target != 1) & ~(input > self.margin)
        return (_IN_LOSS * (target != -1) + _IN_HINGE * is_in_hinge).astype(np.int8)

    def compute_losses_on_branch(self, branch: Array, input: Array, target: Array) -> Array:
        is_in_loss, is_in_hinge = branch & _IN_LOSS != 0, branch & _IN_HINGE != 0
        zero = input.dtype.type(0)
        hinge: Array = np.where(is_in_hinge, np.subtract(input.dtype.type(self.margin), input), zero)
        return np.add(np.where(is_in_loss, input, zero), hinge)

    def estimate_loss_magnitudes(self, input: Array, target: Array) -> Array:
        branch = self.select_branch(input, target)
        return (abs(self.margin) + np.abs(input)) * np.not_equal(branch, 0)

    def compute_sample_gradients(self, weight: Array, input: Array, target: Array) -> Gradients:
        branch = self.select_branch(input, target)
        slopes = (branch & _IN_LOSS).astype(weight.dtype) - (branch & _IN_HINGE != 0)
        by_target = np.zeros(weight.shape[:1] + target.shape[1:], dtype=weight.dtype)
        return weight * slopes, by_target

    def list_subgradient_choices(
        self, input_errors: Sequence[Array | None], input: Array, target: Array
    ) -> SubgradientChoices | None:
        """Return the choice of the hinge's slope, from 0 to -1, at the margin."""
        assert input_errors[0] is not None
        gap = (self.margin - input[0]).ravel()
        reach = np.broadcast_to(input_errors[0][0], input.shape[1:]).ravel() + np.spacing(abs(self.margin))
        places = np.flatnonzero((np.abs(gap) <= reach) & (target[0].ravel() != 1))
        factor = 1 / (gap.size if self.reduction == "mean" else 1)
        in_loss = (target[0].ravel()[places] != -1) * factor
        return choose_between_derivatives(
            self._get_output_flat_indices(places),
            (gap[places] >= 0) * 1.0,
            gap[places] == 0,
            [(0, places, in_loss)],
            [(0, places, in_loss - factor)],
        )

    @declare_bug("the sign of the hinge was left out")
    def hinge_with_the_wrong_sign(self, gradient: Array, output: Array, input: Array, target: Array) -> Gradients:
        by_input, by_target = self.backward(gradient, output, input, target)
        assert by_input is not None
        return np.where(target == 1, by_input, -by_input), by_target

    @declare_bug("the hinge handed its gradient through beyond the margin")
    def hinge_without_end(self, gradient: Array, output: Array, input: Array, target: Array) -> Gradients:
        never_beyond = np.minimum(input, input.dtype.type(self.margin))
        return self.backward(gradient, output, never_beyond, target)

    def torch_forward(self, torch: Any, input: Any, target: Any) -> Any:
        return torch.nn.functional.hinge_embedding_loss(input, target, self.margin, reduction=self.reduction)
