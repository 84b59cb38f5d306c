"""A check that takes long, and few bytes."""

from typing import Any

import numpy as np

_SIZE = 90


def build_long_check() -> dict[str, Any]:
    """Build a check of which every element of w reaches every term of the loss: half a minute, if nobody stops it."""
    w = np.random.default_rng(0).normal(size=(_SIZE, _SIZE)) / _SIZE**0.5
    nodes = [
        {"name": "a", "op": "matmul", "inputs": ["w", "w"]},
        {"name": "b", "op": "tanh", "inputs": ["a"]},
        {"name": "c", "op": "matmul", "inputs": ["b", "b"]},
        {"name": "d", "op": "tanh", "inputs": ["c"]},
        {"name": "loss", "op": "sum", "inputs": ["d"]},
    ]
    return {"tensors": {}, "weights": {"w": w.tolist()}, "model": {"nodes": nodes}, "include": []}
