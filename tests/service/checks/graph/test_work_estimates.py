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
from service.numerics.ops.composite import CompositeOp
from service.numerics.ops.op import WORK_PER_CALL, Op, OpExample
from tests.op_graphs import build_op_graph
from tests.random_graphs import draw_graph
from tests.service.checks.graph.sized_requests import draw_tensor, make_problem
from tests.service.numerics.operation_counts import CountingArray, OperationCount, count_operations

FACTOR = 4
EVERY = [
    pytest.param(op, case, id=f"{name}-{number}")
    for name, op in sorted(OP_REGISTRY.items())
    if not issubclass(op, CompositeOp)  # its steps are other ops
    for number, case in enumerate(op.examples)
]
MOVES = {"embedding", "expand", "flatten", "flip", "gather", "narrow", "permute", "reshape", "squeeze"}
MOVES |= {"transpose", "unsqueeze"}
MOVES |= {
    "diagonal_scatter",
    "index_copy",
    "index_put",
    "masked_scatter",
    "max_unpool1d",
    "max_unpool2d",
    "max_unpool3d",
    "scatter",
    "select_scatter",
    "slice_scatter",
}
"""Ops that hand on what they are given, most often as a view: they are estimated to take one pass."""


def is_within_factor(counts: OperationCount, estimate: int) -> bool:
    return counts.work / FACTOR <= estimate <= FACTOR * counts.work


@pytest.mark.parametrize(("op", "case"), EVERY)
def test_a_forward_pass_takes_the_calls_and_the_operations_that_are_foreseen(op: type[Op], case: OpExample):
    graph, leaves = build_op_graph(op, case)
    node = graph.nodes[0]
    shapes = [graph.shapes[operand] if isinstance(operand, str) else None for operand in node.operands]
    cost = node.op.estimate_cost(graph.shapes[node.name], *shapes)

    def forward(*inputs):
        node.op.forward(*inputs)

    inputs = graph.get_operand_arrays(node, leaves)
    one = count_operations(forward, *inputs)
    tiles = 50
    tiled = (array if array is None or array.dtype.kind != "f" else array.repeat(tiles, 0) for array in inputs)
    many = count_operations(forward, *tiled)
    for_each = (many.elements - one.elements) / (tiles - 1)
    if op.name in MOVES:
        assert cost.calls == 1
        assert cost.work <= max(
            count_elements(shape) for shape in (graph.shapes[node.name], *shapes) if shape is not None
        )
        assert for_each <= FACTOR * cost.work
        return
    assert is_within_factor(one, cost.total_work)
    assert for_each / FACTOR <= cost.work <= FACTOR * for_each


def make_conv_request(op: str, length: int, kernel: int, channels: int = 1) -> dict:
    weights = {"w": draw_tensor(channels, channels, kernel, kernel), "x": draw_tensor(1, channels, length, length)}
    return make_request(weights, {"op": op, "inputs": ["x", "w"]})


def make_pool_request(op: str, length: int, **attributes) -> dict:
    return make_request({"x": draw_tensor(1, length, length)}, {"op": op, "inputs": ["x"], **attributes})


def make_request(weights: dict, node: dict) -> dict:
    nodes = [
        {"name": "y", **node},
        {"name": "t", "op": "tanh", "inputs": ["y"]},
        {"name": "loss", "op": "sum", "inputs": ["t"]},
    ]
    return {"tensors": {}, "weights": weights, "model": {"nodes": nodes}}


LARGE = {
    "conv2d": make_conv_request("conv2d", 40, 20),
    "conv2d of channels": make_conv_request("conv2d", 30, 9, 4),
    "conv_transpose2d": make_conv_request("conv_transpose2d", 20, 8),
    "max_pool2d": make_pool_request("max_pool2d", 40, kernel_size=20, stride=1, padding=10),
    "max_pool2d, strided": make_pool_request("max_pool2d", 48, kernel_size=9, stride=3, dilation=2),
    "avg_pool2d": make_pool_request("avg_pool2d", 60, kernel_size=30, stride=1, padding=15),
    "linear": make_request(
        {"x": draw_tensor(30, 40), "w": draw_tensor(50, 40)}, {"op": "linear", "inputs": ["x", "w"]}
    ),
    "matmul": make_request(
        {"x": draw_tensor(30, 40), "w": draw_tensor(40, 50)}, {"op": "matmul", "inputs": ["x", "w"]}
    ),
    "einsum": make_request(
        {"x": draw_tensor(6, 7, 8), "w": draw_tensor(8, 7, 9)},
        {"op": "einsum", "inputs": ["x", "w"], "equation": "abc,cbd->ad"},
    ),
    "attention": make_request(
        {name: draw_tensor(30, 16, seed=at) for at, name in enumerate("qkv")},
        {"op": "scaled_dot_product_attention", "inputs": ["q", "k", "v"]},
    ),
    "softmax": make_request({"x": draw_tensor(40, 50)}, {"op": "softmax", "inputs": ["x"], "dim": 1}),
    "layer_norm": make_request(
        {"x": draw_tensor(40, 50)}, {"op": "layer_norm", "inputs": ["x"], "normalized_shape": 50}
    ),
    "elements": make_request({"x": draw_tensor(200, 200)}, {"op": "gelu", "inputs": ["x"]}),
}


def make_large_problem(name: str) -> tuple[Graph, NamedArrays, list[str]]:
    problem = make_problem(LARGE[name])
    return problem.graph, problem.float64_leaves, list(problem.names)


def draw_problem(seed: int) -> tuple[Graph, NamedArrays, list[str]]:
    graph, leaves = draw_graph(seed)
    return graph, leaves, ["x", "u", "v", "w"]


GRAPHS = [
    *(pytest.param(*make_large_problem(name), id=name) for name in LARGE),
    *(pytest.param(*draw_problem(seed), id=f"random {seed}") for seed in range(12)),
]
graphs = pytest.mark.parametrize(("graph", "leaves", "names"), GRAPHS)


@pytest.fixture(autouse=True)
def counted_draws(monkeypatch):
    """What arrays that count nothing by themselves are made of: errors, coordinates and directions."""

    def count_draws(owner, name):
        own = getattr(owner, name)
        monkeypatch.setattr(owner, name, lambda *given: own(*given).view(CountingArray))

    count_draws(monte_carlo, "_sample_random_integers")
    count_draws(colouring, "_list_signed_coordinates")
    count_draws(step_scale, "draw_search_directions")
    count_draws(noise_meter, "draw_search_directions")
    count_draws(colouring.Colouring, "colour_directions")


@graphs
def test_graph_evaluation_stays_within_its_estimate(graph: Graph, leaves: NamedArrays, names: list[str]):
    assert is_within_factor(count_operations(graph.forward, leaves), graph.estimate_cost().total_work)


@graphs
def test_other_work_is_within_its_estimate(graph: Graph, leaves: NamedArrays, names: list[str]):
    def run_other_work(leaves):
        analytic.differentiate_analytically(graph, leaves)
        estimate_rounding_allowances(graph, leaves, PRECISIONS["FP64"], 0, names)

    assert is_within_factor(count_operations(run_other_work, leaves), estimate_other_graph_work(graph))


@graphs
def test_planning_stays_within_its_estimate(graph: Graph, leaves: NamedArrays, names: list[str]):
    counts = count_operations(lambda: DifferencePlan(graph, leaves, names))
    needs = estimate_planning_cost(graph, names).work
    # Each node that a name reaches has its share of Python's own time.
    reached = (
        4
        * WORK_PER_CALL
        * sum(len(graph.list_downstream_nodes([name])) for name in graph.shapes if name not in graph.leaf_kinds)
    )
    assert counts.work / FACTOR <= needs
    assert needs <= 2 * FACTOR * counts.work + 2 * reached


@graphs
def test_first_level_of_differences_stays_within_its_estimate(graph: Graph, leaves: NamedArrays, names: list[str]):
    plan = DifferencePlan(graph, leaves, names)
    rungs = 0

    def record_total(name, done, total):
        nonlocal rungs
        rungs = total / plan.first_level_evaluations

    def differentiate(leaves):
        with np.errstate(all="ignore"):
            finite_difference.differentiate_numerically(graph, leaves, names, plan=plan, progress=record_total)

    counts = count_operations(differentiate, leaves)
    assert counts.work / FACTOR <= plan.first_level_work * max(1, rungs)
    assert plan.first_level_work <= FACTOR * counts.work
