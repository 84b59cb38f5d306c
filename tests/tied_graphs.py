"""Random models with ties planted in them: shared, overlapping, broadcast and nested."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from service.numerics.ops.choices import Choices

KINDS = (
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
_SIGNED = (-1.0, 0.0, 0.0, 1.0)
_FEW = (0.0, 1.0, 1.0, 2.0)


@dataclass
class _Building:
    """A request that is being built."""

    generator: np.random.Generator
    tensors: dict[str, Any] = field(default_factory=dict)
    weights: dict[str, Any] = field(default_factory=dict)
    nodes: list[dict[str, Any]] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)

    def node(self, name: str, op: str, *inputs: Any, **attributes: Any) -> str:
        self.nodes.append({"name": name, "op": op, "inputs": list(inputs), **attributes})
        return name

    def leaf(self, name: str, shape: tuple[int, ...], values: tuple[float, ...]) -> str:
        self.weights[name] = self.generator.choice(values, shape).tolist()
        return name

    def ended(self, name: str, shape: tuple[int, ...], key: str) -> None:
        self.tensors[f"up{key}"] = self.generator.normal(size=shape).round(2).tolist()
        self.ends.append(self.node(f"s{key}", "sum", self.node(f"p{key}", "mul", name, f"up{key}")))


def tied(generator: np.random.Generator, kinds: tuple[str, ...] = KINDS) -> tuple[str, dict[str, Any]]:
    """A kind, and a request without a candidate."""
    kind = str(generator.choice(kinds))
    building = _Building(generator)
    _add(building, kind, "0")
    if generator.random() < 0.3:
        _add(building, str(generator.choice(["amax", "relu", "l1_loss", "extremum"])), "1")
    total = building.ends[0]
    for number, end in enumerate(building.ends[1:]):
        total = building.node(f"t{number}", "add", total, end)
    building.node("loss", "mul", total, 1.0)
    return kind, {
        "tensors": building.tensors,
        "weights": building.weights,
        "model": {"nodes": building.nodes},
        "include": [],
        "seed": int(generator.integers(1000)),
    }


def _add(building: _Building, kind: str, key: str) -> None:
    rows, columns = (int(building.generator.integers(*ends)) for ends in ((2, 4), (3, 6)))
    if kind == "max_pool2d":
        _add_pool(building, key)
        return
    values = _SIGNED if kind in ("relu", "abs", "nested", "shared") else _FEW
    x = building.leaf(f"x{key}", (rows, columns), values)
    if kind == "vector_norm":
        building.weights[x][0] = [0.0] * columns
    if kind == "shared":
        _add_of(building, "amax", x, f"{key}a", (rows, columns))
        kind, key = str(building.generator.choice(["abs", "relu", "l1_loss"])), f"{key}b"
    _add_of(building, kind, x, key, (rows, columns))


def _add_pool(building: _Building, key: str) -> None:
    x, stride = building.leaf(f"x{key}", (1, 4, 5), _FEW), int(building.generator.integers(1, 3))
    y = building.node(f"y{key}", "max_pool2d", x, kernel_size=2, stride=stride)
    building.ended(y, (1, 2 // stride + 1, 3 // stride + 1), key)


def _add_of(building: _Building, kind: str, x: str, key: str, shape: tuple[int, int]) -> None:
    rows, columns = shape
    y, other = f"y{key}", f"o{key}"
    if kind in ("relu", "abs"):
        building.ended(building.node(y, kind, x), shape, key)
    elif kind == "clamp":
        building.ended(building.node(y, kind, x, min=0.0, max=1.0), shape, key)
    elif kind in ("amax", "vector_norm"):
        building.ended(building.node(y, kind, x, dim=1), (rows,), key)
    elif kind == "extremum":
        building.leaf(other, (columns,), _FEW)
        op = str(building.generator.choice(["maximum", "minimum"]))
        building.ended(building.node(y, op, x, other), shape, key)
    elif kind == "l1_loss":
        building.leaf(other, shape, _FEW)
        reduction = str(building.generator.choice(["sum", "mean", "none"]))
        building.ended(building.node(y, kind, x, other, reduction=reduction), shape if reduction == "none" else (), key)
    elif kind == "hinge":
        building.leaf(f"w{key}", (columns, 2), (-1.0, 0.0, 1.0))
        margin = building.node(f"m{key}", "sub", 1.0, building.node(f"h{key}", "matmul", x, f"w{key}"))
        building.ended(building.node(y, "relu", margin), (rows, 2), key)
    else:
        inner = building.node(f"q{key}", str(building.generator.choice(["relu", "abs"])), x)
        building.ended(building.node(y, "amax", inner, dim=1), (rows,), key)


def chosen(generator: np.random.Generator, choices: Choices) -> np.ndarray:
    """Weights of a valid choice, (1, n): corners, and points between them."""
    weights = np.zeros(choices.count)
    for unit in range(int(choices.units[-1]) + 1):
        at = np.flatnonzero(choices.units == unit)
        if choices.ball is not None:
            direction = generator.normal(size=at.size)
            weights[at] = direction / np.linalg.norm(direction, choices.ball) * generator.choice([1, 0.5])
        elif generator.random() < 0.4:
            weights[at[generator.integers(at.size)]] = 1
        else:
            weights[at] = generator.dirichlet(np.ones(at.size))
    return weights[None]
