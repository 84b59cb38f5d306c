"""Attention of language models: grouped heads, a window, linear biases and sinks."""

import math
from types import MappingProxyType
from typing import Annotated, Any

import numpy as np
from annotated_types import Gt

from service.numerics.core.batching import Array, Shape
from service.numerics.ops.axis_numbers import Positive
from service.numerics.ops.capped_scores import Window
from service.numerics.ops.composite import CompositeOp, Expansion
from service.numerics.ops.op import (
    DependencyLabels,
    Gradients,
    Op,
    OpExample,
    ShapeError,
    declare_bug,
    register_op,
)
from service.numerics.ops.rounding_errors import Rounding
from service.numerics.ops.windowed_attention import WindowedAttention


def compute_distances(queries: int, keys: int) -> Array:
    """Return the distance of each query from each key, (queries, keys), aligned at the last query and key."""
    return np.abs(np.arange(keys) - (np.arange(queries)[:, None] + keys - queries))


@register_op("alibi_bias")
class AlibiBias(Op):
    """Linear biases of attention's scores: y_ij = -m d_ij for each slope m, d_ij = abs(i + S - L - j).

    i counts the L = `queries`, and j the S = `keys`; the last of both have the same place. Slopes (...) give an output
    (..., L, S). dL/dm = -sum_ij g_ij d_ij.
    """

    queries: Positive
    keys: Positive

    inputs = ("slopes",)
    numpy_calls = 2
    supports_complex_step = True
    linear_in = MappingProxyType({"slopes": ()})
    examples = (OpExample(((2,),), {"queries": 2, "keys": 3}), OpExample(((),), {"queries": 3, "keys": 2}))

    def infer_output_shape(self, slopes: Shape) -> Shape:
        if len(slopes) > 2:
            raise ShapeError("slopes (H,) or (B, H)")
        return (*slopes, self.queries, self.keys)

    def forward(self, slopes: Array) -> Array:
        return slopes[..., None, None] * -compute_distances(self.queries, self.keys).astype(np.real(slopes).dtype)

    def propagate_dependencies(self, values: DependencyLabels, *inputs: Any) -> Array:
        (labels,) = values
        assert labels is not None
        return np.broadcast_to(labels[..., None, None], (*labels.shape, self.queries, self.keys))

    def backward(self, gradient: Array, output: Array, slopes: Array) -> Gradients:
        distances = compute_distances(self.queries, self.keys).astype(gradient.dtype)
        return (-(gradient * distances).sum(axis=(-2, -1)),)

    def estimate_forward_rounding(self, output: Array, slopes: Array) -> Rounding:
        return Rounding(np.abs(output), 1)

    def estimate_backward_rounding(self, gradient: Array, output: Array, *inputs: Any) -> tuple[Rounding | None, ...]:
        (magnitude,) = self.backward(np.abs(gradient), output, inputs[0])
        assert magnitude is not None
        return (Rounding(np.abs(magnitude), self.queries * self.keys),)

    @declare_bug("the scores' gradients were summed without the distances")
    def distances_forgotten(self, gradient: Array, output: Array, slopes: Array) -> Gradients:
        return (-gradient.sum(axis=(-2, -1)),)

    @declare_bug("the sign of the distances was left out")
    def sign_forgotten(self, gradient: Array, output: Array, slopes: Array) -> Gradients:
        return ((gradient * compute_distances(self.queries, self.keys)).sum(axis=(-2, -1)).astype(gradient.dtype),)

    @declare_bug("the distances were one too large")
    def distances_off_by_one(self, gradient: Array, output: Array, slopes: Array) -> Gradients:
        return (
            -(gradient * (compute_distances(self.queries, self.keys) + 1)).sum(axis=(-2, -1)).astype(gradient.dtype),
        )

    def torch_forward(self, torch: Any, slopes: Any) -> Any:
        rows = torch.arange(self.queries).unsqueeze(1) + self.keys - self.queries
        distances = (torch.arange(self.keys) - rows).abs()
        return -slopes.unsqueeze(-1).unsqueeze(-1) * distances.to(slopes.dtype)


@register_op("attention")
class Attention(CompositeOp):
    """Attention with grouped heads: `windowed_attention` of repeated keys and values, with the bias of `alibi_slopes`.

    q is (B, H, L, E), k (B, K, S, E), v (B, K, S, V) with H a multiple of K: each head of k and v serves H / K
    heads of q in turn, and its gradient is the sum over them. Slopes m, (H,) or (B, H), add -m abs(i + S - L - j).
    `window` = [left, right] and `is_causal`, which is a right end of 0, count from the last query and key, as in
    flash-attention; -1 is no limit. `softcap`, the `attn_mask` and `sinks`, (H,), are those of `windowed_attention`:
        y = P v, P = softmax over keys and sink of c tanh(s q k^T / c) + M - m d
        dL/dv = sum over the group P^T g        dL/dm = -sum_ij d_ij dL/dS_ij,  dL/dS = P * (g v^T - D)
        dL/dk = sum over the group s T^T q,  dL/dq = s T k,  T = dL/dS * (1 - tanh^2)        dL/dz = -sum_i Q_i D_i
    """

    is_causal: bool = False
    window: Window | None = None
    softcap: Annotated[float, Gt(0)] | None = None
    scale: float | None = None

    inputs = ("query", "key", "value", "attn_mask?:bool|float", "alibi_slopes?", "sinks?")
    inner_casts = WindowedAttention.inner_casts
    positional = ("query", "key", "value", "attn_mask")
    examples = (
        OpExample(
            ((1, 4, 2, 2), (1, 2, 3, 2), (1, 2, 3, 2), None, (4,), (4,)),
            {"is_causal": True, "window": [1, -1], "softcap": 3.0},
        ),
        OpExample(((2, 2, 2, 2), (2, 1, 3, 2), (2, 1, 3, 1), (2, 1, 1, 3), None, (2,)), bool_slots=("attn_mask",)),
        OpExample(((1, 2, 3, 2), (1, 2, 2, 2), (1, 2, 2, 2), None, (1, 2), None), {"is_causal": True, "scale": 0.3}),
    )

    def expand(self, step: Expansion, query: str, key: str, value: str, *others: str | None) -> str:
        mask, slopes, sinks = others
        shapes = [step.get_shape(operand) for operand in (query, key, value)]
        groups = self._check_heads(*shapes)
        heads = shapes[0][:2]
        if groups > 1:
            key, value = (step("repeat_interleave", operand, repeats=groups, dim=1) for operand in (key, value))
        if slopes is not None and step.get_shape(slopes) not in (heads, heads[1:]):
            raise ShapeError(f"alibi_slopes of shape {list(heads[1:])} or {list(heads)}, one for each head")
        if sinks is not None and step.get_shape(sinks) != heads[1:]:
            raise ShapeError(f"sinks of shape {list(heads[1:])}, one for each head")
        bias = None
        if slopes is not None:
            bias = step("alibi_bias", slopes, queries=shapes[0][2], keys=shapes[1][2])
        attributes = {"window": self._effective_window, "softcap": self.softcap, "scale": self.scale}
        return step("windowed_attention", query, key, value, mask, bias, sinks, **attributes)

    @property
    def _effective_window(self) -> list[int] | None:
        return [-1 if self.window is None else self.window[0], 0] if self.is_causal else self.window

    @staticmethod
    def _check_heads(query: Shape, key: Shape, value: Shape) -> int:
        """Return the number of query heads that share a head of key and value."""
        if not len(query) == len(key) == len(value) == 4:
            raise ShapeError("query (B, H, L, E), key (B, K, S, E) and value (B, K, S, V)")
        if not query[0] == key[0] == value[0] or key[1] != value[1]:
            raise ShapeError("query, key and value of the same batch, key and value of the same heads")
        if not key[1]:
            raise ShapeError("key and value with one head at least")
        if query[1] % key[1]:
            raise ShapeError(f"a number of query heads that is a multiple of the {key[1]} of key and value")
        return query[1] // key[1]

    def torch_forward(self, torch: Any, *inputs: Any) -> Any:
        query, key, value, mask, slopes, sinks = inputs
        groups, queries, keys = query.shape[1] // key.shape[1], query.shape[2], key.shape[2]
        key, value = (torch.repeat_interleave(operand, groups, 1) for operand in (key, value))
        bias = None if slopes is None else AlibiBias(queries=queries, keys=keys).torch_forward(torch, slopes)
        scale = 1 / math.sqrt(max(1, query.shape[-1])) if self.scale is None else self.scale
        core = WindowedAttention(window=self._effective_window, softcap=self.softcap, scale=scale)
        return core.torch_forward(torch, query, key, value, mask, bias, sinks)
