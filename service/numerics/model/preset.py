"""The parts of a preset: nodes and example values."""

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
    shaped_like
        Tensors and weights that must have the shape of a node, by its name, where the ops would broadcast them.
    """

    name: str
    description: str
    nodes: tuple[Mapping[str, Any], ...]
    tensors: Mapping[str, Any]
    weights: Mapping[str, Any]
    shaped_like: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def example_request(self) -> dict[str, Any]:
        """A request that can be posted as it is."""
        return {"model": self.name, "tensors": dict(self.tensors), "weights": dict(self.weights)}


def make_node(name: str, op: str, *inputs: str | float, **attributes: Any) -> Mapping[str, Any]:
    """Return a node as it would stand in a request."""
    return {"name": name, "op": op, "inputs": list(inputs), **attributes}


class ExampleValues:
    """Random examples, the same every time, with three decimals for readers."""

    def __init__(self, seed: int) -> None:
        self._generator = np.random.default_rng(seed)

    def draw_normal(self, *shape: int, scale: float = 1.0) -> Any:
        """Draw normal numbers."""
        return np.round(self._generator.normal(size=shape) * scale, 3).tolist()

    def draw_weight(self, *shape: int) -> Any:
        """Draw a weight of a size that keeps activations near 1.

        A layer sums over the last axes, all but the first.
        """
        return self.draw_normal(*shape, scale=float(np.prod(shape[1:] or (1,))) ** -0.5)

    def draw_unit_interval(self, *shape: int) -> Any:
        """Draw numbers between 0 and 1, away from both."""
        return np.round(self._generator.uniform(0.05, 0.95, size=shape), 3).tolist()

    def draw_labels(self, count: int, *shape: int) -> Any:
        """Draw labels of `count` classes."""
        return self._generator.integers(0, count, size=shape).tolist()
