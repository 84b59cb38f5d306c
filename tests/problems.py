"""Graphs for the tests: one op by itself under a loss, and whole models."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from service.checking import language
from service.numerics.graph import Graph, Node, Values
from service.numerics.models import PRESETS
from service.numerics.ops import REGISTRY
from service.numerics.ops.op import Case, Op, Slot
from service.numerics.tiles import Array, Shape, tiled


def around(op_type: type[Op], case: Case, seed: int = 0) -> tuple[Graph, Values]:
    """A graph of one op under 0.5 sum (output - target)^2, and leaves in float64."""
    generator = np.random.default_rng([seed, *map(ord, op_type.name)])
    op = op_type(**case.attributes)
    names = _names(op, case)
    slots = [op.slots[min(position, len(op.slots) - 1)] for position in range(len(names))]
    leaves: Values = {
        name: tiled(_leaf(case, slot, shape, generator))
        for name, slot, shape in zip(names, slots, case.shapes, strict=True)
        if name is not None and shape is not None
    }
    output = op.output_shape(*case.shapes)
    leaves["goal"] = tiled(generator.uniform(-1, 1, output))
    nodes = [
        Node("output", op, tuple(names)),
        Node("loss", REGISTRY["half_squared_error"](reduction="sum"), ("output", "goal")),
    ]
    return Graph(nodes, shapes_of(leaves), kinds_of(leaves)), leaves


def _names(op: Op, case: Case) -> list[str | None]:
    """Names of the leaves: those of the slots, numbered where a slot takes several."""
    fixed = [slot.name for slot in op.slots if not slot.variadic]
    several = [f"{op.slots[-1].name}{number}" for number in range(len(case.shapes) - len(fixed))]
    return [None if shape is None else name for name, shape in zip(fixed + several, case.shapes, strict=True)]


def _leaf(case: Case, slot: Slot, shape: Shape, generator: np.random.Generator) -> Array:
    if slot.name in case.below:
        return generator.integers(0, case.below[slot.name], shape)
    if slot.kinds == ("bool",) or slot.name in case.bools:
        return np.asarray(generator.random(shape) < 0.6)
    if slot.name in case.signs:
        return np.where(generator.random(shape) < 0.5, -1.0, 1.0)
    return generator.uniform(case.low, case.high, shape)


_KINDS = {"f": "float", "i": "index", "b": "bool"}


def kinds_of(leaves: Mapping[str, Any]) -> dict[str, str]:
    return {name: _KINDS[leaf.dtype.kind] for name, leaf in leaves.items() if leaf.dtype.kind != "f"}


def shapes_of(leaves: Mapping[str, Any]) -> dict[str, Shape]:
    return {name: leaf.shape[1:] for name, leaf in leaves.items()}


def reference_model(
    x: tuple[int, int] = (3, 3), w1: tuple[int, int] = (2, 2), seed: int = 0, scale: float = 1.0
) -> tuple[Graph, Values]:
    """The reference model at any size, with random leaves."""
    generator = np.random.default_rng(seed)
    positions = (x[0] - w1[0] + 1) * (x[1] - w1[1] + 1)
    leaves = {
        "x": generator.normal(size=x),
        "y": generator.uniform(0.1, 0.9, positions),
        "w1": generator.normal(size=w1) * scale,
        "w2": generator.normal(size=positions) * scale,
    }
    return preset_graph({name: tiled(leaf) for name, leaf in leaves.items()})


def preset_graph(leaves: Values) -> tuple[Graph, Values]:
    request = language.parsed(
        {
            "tensors": {name: leaves[name][0].tolist() for name in ("x", "y")},
            "weights": {name: leaves[name][0].tolist() for name in ("w1", "w2")},
        }
    )
    return language.graph_of(request), leaves


def reference_example() -> tuple[Graph, Values]:
    """The reference example itself."""
    preset = PRESETS["conv_tanh_scale_sigmoid"]
    return preset_graph(
        {name: tiled(np.array(value, dtype=np.float64)) for name, value in {**preset.tensors, **preset.weights}.items()}
    )
