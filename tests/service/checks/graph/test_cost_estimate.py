import pytest

from service.checks.common.limits import Limits
from service.checks.graph import cost_estimate, suggestions
from service.checks.graph.budget import check_longest_call, plan_within_limits
from service.checks.graph.check import check
from tests.service.checks.graph.sized_requests import (
    draw_tensor,
    estimate_request,
    get_refusal,
    make_entangled_request,
    make_problem,
)


def test_an_estimate_counts_evaluations_operations_and_bytes():
    estimate, report = estimate_request(make_entangled_request(6, 5)), check(make_entangled_request(6, 5))
    assert estimate.evaluations == 8 * (6 * 5 + 5)
    assert estimate.evaluations <= report["cost"]["loss_evaluations"], "those of a first rung"
    larger = estimate_request(make_entangled_request(60, 50))
    assert larger.work > larger.evaluations * 3 * 60 * 50 > 10 * estimate.work
    assert larger.bytes > estimate.bytes > 2**24


def make_chain_request(length, *shape):
    """Each node moved by a weight of its own: everything reaches most of the nodes."""
    weights = {f"w{number}": draw_tensor(*shape) for number in range(length)}
    nodes, before = [], "x"
    for number in range(length):
        nodes.append({"name": f"m{number}", "op": "mul", "inputs": [before, f"w{number}"]})
        nodes.append({"name": f"n{number}", "op": "add", "inputs": [before, f"m{number}"]})
        before = f"n{number}"
    nodes.append({"name": "loss", "op": "sum", "inputs": [before]})
    return {"tensors": {"x": draw_tensor(*shape)}, "weights": weights, "model": {"nodes": nodes}}


@pytest.mark.no_cover
@pytest.mark.parametrize("body", [make_chain_request(150, 2), make_chain_request(4, *(2,) * 17)], ids=["nodes", "axes"])
def test_planning_is_weighed_before_it_begins(body, monkeypatch):
    problem = make_problem(body)
    needs = cost_estimate.finite_difference.estimate_planning_cost(problem.graph, problem.names)
    monkeypatch.setattr(cost_estimate, "_plan_differences", lambda graph: pytest.fail("planned"))
    # Nor is anything planned to say what would fit.
    monkeypatch.setattr(suggestions, "_MAX_PLANNING_WORK", 0)
    for limits in (
        Limits(work=cost_estimate.estimate_other_work(problem) + needs.work - 1),
        Limits(bytes=needs.memory_bytes - 1),
    ):
        detail = get_refusal(plan_within_limits, problem, limits)["/with_respect_to"]
        assert "evaluations" not in detail


def test_a_model_is_refused_in_which_one_call_of_pytorch_takes_too_long():
    """Whatever is asked of it: nothing is computed, planned or proposed."""
    body = make_entangled_request(2, 3)
    pooled = {"name": "p", "op": "avg_pool2d", "inputs": ["t"], "kernel_size": 400, "stride": 1, "padding": 200}
    nodes = [*body["model"]["nodes"][:1], pooled, {"name": "loss", "op": "sum", "inputs": ["p"]}]
    body |= {
        "weights": {"w": draw_tensor(1, 600, 600)},
        "model": {"nodes": nodes},
        "finite_difference": {"projections": 1},
    }
    refusal = get_refusal(check, body, Limits(seconds=60))
    assert "in one call, which nothing can interrupt" in refusal["/model/nodes/1"]
    assert "the limit is 1.5e+10" in str(refusal)
    limits = Limits(seconds=1)
    check_longest_call(make_problem(make_entangled_request(60, 50)), limits)


def test_estimated_call_of_pytorch_grows_with_the_whole_window():
    graph = make_problem(
        {
            "tensors": {},
            "weights": {"x": draw_tensor(1, 20, 20)},
            "model": {
                "nodes": [
                    {"name": "y", "op": "max_pool2d", "inputs": ["x"], "kernel_size": [5, 4], "stride": 1},
                    {"name": "loss", "op": "sum", "inputs": ["y"]},
                ]
            },
        }
    ).graph
    longest, node = graph.estimate_longest_call_work()
    assert (longest, node.name) == (16 * 17 * 5 * 4, "y")
