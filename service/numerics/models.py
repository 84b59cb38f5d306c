"""Presets: models that a request may name, each with an example that can be posted as it is."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Preset:
    """A model by name.

    Attributes
    ----------
    name, description
        For people.
    nodes
        The graph, as it would stand in a request.
    tensors, weights
        An example, as it would stand in a request.
    alike
        Tensors and weights that must have the shape of a node, by its name, where the ops would broadcast them.
    """

    name: str
    description: str
    nodes: tuple[Mapping[str, Any], ...]
    tensors: Mapping[str, Any]
    weights: Mapping[str, Any]
    alike: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def request(self) -> dict[str, Any]:
        """A request that can be posted as it is."""
        return {"model": self.name, "tensors": dict(self.tensors), "weights": dict(self.weights)}


def _node(name: str, op: str, *inputs: str | float, **attributes: Any) -> Mapping[str, Any]:
    return {"name": name, "op": op, "inputs": list(inputs), **attributes}


class _Values:
    """Random examples, the same ones every time, to three decimals so that people can read them."""

    def __init__(self, seed: int) -> None:
        self._generator = np.random.default_rng(seed)

    def normal(self, *shape: int, scale: float = 1.0) -> Any:
        return np.round(self._generator.normal(size=shape) * scale, 3).tolist()

    def weight(self, *shape: int) -> Any:
        """Of a size that keeps activations near 1: the last axes but the first are summed over."""
        return self.normal(*shape, scale=float(np.prod(shape[1:] or (1,))) ** -0.5)

    def unit(self, *shape: int) -> Any:
        return np.round(self._generator.uniform(0.05, 0.95, size=shape), 3).tolist()

    def labels(self, count: int, *shape: int) -> Any:
        return self._generator.integers(0, count, size=shape).tolist()


CONV_TANH_SCALE_SIGMOID = Preset(
    "conv_tanh_scale_sigmoid",
    "The reference example: a 2-D cross-correlation, tanh, one weight per position, sigmoid, half squared error.",
    nodes=(
        _node("C1", "conv2d", "x", "w1"),
        _node("L1", "flatten", "C1"),
        _node("L1A", "tanh", "L1"),
        _node("L2", "mul", "L1A", "w2"),
        _node("L2A", "sigmoid", "L2"),
        _node("loss", "half_squared_error", "L2A", "y", reduction="sum"),
    ),
    tensors={"x": [[1, 2, 3], [4, 5, 6], [7, 8, 9]], "y": [-1, -1, 1, 1]},
    weights={"w1": [[0.1, -0.1], [0.2, 0.001]], "w2": [0.0005, -0.2, 0.2, 0.5]},
    alike={"w2": "L1A"},
)


def _logistic_regression() -> Preset:
    values = _Values(1)
    return Preset(
        "logistic_regression",
        "One linear unit and binary cross-entropy: 11 samples of 5 features.",
        nodes=(
            _node("logit", "linear", "x", "w", "b"),
            _node("loss", "binary_cross_entropy_with_logits", "logit", "y"),
        ),
        tensors={"x": values.normal(11, 5), "y": values.labels(2, 11)},
        weights={"w": values.normal(5), "b": values.normal()},
    )


def _mlp_classifier() -> Preset:
    values = _Values(2)
    return Preset(
        "mlp_classifier",
        "Two linear layers with tanh between them and cross-entropy: 5 samples, 7 features, 11 units, 3 classes.",
        nodes=(
            _node("hidden", "linear", "x", "w1", "b1"),
            _node("active", "tanh", "hidden"),
            _node("logits", "linear", "active", "w2", "b2"),
            _node("loss", "cross_entropy", "logits", "label"),
        ),
        tensors={"x": values.normal(5, 7), "label": values.labels(3, 5)},
        weights={
            "w1": values.weight(11, 7),
            "b1": values.normal(11, scale=0.1),
            "w2": values.weight(3, 11),
            "b2": values.normal(3, scale=0.1),
        },
    )


def _layer_norm_mlp() -> Preset:
    values = _Values(3)
    return Preset(
        "layer_norm_mlp",
        "A linear layer, layer normalisation, SiLU and a linear layer under a mean squared error.",
        nodes=(
            _node("hidden", "linear", "x", "w1"),
            _node("normal", "layer_norm", "hidden", "gain", "shift", normalized_shape=[11]),
            _node("active", "silu", "normal"),
            _node("output", "linear", "active", "w2"),
            _node("loss", "mse_loss", "output", "y"),
        ),
        tensors={"x": values.normal(5, 7), "y": values.normal(5, 3)},
        weights={
            "w1": values.weight(11, 7),
            "gain": values.unit(11),
            "shift": values.normal(11, scale=0.1),
            "w2": values.weight(3, 11),
        },
    )


def _lenet() -> Preset:
    values = _Values(4)
    return Preset(
        "lenet",
        "Two convolutions, each with ReLU and max pooling, and two linear layers: 2 pictures of 13 x 11, 5 classes.",
        nodes=(
            _node("c1", "conv2d", "x", "k1", "a1"),
            _node("r1", "relu", "c1"),
            _node("p1", "max_pool2d", "r1", kernel_size=2),
            _node("c2", "conv2d", "p1", "k2", "a2"),
            _node("r2", "relu", "c2"),
            _node("p2", "max_pool2d", "r2", kernel_size=2),
            _node("flat", "flatten", "p2", start_dim=1),
            _node("hidden", "linear", "flat", "w1", "b1"),
            _node("active", "relu", "hidden"),
            _node("logits", "linear", "active", "w2", "b2"),
            _node("loss", "cross_entropy", "logits", "label"),
        ),
        tensors={"x": values.normal(2, 1, 13, 11), "label": values.labels(5, 2)},
        weights={
            "k1": values.weight(3, 1, 3, 2),
            "a1": values.normal(3, scale=0.1),
            "k2": values.weight(5, 3, 2, 3),
            "a2": values.normal(5, scale=0.1),
            "w1": values.weight(7, 10),
            "b1": values.normal(7, scale=0.1),
            "w2": values.weight(5, 7),
            "b2": values.normal(5, scale=0.1),
        },
    )


def _conv_autoencoder() -> Preset:
    values = _Values(5)
    return Preset(
        "conv_autoencoder",
        "A strided convolution and its transpose, with tanh and sigmoid, under binary cross-entropy.",
        nodes=(
            _node("code", "conv2d", "x", "encoder", "a", stride=2),
            _node("active", "tanh", "code"),
            _node("picture", "conv_transpose2d", "active", "decoder", "b", stride=2),
            _node("probability", "sigmoid", "picture"),
            _node("loss", "binary_cross_entropy", "probability", "x"),
        ),
        tensors={"x": values.unit(2, 1, 7, 11)},
        weights={
            "encoder": values.weight(5, 1, 3, 3),
            "a": values.normal(5, scale=0.1),
            "decoder": values.weight(5, 1, 3, 3),
            "b": values.normal(1, scale=0.1),
        },
    )


def _embedding_bag() -> Preset:
    values = _Values(6)
    return Preset(
        "embedding_bag",
        "The mean of 5 embedded words, many of them repeated, for each of 3 texts, classified into 2.",
        nodes=(
            _node("words", "embedding", "index", "table"),
            _node("bag", "mean", "words", dim=1),
            _node("logits", "linear", "bag", "w"),
            _node("loss", "cross_entropy", "logits", "label"),
        ),
        tensors={"index": values.labels(7, 3, 5), "label": values.labels(2, 3)},
        weights={"table": values.normal(7, 11), "w": values.weight(2, 11)},
    )


def _lstm_nodes(step: int, hidden: str, cell: str) -> tuple[Mapping[str, Any], ...]:
    def name(what: str) -> str:
        return f"{what}{step}"

    def gate(which: int, label: str, activation: str) -> tuple[Mapping[str, Any], ...]:
        return (
            _node(name(f"{label}_part"), "narrow", name("gates"), dim=1, start=3 * which, length=3),
            _node(name(label), activation, name(f"{label}_part")),
        )

    return (
        _node(name("from_x"), "linear", name("x"), "w_input", "bias"),
        _node(name("from_h"), "linear", hidden, "w_hidden"),
        _node(name("gates"), "add", name("from_x"), name("from_h")),
        *gate(0, "input", "sigmoid"),
        *gate(1, "forget", "sigmoid"),
        *gate(2, "candidate", "tanh"),
        *gate(3, "output", "sigmoid"),
        _node(name("kept"), "mul", name("forget"), cell),
        _node(name("new"), "mul", name("input"), name("candidate")),
        _node(name("c"), "add", name("kept"), name("new")),
        _node(name("c_active"), "tanh", name("c")),
        _node(name("h"), "mul", name("output"), name("c_active")),
    )


def _lstm_step() -> Preset:
    values = _Values(7)
    return Preset(
        "lstm_step",
        "Two steps of an LSTM from primitives, with the same weights in both: 2 sequences, 5 features, 3 units.",
        nodes=(
            *_lstm_nodes(1, "h0", "c0"),
            *_lstm_nodes(2, "h1", "c1"),
            _node("loss", "mse_loss", "h2", "y"),
        ),
        tensors={
            "x1": values.normal(2, 5),
            "x2": values.normal(2, 5),
            "h0": values.normal(2, 3, scale=0.5),
            "c0": values.normal(2, 3, scale=0.5),
            "y": values.normal(2, 3),
        },
        weights={
            "w_input": values.weight(12, 5),
            "w_hidden": values.weight(12, 3),
            "bias": values.normal(12, scale=0.1),
        },
    )


def _heads(name: str, source: str, weight: str) -> tuple[Mapping[str, Any], ...]:
    return (
        _node(f"{name}_flat", "linear", source, weight),
        _node(f"{name}_split", "reshape", f"{name}_flat", shape=[2, 5, 2, 3]),
        _node(name, "transpose", f"{name}_split", dim0=1, dim1=2),
    )


def _attention_block() -> Preset:
    values = _Values(8)
    return Preset(
        "attention_block",
        "A transformer block, pre-norm: attention of 2 heads and a GELU layer, each with its residual connection.",
        nodes=(
            _node("normal1", "layer_norm", "x", "gain1", "shift1", normalized_shape=[6]),
            *_heads("query", "normal1", "w_query"),
            *_heads("key", "normal1", "w_key"),
            *_heads("value", "normal1", "w_value"),
            _node("attended", "scaled_dot_product_attention", "query", "key", "value", is_causal=True),
            _node("together", "transpose", "attended", dim0=1, dim1=2),
            _node("merged", "reshape", "together", shape=[2, 5, 6]),
            _node("projected", "linear", "merged", "w_out"),
            _node("residual1", "add", "x", "projected"),
            _node("normal2", "layer_norm", "residual1", "gain2", "shift2", normalized_shape=[6]),
            _node("wide", "linear", "normal2", "w_wide", "b_wide"),
            _node("active", "gelu", "wide"),
            _node("narrow", "linear", "active", "w_narrow", "b_narrow"),
            _node("residual2", "add", "residual1", "narrow"),
            _node("loss", "mse_loss", "residual2", "y"),
        ),
        tensors={"x": values.normal(2, 5, 6), "y": values.normal(2, 5, 6)},
        weights={
            "gain1": values.unit(6),
            "shift1": values.normal(6, scale=0.1),
            **{f"w_{each}": values.weight(6, 6) for each in ("query", "key", "value", "out")},
            "gain2": values.unit(6),
            "shift2": values.normal(6, scale=0.1),
            "w_wide": values.weight(7, 6),
            "b_wide": values.normal(7, scale=0.1),
            "w_narrow": values.weight(6, 7),
            "b_narrow": values.normal(6, scale=0.1),
        },
    )


PRESETS: dict[str, Preset] = {
    preset.name: preset
    for preset in (
        CONV_TANH_SCALE_SIGMOID,
        _logistic_regression(),
        _mlp_classifier(),
        _layer_norm_mlp(),
        _lenet(),
        _conv_autoencoder(),
        _embedding_bag(),
        _lstm_step(),
        _attention_block(),
    )
}
