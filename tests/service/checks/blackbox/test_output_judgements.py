"""Judgements of products of a function with two outputs: right ones pass, and every planted error is found."""

import copy
import itertools
import json

import numpy as np
import pytest

from schemas.problem_details import InvalidRequestError
from service.checks.blackbox.judge import judge_losses
from service.checks.common.deadline import Clock
from tests.service.checks.blackbox.output_requests import (
    compute_jvp,
    compute_vjp,
    evaluate_plan,
    make_output_request,
    plan_outputs,
    to_wire,
)

KINDS = ("random", "coordinates")
CASES = [
    *((kind, products) for kind in KINDS for products in (("vjp",), ("jvp",), ("vjp", "jvp"))),
    ("coordinates", ("jacobian",)), ("coordinates", ("jacobian", "jvp")),
]  # fmt: skip
BODIES = {(kind, products): make_output_request(kind, *products) for kind, products in CASES}


@pytest.mark.parametrize(("kind", "products"), CASES)
def test_right_products_pass(kind, products):
    report = judge_losses(BODIES[kind, products])
    assert report["outcome"] == "pass"
    pairs = ["y/w", "y/b", "total/w", "total/b"] if {"vjp", "jacobian"} & {*products} else []
    outputs = ["y", "total"] if "jvp" in products else []
    assert set(report["verdicts"]) == {*pairs, *outputs}
    assert all(verdict["outcome"] == "pass" for verdict in report["verdicts"].values())
    assert report["outputs"] == {"y": [2, 3], "total": []}
    assert report["deterministic"]
    assert 0 < report["noise"] < 1e-14


def plant(body, field, output, name=None, factor=1.0001, index=()):
    """The same request with one element of a product off by a factor."""
    body = copy.deepcopy(body)
    by_output = body[field]
    holder, key = (by_output, output) if name is None else (by_output[output], name)
    array = np.array(holder[key])
    array[index] *= factor
    holder[key] = array.tolist()
    return body


def find_failures(report):
    return [name for name, verdict in report["verdicts"].items() if verdict["outcome"] == "fail"]


PLANTED = {
    "an element of vjp": ("random", "vjp", "y", "b", 1.0001, (1,), "y/b"),
    "the sign of an element of vjp": ("random", "vjp", "y", "w", -1.0, (1, 0), "y/w"),
    "the small output in vjp": ("random", "vjp", "total", "w", 1.001, ..., "total/w"),
    "an element of vjp by elements": ("coordinates", "vjp", "y", "b", 1.0001, (1,), "y/b"),
    "an element of jvp": ("random", "jvp", "y", None, 1.0001, (2, 0, 1), "y"),
    "a number of jvp": ("random", "jvp", "total", None, 1.0001, (5,), "total"),
    "an element of jvp by elements": ("coordinates", "jvp", "y", None, -1.0, (1, 0, 1), "y"),
    "an element of the Jacobian": ("coordinates", "jacobian", "y", "w", 1.0001, (1, 2, 1, 0), "y/w"),
    "the sign of an element of the Jacobian": ("coordinates", "jacobian", "y", "b", -1.0, (0, 1, 1), "y/b"),
    "the small output in the Jacobian": ("coordinates", "jacobian", "total", "w", 2.0, ..., "total/w"),
}


@pytest.mark.parametrize(
    ("kind", "field", "output", "name", "factor", "index", "verdict"), PLANTED.values(), ids=PLANTED
)
def test_a_planted_error_fails_with_its_output_and_tensor(kind, field, output, name, factor, index, verdict):
    report = judge_losses(plant(BODIES[kind, (field,)], field, output, name, factor, index))
    assert report["outcome"] == "fail"
    assert find_failures(report) == [verdict]
    assert report["summary"].startswith("fail: ")
    assert f" of {verdict}" in report["summary"]


@pytest.mark.parametrize("field", ["vjp", "jvp", "jacobian"])
@pytest.mark.parametrize("factor", [1.001, 2.0, -1.0])
def test_a_wrong_factor_of_all_fails_everywhere(field, factor):
    body = copy.deepcopy(BODIES["coordinates", (field,)])
    body[field] = to_wire(
        {
            output: {name: factor * np.array(tensor) for name, tensor in by_tensor.items()}
            if isinstance(by_tensor, dict)
            else factor * np.array(by_tensor)
            for output, by_tensor in body[field].items()
        }
    )
    report = judge_losses(body)
    assert find_failures(report) == list(report["verdicts"])
    bugs = {bug["name"] for verdict in report["verdicts"].values() for bug in verdict["diagnoses"]}
    assert ("sign_flipped" in bugs) == (factor == -1.0)


def test_a_gradient_cannot_hide_behind_another_output():
    # The output has no part of the cotangent: its gradient, which is wrong, is 0 in a sum over all outputs.
    body = plant(BODIES["random", ("vjp",)], "vjp", "total", "b", 1.01, (0,))
    assert find_failures(judge_losses(body)) == ["total/b"]


def test_the_worst_element_of_a_jacobian_has_the_index_of_output_and_tensor():
    body = plant(BODIES["coordinates", ("jacobian",)], "jacobian", "y", "w", -1.0, (1, 2, 1, 0))
    verdict = judge_losses(body)["verdicts"]["y/w"]
    assert verdict["worst"][0]["index"] == [1, 2, 1, 0]
    assert verdict["pattern"] == "one element, sign flipped: y/w[1][2][1][0]"
    assert (verdict["elements"]["total"], verdict["elements"]["fail"]) == (24, 1)
    assert not {"directions", "taylor"} & verdict.keys()


def test_the_worst_element_of_jvp_has_the_direction_first():
    body = plant(BODIES["random", ("jvp",)], "jvp", "y", None, 1.01, (6, 1, 2))
    verdict = judge_losses(body)["verdicts"]["y"]
    assert verdict["worst"][0]["index"] == [6, 1, 2]
    assert verdict["elements"]["total"] == 8 * 6
    assert verdict["missed"].keys() == {"relative_l2", "probability"}


def test_a_jacobian_of_some_elements_counts_the_others():
    report = judge_losses(
        make_output_request("coordinates", "jacobian", directions={"kind": "coordinates", "count": 2})
    )
    verdict = report["verdicts"]["y/w"]
    assert (verdict["elements"]["pass"], verdict["elements"]["not_examined"]) == (12, 12)
    assert verdict["missed"]["wrong_elements"] == 1
    assert verdict["missed"]["probability"] == 0.5
    assert verdict["missed"]["single_element"]["probability"] >= 0.5


def test_products_of_some_outputs_are_judged_alone():
    body = copy.deepcopy(BODIES["random", ("vjp", "jvp")])
    del body["vjp"]["y"], body["jvp"]["total"]
    report = judge_losses(body)
    assert list(report["verdicts"]) == ["y", "total/w", "total/b"]
    assert "dot_tests" not in report


def test_the_cotangents_of_the_request_are_judged():
    cotangents = {"y": [[0.0, 2.0, 0.0], [0.0, 0.0, 1e-3]], "total": 1e6}
    result = plan_outputs("coordinates", outputs=None, cotangents=cotangents)
    request = to_wire({"plan": dict(result.plan), "values": evaluate_plan(result), "vjp": compute_vjp(result)})
    assert judge_losses(request)["outcome"] == "pass"
    assert find_failures(judge_losses(plant(request, "vjp", "y", "b", 1.0001, (2,)))) == ["y/b"]


def test_both_sides_agree_along_every_direction():
    for kind in KINDS:
        tests = judge_losses(BODIES[kind, ("vjp", "jvp")])["dot_tests"]
        assert [test["name"] for test in tests] == ["y/w", "y/b", "total/w", "total/b"]
        assert {test["outcome"] for test in tests} == {"pass"}
        for test in tests:
            assert abs(test["vjp"] - test["jvp"]) <= test["allowed"]


def test_products_of_the_whole_jacobian_that_disagree_fail_together():
    result = plan_outputs()
    vjp, jvp = compute_vjp(result), compute_jvp(result)
    vjp["y"]["b"] = 1.1 * vjp["y"]["b"]
    request = {"plan": dict(result.plan), "values": evaluate_plan(result), "vjp": vjp, "jvp": jvp}
    report = judge_losses(to_wire(request))
    failing = [test for test in report["dot_tests"] if test["outcome"] == "fail"]
    assert [test["name"] for test in failing] == ["y/b"]
    assert "The vjp and the jvp of y/b contradict each other: along direction" in report["summary"]


def test_a_missing_point_costs_one_level_alone():
    for kind, products in CASES:
        body = copy.deepcopy(BODIES[kind, products])
        body["values"]["y"][60], body["values"]["total"][75] = None, "NaN"
        report = judge_losses(body)
        assert report["outcome"] == "pass", report["summary"]
        assert sum(verdict["without_value"] for verdict in report["verdicts"].values()) == 2 * len(products)


def test_an_element_without_a_value_at_the_base_is_inconclusive_and_named():
    for products in (("vjp",), ("jvp",), ("jacobian",)):
        body = copy.deepcopy(BODIES["coordinates", products])
        for number in range(len(body["values"]["y"])):
            body["values"]["y"][number][0][1] = "NaN"
        report = judge_losses(body)
        assert report["outcome"] == "inconclusive"
        names = [name for name, verdict in report["verdicts"].items() if verdict["outcome"] == "inconclusive"]
        assert names == (["y"] if products == ("jvp",) else ["y/w", "y/b"])
        for name in names:
            assert "no finite value of 1 of 6 elements, the first y[0][1]" in report["verdicts"][name]["reason"]


@pytest.mark.parametrize("field", ["vjp", "jacobian"])
def test_a_product_that_is_no_number_fails(field):
    body = copy.deepcopy(BODIES["coordinates", (field,)])
    tensor = np.array(body[field]["y"]["b"])
    tensor[..., 1] = np.nan
    body[field]["y"]["b"] = spell_numbers(tensor)
    assert find_failures(judge_losses(body)) == ["y/b"]


def spell_numbers(array):
    if array.ndim:
        return [spell_numbers(part) for part in array]
    return "NaN" if np.isnan(array) else float(array)


@pytest.mark.parametrize(
    ("field", "name", "index"), [("vjp", "b", (1,)), ("jvp", None, (5, 0, 1)), ("jacobian", "b", (0, 1, 1))]
)
def test_a_tolerance_replaces_the_allowance_of_products(field, name, index):
    body = plant(BODIES["coordinates", (field,)], field, "y", name, 1.001, index)
    assert judge_losses(body)["outcome"] == "fail"
    assert judge_losses(body | {"tolerance": {"rtol": 1e-2, "atol": 1e-6}})["outcome"] == "pass"


def test_the_declared_arithmetic_sets_the_allowance_of_products():
    for field in ("vjp", "jacobian", "jvp"):
        body = copy.deepcopy(BODIES["coordinates", (field,)])
        body[field] = to_wire(round_to_float32(body[field]))
        assert judge_losses(body)["outcome"] == "fail"
        assert judge_losses(body | {"candidate_dtype": "FP32"})["outcome"] == "pass"


def round_to_float32(value):
    if isinstance(value, dict):
        return {name: round_to_float32(part) for name, part in value.items()}
    return np.float32(value).astype(float)


def test_a_datatype_declares_the_arithmetic():
    body = copy.deepcopy(BODIES["coordinates", ("vjp",)])
    rounded = np.float32(body["vjp"]["y"]["b"])
    body["vjp"]["y"]["b"] = {"datatype": "FP32", "shape": [3], "data": rounded.astype(float).tolist()}
    assert judge_losses(body)["outcome"] == "pass"


def test_a_client_may_order_its_objects_as_it_likes():
    body = BODIES["random", ("vjp", "jvp")]
    other = copy.deepcopy(body)
    for holder in (other["plan"]["outputs"], other["plan"]["cotangents"], other["values"], other["vjp"], other["jvp"]):
        items = list(reversed(holder.items()))
        holder.clear()
        holder.update(items)
    assert json.dumps(judge_losses(other)) == json.dumps(judge_losses(body))


def find_timeout(pauses):
    """The error of a judgement whose time is over after so many looks at the clock; None if it ends before."""
    clock = Clock(pauses, itertools.count().__next__)
    try:
        with clock.enforce_deadline():
            judge_losses(BODIES["random", ("vjp", "jvp")])
    except InvalidRequestError as error:
        return f"{error.reason} at {error.errors[0]['pointer']}: {error.errors[0]['detail']}"
    return None


@pytest.mark.no_cover
def test_a_judgement_that_runs_out_of_time_is_refused_with_a_remedy():
    details = [find_timeout(pauses) for pauses in range(1, 400, 7)]
    assert details[-1] is None
    judged = [detail for detail in details if detail is not None and "the products were being judged" in detail]
    assert judged
    assert all(detail.startswith("out-of-time at /plan: ") for detail in judged)
    assert all(detail.endswith("Plan fewer directions, or judge fewer outputs at once") for detail in judged)
