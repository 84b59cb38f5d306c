"""Estimates of what a request takes, against what is counted: calls, and elements and multiply-adds in them.

Counted is what NumPy is asked for with arrays that come of those that are given. What is made of nothing on the way is
not, nor what Python does between calls.
"""

import numpy as np
import pytest

from service.checks.graph.cost_estimate import estimate_other_graph_work
from service.numerics.core.batching import count_elements
from service.numerics.core.precision import PRECISIONS
from service.numerics.gradients import analytic, finite_difference
from service.numerics.gradients.finite_difference import colouring, estimate_planning_cost, noise_meter, step_scale
from service.numerics.gradients.finite_difference.difference_plan import DifferencePlan
from service.numerics.model import monte_carlo
from service.numerics.model.graph import Graph, NamedArrays
from service.numerics.model.rounding import estimate_rounding_allowances
from service.numerics.ops import OP_REGISTRY
from service.numerics.ops.op import WORK_PER_CALL, Op, OpExample
from tests.op_graphs import build_op_graph
from tests.random_graphs import draw_graph
from tests.service.checks.graph.sized_requests import draw_tensor, make_problem
from tests.service.numerics.operation_counts import CountingArray, OperationCount, count_operations

FACTOR = 4
EVERY = [
    pytest.param(op, case, id=f"{name}-{number}")
    for name, op in sorted(OP_REGISTRY.items())
    for number, case in enumerate(op.examples)
]
MOVES = {"embedding", "expand", "flatten", "flip", "gather", "narrow", "pad", "permute", "reshape", "squeeze"}
MOVES |= {"transpose", "unsqueeze"}
"""Ops that hand on what they are given, most often as a view: they are estimated to take one pass."""


def within(counts: OperationCount, estimate: int) -> bool:
    return counts.work / FACTOR <= estimate <= FACTOR * counts.work


@pytest.mark.parametrize(("op", "case"), EVERY)
def test_a_forward_pass_takes_the_calls_and_the_operations_that_are_foreseen(op: type[Op], case: OpExample):
    graph, leaves = build_op_graph(op, case)
    node = graph.nodes[0]
    shapes = [graph.shapes[each] if isinstance(each, str) else None for each in node.operands]
    cost = node.op.estimate_cost(graph.shapes[node.name], *shapes)

    def forward(*inputs):
        node.op.forward(*inputs)

    inputs = graph.get_operand_arrays(node, leaves)
    one = count_operations(forward, *inputs)
    tiles = 50
    tiled = (each if each is None or each.dtype.kind != "f" else each.repeat(tiles, 0) for each in inputs)
    many = count_operations(forward, *tiled)
    for_each = (many.elements - one.elements) / (tiles - 1)
    if op.name in MOVES:
        assert cost.calls == 1
        assert cost.work <= max(
            count_elements(shape) for shape in (graph.shapes[node.name], *shapes) if shape is not None
        )
        assert for_each <= FACTOR * cost.work
        return
    assert within(one, cost.total_work)
    assert for_each / FACTOR <= cost.work <= FACTOR * for_each


def conv(op: str, length: int, kernel: int, channels: int = 1) -> dict:
    weights = {"w": draw_tensor(channels, channels, kernel, kernel), "x": draw_tensor(1, channels, length, length)}
    return model(weights, {"op": op, "inputs": ["x", "w"]})


def pool(op: str, length: int, **attributes) -> dict:
    return model({"x": draw_tensor(1, length, length)}, {"op": op, "inputs": ["x"], **attributes})


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
    "linear": model({"x": draw_tensor(30, 40), "w": draw_tensor(50, 40)}, {"op": "linear", "inputs": ["x", "w"]}),
    "matmul": model({"x": draw_tensor(30, 40), "w": draw_tensor(40, 50)}, {"op": "matmul", "inputs": ["x", "w"]}),
    "einsum": model(
        {"x": draw_tensor(6, 7, 8), "w": draw_tensor(8, 7, 9)},
        {"op": "einsum", "inputs": ["x", "w"], "equation": "abc,cbd->ad"},
    ),
    "attention": model(
        {name: draw_tensor(30, 16, seed=at) for at, name in enumerate("qkv")},
        {"op": "scaled_dot_product_attention", "inputs": ["q", "k", "v"]},
    ),
    "softmax": model({"x": draw_tensor(40, 50)}, {"op": "softmax", "inputs": ["x"], "dim": 1}),
    "layer_norm": model({"x": draw_tensor(40, 50)}, {"op": "layer_norm", "inputs": ["x"], "normalized_shape": 50}),
    "elements": model({"x": draw_tensor(200, 200)}, {"op": "gelu", "inputs": ["x"]}),
}


def large(name: str) -> tuple[Graph, NamedArrays, list[str]]:
    problem = make_problem(LARGE[name])
    return problem.graph, problem.float64_leaves, list(problem.names)


def random(seed: int) -> tuple[Graph, NamedArrays, list[str]]:
    graph, leaves = draw_graph(seed)
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
        monkeypatch.setattr(owner, name, lambda *given: own(*given).view(CountingArray))

    counting(monte_carlo, "_sample_random_integers")
    counting(colouring, "_list_signed_coordinates")
    counting(step_scale, "draw_search_directions")
    counting(noise_meter, "draw_search_directions")
    counting(colouring.Colouring, "colour_directions")


@graphs
def test_a_graph_is_evaluated_in_what_is_foreseen(graph: Graph, leaves: NamedArrays, names: list[str]):
    assert within(count_operations(graph.forward, leaves), graph.estimate_cost().total_work)


@graphs
def test_other_work_is_within_its_estimate(graph: Graph, leaves: NamedArrays, names: list[str]):
    def everything(leaves):
        analytic.differentiate_analytically(graph, leaves)
        estimate_rounding_allowances(graph, leaves, PRECISIONS["FP64"], 0, names)

    assert within(count_operations(everything, leaves), estimate_other_graph_work(graph))


@graphs
def test_planning_takes_no_more_than_is_foreseen(graph: Graph, leaves: NamedArrays, names: list[str]):
    found = count_operations(lambda: DifferencePlan(graph, leaves, names))
    needs = estimate_planning_cost(graph, names).work
    # Each node that a name reaches has its share of Python's own time.
    reached = (
        4
        * WORK_PER_CALL
        * sum(len(graph.list_downstream_nodes([name])) for name in graph.shapes if name not in graph.leaf_kinds)
    )
    assert found.work / FACTOR <= needs
    assert needs <= 2 * FACTOR * found.work + 2 * reached


@graphs
def test_the_first_rung_of_differences_takes_what_is_foreseen(graph: Graph, leaves: NamedArrays, names: list[str]):
    plan = DifferencePlan(graph, leaves, names)
    rungs = 0

    def told(name, done, total):
        nonlocal rungs
        rungs = total / plan.first_level_evaluations

    def differences(leaves):
        with np.errstate(all="ignore"):
            finite_difference.differentiate_numerically(graph, leaves, names, plan=plan, progress=told)

    found = count_operations(differences, leaves)
    assert found.work / FACTOR <= plan.first_level_work * max(1, rungs)
    assert plan.first_level_work <= FACTOR * found.work
