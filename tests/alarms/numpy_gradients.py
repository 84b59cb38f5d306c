"""The second implementation: the gradients of the three models on paper, in NumPy, each sum in an order of its own."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from service.numerics.core.batching import Array
from tests.alarms.arithmetic import Arithmetic

Leaves = Mapping[str, Array]


def differentiate_reference(leaves: Leaves, a: Arithmetic) -> dict[str, Array]:
    """With patches P, (positions, kernel): z = P w1, s = sigmoid(tanh(z) w2), loss = sum (s - y)^2 / 2."""
    x, y, w1, w2 = (leaves[name] for name in ("x", "y", "w1", "w2"))
    patches = np.lib.stride_tricks.sliding_window_view(x, w1.shape).reshape(-1, w1.size)
    t = np.tanh(a.product(patches, w1.reshape(-1, 1))[:, 0])
    s = _sigmoid(t * w2)
    by_product = (s - y) * s * (1 - s)
    by_z = by_product * w2 * (1 - t * t)
    return {
        "x": _backpropagate_patches(by_z, w1, x.shape, a),
        "w1": a.product(by_z[None], patches).reshape(w1.shape),
        "w2": by_product * t,
    }


def _sigmoid(z: Array) -> Array:
    e = np.exp(-np.abs(z))
    return np.where(z < 0, e, 1) / (1 + e)


def _backpropagate_patches(by_z: Array, w1: Array, shape: tuple[int, ...], a: Arithmetic) -> Array:
    """dL/dx: what every offset in the kernel hands back to where it read, summed over the offsets."""
    rows, columns = (size - kernel + 1 for size, kernel in zip(shape, w1.shape, strict=True))
    image, kernel = a.round_operand(by_z).reshape(rows, columns), a.round_operand(w1)
    shares = np.zeros((*w1.shape, *shape), a.dtype)
    for i, j in np.ndindex(*w1.shape):
        shares[i, j, i : i + rows, j : j + columns] = image * kernel[i, j]
    return a.total(shares.reshape(-1, *shape))


def differentiate_mlp(leaves: Leaves, a: Arithmetic) -> dict[str, Array]:
    """With p = softmax(scores): dL/dscores = (p - one_hot) / samples."""
    x, y, w, w_head = (leaves[name] for name in ("x", "y", "w", "w_head"))
    t = np.tanh(a.product(x, w.T) + leaves["b"])
    p = _softmax(a.product(t, w_head.T) + leaves["b_head"], a)
    by_scores = (p - np.eye(len(w_head), dtype=a.dtype)[y]) / a.dtype(len(x))
    by_hidden = a.product(by_scores, w_head) * (1 - t * t)
    return {
        "w_head": a.product(by_scores.T, t),
        "b_head": a.total(by_scores),
        "w": a.product(by_hidden.T, x),
        "b": a.total(by_hidden),
        "x": a.product(by_hidden, w),
    }


def _softmax(scores: Array, a: Arithmetic) -> Array:
    e = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return e / a.total(e, -1)[..., None]


@dataclass(frozen=True)
class _AttentionForward:
    """What the way back of the attention needs of the way there."""

    standard: Array
    deviation: Array
    normal: Array
    query: Array
    key: Array
    value: Array
    p: Array
    attended: Array
    features: Array
    output: Array


def _run_attention_forward(leaves: Leaves, a: Arithmetic) -> _AttentionForward:
    embedded = a.product(leaves["x"], leaves["w_embed"].T)
    standard, deviation = _standardize_rows(embedded, a)
    normal = standard * leaves["gain"] + leaves["shift"]
    query, key, value = (a.product(normal, leaves[f"w_{name}"].T) for name in ("query", "key", "value"))
    p = _softmax(a.product(query, key.T) * _compute_attention_scale(key, a), a)
    attended = a.product(p, value)
    features = embedded + a.product(attended, leaves["w_out"].T)
    output = a.product(features, leaves["w_head"].T) + leaves["b_head"]
    return _AttentionForward(standard, deviation, normal, query, key, value, p, attended, features, output)


def _compute_attention_scale(key: Array, a: Arithmetic) -> Array:
    return a.dtype(1 / np.sqrt(key.shape[-1]))


def differentiate_attention(leaves: Leaves, a: Arithmetic) -> dict[str, Array]:
    """Back through the head and the residual connection, the softmax, the projections and the layer norm."""
    f = _run_attention_forward(leaves, a)
    by_output = a.dtype(2) * (f.output - leaves["y"]) / a.dtype(f.output.size)
    by_features = a.product(by_output, leaves["w_head"])
    by = _differentiate_projections(f, a.product(by_features, leaves["w_out"]), a)
    by_normal = a.total([a.product(gradient, leaves[f"w_{name}"]) for name, gradient in by.items()])
    by_embedded = by_features + _backpropagate_standardization(f, by_normal * leaves["gain"], a)
    return {
        **{f"w_{name}": a.product(gradient.T, f.normal) for name, gradient in by.items()},
        "w_head": a.product(by_output.T, f.features),
        "b_head": a.total(by_output),
        "w_out": a.product(by_features.T, f.attended),
        "gain": a.total(by_normal * f.standard),
        "shift": a.total(by_normal),
        "w_embed": a.product(by_embedded.T, leaves["x"]),
        "x": a.product(by_embedded, leaves["w_embed"]),
    }


def _differentiate_projections(f: _AttentionForward, by_attended: Array, a: Arithmetic) -> dict[str, Array]:
    """dL/dscores = p (dL/dp - sum p dL/dp), row by row."""
    by_p = a.product(by_attended, f.value.T)
    by_scores = f.p * (by_p - a.total(by_p * f.p, -1)[..., None]) * _compute_attention_scale(f.key, a)
    return {
        "query": a.product(by_scores, f.key),
        "key": a.product(by_scores.T, f.query),
        "value": a.product(f.p.T, by_attended),
    }


def _backpropagate_standardization(f: _AttentionForward, by_standard: Array, a: Arithmetic) -> Array:
    """Back through what standardises rows: less the mean, and less the part along the rows themselves."""
    return (by_standard - a.mean(by_standard) - f.standard * a.mean(by_standard * f.standard)) / f.deviation


def _standardize_rows(rows: Array, a: Arithmetic) -> tuple[Array, Array]:
    """Rows less their mean over their standard deviation, and that, with PyTorch's epsilon under the root."""
    centred = rows - a.mean(rows)
    deviation = np.sqrt(a.mean(centred * centred) + a.dtype(1e-5))
    return centred / deviation, deviation


GRADIENT_FUNCTIONS: Mapping[str, Callable[[Leaves, Arithmetic], dict[str, Array]]] = {
    "reference": differentiate_reference,
    "mlp": differentiate_mlp,
    "attention": differentiate_attention,
}


def compute_gradients(model: str, leaves: Leaves, arithmetic: Arithmetic) -> dict[str, Array]:
    """Gradients with respect to all floats but the target, widened to float64.

    Raises
    ------
    FloatingPointError
        Where something on the way is beyond the range of the dtype.
    """
    given = {name: leaf if leaf.dtype.kind == "i" else leaf.astype(arithmetic.dtype) for name, leaf in leaves.items()}
    with np.errstate(all="ignore", over="raise"):
        gradients = GRADIENT_FUNCTIONS[model](given, arithmetic)
    return {name: array.astype(np.float64) for name, array in gradients.items()}
