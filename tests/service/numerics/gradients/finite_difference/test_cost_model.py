import tracemalloc

import numpy as np
import pytest

from service.numerics.gradients import finite_difference
from service.numerics.gradients.finite_difference import estimate_cost, estimate_planning_cost
from service.numerics.model.graph import Graph, Node
from service.numerics.ops import OP_REGISTRY
from tests.op_graphs import build_reference_model

MODELS = {"64x64": ((64, 64), (5, 5)), "128x128": ((128, 128), (3, 3)), "100x100": ((100, 100), (9, 9))}


def measure_extra_memory(work):
    """Most bytes that are held at once, and what came of it."""
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    result = work()
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    return peak, result


@pytest.mark.parametrize("sizes", MODELS.values(), ids=MODELS)
def test_bytes_are_foreseen_to_a_factor_of_two(sizes):
    graph, leaves = build_reference_model(*sizes)
    names = ["x", "w1", "w2"]
    plan = finite_difference.plan_differences(graph, leaves, names)
    measured, _ = measure_extra_memory(
        lambda: finite_difference.differentiate_numerically(graph, leaves, names, plan=plan)
    )
    assert measured / 1.5 < estimate_cost(plan).memory_bytes < 2.5 * measured


def test_operations_and_bytes_grow_with_the_model():
    small, large = (
        estimate_cost(finite_difference.plan_differences(*build_reference_model((size, size)), ["w1"]))
        for size in (16, 256)
    )
    assert large.work > 5 * small.work
    assert large.memory_bytes > 4 * small.memory_bytes


def make_many_axes_graph(count):
    shape = (2,) * count
    nodes = [
        Node("a", OP_REGISTRY["mul"](), ("x", "w")),
        Node("b", OP_REGISTRY["tanh"](), ("a",)),
        Node("loss", OP_REGISTRY["sum"](), ("b",)),
    ]
    return Graph(nodes, {"x": shape, "w": shape})


@pytest.mark.parametrize("count", [12, 15])
def test_planning_of_many_axes_is_foreseen(count):
    graph = make_many_axes_graph(count)
    leaves = {name: np.zeros((1, *graph.shapes[name])) for name in ("x", "w")}
    measured, _ = measure_extra_memory(lambda: finite_difference.DifferencePlan(graph, leaves, ["x", "w"]))
    assert measured / 2 < estimate_planning_cost(graph, ["x", "w"]).memory_bytes < 2.5 * measured


def test_planning_grows_with_what_each_name_reaches():
    def time_planning(length):
        nodes = [Node("n0", OP_REGISTRY["mul"](), ("x", "w0"))]
        nodes += [Node(f"n{i}", OP_REGISTRY["mul"](), (f"n{i - 1}", f"w{i}")) for i in range(1, length)]
        nodes.append(Node("loss", OP_REGISTRY["sum"](), (f"n{length - 1}",)))
        return Graph(nodes, {"x": (2,), **{f"w{i}": (2,) for i in range(length)}})

    def work(length, **options):
        return estimate_planning_cost(time_planning(length), [f"w{i}" for i in range(length)], **options).work

    assert work(80) == pytest.approx(4 * work(40), rel=0.1)
    assert work(40, direct=True) < work(40), "where nothing is handed back nothing else is followed"
    assert estimate_planning_cost(time_planning(40), ["w39"]).work < work(40) / 50
