"""Graphs for the tests: one op by itself under a loss, and whole models."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from service.checks.graph import model_language
from service.numerics.core.batching import Array, Shape, add_batch_axis
from service.numerics.model.graph import Graph, NamedArrays, Node
from service.numerics.model.presets import PRESETS
from service.numerics.ops import OP_REGISTRY
from service.numerics.ops.op import Op, OpExample, Slot


def build_op_graph(op_type: type[Op], case: OpExample, seed: int = 0) -> tuple[Graph, NamedArrays]:
    """A graph of one op under 0.5 sum (output - target)^2, and leaves in float64."""
    generator = np.random.default_rng([seed, *map(ord, op_type.name)])
    op = op_type(**case.attributes)
    names = _list_leaf_names(op, case)
    slots = [op.slots[min(position, len(op.slots) - 1)] for position in range(len(names))]
    leaves: NamedArrays = {
        name: add_batch_axis(_draw_leaf(case, slot, shape, generator))
        for name, slot, shape in zip(names, slots, case.input_shapes, strict=True)
        if name is not None and shape is not None
    }
    output = op.infer_output_shape(*case.input_shapes)
    leaves["goal"] = add_batch_axis(generator.uniform(-1, 1, output))
    nodes = [
        Node("output", op, tuple(names)),
        Node("loss", OP_REGISTRY["half_squared_error"](reduction="sum"), ("output", "goal")),
    ]
    return Graph(nodes, list_shapes(leaves), list_kinds(leaves)), leaves


def _list_leaf_names(op: Op, case: OpExample) -> list[str | None]:
    """Names of the leaves: those of the slots, numbered where a slot takes several."""
    fixed = [slot.name for slot in op.slots if not slot.variadic]
    several = [f"{op.slots[-1].name}{number}" for number in range(len(case.input_shapes) - len(fixed))]
    return [None if shape is None else name for name, shape in zip(fixed + several, case.input_shapes, strict=True)]


def _draw_leaf(case: OpExample, slot: Slot, shape: Shape, generator: np.random.Generator) -> Array:
    if slot.name in case.index_limits:
        return generator.integers(0, case.index_limits[slot.name], shape)
    if slot.kinds == ("bool",) or slot.name in case.bool_slots:
        return np.asarray(generator.random(shape) < 0.6)
    if slot.name in case.sign_slots:
        return np.where(generator.random(shape) < 0.5, -1.0, 1.0)
    leaf = generator.uniform(case.low, case.high, shape)
    is_square = len(shape) > 1 and shape[-1] == shape[-2]
    return leaf + case.diagonal * np.eye(shape[-1]) if case.diagonal and is_square else leaf


_SLOT_KINDS = {"f": "float", "i": "index", "b": "bool"}


def list_kinds(leaves: Mapping[str, Any]) -> dict[str, str]:
    return {name: _SLOT_KINDS[leaf.dtype.kind] for name, leaf in leaves.items() if leaf.dtype.kind != "f"}


def list_shapes(leaves: Mapping[str, Any]) -> dict[str, Shape]:
    return {name: leaf.shape[1:] for name, leaf in leaves.items()}


def build_reference_model(
    x: tuple[int, int] = (3, 3), w1: tuple[int, int] = (2, 2), seed: int = 0, scale: float = 1.0
) -> tuple[Graph, NamedArrays]:
    """The reference model at any size, with random leaves."""
    generator = np.random.default_rng(seed)
    positions = (x[0] - w1[0] + 1) * (x[1] - w1[1] + 1)
    leaves = {
        "x": generator.normal(size=x),
        "y": generator.uniform(0.1, 0.9, positions),
        "w1": generator.normal(size=w1) * scale,
        "w2": generator.normal(size=positions) * scale,
    }
    return build_preset_graph({name: add_batch_axis(leaf) for name, leaf in leaves.items()})


def build_preset_graph(leaves: NamedArrays) -> tuple[Graph, NamedArrays]:
    request = model_language.parse_check_request(
        {
            "tensors": {name: leaves[name][0].tolist() for name in ("x", "y")},
            "weights": {name: leaves[name][0].tolist() for name in ("w1", "w2")},
        }
    )
    return model_language.build_graph(request), leaves


def build_reference_example() -> tuple[Graph, NamedArrays]:
    """The reference example itself."""
    preset = PRESETS["conv_tanh_scale_sigmoid"]
    return build_preset_graph(
        {
            name: add_batch_axis(np.array(value, dtype=np.float64))
            for name, value in {**preset.tensors, **preset.weights}.items()
        }
    )
