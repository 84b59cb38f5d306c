"""Losses of the usual kinds, with backward passes that run in float32 as well as in float64: with cancellation."""

from collections.abc import Mapping
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


def compute_softmax(scores: Array) -> Array:
    e = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def round_to_float32(array: Array) -> Array:
    """Numbers of float32, in float64."""
    return np.asarray(array, np.float64).astype(np.float32).astype(np.float64)


class AttentionLoss:
    """A sum with weights over softmax(q k^T / sqrt(d)) v, inputs of order 0.3 to 10."""

    def __init__(self, generator: np.random.Generator) -> None:
        n, m, d = generator.integers(2, 6, 3)
        size = 10 ** generator.uniform(-0.5, 1)
        self.point = {
            "q": round_to_float32(generator.normal(size=(n, d)) * size),
            "k": round_to_float32(generator.normal(size=(m, d)) * size ** generator.integers(0, 2)),
            "v": round_to_float32(generator.normal(size=(m, d))),
        }
        self.w = round_to_float32(generator.normal(size=(n, d)))

    def loss(self, point: Mapping[str, Array], dtype: type) -> Array:
        q, k, v = (point[name].astype(dtype) for name in "qkv")
        weights = compute_softmax(q @ np.swapaxes(k, -1, -2) * dtype(1 / np.sqrt(q.shape[-1])))
        return ((weights @ v) * self.w.astype(dtype)).sum(axis=(-1, -2), dtype=dtype)

    def gradient(self, dtype: type) -> dict[str, Array]:
        q, k, v, w = (array.astype(dtype) for array in (*self.point.values(), self.w))
        scale = dtype(1 / np.sqrt(q.shape[-1]))
        a, da = compute_softmax(q @ k.T * scale), w @ v.T
        ds = a * (da - (da * a).sum(axis=-1, keepdims=True))
        return {"q": ds @ k * scale, "k": ds.T @ q * scale, "v": a.T @ w}


class PerceptronLoss:
    """Two layers, tanh between, and the mean of squares."""

    def __init__(self, generator: np.random.Generator) -> None:
        b, d, h = generator.integers(2, 7, 3)
        self.x, self.y = (
            round_to_float32(generator.normal(size=(b, d))),
            round_to_float32(generator.normal(size=(b, 1))),
        )
        self.point = {
            "w1": round_to_float32(generator.normal(size=(d, h)) / np.sqrt(d)),
            "w2": round_to_float32(generator.normal(size=(h, 1)) / np.sqrt(h)),
        }

    def loss(self, point: Mapping[str, Array], dtype: type) -> Array:
        w1, w2, x, y = (array.astype(dtype) for array in (point["w1"], point["w2"], self.x, self.y))
        # Some BLAS kernels flag padding that they read and drop: all operands here are finite.
        with np.errstate(invalid="ignore"):
            losses: Array = np.square(np.tanh(x @ w1) @ w2 - y).mean(axis=(-1, -2), dtype=dtype)
        assert np.isfinite(losses).all()
        return losses

    def gradient(self, dtype: type) -> dict[str, Array]:
        w1, w2, x, y = (array.astype(dtype) for array in (*self.point.values(), self.x, self.y))
        h = np.tanh(x @ w1)
        d = 2 * (h @ w2 - y) / dtype(y.size)
        return {"w1": x.T @ ((d @ w2.T) * (1 - h * h)), "w2": h.T @ d}


class CrossEntropyLoss:
    """Of scores of order 0.1 to 10."""

    def __init__(self, generator: np.random.Generator) -> None:
        b, c = generator.integers(2, 7, 2)
        self.point = {"z": round_to_float32(generator.normal(size=(b, c)) * 10 ** generator.uniform(-1, 1))}
        self.rows, self.labels = np.arange(b), generator.integers(0, c, b)

    def loss(self, point: Mapping[str, Array], dtype: type) -> Array:
        z = point["z"].astype(dtype)
        top = z.max(axis=-1, keepdims=True)
        logs = np.log(np.exp(z - top).sum(axis=-1)) + top[..., 0]
        return (logs - z[..., self.rows, self.labels]).mean(axis=-1, dtype=dtype)

    def gradient(self, dtype: type) -> dict[str, Array]:
        gradient = compute_softmax(self.point["z"].astype(dtype))
        gradient[self.rows, self.labels] -= 1
        return {"z": gradient / dtype(len(self.rows))}


class LeastSquaresLoss:
    """Near its solution, where large terms cancel in every element."""

    def __init__(self, generator: np.random.Generator) -> None:
        n, d = generator.integers(5, 20), generator.integers(2, 5)
        self.a = round_to_float32(generator.normal(size=(n, d)))
        away = 10 ** generator.uniform(-3, 0) * generator.normal(size=n)
        self.y = round_to_float32(self.a @ generator.normal(size=d) + away)
        solution = np.linalg.lstsq(self.a, self.y, rcond=None)[0]
        self.point = {
            "w": round_to_float32(solution * (1 + 10 ** generator.uniform(-7, -2) * generator.normal(size=d)))
        }

    def loss(self, point: Mapping[str, Array], dtype: type) -> Array:
        residuals = np.einsum("nd,...d->...n", self.a.astype(dtype), point["w"].astype(dtype)) - self.y.astype(dtype)
        return np.square(residuals).sum(axis=-1, dtype=dtype) / dtype(2)

    def gradient(self, dtype: type) -> dict[str, Array]:
        a, y, w = (array.astype(dtype) for array in (self.a, self.y, self.point["w"]))
        return {"w": a.T @ (a @ w - y)}


class LayerNormLoss:
    """A sum with weights over normalised rows times gamma, of rows with a mean."""

    def __init__(self, generator: np.random.Generator) -> None:
        b, d = generator.integers(2, 6), generator.integers(3, 8)
        rows = generator.normal(size=(b, d)) * 10 ** generator.uniform(-1, 1)
        rows += generator.normal() * generator.integers(0, 3)
        self.point, self.w = (
            {"x": round_to_float32(rows), "g": round_to_float32(generator.normal(size=d))},
            round_to_float32(generator.normal(size=(b, d))),
        )

    def _normalize_rows(self, x: Array, dtype: type) -> tuple[Array, Array]:
        centred = x - x.mean(axis=-1, keepdims=True, dtype=dtype)
        inverse = 1 / np.sqrt(np.square(centred).mean(axis=-1, keepdims=True, dtype=dtype) + dtype(1e-5))
        return centred * inverse, inverse

    def loss(self, point: Mapping[str, Array], dtype: type) -> Array:
        rows, _ = self._normalize_rows(point["x"].astype(dtype), dtype)
        return (rows * point["g"].astype(dtype)[..., None, :] * self.w.astype(dtype)).sum(axis=(-1, -2), dtype=dtype)

    def gradient(self, dtype: type) -> dict[str, Array]:
        g, w = self.point["g"].astype(dtype), self.w.astype(dtype)
        rows, inverse = self._normalize_rows(self.point["x"].astype(dtype), dtype)
        d = w * g
        mean, along = (array.mean(axis=-1, keepdims=True, dtype=dtype) for array in (d, d * rows))
        return {"x": inverse * (d - mean - rows * along), "g": (w * rows).sum(axis=0, dtype=dtype)}


LOSS_FAMILIES = (AttentionLoss, PerceptronLoss, CrossEntropyLoss, LeastSquaresLoss, LayerNormLoss)
