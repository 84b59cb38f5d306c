"""Presets of what kernels compute."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from service.numerics.model.preset import ExampleValues, Preset, make_node


def _make_head_nodes(name: str, heads: int) -> tuple[Mapping[str, Any], ...]:
    return (
        make_node(f"{name}_flat", "linear", "normal1", f"w_{name}"),
        make_node(f"{name}_split", "reshape", f"{name}_flat", shape=[1, 3, heads, 2]),
        make_node(f"{name}_heads", "transpose", f"{name}_split", dim0=1, dim1=2),
    )


def _make_llama_block() -> Preset:
    values = ExampleValues(9)
    angles = np.arange(3)[:, None] * 0.7
    return Preset(
        "llama_block",
        "A decoder block: RMSNorm, rotary embedding, attention of 2 query heads to one of key and value, SwiGLU.",
        nodes=(
            make_node("normal1", "rms_norm", "x", "gain1", normalized_shape=[4], eps=1e-5),
            *_make_head_nodes("query", 2),
            *_make_head_nodes("key", 1),
            *_make_head_nodes("value", 1),
            make_node("query", "rotary_embedding", "query_heads", "cos", "sin"),
            make_node("key", "rotary_embedding", "key_heads", "cos", "sin"),
            make_node("attended", "attention", "query", "key", "value_heads", is_causal=True),
            make_node("together", "transpose", "attended", dim0=1, dim1=2),
            make_node("merged", "reshape", "together", shape=[1, 3, 4]),
            make_node("projected", "linear", "merged", "w_out"),
            make_node("residual1", "add", "x", "projected"),
            make_node("normal2", "rms_norm", "residual1", "gain2", normalized_shape=[4], eps=1e-5),
            make_node("gate", "linear", "normal2", "w_gate"),
            make_node("up", "linear", "normal2", "w_up"),
            make_node("active", "swiglu", "gate", "up"),
            make_node("down", "linear", "active", "w_down"),
            make_node("residual2", "add", "residual1", "down"),
            make_node("loss", "mse_loss", "residual2", "y"),
        ),
        tensors={
            "x": values.draw_normal(1, 3, 4),
            "y": values.draw_normal(1, 3, 4),
            "cos": np.round(np.cos(angles), 3).tolist(),
            "sin": np.round(np.sin(angles), 3).tolist(),
        },
        weights={
            "gain1": values.draw_unit_interval(4),
            "w_query": values.draw_weight(4, 4),
            "w_key": values.draw_weight(2, 4),
            "w_value": values.draw_weight(2, 4),
            "w_out": values.draw_weight(4, 4),
            "gain2": values.draw_unit_interval(4),
            "w_gate": values.draw_weight(5, 4),
            "w_up": values.draw_weight(5, 4),
            "w_down": values.draw_weight(4, 5),
        },
    )


def _make_fused_linear_cross_entropy() -> Preset:
    values = ExampleValues(10)
    return Preset(
        "fused_linear_cross_entropy",
        "A language model's head: 5 rows, 6 classes, an ignored label, softcap, smoothing and z-loss.",
        nodes=(
            make_node(
                "loss",
                "linear_cross_entropy",
                "x",
                "w",
                "label",
                "b",
                label_smoothing=0.1,
                softcap=3.0,
                z_loss=0.1,
            ),
        ),
        tensors={"label": [*values.draw_labels(6, 4), -100]},
        weights={
            "x": values.draw_normal(5, 4),
            "w": values.draw_normal(6, 4),
            "b": values.draw_normal(6, scale=0.1),
        },
    )


def _make_sliding_window_attention() -> Preset:
    values = ExampleValues(11)
    return Preset(
        "sliding_window_attention",
        "Attention of 4 query heads, each query to 2 keys, with softcap, ALiBi and sinks; 2 heads share a key.",
        nodes=(
            {
                "name": "attended",
                "op": "attention",
                "inputs": {
                    "query": "query",
                    "key": "key",
                    "value": "value",
                    "alibi_slopes": "slopes",
                    "sinks": "sinks",
                },
                "window": [1, 0],
                "softcap": 3.0,
            },
            make_node("loss", "mse_loss", "attended", "y"),
        ),
        tensors={"slopes": [0.5, 0.25, 0.125, 0.0625], "y": values.draw_normal(1, 4, 4, 2)},
        weights={
            "query": values.draw_normal(1, 4, 4, 2),
            "key": values.draw_normal(1, 2, 4, 2),
            "value": values.draw_normal(1, 2, 4, 2),
            "sinks": values.draw_normal(4),
        },
    )


def _make_gated_conv() -> Preset:
    values = ExampleValues(12)
    return Preset(
        "gated_conv",
        "The gate of a state-space model: a causal convolution of 3 channels with SiLU, times SiLU of a gate.",
        nodes=(
            make_node("value", "linear", "x", "w_value"),
            make_node("channels", "transpose", "value", dim0=1, dim1=2),
            make_node("mixed", "causal_conv1d", "channels", "kernel", "b", activation="silu"),
            make_node("rows", "transpose", "mixed", dim0=1, dim1=2),
            make_node("gate", "linear", "x", "w_gate"),
            make_node("gated", "swiglu", "gate", "rows"),
            make_node("output", "linear", "gated", "w_out"),
            make_node("loss", "mse_loss", "output", "y"),
        ),
        tensors={"x": values.draw_normal(1, 5, 4), "y": values.draw_normal(1, 5, 2)},
        weights={
            "w_value": values.draw_weight(3, 4),
            "kernel": values.draw_weight(3, 4),
            "b": values.draw_normal(3, scale=0.1),
            "w_gate": values.draw_weight(3, 4),
            "w_out": values.draw_weight(2, 3),
        },
    )


def _make_quantized_linear() -> Preset:
    values = ExampleValues(13)
    # Near the levels, so that lower precisions choose the same ones.
    levels = np.array(values.draw_labels(12, 3, 4)) - 6 + 0.2 * np.array(values.draw_unit_interval(3, 4))
    return Preset(
        "quantized_linear",
        "A linear layer with weights on 8 levels, some beyond the range, and a straight-through derivative.",
        nodes=(
            make_node("levels", "fake_quantize", "w", scale=[0.25, 0.375, 0.5], quant_min=-4, quant_max=3),
            make_node("output", "linear", "x", "levels", "b"),
            make_node("loss", "mse_loss", "output", "y"),
        ),
        tensors={"x": values.draw_normal(5, 4), "y": values.draw_normal(5, 3)},
        weights={
            "w": np.round(levels * [[0.25], [0.375], [0.5]], 3).tolist(),
            "b": values.draw_normal(3, scale=0.1),
        },
    )


def _make_expert_nodes(part: str, rows: int, columns: int) -> tuple[Mapping[str, Any], ...]:
    """Return the nodes that pick the matrices of the 2 chosen experts of each of 5 tokens."""
    return (
        make_node(f"{part}_flat", "flatten", f"w_{part}", start_dim=1),
        make_node(f"{part}_rows", "embedding", "top.indices", f"{part}_flat"),
        make_node(f"{part}_chosen", "reshape", f"{part}_rows", shape=[5, 2, rows, columns]),
    )


def _make_moe_block() -> Preset:
    values = ExampleValues(19)
    return Preset(
        "moe_block",
        "A mixture of 3 experts: 5 tokens, each through its top 2, with gates by softmax over these.",
        nodes=(
            make_node("scores", "linear", "x", "w_router"),
            make_node("top", "topk", "scores", k=2),
            make_node("gates", "softmax", "top.values", dim=-1),
            *_make_expert_nodes("up", 4, 4),
            make_node("hidden", "einsum", "x", "up_chosen", equation="nd,nkfd->nkf"),
            make_node("active", "silu", "hidden"),
            *_make_expert_nodes("down", 4, 4),
            make_node("results", "einsum", "active", "down_chosen", equation="nkf,nkdf->nkd"),
            make_node("mixed", "einsum", "gates", "results", equation="nk,nkd->nd"),
            make_node("residual", "add", "x", "mixed"),
            make_node("loss", "mse_loss", "residual", "y"),
        ),
        tensors={"x": values.draw_normal(5, 4), "y": values.draw_normal(5, 4)},
        weights={
            "w_router": values.draw_weight(3, 4),
            "w_up": values.draw_weight(3, 4, 4),
            "w_down": values.draw_weight(3, 4, 4),
        },
    )


KERNEL_PRESETS = (
    _make_llama_block(),
    _make_fused_linear_cross_entropy(),
    _make_sliding_window_attention(),
    _make_gated_conv(),
    _make_quantized_linear(),
    _make_moe_block(),
)
