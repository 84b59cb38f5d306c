"""Softmax and its kin, normalisations, attention. No exponential overflows here, so that nothing is shifted."""

from typing import Any

import mpmath
import numpy as np

from tests.truth.axis_helpers import list_summed_axes, normalize_axis
from tests.truth.mpf_tape import MpfTensor


def compute_softmax(x: MpfTensor, axis: int) -> MpfTensor:
    e = x.apply("exp")
    return e / e.sum(axis, keepdims=True)


def compute_log_softmax(x: MpfTensor, axis: int) -> MpfTensor:
    return x - x.apply("exp").sum(axis, keepdims=True).apply("log")


def _make_axis_rule(function: Any) -> Any:
    """A rule of a function that acts along `dim`; a number counts as one axis of one element."""

    def apply_along_axis(op: Any, x: MpfTensor) -> MpfTensor:
        lined = x if x.ndim else x.reshape(1)
        return function(lined, normalize_axis(op.dim, lined)).reshape(*x.shape)

    return apply_along_axis


def _normalize_rows(x: MpfTensor, normalized_shape: int | list[int], eps: float, centred: bool) -> MpfTensor:
    count = 1 if isinstance(normalized_shape, int) else len(normalized_shape)
    axes = tuple(range(x.ndim - count, x.ndim))
    length = int(np.prod([x.shape[axis] for axis in axes]))
    centre = x - x.sum(axes, keepdims=True) / length if centred else x
    variance = (centre * centre).sum(axes, keepdims=True) / length
    return centre / (variance + eps).apply("sqrt")


def _compute_layer_norm(op: Any, x: MpfTensor, weight: MpfTensor | None, bias: MpfTensor | None) -> MpfTensor:
    y = _normalize_rows(x, op.normalized_shape, op.eps, centred=True)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def _compute_rms_norm(op: Any, x: MpfTensor, weight: MpfTensor | None) -> MpfTensor:
    y = _normalize_rows(x, op.normalized_shape, op.eps or 0.0, centred=False)
    return y if weight is None else y * weight


def _compute_attention(op: Any, query: MpfTensor, key: MpfTensor, value: MpfTensor, mask: Any) -> MpfTensor:
    scale = 1 / mpmath.sqrt(query.shape[-1]) if op.scale is None else op.scale
    order = [*range(key.ndim - 2), key.ndim - 1, key.ndim - 2]
    scores = query @ key.transpose(*order) * scale
    visible = np.ones(scores.shape[-2:], dtype=np.int64)
    if op.is_causal:
        visible = np.tril(visible)
    elif isinstance(mask, MpfTensor):
        scores = scores + mask
    elif mask is not None:
        visible = np.broadcast_to(mask, scores.shape).astype(np.int64)
    # What is hidden weighs nothing; a row of which all is hidden is divided by 1.
    e = scores.apply("exp") * visible
    hidden = ~visible.any(axis=-1, keepdims=True)
    return e / (e.sum(-1, keepdims=True) + hidden.astype(np.int64)) @ value


RULES: dict[str, Any] = {
    "softmax": _make_axis_rule(compute_softmax),
    "log_softmax": _make_axis_rule(compute_log_softmax),
    "logsumexp": lambda op, x: x.apply("exp").sum(list_summed_axes(op.dim, x), op.keepdim).apply("log"),
    "layer_norm": _compute_layer_norm,
    "rms_norm": _compute_rms_norm,
    "scaled_dot_product_attention": _compute_attention,
}
