"""Families of problems on which the bounds of the differences are held against the truth, each in several variants.

The same generators serve the tests, on fixed seeds, and `benchmarks/bound_coverage.py`, on fresh ones. A seed stands
for the same problem for good, so that what it showed can be seen again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from service.numerics.core.batching import Array, add_batch_axis
from service.numerics.model.graph import Graph, NamedArrays, Node
from service.numerics.ops import OP_REGISTRY
from tests.op_graphs import build_op_graph, build_reference_model, list_kinds, list_shapes
from tests.random_graphs import draw_graph
from tests.truth.op_rules import RULES

Generator = np.random.Generator
Leaves = dict[str, Array]


@dataclass(frozen=True)
class FamilyProblem:
    """A model at a point, and the names whose gradient is asked for."""

    family: str
    variant: str
    seed: int
    graph: Graph
    leaves: NamedArrays
    names: tuple[str, ...]

    def __str__(self) -> str:
        return f"families.problem({self.family!r}, {self.variant!r}, {self.seed})"


@dataclass(frozen=True)
class Family:
    """Models of one kind.

    Attributes
    ----------
    body
        Makes all nodes but the loss, of which the last is `output`, (samples, classes), and all leaves but the target.
        The first weight among the leaves is the one that meets the input `x` first.
    loss
        Name of the op.
    head
        Node before the last layer, and the weight and bias of that; None where there is none.
    """

    build_body: Callable[[Generator], tuple[list[Node], Leaves]]
    loss: str = "mse_loss"
    head: tuple[str, str, str] | None = ("features", "w_head", "b_head")


def make_node(name: str, op: str, *operands: str | float | None, **attributes: Any) -> Node:
    return Node(name, OP_REGISTRY[op](**attributes), operands)


def _draw_weight(generator: Generator, *shape: int) -> Array:
    return generator.normal(size=shape) / np.sqrt(shape[-1])


def _add_head(nodes: list[Node], leaves: Leaves, classes: int, width: int, generator: Generator) -> Any:
    head = {"w_head": _draw_weight(generator, classes, width), "b_head": generator.normal(size=classes) / 10}
    return [*nodes, make_node("output", "linear", "features", "w_head", "b_head")], leaves | head


def _build_mlp(generator: Generator) -> Any:
    nodes = [make_node("hidden", "linear", "x", "w", "b"), make_node("features", "tanh", "hidden")]
    leaves = {
        "w": _draw_weight(generator, 10, 12),
        "b": generator.normal(size=10) / 10,
        "x": generator.normal(size=(8, 12)),
    }
    return _add_head(nodes, leaves, 4, 10, generator)


def _build_softmax(generator: Generator) -> Any:
    nodes = [make_node("scores", "linear", "x", "w", None), make_node("features", "softmax", "scores", dim=-1)]
    leaves = {"w": _draw_weight(generator, 7, 5), "x": generator.normal(size=(6, 5))}
    return _add_head(nodes, leaves, 3, 7, generator)


def _build_layer_norm(generator: Generator) -> Any:
    nodes = [
        make_node("hidden", "linear", "x", "w", None),
        make_node("normal", "layer_norm", "hidden", "gain", "shift", normalized_shape=9),
        make_node("features", "silu", "normal"),
    ]
    leaves = {"w": _draw_weight(generator, 9, 7), "x": generator.normal(size=(5, 7))}
    leaves |= {"gain": generator.uniform(0.5, 1.5, 9), "shift": generator.normal(size=9) / 10}
    return _add_head(nodes, leaves, 3, 9, generator)


def _build_transformer(generator: Generator) -> Any:
    """One block, pre-norm, of attention in two heads and a layer of GELU, on five embedded tokens."""

    def make_heads(name: str) -> list[Node]:
        return [
            make_node(f"{name}_flat", "linear", "normal1", f"w_{name}", None),
            make_node(f"{name}_split", "reshape", f"{name}_flat", shape=[5, 2, 3]),
            make_node(name, "transpose", f"{name}_split", dim0=0, dim1=1),
        ]

    nodes = [
        make_node("embedded", "linear", "x", "w_embed", None),
        make_node("normal1", "layer_norm", "embedded", "gain1", "shift1", normalized_shape=6),
        *(head for name in ("query", "key", "value") for head in make_heads(name)),
        make_node("attended", "scaled_dot_product_attention", "query", "key", "value", None, is_causal=True),
        make_node("together", "permute", "attended", dims=[1, 0, 2]),
        make_node("merged", "flatten", "together", start_dim=1),
        make_node("projected", "linear", "merged", "w_out", None),
        make_node("residual", "add", "embedded", "projected"),
        make_node("normal2", "layer_norm", "residual", "gain2", "shift2", normalized_shape=6),
        make_node("wide", "linear", "normal2", "w_wide", "b_wide"),
        make_node("active", "gelu", "wide"),
        make_node("narrow", "linear", "active", "w_narrow", "b_narrow"),
        make_node("features", "add", "residual", "narrow"),
    ]
    leaves = {"w_embed": _draw_weight(generator, 6, 4), "x": generator.normal(size=(5, 4))}
    leaves |= {f"w_{name}": _draw_weight(generator, 6, 6) for name in ("query", "key", "value", "out")}
    leaves |= {f"gain{which}": generator.uniform(0.5, 1.5, 6) for which in (1, 2)}
    leaves |= {f"shift{which}": generator.normal(size=6) / 10 for which in (1, 2)}
    leaves |= {"w_wide": _draw_weight(generator, 8, 6), "b_wide": generator.normal(size=8) / 10}
    leaves |= {"w_narrow": _draw_weight(generator, 6, 8), "b_narrow": generator.normal(size=6) / 10}
    return _add_head(nodes, leaves, 3, 6, generator)


def _build_attention(generator: Generator) -> Any:
    """One head, pre-norm, with its residual connection, on five embedded tokens."""
    nodes = [
        make_node("embedded", "linear", "x", "w_embed", None),
        make_node("normal", "layer_norm", "embedded", "gain", "shift", normalized_shape=6),
        *(make_node(name, "linear", "normal", f"w_{name}", None) for name in ("query", "key", "value")),
        make_node("attended", "scaled_dot_product_attention", "query", "key", "value", None),
        make_node("projected", "linear", "attended", "w_out", None),
        make_node("features", "add", "embedded", "projected"),
    ]
    leaves = {"w_embed": _draw_weight(generator, 6, 4), "x": generator.normal(size=(5, 4))}
    leaves |= {f"w_{name}": _draw_weight(generator, 6, 6) for name in ("query", "key", "value", "out")}
    leaves |= {"gain": generator.uniform(0.5, 1.5, 6), "shift": generator.normal(size=6) / 10}
    return _add_head(nodes, leaves, 3, 6, generator)


def _make_reference_family(x: tuple[int, int], w1: tuple[int, int]) -> Family:
    def make_problem(generator: Generator) -> Any:
        graph, tiles = build_reference_model(x, w1, seed=generator)
        leaves = {name: tiles[name][0] for name in ("w1", "x", "w2")}
        *nodes, last, _ = graph.listed_nodes
        return [*nodes, make_node("output", last.op.name, *last.operands)], leaves

    return Family(make_problem, "half_squared_error", None)


FAMILIES = {
    "reference S0": _make_reference_family((3, 3), (2, 2)),
    "reference S1": _make_reference_family((16, 16), (3, 3)),
    "mlp": Family(_build_mlp, "cross_entropy"),
    "softmax": Family(_build_softmax),
    "layer_norm": Family(_build_layer_norm),
    "transformer": Family(_build_transformer),
}
ATTENTION_FAMILY = Family(_build_attention)
VARIANTS = ("ordinary", "weights", "inputs", "fitted", "confident")
"""As drawn; weights scaled by 10^U(-4,4); inputs by 10^U(-4,9) and the first weight inversely; targets within 1e-6 of
the outputs; cross-entropy with p > 1 - 1e-8 on the label."""

CELLS = [
    *((name, variant) for name, family in FAMILIES.items() for variant in VARIANTS[: 5 if family.head else 4]),
    ("random", "ordinary"),
    ("one op", "ordinary"),
]
"""Every family in every variant that it has; random graphs with shared weights and residuals; and one op by itself."""


def draw_problem(family: str, variant: str, seed: int) -> FamilyProblem:
    """The problem that a seed stands for."""
    if family == "random":
        graph, leaves = draw_graph(seed)
        return FamilyProblem(family, variant, seed, graph, leaves, ("x", "u", "v", "w"))
    if family == "one op":
        return _draw_op_problem(seed)
    return draw_family_problem(family, FAMILIES[family], variant, seed)


def draw_family_problem(name: str, family: Family, variant: str, seed: int) -> FamilyProblem:
    """The problem of a family that a seed stands for."""
    generator = np.random.default_rng([seed, *map(ord, name)])
    nodes, leaves = family.build_body(generator)
    _scale_leaves(variant, leaves, generator)
    names = tuple(leaves)
    loss = "cross_entropy" if variant == "confident" else family.loss
    graph, tiles = _add_loss(loss, nodes, leaves, variant == "fitted", generator)
    values = graph.forward(tiles)
    if variant == "fitted":
        tiles["y"] = _compute_comparison(loss, values["output"]) + generator.uniform(
            -1e-6, 1e-6, values["output"].shape
        )
    if variant == "confident":
        _make_confident(family, tiles, values, generator)
    return FamilyProblem(name, variant, seed, graph, tiles, names)


def _draw_op_problem(seed: int) -> FamilyProblem:
    """One of the ops that the truth is spelled out for, in one of its cases, under half the squared error."""
    generator = np.random.default_rng(seed)
    op = OP_REGISTRY[str(generator.choice(sorted(RULES)))]
    graph, leaves = build_op_graph(op, op.examples[int(generator.integers(len(op.examples)))], seed)
    names = tuple(name for name, leaf in leaves.items() if leaf.dtype.kind == "f")
    return FamilyProblem("one op", "ordinary", seed, graph, leaves, names)


def _scale_leaves(variant: str, leaves: Leaves, generator: Generator) -> None:
    weights = [name for name in leaves if name != "x"]
    if variant == "weights":
        for name in weights:
            leaves[name] = leaves[name] * 10 ** generator.uniform(-4, 4)
    if variant == "inputs":
        factor = 10 ** generator.uniform(-4, 9)
        leaves |= {"x": leaves["x"] * factor, weights[0]: leaves[weights[0]] / factor}


def _add_loss(
    loss: str, nodes: list[Node], leaves: Leaves, soft: bool, generator: Generator
) -> tuple[Graph, NamedArrays]:
    """The graph under a loss, with a random target: numbers or, of a cross-entropy that is not soft, labels."""
    shapes = Graph(
        [*nodes, make_node("loss", "sum", "output")], {name: leaf.shape for name, leaf in leaves.items()}
    ).shapes
    output = shapes["output"]
    labels = loss == "cross_entropy" and not soft
    y = generator.integers(0, output[-1], output[:-1]) if labels else generator.uniform(0.1, 0.9, output)
    tiles = {name: add_batch_axis(leaf) for name, leaf in {**leaves, "y": y}.items()}
    operands = ("output", "y", None) if loss == "cross_entropy" else ("output", "y")
    attributes = {"reduction": "sum"} if loss == "half_squared_error" else {}
    last = make_node("loss", loss, *operands, **attributes)
    return Graph([*nodes, last], list_shapes(tiles), list_kinds(tiles)), tiles


def _compute_comparison(loss: str, output: Array) -> Array:
    """What a target is compared with: the output, or the probabilities that it stands for."""
    if loss != "cross_entropy":
        return output
    e = np.exp(output - output.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def _make_confident(family: Family, tiles: NamedArrays, values: NamedArrays, generator: Generator) -> None:
    """Fit the last layer so that the logit of each label is 23 to 32 above the others."""
    assert family.head is not None
    features, weight, bias = family.head
    rows = values[features][0]
    logits = generator.normal(size=values["output"][0].shape) / 4
    logits[np.arange(len(logits)), tiles["y"][0]] += generator.uniform(23, 32, len(logits))
    extended = np.column_stack([rows, np.ones(len(rows))])
    solution = np.linalg.lstsq(extended, logits, rcond=None)[0].T
    tiles |= {weight: add_batch_axis(solution[:, :-1]), bias: add_batch_axis(solution[:, -1])}
