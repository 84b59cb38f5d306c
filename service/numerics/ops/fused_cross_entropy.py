"""Cross-entropy of a linear layer, as one kernel that never holds all logits."""

from typing import Annotated, Any

from annotated_types import Ge, Gt, Le

from service.numerics.core.batching import Shape
from service.numerics.ops.class_loss import CrossEntropy
from service.numerics.ops.composed_loss import reduce_losses
from service.numerics.ops.composite import CompositeOp, Expansion
from service.numerics.ops.loss import LossReduction
from service.numerics.ops.op import OpExample, ShapeError, register_op


@register_op("linear_cross_entropy")
class LinearCrossEntropy(CompositeOp):
    """Cross-entropy of the logits a = t(x W^T + b), t(u) = c tanh(u / c) with c = softcap, plus z_loss times a penalty.

    x is (..., in), W (C, in), b (C,). The target holds the label of each row, or C probabilities for each. W may be
    (C, d1, ..., in) for x (N, in): then b is (C, d1, ...) and the target (N, d1, ...). The penalty is l^2 of each row
    that is not ignored, l = logsumexp of the logits over the classes. It is reduced as the losses are. `weight` weighs
    classes in the cross-entropy alone. With p = softmax(a), q the target as smoothed probabilities and k the factor of
    a row (g for the sum and without a reduction, g divided by the rows that count for the mean, 0 for ignored rows):
        dL/da = k (p - q) + 2 z_loss k l p
        dL/du = dL/da (1 - (a / c)^2)        dL/dx = dL/du W        dL/dW = dL/du^T x        dL/db = sum dL/du
    With class weights w the mean of the cross-entropy divides by the sum of w over the labels, that of the penalty by
    their number.
    """

    reduction: LossReduction = "mean"
    ignore_index: int = -100
    label_smoothing: Annotated[float, Ge(0), Le(1)] = 0.0
    softcap: Annotated[float, Gt(0)] | None = None
    z_loss: Annotated[float, Ge(0)] = 0.0

    inputs = ("input", "linear_weight", "target:index|float", "linear_bias?", "weight?")
    positional = ("input", "linear_weight", "target")
    examples = (
        OpExample(
            ((5, 2), (4, 2), (5,), (4,), None),
            {"softcap": 2.0, "z_loss": 0.1, "ignore_index": 1},
            index_limits={"target": 4},
        ),
        OpExample(
            ((2, 3, 2), (4, 2), (2, 3), None, (4,)),
            {"label_smoothing": 0.2, "z_loss": 0.3, "reduction": "sum"},
            low=0.2,
            index_limits={"target": 4},
        ),
        OpExample(((2, 3), (3, 2, 3), (2, 2), (3, 2), None), {"reduction": "none"}, index_limits={"target": 3}),
        OpExample(((2, 3), (4, 3), (2, 4), None, None), {"z_loss": 0.2}, low=0.1),
    )

    def expand(
        self, step: Expansion, input: str, linear_weight: str, target: str, linear_bias: str | None, weight: str | None
    ) -> str:
        shapes = [step.get_shape(operand) for operand in (input, linear_weight, linear_bias)]
        self._check_layer(*shapes)
        logits = self._compute_logits(step, input, linear_weight, linear_bias)
        if self.softcap is not None:
            logits = step("mul", step("tanh", step("div", logits, self.softcap)), self.softcap)
        loss = step(
            "cross_entropy",
            logits,
            target,
            weight,
            reduction=self.reduction,
            ignore_index=self.ignore_index,
            label_smoothing=self.label_smoothing,
        )
        return step("add", loss, self._compute_penalty(step, logits, target)) if self.z_loss else loss

    @staticmethod
    def _check_layer(input: Shape, weight: Shape, bias: Shape | None) -> None:
        if not input or len(weight) < 2 or input[-1] != weight[-1]:
            raise ShapeError("an input (..., in) and a linear_weight (C, in) with the same length in")
        if len(weight) > 2 and len(input) != 2:
            raise ShapeError("an input (N, in) for a linear_weight (C, d1, ..., in)")
        if bias is not None and bias != weight[:-1]:
            raise ShapeError(f"a linear_bias of shape {list(weight[:-1])}")

    def _compute_logits(self, step: Expansion, input: str, weight: str, bias: str | None) -> str:
        """Return the logits with the classes along axis 1, or 0 for a single row."""
        rows, layer = step.get_shape(input)[:-1], step.get_shape(weight)
        if len(layer) > 2:
            weight = step("reshape", weight, shape=[-1, layer[-1]])
            bias = None if bias is None else step("reshape", bias, shape=[-1])
            return step("reshape", step("linear", input, weight, bias), shape=[*rows, *layer[:-1]])
        logits = step("linear", input, weight, bias)
        return logits if len(rows) < 2 else step("movedim", logits, source=-1, destination=1)

    def _compute_penalty(self, step: Expansion, logits: str, target: str) -> str:
        """Return z_loss times the squares of the rows' logsumexp, reduced.

        As the "probability" of each class they give nll_loss the one of the label, and 0 for an ignored row.
        """
        shape = step.get_shape(logits)
        axis = min(1, len(shape) - 1)
        has_labels = step.get_shape(target) != shape
        squares = step("square", step("logsumexp", logits, dim=[axis], keepdim=has_labels))
        if not has_labels:
            return step("mul", reduce_losses(step, squares, self.reduction), self.z_loss)
        rows = step("expand", step("mul", squares, -self.z_loss), size=list(shape))
        return step("nll_loss", rows, target, reduction=self.reduction, ignore_index=self.ignore_index)

    def torch_forward(
        self, torch: Any, input: Any, linear_weight: Any, target: Any, linear_bias: Any, weight: Any
    ) -> Any:
        logits = input @ linear_weight.flatten(0, -2).T
        logits = logits if linear_bias is None else logits + linear_bias.flatten()
        if linear_weight.ndim > 2:
            logits = logits.reshape(len(input), *linear_weight.shape[:-1])
        elif input.ndim > 2:
            logits = logits.movedim(-1, 1)
        if self.softcap is not None:
            logits = self.softcap * torch.tanh(logits / self.softcap)
        classes = CrossEntropy(
            reduction=self.reduction, ignore_index=self.ignore_index, label_smoothing=self.label_smoothing
        )
        loss = classes.torch_forward(torch, logits, target, weight)
        return loss + self.z_loss * self._penalise_torch(torch, logits, target) if self.z_loss else loss

    def _penalise_torch(self, torch: Any, logits: Any, target: Any) -> Any:
        penalties = torch.logsumexp(logits, min(1, logits.ndim - 1)).square()
        is_counted = (
            target != self.ignore_index
            if target.shape != logits.shape
            else torch.ones_like(penalties, dtype=torch.bool)
        )
        penalties = torch.where(is_counted, penalties, 0)
        if self.reduction == "none":
            return penalties
        return penalties.sum() / (is_counted.sum() if self.reduction == "mean" else 1)
