"""Presets: named models, each with an example request that can be posted."""

from collections.abc import Mapping
from typing import Any

from service.numerics.model.kernel_presets import KERNEL_PRESETS
from service.numerics.model.preset import ExampleValues, Preset, make_node

CONV_TANH_SCALE_SIGMOID = Preset(
    "conv_tanh_scale_sigmoid",
    "The reference example: a 2-D cross-correlation, tanh, one weight per position, sigmoid, half squared error.",
    nodes=(
        make_node("C1", "conv2d", "x", "w1"),
        make_node("L1", "flatten", "C1"),
        make_node("L1A", "tanh", "L1"),
        make_node("L2", "mul", "L1A", "w2"),
        make_node("L2A", "sigmoid", "L2"),
        make_node("loss", "half_squared_error", "L2A", "y", reduction="sum"),
    ),
    tensors={"x": [[1, 2, 3], [4, 5, 6], [7, 8, 9]], "y": [-1, -1, 1, 1]},
    weights={"w1": [[0.1, -0.1], [0.2, 0.001]], "w2": [0.0005, -0.2, 0.2, 0.5]},
    shaped_like={"w2": "L1A"},
)


def _make_logistic_regression() -> Preset:
    values = ExampleValues(1)
    return Preset(
        "logistic_regression",
        "One linear unit and binary cross-entropy: 11 samples of 5 features.",
        nodes=(
            make_node("logit", "linear", "x", "w", "b"),
            make_node("loss", "binary_cross_entropy_with_logits", "logit", "y"),
        ),
        tensors={"x": values.draw_normal(11, 5), "y": values.draw_labels(2, 11)},
        weights={"w": values.draw_normal(5), "b": values.draw_normal()},
    )


def _make_mlp_classifier() -> Preset:
    values = ExampleValues(2)
    return Preset(
        "mlp_classifier",
        "Two linear layers with tanh between them and cross-entropy: 5 samples, 7 features, 11 units, 3 classes.",
        nodes=(
            make_node("hidden", "linear", "x", "w1", "b1"),
            make_node("active", "tanh", "hidden"),
            make_node("logits", "linear", "active", "w2", "b2"),
            make_node("loss", "cross_entropy", "logits", "label"),
        ),
        tensors={"x": values.draw_normal(5, 7), "label": values.draw_labels(3, 5)},
        weights={
            "w1": values.draw_weight(11, 7),
            "b1": values.draw_normal(11, scale=0.1),
            "w2": values.draw_weight(3, 11),
            "b2": values.draw_normal(3, scale=0.1),
        },
    )


def _make_layer_norm_mlp() -> Preset:
    values = ExampleValues(3)
    return Preset(
        "layer_norm_mlp",
        "A linear layer, layer normalisation, SiLU and a linear layer under a mean squared error.",
        nodes=(
            make_node("hidden", "linear", "x", "w1"),
            make_node("normal", "layer_norm", "hidden", "gain", "shift", normalized_shape=[11]),
            make_node("active", "silu", "normal"),
            make_node("output", "linear", "active", "w2"),
            make_node("loss", "mse_loss", "output", "y"),
        ),
        tensors={"x": values.draw_normal(5, 7), "y": values.draw_normal(5, 3)},
        weights={
            "w1": values.draw_weight(11, 7),
            "gain": values.draw_unit_interval(11),
            "shift": values.draw_normal(11, scale=0.1),
            "w2": values.draw_weight(3, 11),
        },
    )


def _make_lenet() -> Preset:
    values = ExampleValues(4)
    return Preset(
        "lenet",
        "Two convolutions, each with ReLU and max pooling, and two linear layers: 2 pictures of 13 x 11, 5 classes.",
        nodes=(
            make_node("c1", "conv2d", "x", "k1", "a1"),
            make_node("r1", "relu", "c1"),
            make_node("p1", "max_pool2d", "r1", kernel_size=2),
            make_node("c2", "conv2d", "p1", "k2", "a2"),
            make_node("r2", "relu", "c2"),
            make_node("p2", "max_pool2d", "r2", kernel_size=2),
            make_node("flat", "flatten", "p2", start_dim=1),
            make_node("hidden", "linear", "flat", "w1", "b1"),
            make_node("active", "relu", "hidden"),
            make_node("logits", "linear", "active", "w2", "b2"),
            make_node("loss", "cross_entropy", "logits", "label"),
        ),
        tensors={"x": values.draw_normal(2, 1, 13, 11), "label": values.draw_labels(5, 2)},
        weights={
            "k1": values.draw_weight(3, 1, 3, 2),
            "a1": values.draw_normal(3, scale=0.1),
            "k2": values.draw_weight(5, 3, 2, 3),
            "a2": values.draw_normal(5, scale=0.1),
            "w1": values.draw_weight(7, 10),
            "b1": values.draw_normal(7, scale=0.1),
            "w2": values.draw_weight(5, 7),
            "b2": values.draw_normal(5, scale=0.1),
        },
    )


def _make_conv_autoencoder() -> Preset:
    values = ExampleValues(5)
    return Preset(
        "conv_autoencoder",
        "A strided convolution and its transpose, with tanh and sigmoid, under binary cross-entropy.",
        nodes=(
            make_node("code", "conv2d", "x", "encoder", "a", stride=2),
            make_node("active", "tanh", "code"),
            make_node("picture", "conv_transpose2d", "active", "decoder", "b", stride=2),
            make_node("probability", "sigmoid", "picture"),
            make_node("loss", "binary_cross_entropy", "probability", "x"),
        ),
        tensors={"x": values.draw_unit_interval(2, 1, 7, 11)},
        weights={
            "encoder": values.draw_weight(5, 1, 3, 3),
            "a": values.draw_normal(5, scale=0.1),
            "decoder": values.draw_weight(5, 1, 3, 3),
            "b": values.draw_normal(1, scale=0.1),
        },
    )


def _make_embedding_bag() -> Preset:
    values = ExampleValues(6)
    return Preset(
        "embedding_bag",
        "The mean of 5 embedded words, many of them repeated, for each of 3 texts, classified into 2.",
        nodes=(
            make_node("words", "embedding", "index", "table"),
            make_node("bag", "mean", "words", dim=1),
            make_node("logits", "linear", "bag", "w"),
            make_node("loss", "cross_entropy", "logits", "label"),
        ),
        tensors={"index": values.draw_labels(7, 3, 5), "label": values.draw_labels(2, 3)},
        weights={"table": values.draw_normal(7, 11), "w": values.draw_weight(2, 11)},
    )


def _make_lstm_nodes(step: int, hidden: str, cell: str) -> tuple[Mapping[str, Any], ...]:
    def name_node(suffix: str) -> str:
        return f"{suffix}{step}"

    def make_gate(number: int, label: str, activation: str) -> tuple[Mapping[str, Any], ...]:
        return (
            make_node(name_node(f"{label}_part"), "narrow", name_node("gates"), dim=1, start=3 * number, length=3),
            make_node(name_node(label), activation, name_node(f"{label}_part")),
        )

    return (
        make_node(name_node("from_x"), "linear", name_node("x"), "w_input", "bias"),
        make_node(name_node("from_h"), "linear", hidden, "w_hidden"),
        make_node(name_node("gates"), "add", name_node("from_x"), name_node("from_h")),
        *make_gate(0, "input", "sigmoid"),
        *make_gate(1, "forget", "sigmoid"),
        *make_gate(2, "candidate", "tanh"),
        *make_gate(3, "output", "sigmoid"),
        make_node(name_node("kept"), "mul", name_node("forget"), cell),
        make_node(name_node("new"), "mul", name_node("input"), name_node("candidate")),
        make_node(name_node("c"), "add", name_node("kept"), name_node("new")),
        make_node(name_node("c_active"), "tanh", name_node("c")),
        make_node(name_node("h"), "mul", name_node("output"), name_node("c_active")),
    )


def _make_lstm_step() -> Preset:
    values = ExampleValues(7)
    return Preset(
        "lstm_step",
        "Two steps of an LSTM from primitives, with the same weights in both: 2 sequences, 5 features, 3 units.",
        nodes=(
            *_make_lstm_nodes(1, "h0", "c0"),
            *_make_lstm_nodes(2, "h1", "c1"),
            make_node("loss", "mse_loss", "h2", "y"),
        ),
        tensors={
            "x1": values.draw_normal(2, 5),
            "x2": values.draw_normal(2, 5),
            "h0": values.draw_normal(2, 3, scale=0.5),
            "c0": values.draw_normal(2, 3, scale=0.5),
            "y": values.draw_normal(2, 3),
        },
        weights={
            "w_input": values.draw_weight(12, 5),
            "w_hidden": values.draw_weight(12, 3),
            "bias": values.draw_normal(12, scale=0.1),
        },
    )


def _make_head_nodes(name: str, source: str, weight: str) -> tuple[Mapping[str, Any], ...]:
    return (
        make_node(f"{name}_flat", "linear", source, weight),
        make_node(f"{name}_split", "reshape", f"{name}_flat", shape=[2, 5, 2, 3]),
        make_node(name, "transpose", f"{name}_split", dim0=1, dim1=2),
    )


def _make_attention_block() -> Preset:
    values = ExampleValues(8)
    return Preset(
        "attention_block",
        "A transformer block, pre-norm: attention of 2 heads and a GELU layer, each with its residual connection.",
        nodes=(
            make_node("normal1", "layer_norm", "x", "gain1", "shift1", normalized_shape=[6]),
            *_make_head_nodes("query", "normal1", "w_query"),
            *_make_head_nodes("key", "normal1", "w_key"),
            *_make_head_nodes("value", "normal1", "w_value"),
            make_node("attended", "scaled_dot_product_attention", "query", "key", "value", is_causal=True),
            make_node("together", "transpose", "attended", dim0=1, dim1=2),
            make_node("merged", "reshape", "together", shape=[2, 5, 6]),
            make_node("projected", "linear", "merged", "w_out"),
            make_node("residual1", "add", "x", "projected"),
            make_node("normal2", "layer_norm", "residual1", "gain2", "shift2", normalized_shape=[6]),
            make_node("wide", "linear", "normal2", "w_wide", "b_wide"),
            make_node("active", "gelu", "wide"),
            make_node("narrow", "linear", "active", "w_narrow", "b_narrow"),
            make_node("residual2", "add", "residual1", "narrow"),
            make_node("loss", "mse_loss", "residual2", "y"),
        ),
        tensors={"x": values.draw_normal(2, 5, 6), "y": values.draw_normal(2, 5, 6)},
        weights={
            "gain1": values.draw_unit_interval(6),
            "shift1": values.draw_normal(6, scale=0.1),
            **{f"w_{part}": values.draw_weight(6, 6) for part in ("query", "key", "value", "out")},
            "gain2": values.draw_unit_interval(6),
            "shift2": values.draw_normal(6, scale=0.1),
            "w_wide": values.draw_weight(7, 6),
            "b_wide": values.draw_normal(7, scale=0.1),
            "w_narrow": values.draw_weight(6, 7),
            "b_narrow": values.draw_normal(6, scale=0.1),
        },
    )


PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        CONV_TANH_SCALE_SIGMOID,
        _make_logistic_regression(),
        _make_mlp_classifier(),
        _make_layer_norm_mlp(),
        _make_lenet(),
        _make_conv_autoencoder(),
        _make_embedding_bag(),
        _make_lstm_step(),
        _make_attention_block(),
        *KERNEL_PRESETS,
    )
}
