"""Estimates of what a request takes, against what is counted: calls, and elements and multiply-adds in them.

Counted is what NumPy is asked for with arrays that come of those that are given. What is made of nothing on the way is
not, nor what Python does between calls.
"""

import numpy as np
import pytest

from service.checking.estimate import aside
from service.numerics import rounding
from service.numerics.gradients import analytic, finite_difference
from service.numerics.gradients.finite_difference import colouring, needs_of_planning, noise, step
from service.numerics.gradients.finite_difference.plan import Plan
from service.numerics.graph import Graph, Values
from service.numerics.ops import REGISTRY
from service.numerics.ops.op import CALL, Case, Op
from service.numerics.precision import PRECISIONS
from service.numerics.rounding import allowances
from service.numerics.tiles import size
from tests.problems import around
from tests.random_graphs import random_graph
from tests.service.checking.affording import problem_of, tensor
from tests.service.numerics.counting import Count, Counted, counted

FACTOR = 4
EVERY = [
    pytest.param(op, case, id=f"{name}-{number}")
    for name, op in sorted(REGISTRY.items())
    for number, case in enumerate(op.cases)
]
MOVES = {"embedding", "expand", "flatten", "flip", "gather", "narrow", "pad", "permute", "reshape", "squeeze"}
MOVES |= {"transpose", "unsqueeze"}
"""Ops that hand on what they are given, most often as a view: they are estimated to take one pass."""


def within(counts: Count, estimate: int) -> bool:
    return counts.work / FACTOR <= estimate <= FACTOR * counts.work


@pytest.mark.parametrize(("op", "case"), EVERY)
def test_a_forward_pass_takes_the_calls_and_the_operations_that_are_foreseen(op: type[Op], case: Case):
    graph, leaves = around(op, case)
    node = graph.nodes[0]
    shapes = [graph.shapes[each] if isinstance(each, str) else None for each in node.operands]
    cost = node.op.cost(graph.shapes[node.name], *shapes)

    def forward(*inputs):
        node.op.forward(*inputs)

    inputs = graph.inputs(node, leaves)
    one = counted(forward, *inputs)
    tiles = 50
    tiled = (each if each is None or each.dtype.kind != "f" else each.repeat(tiles, 0) for each in inputs)
    many = counted(forward, *tiled)
    for_each = (many.elements - one.elements) / (tiles - 1)
    if op.name in MOVES:
        assert cost.calls == 1
        assert cost.work <= max(size(shape) for shape in (graph.shapes[node.name], *shapes) if shape is not None)
        assert for_each <= FACTOR * cost.work
        return
    assert within(one, cost.at_once)
    assert for_each / FACTOR <= cost.work <= FACTOR * for_each


def conv(op: str, length: int, kernel: int, channels: int = 1) -> dict:
    weights = {"w": tensor(channels, channels, kernel, kernel), "x": tensor(1, channels, length, length)}
    return model(weights, {"op": op, "inputs": ["x", "w"]})


def pool(op: str, length: int, **attributes) -> dict:
    return model({"x": tensor(1, length, length)}, {"op": op, "inputs": ["x"], **attributes})


def model(weights: dict, node: dict) -> dict:
    nodes = [
        {"name": "y", **node},
        {"name": "t", "op": "tanh", "inputs": ["y"]},
        {"name": "loss", "op": "sum", "inputs": ["t"]},
    ]
    return {"tensors": {}, "weights": weights, "model": {"nodes": nodes}}


LARGE = {
    "conv2d": conv("conv2d", 40, 20),
    "conv2d of channels": conv("conv2d", 30, 9, 4),
    "conv_transpose2d": conv("conv_transpose2d", 20, 8),
    "max_pool2d": pool("max_pool2d", 40, kernel_size=20, stride=1, padding=10),
    "max_pool2d, strided": pool("max_pool2d", 48, kernel_size=9, stride=3, dilation=2),
    "avg_pool2d": pool("avg_pool2d", 60, kernel_size=30, stride=1, padding=15),
    "linear": model({"x": tensor(30, 40), "w": tensor(50, 40)}, {"op": "linear", "inputs": ["x", "w"]}),
    "matmul": model({"x": tensor(30, 40), "w": tensor(40, 50)}, {"op": "matmul", "inputs": ["x", "w"]}),
    "einsum": model(
        {"x": tensor(6, 7, 8), "w": tensor(8, 7, 9)}, {"op": "einsum", "inputs": ["x", "w"], "equation": "abc,cbd->ad"}
    ),
    "attention": model(
        {name: tensor(30, 16, seed=at) for at, name in enumerate("qkv")},
        {"op": "scaled_dot_product_attention", "inputs": ["q", "k", "v"]},
    ),
    "softmax": model({"x": tensor(40, 50)}, {"op": "softmax", "inputs": ["x"], "dim": 1}),
    "layer_norm": model({"x": tensor(40, 50)}, {"op": "layer_norm", "inputs": ["x"], "normalized_shape": 50}),
    "elements": model({"x": tensor(200, 200)}, {"op": "gelu", "inputs": ["x"]}),
}


def large(name: str) -> tuple[Graph, Values, list[str]]:
    problem = problem_of(LARGE[name])
    return problem.graph, problem.wide, list(problem.names)


def random(seed: int) -> tuple[Graph, Values, list[str]]:
    graph, leaves = random_graph(seed)
    return graph, leaves, ["x", "u", "v", "w"]


GRAPHS = [
    *(pytest.param(*large(name), id=name) for name in LARGE),
    *(pytest.param(*random(seed), id=f"random {seed}") for seed in range(12)),
]
graphs = pytest.mark.parametrize(("graph", "leaves", "names"), GRAPHS)


@pytest.fixture(autouse=True)
def all_that_is_drawn_counts(monkeypatch):
    """What arrays that count nothing by themselves are made of: errors, coordinates and directions."""

    def counting(owner, name):
        own = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *given: own(*given).view(Counted))

    counting(rounding, "_uniform")
    counting(colouring, "_coordinates")
    counting(step, "directions")
    counting(noise, "directions")
    counting(colouring.Colouring, "directions")


@graphs
def test_a_graph_is_evaluated_in_what_is_foreseen(graph: Graph, leaves: Values, names: list[str]):
    assert within(counted(graph.forward, leaves), graph.cost().at_once)


@graphs
def test_all_but_the_differences_takes_what_is_foreseen(graph: Graph, leaves: Values, names: list[str]):
    def everything(leaves):
        analytic.differentiate(graph, leaves)
        allowances(graph, leaves, PRECISIONS["FP64"], 0, names)

    assert within(counted(everything, leaves), aside(graph))


@graphs
def test_planning_takes_no_more_than_is_foreseen(graph: Graph, leaves: Values, names: list[str]):
    found = counted(lambda: Plan(graph, leaves, names))
    needs = needs_of_planning(graph, names).work
    # Each node that a name reaches has its share of Python's own time.
    reached = 4 * CALL * sum(len(graph.downstream([name])) for name in graph.shapes if name not in graph.kinds)
    assert found.work / FACTOR <= needs
    assert needs <= 2 * FACTOR * found.work + 2 * reached


@graphs
def test_the_first_rung_of_differences_takes_what_is_foreseen(graph: Graph, leaves: Values, names: list[str]):
    plan = Plan(graph, leaves, names)
    rungs = 0

    def told(name, done, total):
        nonlocal rungs
        rungs = total / plan.evaluations

    def differences(leaves):
        with np.errstate(all="ignore"):
            finite_difference.differentiate(graph, leaves, names, plan=plan, progress=told)

    found = counted(differences, leaves)
    assert found.work / FACTOR <= plan.work * max(1, rungs)
    assert plan.work <= FACTOR * found.work
