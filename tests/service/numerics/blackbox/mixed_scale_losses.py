"""Losses of tensors whose elements have magnitudes from 1e-12 to 1e12, and their gradients in closed form."""

from typing import Any

import numpy as np

from service.numerics.core.precision import PRECISIONS

Array = np.ndarray[Any, Any]
MAX_DECADES = {"FP64": 12.0, "FP32": 12.0, "FP16": 3.0, "BF16": 12.0}


class MixedScaleLoss:
    """A loss of x / s, with s_i the unit of x_i: waves, a log-sum-exp, a sum of squares, or hyperbolic tangents."""

    def __init__(self, generator: np.random.Generator, datatype: str) -> None:
        n, spread = int(generator.integers(1, 9)), generator.uniform(0, MAX_DECADES[datatype])
        self.units = 10 ** generator.uniform(-spread, spread, n)
        self.values = PRECISIONS[datatype].round_to_nearest(self.units * generator.normal(size=n))
        self.a = generator.normal(size=n) * 10 ** generator.uniform(-generator.choice([0, 3, 9]), 0, n)
        self.b, self.m = generator.normal(size=n), generator.normal(size=(n, 3)) / np.sqrt(n)
        self.kind, self.offset = int(generator.integers(4)), float(generator.choice([0, 1]) * generator.normal())

    def loss(self, x: Array) -> Array:
        z = x / self.units
        if self.kind == 0:
            return self.offset + (self.a * np.sin(z + self.b)).sum(axis=-1)
        if self.kind == 1:
            top = (z @ self.m).max(axis=-1, keepdims=True)
            return np.log(np.exp(z @ self.m - top).sum(axis=-1)) + top[..., 0]
        if self.kind == 2:
            return ((self.a * z - self.b) ** 2).sum(axis=-1)
        return self.offset + np.tanh((self.a * z) @ self.m).sum(axis=-1)

    @property
    def gradient(self) -> Array:
        z = self.values / self.units
        if self.kind == 0:
            gradient = self.a * np.cos(z + self.b)
        elif self.kind == 1:
            e = np.exp(z @ self.m - (z @ self.m).max())
            gradient = self.m @ (e / e.sum())
        elif self.kind == 2:
            gradient = 2 * self.a * (self.a * z - self.b)
        else:
            gradient = self.a * (self.m @ (1 - np.tanh((self.a * z) @ self.m) ** 2))
        return gradient / self.units
