"""Losses: those of the samples, then none, their sum or their mean."""

from typing import Any

import numpy as np

from tests.truth.normal import log_softmax
from tests.truth.tape import Tensor


def _reduced(reduction: str, losses: Tensor) -> Tensor:
    if reduction == "none":
        return losses
    return losses.sum() if reduction == "sum" else losses.sum() / losses.value.size


def _of_classes(op: Any, logarithms: Tensor, target: Any, weight: Tensor | None) -> Tensor:
    """-sum_c q_c a_c of log-probabilities a (C,) or (N, C, ...), for labels or for probabilities of the classes."""
    axis = 0 if logarithms.ndim == 1 else 1
    of_class = (-1,) + (1,) * (logarithms.ndim - axis - 1)
    weights: Any = 1 if weight is None else weight.reshape(*of_class)
    rates, kept = target, 1
    if not isinstance(target, Tensor):
        labels = np.expand_dims(target, axis)
        kept = (labels != op.ignore_index).astype(np.int64)
        rates = (labels == np.arange(logarithms.shape[axis]).reshape(of_class)).astype(np.int64) * kept
    smoothing = getattr(op, "label_smoothing", 0.0)
    q = ((1 - Tensor(smoothing)) * rates + Tensor(smoothing) / logarithms.shape[axis] * kept) * weights
    losses = -(q * logarithms).sum(axis)
    if op.reduction != "mean" or isinstance(target, Tensor):
        return _reduced(op.reduction, losses)
    return losses.sum() / (Tensor(rates) * weights).sum()


def _with_logits(op: Any, z: Tensor, target: Tensor, weight: Tensor | None, pos_weight: Tensor | None) -> Tensor:
    positive = target if pos_weight is None else target * pos_weight
    minus_log, minus_log_of_rest = ((1 + each.apply("exp")).apply("log") for each in (-z, z))
    losses = positive * minus_log + (1 - target) * minus_log_of_rest
    return _reduced(op.reduction, losses if weight is None else losses * weight)


def _half_squares(op: Any, a: Tensor, y: Tensor) -> Tensor:
    return _reduced(op.reduction, (a - y) * (a - y) / 2)


RULES: dict[str, Any] = {
    "half_squared_error": _half_squares,
    "mse_loss": lambda op, a, y: _reduced(op.reduction, (a - y) * (a - y)),
    "nll_loss": _of_classes,
    "cross_entropy": lambda op, x, target, weight: _of_classes(
        op, log_softmax(x, 0 if x.ndim == 1 else 1), target, weight
    ),
    "binary_cross_entropy_with_logits": _with_logits,
}
