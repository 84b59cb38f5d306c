"""Presets: models that a request may name, each with an example that can be posted as it is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


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
    """

    name: str
    description: str
    nodes: tuple[Mapping[str, Any], ...]
    tensors: Mapping[str, Any]
    weights: Mapping[str, Any]

    @property
    def request(self) -> dict[str, Any]:
        """A request that can be posted as it is."""
        return {"model": self.name, "tensors": dict(self.tensors), "weights": dict(self.weights)}


CONV_TANH_SCALE_SIGMOID = Preset(
    "conv_tanh_scale_sigmoid",
    "The reference example: a 2-D cross-correlation, tanh, one weight per position, sigmoid, half squared error.",
    nodes=(
        {"name": "C1", "op": "conv2d", "inputs": ["x", "w1"]},
        {"name": "L1", "op": "flatten", "inputs": ["C1"]},
        {"name": "L1A", "op": "tanh", "inputs": ["L1"]},
        {"name": "L2", "op": "mul", "inputs": ["L1A", "w2"]},
        {"name": "L2A", "op": "sigmoid", "inputs": ["L2"]},
        {"name": "loss", "op": "half_squared_error", "inputs": ["L2A", "y"], "reduction": "sum"},
    ),
    tensors={"x": [[1, 2, 3], [4, 5, 6], [7, 8, 9]], "y": [-1, -1, 1, 1]},
    weights={"w1": [[0.1, -0.1], [0.2, 0.001]], "w2": [0.0005, -0.2, 0.2, 0.5]},
)

PRESETS: dict[str, Preset] = {preset.name: preset for preset in (CONV_TANH_SCALE_SIGMOID,)}
