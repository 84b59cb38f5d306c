import base64
import json
import re

import numpy as np
import pytest

from schemas.problem import InvalidRequestError
from service.check import check
from service.checking import budget, language
from service.checking.question import Limits, posed


def problem_of(body):
    return posed(language.parsed(body))


def refused(work, *arguments):
    with pytest.raises(InvalidRequestError) as error:
        work(*arguments)
    return {each["pointer"]: each["detail"] for each in error.value.errors}


def test_the_budget_is_looked_at_before_anything_is_allocated():
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
    problem = problem_of(body)
    assert "4000004000" in refused(budget.planned, problem, Limits())["/model"]
    body["model"]["nodes"][0]["padding"] = 100
    budget.planned(problem_of(body), Limits())


def tensor(*shape, seed=0):
    data = np.random.default_rng([seed, *shape]).normal(size=shape) / 8
    return {"datatype": "FP64", "shape": list(shape), "b64": base64.b64encode(data.tobytes()).decode()}


def entangled(rows, columns, **fields):
    """A model in which every element of `w` and `v` moves the one term of the loss."""
    nodes = [
        {"name": "t", "op": "tanh", "inputs": ["w"]},
        {"name": "u", "op": "tanh", "inputs": ["v"]},
        {"name": "m", "op": "mul", "inputs": ["t", "u"]},
        {"name": "loss", "op": "logsumexp", "inputs": ["m"], "dim": [0, 1]},
    ]
    weights = {"w": tensor(rows, columns), "v": tensor(columns)}
    return {"tensors": {}, "weights": weights, "model": {"nodes": nodes}, "include": [], "encoding": "b64"} | fields


def estimate_of(body):
    return budget.estimated(problem_of(body), Limits())[1]


def test_an_estimate_counts_evaluations_operations_and_bytes():
    estimate, report = estimate_of(entangled(6, 5)), check(entangled(6, 5))
    assert estimate.evaluations == 8 * (6 * 5 + 5)
    assert estimate.evaluations <= report["cost"]["loss_evaluations"], "those of a first rung"
    larger = estimate_of(entangled(60, 50))
    assert larger.work > larger.evaluations * 3 * 60 * 50 > 10 * estimate.work
    assert larger.bytes > estimate.bytes > 2**24


def limits_below(body, **limits):
    """Limits of which one is half of what a request would take."""
    estimate = estimate_of(body)
    return Limits(**{name: int(getattr(estimate, name) * part) for name, part in limits.items()})


def suggestions(detail):
    """Each way that is said to fit, as fields of a request."""
    assert "What would fit: " in detail
    for way in detail.split("What would fit: ")[1].split("; or "):
        if fewer := re.match(r"fewer tensors: (.*) alone would take about", way):
            yield {"with_respect_to": re.findall(r"'(\w+)'", fewer[1])}
        else:
            yield json.loads("{" + re.match(r"(.*) would take about", way)[1] + "}")


CASES = {
    "work": (entangled(60, 50), {"work": 0.5}),
    "little work": (entangled(60, 50), {"work": 0.3}),
    "bytes": (entangled(1500, 20), {"bytes": 0.98}),
    "a sample": (entangled(60, 50, finite_difference={"sample": 2000}), {"work": 0.5}),
    "directions": (entangled(100, 60, finite_difference={"projections": 600}), {"bytes": 0.8}),
}


@pytest.mark.parametrize(("body", "part"), CASES.values(), ids=CASES)
def test_what_is_said_to_fit_does(body, part):
    limits = limits_below(body, **part)
    ((place, detail),) = refused(check, body, limits).items()
    asked = next(iter(body.get("finite_difference", {})), None)
    assert place == ("/with_respect_to" if asked is None else f"/finite_difference/{asked}")
    assert ("evaluations of the loss" in detail) == (asked != "projections"), "before a direction is drawn"
    assert f"the limit is {getattr(limits, next(iter(part))):.1e}" in detail
    ways = list(suggestions(detail))
    assert ways
    for way in ways:
        assert set(check(body | way, limits)["verdicts"]) <= {"w", "v"}, way


def test_more_than_what_is_said_to_fit_does_not():
    """A negative control: the numbers of tensors and elements are as large as they can be, to a power of ten."""
    body = entangled(60, 50)
    limits = limits_below(body, work=0.5)
    ways = list(suggestions(refused(check, body, limits)["/with_respect_to"]))
    kinds = [next(iter(way.get("finite_difference", way))) for way in ways]
    assert kinds == ["with_respect_to", "sample", "projections"]
    everything = {"with_respect_to": list(body["weights"])}
    refused(check, body | everything, limits)
    count = ways[1]["finite_difference"]["sample"]
    over = refused(check, body | {"finite_difference": {"sample": 200 * count}}, limits)
    assert "/finite_difference/sample" in over


def test_tensors_with_a_candidate_are_not_left_out_of_what_would_fit():
    body = entangled(60, 50, candidate={"w": tensor(60, 50)})
    limits = limits_below(body, work=0.5)
    for way in suggestions(refused(check, body, limits)["/with_respect_to"]):
        assert "w" in way.get("with_respect_to", ["w"])
        check(body | way, limits)


def test_where_nothing_would_fit_it_says_so(example):
    assert "Take a smaller model" in refused(check, example, Limits(work=1000))["/with_respect_to"]
    assert "Take a smaller model" in refused(check, example, Limits(bytes=1000))["/with_respect_to"]


@pytest.mark.parametrize("count", [10**5, 10**12, 10**30])
def test_any_number_of_directions_is_weighed_before_one_is_drawn(example, count):
    body = example | {"finite_difference": {"projections": count}}
    detail = refused(check, body, Limits(bytes=10**8, work=10**9))["/finite_difference/projections"]
    assert {"finite_difference": {"projections": 100}} in list(suggestions(detail))


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
    needs = budget.finite_difference.needs_of_planning(problem.graph, problem.names)
    plan = budget._plan
    monkeypatch.setattr(budget, "_plan", lambda each: plan(each) if each.projections else pytest.fail("planned"))
    for limits in (Limits(work=needs.work - 1), Limits(bytes=needs.bytes - 1)):
        detail = refused(budget.planned, problem, limits)["/with_respect_to"]
        assert "evaluations" not in detail


def test_tensors_are_counted_by_themselves_and_so_is_a_candidate(example):
    request = language.parsed(example | {"candidate": {"w1": [[1.0] * 10] * 2}})
    budget.check_tensors(request, Limits(elements=21))
    found = refused(budget.check_tensors, request, Limits(elements=20))
    assert found == {"/model": "the model would hold 21 elements or more at once; the limit is 20"}
    request = language.parsed(example | {"candidate": {"w1": [[1.0] * 13] * 2}})
    assert "26 elements" in refused(budget.check_tensors, request, Limits(elements=25))["/candidate"]


WIDE = [1] * 23 + [2]
"""A shape of as many dimensions as are taken."""
BEYOND = {
    "unsqueeze": ({"op": "unsqueeze", "inputs": ["w"], "dim": 0}, 25),
    "stack": ({"op": "stack", "inputs": [["w", "w"]], "dim": 0}, 25),
    "reshape": ({"op": "reshape", "inputs": ["w"], "shape": [1] * 31 + [2]}, 32),
    "expand": ({"op": "expand", "inputs": ["w"], "size": [3] * 4 + WIDE}, 28),
}


def of_many_dimensions(node):
    model = {"nodes": [node | {"name": "wider"}, {"name": "loss", "op": "sum", "inputs": ["wider"]}]}
    weight = {"datatype": "FP64", "shape": WIDE, "data": [1.5, 2.5]}
    return {"tensors": {}, "weights": {"w": weight}, "model": model}


@pytest.mark.parametrize(("node", "dimensions"), BEYOND.values(), ids=BEYOND)
def test_a_node_of_too_many_dimensions_is_refused_at_its_place(node, dimensions):
    found = refused(check, of_many_dimensions(node), Limits())
    assert found == {"/model/nodes/0": f"its result would have {dimensions} dimensions; at most 24 are taken"}


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
    request = of_many_dimensions(node) | {"candidate": {"w": of_many_dimensions(node)["weights"]["w"]}}
    for part in ({}, {"sample": 1}, {"projections": 2}, {"method": "central"}):
        assert check(request | {"finite_difference": part})["verdicts"]["w"]["elements"]["total"] == 2
