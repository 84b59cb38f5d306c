"""Backward passes as kernel authors write them, in NumPy alone, each with the bugs that such kernels have.

Nothing here comes from the service: forward passes are written out again. Each kernel takes the gradient `g` of its
output, its inputs by name and the name of a bug, `""` for none, and returns gradients by name.
"""

from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]
Gradients = dict[str, Array]


def sigmoid(x: Array) -> Array:
    return 1 / (1 + np.exp(-x))


def swiglu(g: Array, bug: str, input: Array, up: Array) -> Gradients:
    s = sigmoid(input)
    slope = s * (1 + input * (1 - s))
    if bug == "slope of the sigmoid alone":
        slope = s
    return {"input": g * up * slope, "up": g * input * s}


def rotary(g: Array, bug: str, input: Array, cos: Array, sin: Array) -> Gradients:
    """Pairs are the elements i and i + D/2; cos and sin have one element a pair."""
    half = input.shape[-1] // 2
    first, second = g[..., :half], g[..., half:]
    sine = -sin if bug == "sign of the sine" else sin
    by_input = np.concatenate([first * cos + second * sine, second * cos - first * sine], axis=-1)
    u, v = input[..., :half], input[..., half:]
    return {"input": by_input, "cos": first * u + second * v, "sin": second * u - first * v}


def rotary_pairs(g: Array, bug: str, input: Array, cos: Array, sin: Array) -> Gradients:
    """Pairs are the elements 2i and 2i + 1."""
    first, second = g[..., ::2], g[..., 1::2]
    if bug == "the other layout":
        half = input.shape[-1] // 2
        first, second = g[..., :half], g[..., half:]
    pairs = np.stack([first * cos + second * sin, second * cos - first * sin], axis=-1)
    u, v = input[..., ::2], input[..., 1::2]
    first, second = g[..., ::2], g[..., 1::2]
    return {"input": pairs.reshape(input.shape), "cos": first * u + second * v, "sin": second * u - first * v}


def add_rms_norm(g: Array, bug: str, input: Array, residual: Array, weight: Array) -> Gradients:
    """With a weight offset of 1 and an eps of 1e-6."""
    h = input + residual
    r = 1 / np.sqrt(np.square(h).mean(axis=-1, keepdims=True) + h.dtype.type(1e-6))
    z = h * r
    q = g * (weight if bug == "offset of the weight" else weight + 1)
    by_h = r * (q - (0 if bug == "path of the mean" else z * (q * z).mean(axis=-1, keepdims=True)))
    by_weight = (g * z).reshape(-1, z.shape[-1]).sum(axis=0)
    return {"input": by_h, "residual": 0 * by_h if bug == "residual forgotten" else by_h, "weight": by_weight}


def linear_cross_entropy(
    g: Array, bug: str, input: Array, linear_weight: Array, target: Array, linear_bias: Array
) -> Gradients:
    """The mean with ignore_index -100, a softcap of 3, smoothing of 0.1 and a z-loss of 0.1."""
    cap, smoothing, penalty = 3.0, 0.1, 0.1
    classes = len(linear_weight)
    t = np.tanh((input @ linear_weight.T + linear_bias) / cap)
    a = cap * t
    e = np.exp(a - a.max(axis=-1, keepdims=True))
    total = e.sum(axis=-1, keepdims=True)
    p, logarithm = e / total, np.log(total) + a.max(axis=-1, keepdims=True)
    counted = (target != -100)[:, None]
    hot = (np.arange(classes) == target[:, None]) * (1 - smoothing) + smoothing / classes
    by_a = p - hot
    if bug != "gradient of the z-loss":
        by_a = by_a + 2 * penalty * logarithm * p
    by_a = by_a if bug == "gradient of ignored rows" else by_a * counted
    by_a = g * by_a / (len(target) if bug == "ignored rows counted" else counted.sum())
    by_z = by_a if bug == "slope of the softcap" else by_a * (1 - t * t)
    by_z = by_z.astype(input.dtype)
    return {"input": by_z @ linear_weight, "linear_weight": by_z.T @ input, "linear_bias": by_z.sum(axis=0)}


def attention(
    g: Array, bug: str, query: Array, key: Array, value: Array, alibi_slopes: Array, sinks: Array
) -> Gradients:
    """With groups of heads, the window [2, 0], a softcap of 3, ALiBi and sinks; P is recomputed."""
    cap, left = 3.0, 2
    group = query.shape[1] // key.shape[1]
    k, v = np.repeat(key, group, axis=1), np.repeat(value, group, axis=1)
    queries, keys = query.shape[2], key.shape[2]
    scale = query.dtype.type(query.shape[-1] ** -0.5)
    distance = (np.arange(keys) - (np.arange(queries)[:, None] + keys - queries)).astype(query.dtype)
    t = np.tanh(query @ np.swapaxes(k, -1, -2) * scale / cap)
    s = cap * t - alibi_slopes[:, None, None] * np.abs(distance)
    is_seen = (distance <= 0) & (distance >= -left)
    sink = np.broadcast_to(sinks[:, None, None], (*s.shape[:-1], 1))
    logarithm = np.log(np.where(is_seen, np.exp(s), 0).sum(axis=-1, keepdims=True) + np.exp(sink))
    y = np.where(is_seen, np.exp(s - logarithm), 0) @ v
    if bug == "window one wider":
        is_seen = (distance <= 0) & (distance >= -left - 1)
    elif bug == "window one narrower":
        is_seen = (distance <= 0) & (distance >= -left + 1)
    elif bug == "diagonal forgotten":
        is_seen = (distance < 0) & (distance >= -left)
    p = np.where(is_seen, np.exp(s - logarithm), 0).astype(query.dtype)
    row_mean = (g * y).sum(axis=-1, keepdims=True)
    by_s = (p * (g @ np.swapaxes(v, -1, -2) - row_mean)).astype(query.dtype)
    by_product = by_s if bug == "slope of the softcap" else by_s * (1 - t * t)
    by_key, by_value = scale * np.swapaxes(by_product, -1, -2) @ query, np.swapaxes(p, -1, -2) @ g

    def gather_group(by_head: Array) -> Array:
        grouped = by_head.reshape(len(by_head), -1, group, *by_head.shape[2:])
        return grouped[:, :, 0] if bug == "first head of the group" else grouped.sum(axis=2)

    factor = np.ones_like(distance) if bug == "ALiBi without distances" else np.abs(distance)
    by_sinks = -(np.exp(sink - logarithm) * row_mean).sum(axis=(0, 2, 3))
    return {
        "query": scale * by_product @ k,
        "key": gather_group(by_key),
        "value": gather_group(by_value),
        "alibi_slopes": -(by_s * factor).sum(axis=(0, 2, 3)),
        "sinks": -by_sinks if bug == "sign of the sinks" else by_sinks,
    }


def causal_conv1d(g: Array, bug: str, input: Array, weight: Array, bias: Array) -> Gradients:
    """With SiLU."""
    width, length = weight.shape[1], input.shape[-1]
    padded = np.concatenate([np.zeros((*input.shape[:2], width - 1), input.dtype), input], axis=-1)
    taps = [padded[..., k : k + length] for k in range(width)]
    z = sum(weight[:, k, None] * taps[k] for k in range(width)) + bias[:, None]
    s = sigmoid(z)
    q = g * s * (1 + z * (1 - s))
    if bug == "SiLU forgotten":
        q = g
    by_padded = np.zeros_like(padded)
    for k in range(width):
        by_padded[..., k : k + length] += weight[:, width - 1 - k if bug == "weights not reversed" else k, None] * q
    by_weight = np.stack([(q * tap).sum(axis=(0, 2)) for tap in taps], axis=-1)
    return {"input": by_padded[..., width - 1 :], "weight": by_weight, "bias": q.sum(axis=(0, 2))}


def fake_quantize(g: Array, bug: str, input: Array) -> Gradients:
    """With a scale of 0.5 and the levels -2 to 1; the gradient goes straight through inside the range."""
    level = np.rint(input / 0.5)
    by_input = g * ((level >= -2) & (level <= 1))
    if bug == "passed outside the range":
        by_input = g
    elif bug == "times the scale":
        by_input = by_input * 0.5
    elif bug == "range before rounding":
        by_input = g * ((input / 0.5 >= -2) & (input / 0.5 <= 1))
    return {"input": by_input.astype(input.dtype)}
