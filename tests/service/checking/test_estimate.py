import pytest

from service.check import check
from service.checking import estimate
from service.checking.budget import planned
from service.checking.question import Limits
from tests.service.checking.affording import entangled, estimate_of, problem_of, refused, tensor


def test_an_estimate_counts_evaluations_operations_and_bytes():
    found, report = estimate_of(entangled(6, 5)), check(entangled(6, 5))
    assert found.evaluations == 8 * (6 * 5 + 5)
    assert found.evaluations <= report["cost"]["loss_evaluations"], "those of a first rung"
    larger = estimate_of(entangled(60, 50))
    assert larger.work > larger.evaluations * 3 * 60 * 50 > 10 * found.work
    assert larger.bytes > found.bytes > 2**24


def chain(length, *shape):
    """Each node moved by a weight of its own: everything reaches most of the nodes."""
    weights = {f"w{number}": tensor(*shape) for number in range(length)}
    nodes, before = [], "x"
    for number in range(length):
        nodes.append({"name": f"m{number}", "op": "mul", "inputs": [before, f"w{number}"]})
        nodes.append({"name": f"n{number}", "op": "add", "inputs": [before, f"m{number}"]})
        before = f"n{number}"
    nodes.append({"name": "loss", "op": "sum", "inputs": [before]})
    return {"tensors": {"x": tensor(*shape)}, "weights": weights, "model": {"nodes": nodes}}


@pytest.mark.no_cover
@pytest.mark.parametrize("body", [chain(150, 2), chain(4, *(2,) * 17)], ids=["nodes", "axes"])
def test_planning_is_weighed_before_it_begins(body, monkeypatch):
    problem = problem_of(body)
    needs = estimate.finite_difference.needs_of_planning(problem.graph, problem.names)
    plan = estimate._plan
    monkeypatch.setattr(estimate, "_plan", lambda each: plan(each) if each.projections else pytest.fail("planned"))
    for limits in (Limits(work=needs.work - 1), Limits(bytes=needs.bytes - 1)):
        detail = refused(planned, problem, limits)["/with_respect_to"]
        assert "evaluations" not in detail
