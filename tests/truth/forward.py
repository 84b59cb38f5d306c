"""What each op computes, spelled out in the primitives of `tape`; keyed by its name, attributes read from the op."""

from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np

from tests.truth import losses, normal
from tests.truth.shapes import along, over, pair
from tests.truth.tape import Tensor, exact

Rule = Callable[..., Tensor]


def sigmoid(x: Tensor) -> Tensor:
    return 1 / (1 + (-x).apply("exp"))


def _where(mask: Any, a: Tensor | float, b: Tensor | float) -> Tensor:
    return np.where(mask, 1, 0) * a + np.where(mask, 0, 1) * b


def _gelu(op: Any, x: Tensor) -> Tensor:
    if op.approximate == "tanh":
        return x / 2 * (1 + (mpmath.sqrt(2 / mpmath.pi) * (x + exact(0.044715) * (x * x * x))).apply("tanh"))
    return x / 2 * (1 + (x / mpmath.sqrt(2)).apply("erf"))


def _softplus(op: Any, x: Tensor) -> Tensor:
    z = x * op.beta
    return _where(z.value > op.threshold, x, (1 + z.apply("exp")).apply("log") / op.beta)


def _linear(op: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    rows = x.reshape(-1, x.shape[-1]) @ weight.reshape(-1, x.shape[-1]).transpose(1, 0)
    y = rows.reshape(*x.shape[:-1], *weight.shape[:-1])
    return y if bias is None else y + bias


def _matmul(op: Any, a: Tensor, b: Tensor) -> Tensor:
    shape = a.shape[-2:-1] * (a.ndim > 1) + b.shape[-1:] * (b.ndim > 1)
    rows = a if a.ndim > 1 else a.reshape(1, -1)
    product = rows @ (b if b.ndim > 1 else b.reshape(-1, 1))
    return product.reshape(*product.shape[:-2], *shape)


def _conv2d(op: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """Cross-correlation of x (B, C, H, W), (C, H, W), or (H, W) with a weight (O, C / groups, kh, kw), or (kh, kw)."""
    kernel = weight.reshape(*(1,) * (4 - weight.ndim), *weight.shape)
    stride, dilation, spans = pair(op.stride), pair(op.dilation), kernel.shape[2:]
    image = x.reshape(*(1,) * (4 - x.ndim), *x.shape).pad([(0, 0), (0, 0), *_padding(op.padding, spans, dilation)])
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


def _padding(padding: Any, spans: tuple[int, ...], dilation: tuple[int, int]) -> list[tuple[int, int]]:
    if padding == "same":
        totals = [d * (span - 1) for span, d in zip(spans, dilation, strict=True)]
        return [(total // 2, total - total // 2) for total in totals]
    return [(width, width) for width in pair(0 if padding == "valid" else padding)]


def _extremum(sign: int) -> Rule:
    """The larger, or smaller, of two; half of each where they are equal."""

    def rule(op: Any, a: Tensor, b: Tensor) -> Tensor:
        taken = np.sign((a - b).value.astype(np.float64)) * sign
        return (1 + taken) / 2 * a + (1 - taken) / 2 * b

    return rule


def _flatten(op: Any, x: Tensor) -> Tensor:
    if not x.ndim:
        return x.reshape(1)
    first, last = along(op.start_dim, x), along(op.end_dim, x)
    return x.reshape(*x.shape[:first], -1, *x.shape[last + 1 :])


def _transpose(op: Any, x: Tensor) -> Tensor:
    order = list(range(x.ndim))
    if order:
        a, b = along(op.dim0, x), along(op.dim1, x)
        order[a], order[b] = b, a
    return x.transpose(*order)


def _flip(op: Any, x: Tensor) -> Tensor:
    chosen = () if op.dims == [] else over(op.dims, x)
    return x[tuple(slice(None, None, -1 if axis in chosen else 1) for axis in range(x.ndim))]


def _narrow(op: Any, x: Tensor) -> Tensor:
    axis = along(op.dim, x)
    start = op.start % x.shape[axis]
    return x[(slice(None),) * axis + (slice(start, start + op.length),)]


def _cumsum(op: Any, x: Tensor) -> Tensor:
    if not x.ndim:
        return x
    axis = along(op.dim, x)
    order = [each for each in range(x.ndim) if each != axis] + [axis]
    moved = x.transpose(*order)
    sums = moved.reshape(-1, x.shape[axis]) @ Tensor(exact(np.triu(np.ones((x.shape[axis],) * 2))))
    return sums.reshape(*moved.shape).transpose(*np.argsort(order).tolist())


def _mean(op: Any, x: Tensor) -> Tensor:
    total = x.sum(over(op.dim, x), op.keepdim)
    return total / (x.value.size // total.value.size)


def _function(name: str) -> Rule:
    return lambda op, x: x.apply(name)


RULES: dict[str, Rule] = {
    **{name: _function(name) for name in ("exp", "log", "sqrt", "tanh", "sin", "cos", "erf")},
    "sigmoid": lambda op, x: sigmoid(x),
    "silu": lambda op, x: x * sigmoid(x),
    "gelu": _gelu,
    "relu": lambda op, x: _where(x.value > 0, x, 0),
    "leaky_relu": lambda op, x: _where(x.value > 0, x, x * op.negative_slope),
    "elu": lambda op, x: _where(x.value > 0, x, op.alpha * (x.apply("exp") - 1)),
    "softplus": _softplus,
    "abs": lambda op, x: x * np.sign(x.value.astype(np.float64)),
    "neg": lambda op, x: -x,
    "rsqrt": lambda op, x: 1 / x.apply("sqrt"),
    "expm1": lambda op, x: x.apply("exp") - 1,
    "log1p": lambda op, x: (1 + x).apply("log"),
    "add": lambda op, a, b: a + b * op.alpha,
    "sub": lambda op, a, b: a - b * op.alpha,
    "mul": lambda op, a, b: a * b,
    "div": lambda op, a, b: a / b,
    "maximum": _extremum(1),
    "minimum": _extremum(-1),
    "linear": _linear,
    "matmul": _matmul,
    "conv2d": _conv2d,
    "flatten": _flatten,
    "reshape": lambda op, x: x.reshape(*op.shape),
    "permute": lambda op, x: x.transpose(*(each % x.ndim for each in op.dims)),
    "transpose": _transpose,
    "flip": _flip,
    "narrow": _narrow,
    "cumsum": _cumsum,
    "sum": lambda op, x: x.sum(over(op.dim, x), op.keepdim),
    "mean": _mean,
    "embedding": lambda op, index, weight: weight[index],
    **normal.RULES,
    **losses.RULES,
}
"""`rule(op, *inputs)` with a `Tensor`, an array of integers or truths, or None for each operand."""
