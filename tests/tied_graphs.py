"""Random models with ties planted in them: shared, overlapping, broadcast and nested."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from service.numerics.ops.subgradient_choices import SubgradientChoices

TIE_KINDS = (
    "amax",
    "max_pool2d",
    "extremum",
    "relu",
    "abs",
    "clamp",
    "l1_loss",
    "hinge",
    "vector_norm",
    "shared",
    "nested",
)
_SIGNED_VALUES = (-1.0, 0.0, 0.0, 1.0)
_TIED_VALUES = (0.0, 1.0, 1.0, 2.0)


@dataclass
class _RequestBuilder:
    """A request that is being built."""

    generator: np.random.Generator
    tensors: dict[str, Any] = field(default_factory=dict)
    weights: dict[str, Any] = field(default_factory=dict)
    nodes: list[dict[str, Any]] = field(default_factory=list)
    outputs: list[str] = field(default_factory=list)

    def add_node(self, name: str, op: str, *inputs: Any, **attributes: Any) -> str:
        self.nodes.append({"name": name, "op": op, "inputs": list(inputs), **attributes})
        return name

    def add_leaf(self, name: str, shape: tuple[int, ...], values: tuple[float, ...]) -> str:
        self.weights[name] = self.generator.choice(values, shape).tolist()
        return name

    def add_output(self, name: str, shape: tuple[int, ...], key: str) -> None:
        self.tensors[f"up{key}"] = self.generator.normal(size=shape).round(2).tolist()
        self.outputs.append(self.add_node(f"s{key}", "sum", self.add_node(f"p{key}", "mul", name, f"up{key}")))


def draw_tied_request(generator: np.random.Generator, kinds: tuple[str, ...] = TIE_KINDS) -> tuple[str, dict[str, Any]]:
    """A kind, and a request without a candidate."""
    kind = str(generator.choice(kinds))
    building = _RequestBuilder(generator)
    _add_kind(building, kind, "0")
    if generator.random() < 0.3:
        _add_kind(building, str(generator.choice(["amax", "relu", "l1_loss", "extremum"])), "1")
    total = building.outputs[0]
    for number, end in enumerate(building.outputs[1:]):
        total = building.add_node(f"t{number}", "add", total, end)
    building.add_node("loss", "mul", total, 1.0)
    return kind, {
        "tensors": building.tensors,
        "weights": building.weights,
        "model": {"nodes": building.nodes},
        "include": [],
        "seed": int(generator.integers(1000)),
    }


def _add_kind(building: _RequestBuilder, kind: str, key: str) -> None:
    rows, columns = (int(building.generator.integers(*ends)) for ends in ((2, 4), (3, 6)))
    if kind == "max_pool2d":
        _add_pool(building, key)
        return
    values = _SIGNED_VALUES if kind in ("relu", "abs", "nested", "shared") else _TIED_VALUES
    x = building.add_leaf(f"x{key}", (rows, columns), values)
    if kind == "vector_norm":
        building.weights[x][0] = [0.0] * columns
    if kind == "shared":
        _add_op(building, "amax", x, f"{key}a", (rows, columns))
        kind, key = str(building.generator.choice(["abs", "relu", "l1_loss"])), f"{key}b"
    _add_op(building, kind, x, key, (rows, columns))


def _add_pool(building: _RequestBuilder, key: str) -> None:
    x, stride = building.add_leaf(f"x{key}", (1, 4, 5), _TIED_VALUES), int(building.generator.integers(1, 3))
    y = building.add_node(f"y{key}", "max_pool2d", x, kernel_size=2, stride=stride)
    building.add_output(y, (1, 2 // stride + 1, 3 // stride + 1), key)


def _add_op(building: _RequestBuilder, kind: str, x: str, key: str, shape: tuple[int, int]) -> None:
    rows, columns = shape
    y, other = f"y{key}", f"o{key}"
    if kind in ("relu", "abs"):
        building.add_output(building.add_node(y, kind, x), shape, key)
    elif kind == "clamp":
        building.add_output(building.add_node(y, kind, x, min=0.0, max=1.0), shape, key)
    elif kind in ("amax", "vector_norm"):
        building.add_output(building.add_node(y, kind, x, dim=1), (rows,), key)
    elif kind == "extremum":
        building.add_leaf(other, (columns,), _TIED_VALUES)
        op = str(building.generator.choice(["maximum", "minimum"]))
        building.add_output(building.add_node(y, op, x, other), shape, key)
    elif kind == "l1_loss":
        building.add_leaf(other, shape, _TIED_VALUES)
        reduction = str(building.generator.choice(["sum", "mean", "none"]))
        building.add_output(
            building.add_node(y, kind, x, other, reduction=reduction), shape if reduction == "none" else (), key
        )
    elif kind == "hinge":
        building.add_leaf(f"w{key}", (columns, 2), (-1.0, 0.0, 1.0))
        margin = building.add_node(f"m{key}", "sub", 1.0, building.add_node(f"h{key}", "matmul", x, f"w{key}"))
        building.add_output(building.add_node(y, "relu", margin), (rows, 2), key)
    else:
        inner = building.add_node(f"q{key}", str(building.generator.choice(["relu", "abs"])), x)
        building.add_output(building.add_node(y, "amax", inner, dim=1), (rows,), key)


def draw_choice(generator: np.random.Generator, choices: SubgradientChoices) -> np.ndarray:
    """Weights of a valid choice, (1, n): corners, and points between them."""
    weights = np.zeros(choices.alternative_count)
    for unit in range(int(choices.units[-1]) + 1):
        at = np.flatnonzero(choices.units == unit)
        if choices.ball_order is not None:
            direction = generator.normal(size=at.size)
            weights[at] = direction / np.linalg.norm(direction, choices.ball_order) * generator.choice([1, 0.5])
        elif generator.random() < 0.4:
            weights[at[generator.integers(at.size)]] = 1
        else:
            weights[at] = generator.dirichlet(np.ones(at.size))
    return weights[None]
