"""What each op computes, spelled out in the primitives of `tape`; keyed by its name, attributes read from the op."""

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np

from tests.truth import loss_rules, normalization_rules
from tests.truth.axis_helpers import expand_pair, list_summed_axes, normalize_axis
from tests.truth.mpf_tape import MpfTensor, to_mpf

ForwardRule = Callable[..., MpfTensor]


def compute_sigmoid(x: MpfTensor) -> MpfTensor:
    return 1 / (1 + (-x).apply("exp"))


def _select(mask: Any, a: MpfTensor | float, b: MpfTensor | float) -> MpfTensor:
    return np.where(mask, 1, 0) * a + np.where(mask, 0, 1) * b


def _compute_gelu(op: Any, x: MpfTensor) -> MpfTensor:
    if op.approximate == "tanh":
        return x / 2 * (1 + (mpmath.sqrt(2 / mpmath.pi) * (x + to_mpf(0.044715) * (x * x * x))).apply("tanh"))
    return x / 2 * (1 + (x / mpmath.sqrt(2)).apply("erf"))


def _compute_softplus(op: Any, x: MpfTensor) -> MpfTensor:
    z = x * op.beta
    return _select(z.value > op.threshold, x, (1 + z.apply("exp")).apply("log") / op.beta)


def _compute_linear(op: Any, x: MpfTensor, weight: MpfTensor, bias: MpfTensor | None) -> MpfTensor:
    rows = x.reshape(-1, x.shape[-1]) @ weight.reshape(-1, x.shape[-1]).transpose(1, 0)
    y = rows.reshape(*x.shape[:-1], *weight.shape[:-1])
    return y if bias is None else y + bias


def _compute_matmul(op: Any, a: MpfTensor, b: MpfTensor) -> MpfTensor:
    shape = a.shape[-2:-1] * (a.ndim > 1) + b.shape[-1:] * (b.ndim > 1)
    rows = a if a.ndim > 1 else a.reshape(1, -1)
    product = rows @ (b if b.ndim > 1 else b.reshape(-1, 1))
    return product.reshape(*product.shape[:-2], *shape)


def _compute_conv2d(op: Any, x: MpfTensor, weight: MpfTensor, bias: MpfTensor | None) -> MpfTensor:
    """Cross-correlation of x (B, C, H, W), (C, H, W), or (H, W) with a weight (O, C / groups, kh, kw), or (kh, kw)."""
    kernel = weight.reshape(*(1,) * (4 - weight.ndim), *weight.shape)
    stride, dilation, spans = expand_pair(op.stride), expand_pair(op.dilation), kernel.shape[2:]
    image = x.reshape(*(1,) * (4 - x.ndim), *x.shape).pad(
        [(0, 0), (0, 0), *_compute_padding(op.padding, spans, dilation)]
    )
    counts = [
        (length - d * (span - 1) - 1) // s + 1
        for length, span, d, s in zip(image.shape[2:], spans, dilation, stride, strict=True)
    ]
    image = image.reshape(image.shape[0], op.groups, -1, *image.shape[2:])
    kernel = kernel.reshape(op.groups, -1, *kernel.shape[1:])
    parts = []
    for offset in np.ndindex(*spans):
        starts = [o * d for o, d in zip(offset, dilation, strict=True)]
        rows, columns = (slice(a, a + s * (n - 1) + 1, s) for a, s, n in zip(starts, stride, counts, strict=True))
        window = image[..., rows, columns]
        parts.append(kernel[(..., *offset)] @ window.reshape(*window.shape[:3], -1))
    y = sum(parts[1:], start=parts[0]).reshape(image.shape[0], -1, *counts)
    y = y if bias is None else y + bias.reshape(-1, 1, 1)
    return y.reshape(*y.shape[4 - x.ndim :])


def _compute_padding(padding: Any, spans: tuple[int, ...], dilation: tuple[int, int]) -> list[tuple[int, int]]:
    if padding == "same":
        totals = [d * (span - 1) for span, d in zip(spans, dilation, strict=True)]
        return [(total // 2, total - total // 2) for total in totals]
    return [(width, width) for width in expand_pair(0 if padding == "valid" else padding)]


def _make_extremum_rule(sign: int) -> ForwardRule:
    """The larger, or smaller, of two; half of each where they are equal."""

    def apply_extremum(op: Any, a: MpfTensor, b: MpfTensor) -> MpfTensor:
        taken = np.sign((a - b).value.astype(np.float64)) * sign
        return (1 + taken) / 2 * a + (1 - taken) / 2 * b

    return apply_extremum


def _compute_flatten(op: Any, x: MpfTensor) -> MpfTensor:
    if not x.ndim:
        return x.reshape(1)
    first, last = normalize_axis(op.start_dim, x), normalize_axis(op.end_dim, x)
    return x.reshape(*x.shape[:first], -1, *x.shape[last + 1 :])


def _compute_transpose(op: Any, x: MpfTensor) -> MpfTensor:
    order = list(range(x.ndim))
    if order:
        a, b = normalize_axis(op.dim0, x), normalize_axis(op.dim1, x)
        order[a], order[b] = b, a
    return x.transpose(*order)


def _compute_flip(op: Any, x: MpfTensor) -> MpfTensor:
    chosen = () if op.dims == [] else list_summed_axes(op.dims, x)
    return x[tuple(slice(None, None, -1 if axis in chosen else 1) for axis in range(x.ndim))]


def _compute_narrow(op: Any, x: MpfTensor) -> MpfTensor:
    axis = normalize_axis(op.dim, x)
    start = op.start % x.shape[axis]
    return x[(slice(None),) * axis + (slice(start, start + op.length),)]


def _compute_cumsum(op: Any, x: MpfTensor) -> MpfTensor:
    if not x.ndim:
        return x
    axis = normalize_axis(op.dim, x)
    order = [index for index in range(x.ndim) if index != axis] + [axis]
    moved = x.transpose(*order)
    sums = moved.reshape(-1, x.shape[axis]) @ MpfTensor(to_mpf(np.triu(np.ones((x.shape[axis],) * 2))))
    return sums.reshape(*moved.shape).transpose(*np.argsort(order).tolist())


def _compute_mean(op: Any, x: MpfTensor) -> MpfTensor:
    total = x.sum(list_summed_axes(op.dim, x), op.keepdim)
    return total / (x.value.size // total.value.size)


def _make_function_rule(name: str) -> ForwardRule:
    return lambda op, x: x.apply(name)


RULES: dict[str, ForwardRule] = {
    **{name: _make_function_rule(name) for name in ("exp", "log", "sqrt", "tanh", "sin", "cos", "erf")},
    "sigmoid": lambda op, x: compute_sigmoid(x),
    "silu": lambda op, x: x * compute_sigmoid(x),
    "gelu": _compute_gelu,
    "relu": lambda op, x: _select(x.value > 0, x, 0),
    "leaky_relu": lambda op, x: _select(x.value > 0, x, x * op.negative_slope),
    "elu": lambda op, x: _select(x.value > 0, x, op.alpha * (x.apply("exp") - 1)),
    "softplus": _compute_softplus,
    "abs": lambda op, x: x * np.sign(x.value.astype(np.float64)),
    "neg": lambda op, x: -x,
    "rsqrt": lambda op, x: 1 / x.apply("sqrt"),
    "expm1": lambda op, x: x.apply("exp") - 1,
    "log1p": lambda op, x: (1 + x).apply("log"),
    "add": lambda op, a, b: a + b * op.alpha,
    "sub": lambda op, a, b: a - b * op.alpha,
    "mul": lambda op, a, b: a * b,
    "div": lambda op, a, b: a / b,
    "maximum": _make_extremum_rule(1),
    "minimum": _make_extremum_rule(-1),
    "linear": _compute_linear,
    "matmul": _compute_matmul,
    "conv2d": _compute_conv2d,
    "flatten": _compute_flatten,
    "reshape": lambda op, x: x.reshape(*op.shape),
    "permute": lambda op, x: x.transpose(*(dim % x.ndim for dim in op.dims)),
    "transpose": _compute_transpose,
    "flip": _compute_flip,
    "narrow": _compute_narrow,
    "cumsum": _compute_cumsum,
    "sum": lambda op, x: x.sum(list_summed_axes(op.dim, x), op.keepdim),
    "mean": _compute_mean,
    "embedding": lambda op, index, weight: weight[index],
    **normalization_rules.RULES,
    **loss_rules.RULES,
}
"""`rule(op, *inputs)` with a `Tensor`, an array of integers or truths, or None for each operand."""
