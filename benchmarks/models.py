"""The three models of the false alarms, written once for everything that looks like NumPy."""

from collections.abc import Callable, Mapping
from typing import Any


def compute_reference_loss(np: Any, leaves: Mapping[str, Any]) -> Any:
    x, w1 = leaves["x"], leaves["w1"]
    rows, columns = (size - kernel + 1 for size, kernel in zip(x.shape, w1.shape, strict=True))
    offsets = [(i, j) for i in range(w1.shape[0]) for j in range(w1.shape[1])]
    z = sum(w1[i, j] * x[i : i + rows, j : j + columns] for i, j in offsets)
    # The logistic function so that nothing in it overflows.
    s = 0.5 * (1 + np.tanh(0.5 * np.tanh(z).ravel() * leaves["w2"]))
    return 0.5 * np.sum((s - leaves["y"]) ** 2)


def compute_mlp_loss(np: Any, leaves: Mapping[str, Any]) -> Any:
    hidden = np.tanh(np.dot(leaves["x"], leaves["w"].T) + leaves["b"])
    scores = np.dot(hidden, leaves["w_head"].T) + leaves["b_head"]
    scores = scores - np.max(scores, axis=1, keepdims=True)
    chosen = scores[np.arange(len(leaves["y"])), leaves["y"]]
    return np.mean(np.log(np.sum(np.exp(scores), axis=1)) - chosen)


def compute_attention_loss(np: Any, leaves: Mapping[str, Any]) -> Any:
    embedded = np.dot(leaves["x"], leaves["w_embed"].T)
    centred = embedded - np.mean(embedded, axis=1, keepdims=True)
    deviation = np.sqrt(np.mean(centred**2, axis=1, keepdims=True) + 1e-5)
    normal = centred / deviation * leaves["gain"] + leaves["shift"]
    query, key, value = (np.dot(normal, leaves[f"w_{name}"].T) for name in ("query", "key", "value"))
    scores = np.dot(query, key.T) * key.shape[1] ** -0.5
    e = np.exp(scores - np.max(scores, axis=1, keepdims=True))
    attended = np.dot(e / np.sum(e, axis=1, keepdims=True), value)
    features = embedded + np.dot(attended, leaves["w_out"].T)
    output = np.dot(features, leaves["w_head"].T) + leaves["b_head"]
    return np.mean((output - leaves["y"]) ** 2)


LOSSES: Mapping[str, Callable[[Any, Mapping[str, Any]], Any]] = {
    "reference": compute_reference_loss,
    "mlp": compute_mlp_loss,
    "attention": compute_attention_loss,
}
