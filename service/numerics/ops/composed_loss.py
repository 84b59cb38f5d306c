"""Losses that are compositions of other ops."""

import math
from typing import Annotated, Any

from annotated_types import Gt

from service.numerics.core.batching import Shape
from service.numerics.ops.composite import CompositeOp, Expansion
from service.numerics.ops.loss import LossReduction
from service.numerics.ops.op import OpExample, ShapeError, register_op


def reduce_losses(step: Expansion, losses: str, reduction: str) -> str:
    """Add the step of a reduction: none, sum or mean."""
    return losses if reduction == "none" else step(reduction, losses)


@register_op("margin_ranking_loss")
class MarginRankingLoss(CompositeOp):
    """Loss of the order of pairs: max(0, margin - t (a - b)) for each, t = 1 or -1, then none, sum or mean.

    With g = dL/d(output), N pairs, c = 1 (none, sum) or 1/N (mean), where the loss is not 0:
        dL/da = -g c t        dL/db = g c t
    """

    margin: float = 0.0
    reduction: LossReduction = "mean"

    inputs = ("input1", "input2", "target")
    positional = ("input1", "input2", "target", "margin")
    examples = (
        OpExample(((6,), (6,), (6,)), sign_slots=("target",)),
        OpExample(((2, 3), (2, 3), (2, 3)), {"margin": 0.5, "reduction": "sum"}, sign_slots=("target",)),
        OpExample(((4,), (4,), (4,)), {"margin": 0.2, "reduction": "none"}, sign_slots=("target",)),
    )

    def expand(self, step: Expansion, input1: str, input2: str, target: str) -> str:
        if len({step.get_shape(operand) for operand in (input1, input2, target)}) > 1:
            raise ShapeError("two inputs and a target of one shape")
        product = step("mul", target, step("sub", input1, input2))
        losses = step("clamp", step("sub", self.margin, product), min=0.0)
        return reduce_losses(step, losses, self.reduction)

    def torch_forward(self, torch: Any, input1: Any, input2: Any, target: Any) -> Any:
        return torch.nn.functional.margin_ranking_loss(
            input1, input2, target, margin=self.margin, reduction=self.reduction
        )


@register_op("gaussian_nll_loss")
class GaussianNllLoss(CompositeOp):
    """Negative log-likelihood of normal distributions: (log v + (m - t)^2 / v) / 2, then none, sum or mean.

    v = max(var, eps); `full` adds log(2 pi) / 2. With g = dL/d(output), N elements, c = 1 (none, sum) or 1/N (mean):
        dL/dm = g c (m - t) / v        dL/dt = -dL/dm        dL/dvar = g c (1 - (m - t)^2 / v) / (2 v), 0 below eps
    PyTorch's own derivative goes through below eps as if nothing were clamped. That of the function is 0.
    """

    full: bool = False
    eps: Annotated[float, Gt(0)] = 1e-6
    reduction: LossReduction = "mean"

    inputs = ("input", "target", "var")
    examples = (
        OpExample(((3, 4), (3, 4), (3, 4)), low=0.2),
        OpExample(((2, 3), (2, 3), (2, 1)), {"full": True, "reduction": "sum"}, low=0.2),
        OpExample(((4,), (4,), (4,)), {"eps": 1.0, "reduction": "none"}, low=0.2),
        OpExample(((2, 3, 2), (2, 3, 2), (2, 1, 2)), low=0.2),
        OpExample(((2, 3), (2, 3), (2,)), low=0.2),
    )

    def expand(self, step: Expansion, input: str, target: str, var: str | float) -> str:
        shape = step.get_shape(input)
        if step.get_shape(target) != shape:
            raise ShapeError("an input and a target of one shape")
        aligned = self._align_variance(step, var, shape)
        variance = step("clamp", aligned, min=self.eps) if isinstance(aligned, str) else max(aligned, self.eps)
        logarithm = step("log", variance) if isinstance(variance, str) else math.log(variance)
        square = step("square", step("sub", input, target))
        losses = step("mul", step("add", step("div", square, variance), logarithm), 0.5)
        losses = step("add", losses, math.log(2 * math.pi) / 2) if self.full else losses
        return reduce_losses(step, losses, self.reduction)

    @staticmethod
    def _align_variance(step: Expansion, var: str | float, shape: Shape) -> str | float:
        """Return a variance whose axes stand beside those of the input, as PyTorch reads them.

        It has all axes of the input, one of them maybe of length 1, or all but the last, or it is a number.
        """
        variances = step.get_shape(var)
        shorter_axes = [n for n, length in zip(variances, shape, strict=False) if n != length]
        if variances in ((), shape) or (len(variances) == len(shape) and shorter_axes == [1]):
            return var
        if shape and variances == shape[:-1]:
            return step("unsqueeze", var, dim=-1)
        raise ShapeError(
            "a var of the input's shape, of it with one axis of length 1, of it without the last axis, or of one number"
        )

    def torch_forward(self, torch: Any, input: Any, target: Any, var: Any) -> Any:
        variances = torch.clamp(var if var.ndim else var.expand(input.shape), min=self.eps)
        return torch.nn.functional.gaussian_nll_loss(
            input, target, variances, full=self.full, eps=self.eps, reduction=self.reduction
        )


@register_op("multilabel_soft_margin_loss")
class MultilabelSoftMarginLoss(CompositeOp):
    """Mean over C classes of -w (t log sigmoid(x) + (1 - t) log sigmoid(-x)), then none, sum or mean.

    With g = dL/d(output), N samples, c = 1 (none, sum) or 1/N (mean):
        dL/dx = g c w (sigmoid(x) - t) / C        dL/dt = -g c w x / C
    dL/dw is the sum of g c l / (w C) over the samples, l = w (...) the loss of a class.
    """

    reduction: LossReduction = "mean"

    inputs = ("input", "target", "weight?")
    positional = ("input", "target", "weight")
    examples = (
        OpExample(((3, 4), (3, 4), None)),
        OpExample(((2, 3), (2, 3), (3,)), {"reduction": "sum"}),
        OpExample(((2, 3), (2, 3), (3,)), {"reduction": "none"}),
    )

    def expand(self, step: Expansion, input: str, target: str, weight: str | None) -> str:
        shape = step.get_shape(input)
        if step.get_shape(target) != shape or not shape:
            raise ShapeError("an input and a target of one shape (..., C)")
        if weight is not None and step.get_shape(weight) != shape[-1:]:
            raise ShapeError(f"a weight of shape {list(shape[-1:])}")
        present = step("mul", target, step("logsigmoid", input))
        absent = step("mul", step("sub", 1.0, target), step("logsigmoid", step("neg", input)))
        losses = step("neg", step("add", present, absent))
        losses = losses if weight is None else step("mul", losses, weight)
        return reduce_losses(step, step("mean", losses, dim=[-1]), self.reduction)

    def torch_forward(self, torch: Any, input: Any, target: Any, weight: Any) -> Any:
        return torch.nn.functional.multilabel_soft_margin_loss(input, target, weight, reduction=self.reduction)
