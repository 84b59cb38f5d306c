"""Losses: those of the samples, then none, their sum or their mean."""

from typing import Any

import numpy as np

from tests.truth.mpf_tape import MpfTensor
from tests.truth.normalization_rules import compute_log_softmax


def _reduce_losses(reduction: str, losses: MpfTensor) -> MpfTensor:
    if reduction == "none":
        return losses
    return losses.sum() if reduction == "sum" else losses.sum() / losses.value.size


def _compute_class_loss(op: Any, logarithms: MpfTensor, target: Any, weight: MpfTensor | None) -> MpfTensor:
    """-sum_c q_c a_c of log-probabilities a (C,) or (N, C, ...), for labels or for probabilities of the classes."""
    axis = 0 if logarithms.ndim == 1 else 1
    of_class = (-1,) + (1,) * (logarithms.ndim - axis - 1)
    weights: Any = 1 if weight is None else weight.reshape(*of_class)
    rates, kept = target, 1
    if not isinstance(target, MpfTensor):
        labels = np.expand_dims(target, axis)
        kept = (labels != op.ignore_index).astype(np.int64)
        rates = (labels == np.arange(logarithms.shape[axis]).reshape(of_class)).astype(np.int64) * kept
    smoothing = getattr(op, "label_smoothing", 0.0)
    q = ((1 - MpfTensor(smoothing)) * rates + MpfTensor(smoothing) / logarithms.shape[axis] * kept) * weights
    losses = -(q * logarithms).sum(axis)
    if op.reduction != "mean" or isinstance(target, MpfTensor):
        return _reduce_losses(op.reduction, losses)
    return losses.sum() / (MpfTensor(rates) * weights).sum()


def _compute_bce_with_logits(
    op: Any, z: MpfTensor, target: MpfTensor, weight: MpfTensor | None, pos_weight: MpfTensor | None
) -> MpfTensor:
    positive = target if pos_weight is None else target * pos_weight
    minus_log, minus_log_of_rest = ((1 + logit.apply("exp")).apply("log") for logit in (-z, z))
    losses = positive * minus_log + (1 - target) * minus_log_of_rest
    return _reduce_losses(op.reduction, losses if weight is None else losses * weight)


def _compute_half_squared_error(op: Any, a: MpfTensor, y: MpfTensor) -> MpfTensor:
    return _reduce_losses(op.reduction, (a - y) * (a - y) / 2)


RULES: dict[str, Any] = {
    "half_squared_error": _compute_half_squared_error,
    "mse_loss": lambda op, a, y: _reduce_losses(op.reduction, (a - y) * (a - y)),
    "nll_loss": _compute_class_loss,
    "cross_entropy": lambda op, x, target, weight: _compute_class_loss(
        op, compute_log_softmax(x, 0 if x.ndim == 1 else 1), target, weight
    ),
    "binary_cross_entropy_with_logits": _compute_bce_with_logits,
}
