import pytest

from service.checks.common.limits import Limits
from service.checks.graph import budget, model_language
from service.checks.graph.check import check
from tests.service.checks.graph.sized_requests import get_refusal, make_problem


def test_budget_is_checked_before_allocation():
    """16 bytes of request may ask for padding to any size."""
    body = {
        "tensors": {"x": [[1.0]], "y": [[1.0]]},
        "weights": {"w": [[1.0]]},
        "model": {
            "nodes": [
                {"name": "c", "op": "conv2d", "inputs": ["x", "w"], "padding": 10**6, "stride": 10**7},
                {"name": "loss", "op": "half_squared_error", "inputs": ["c", "y"]},
            ]
        },
    }
    problem = make_problem(body)
    assert "4000004000" in get_refusal(budget.plan_within_limits, problem, Limits())["/model"]
    body["model"]["nodes"][0]["padding"] = 100
    budget.plan_within_limits(make_problem(body), Limits())


def test_tensors_are_counted_by_themselves_and_so_is_a_candidate(example):
    request = model_language.parse_check_request(example | {"candidate": {"w1": [[1.0] * 10] * 2}})
    budget.check_tensor_sizes(request, Limits(elements=21))
    refusal = get_refusal(budget.check_tensor_sizes, request, Limits(elements=20))
    assert refusal == {"/model": "the model would hold 21 elements or more at once; the limit is 20"}
    request = model_language.parse_check_request(example | {"candidate": {"w1": [[1.0] * 13] * 2}})
    assert "26 elements" in get_refusal(budget.check_tensor_sizes, request, Limits(elements=25))["/candidate"]


WIDE = [1] * 23 + [2]
"""A shape of as many dimensions as are taken."""
BEYOND = {
    "unsqueeze": ({"op": "unsqueeze", "inputs": ["w"], "dim": 0}, 25),
    "stack": ({"op": "stack", "inputs": [["w", "w"]], "dim": 0}, 25),
    "reshape": ({"op": "reshape", "inputs": ["w"], "shape": [1] * 31 + [2]}, 32),
    "expand": ({"op": "expand", "inputs": ["w"], "size": [3] * 4 + WIDE}, 28),
}


def make_wide_request(node):
    model = {"nodes": [node | {"name": "wider"}, {"name": "loss", "op": "sum", "inputs": ["wider"]}]}
    weight = {"datatype": "FP64", "shape": WIDE, "data": [1.5, 2.5]}
    return {"tensors": {}, "weights": {"w": weight}, "model": model}


@pytest.mark.parametrize(("node", "dimensions"), BEYOND.values(), ids=BEYOND)
def test_a_node_of_too_many_dimensions_is_refused_at_its_place(node, dimensions):
    refusal = get_refusal(check, make_wide_request(node), Limits())
    assert refusal == {"/model/nodes/0": f"its result would have {dimensions} dimensions; at most 24 are taken"}


AS_MANY = {
    "exp": {"op": "exp", "inputs": ["w"]},
    "mean": {"op": "mean", "inputs": ["w"], "dim": list(range(0, 24, 2)), "keepdim": True},
    "permute": {"op": "permute", "inputs": ["w"], "dims": list(range(24))[::-1]},
    "einsum": {"op": "einsum", "inputs": ["w", "w"], "equation": "...i,...i->...i"},
    "softmax": {"op": "softmax", "inputs": ["w"], "dim": -1},
    "cumsum": {"op": "cumsum", "inputs": ["w"], "dim": -1},
}


@pytest.mark.parametrize("node", AS_MANY.values(), ids=AS_MANY)
def test_as_many_dimensions_as_are_taken_can_be_computed(node):
    request = make_wide_request(node) | {"candidate": {"w": make_wide_request(node)["weights"]["w"]}}
    for part in ({}, {"sample": 1}, {"projections": 2}, {"method": "central"}):
        assert check(request | {"finite_difference": part})["verdicts"]["w"]["elements"]["total"] == 2


def test_kept_plan_of_joint_directions_holds_for_its_limits_alone(example):
    problem = make_problem(example | {"finite_difference": {"projections": 1}})
    plan = budget.plan_within_limits(problem, Limits())
    assert budget.plan_within_limits(problem, Limits()) is plan
    assert (
        "operations"
        in get_refusal(budget.plan_within_limits, problem, Limits(work=1000))["/finite_difference/projections"]
    )
    more = make_problem(example | {"finite_difference": {"projections": 2}})
    assert budget.plan_within_limits(more, Limits()).first_level_evaluations == 2 * plan.first_level_evaluations
