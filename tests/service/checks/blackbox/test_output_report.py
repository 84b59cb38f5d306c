"""The report of outputs as a whole."""

import copy

import numpy as np

from service.checks.blackbox.judge import judge_losses
from tests.service.checks.blackbox.output_requests import make_output_request

BOTH = make_output_request("random", "vjp", "jvp")
JACOBIAN = make_output_request("coordinates", "jacobian", "jvp")


def make_double_request(body, field, output, name):
    body = copy.deepcopy(body)
    body[field][output][name] = [2 * number for number in body[field][output][name]]
    return body


def test_verdicts_are_ordered_by_output_then_tensor():
    assert list(judge_losses(BOTH)["verdicts"]) == ["y/w", "y/b", "y", "total/w", "total/b", "total"]


def test_overall_outcome_is_the_worst_of_its_gradients():
    report = judge_losses(make_double_request(BOTH, "vjp", "total", "b"))
    assert report["taylor"]["name"] == "total/b"
    assert report["missed"] in [verdict["missed"] for verdict in report["verdicts"].values()]
    assert report["summary"].startswith("fail: 4 of 4 directions of total/b")
    assert "2 times the derivative" in report["summary"]
    assert not {"taylor", "missed"} & judge_losses(JACOBIAN).keys()


def test_each_group_that_fails_has_a_sentence():
    body = copy.deepcopy(JACOBIAN)
    body["jacobian"]["y"]["b"][0][1][1] *= 1.01
    body["jvp"]["y"][2][1][0] *= 1.01
    summary = judge_losses(body)["summary"]
    assert summary.startswith("fail: 1 of 18 elements of y/b; the worst is y/b[0][1][1]")
    assert ". 1 of 42 elements of y (jvp); the worst is y (jvp)[2][1][0]" in summary
    assert summary.count("fail") == 1


def test_pass_states_the_detectable_error_of_each_group():
    summary = judge_losses(BOTH)["summary"]
    assert summary.startswith("pass: the gradient along 4 random directions each of y/w, y/b, total/w, total/b agrees")
    assert " All 56 elements of y (jvp), total (jvp) agree" in summary
    assert "An error of 1.0e-04 of a single element of" in summary


def test_rows_of_zeros_are_no_zero_gradient():
    assert "is 0 within" not in judge_losses(JACOBIAN)["summary"]


def test_products_may_fail_by_contradicting_each_other_alone():
    body = copy.deepcopy(BOTH)
    # Noise of the values hides an error that the rounding of the products does not explain.
    body["values"] = {
        name: (np.round(np.array(values) * 2.0**30) / 2.0**30).tolist() for name, values in body["values"].items()
    }
    assert judge_losses(body)["outcome"] == "pass"
    body["vjp"]["y"]["b"][1] *= 1 + 1e-9
    report = judge_losses(body)
    assert {verdict["outcome"] for verdict in report["verdicts"].values()} == {"pass"}
    assert report["outcome"] == "fail"
    assert report["summary"].startswith(
        "fail: the products contradict each other. The vjp and the jvp of y/b contradict each other: along direction"
    )


def test_every_contradiction_is_listed():
    body = copy.deepcopy(BOTH)
    for holder, key in ((body["vjp"]["y"]["b"], 0), (body["jvp"]["total"], 7)):
        holder[key] = 1e30
    report = judge_losses(body)
    assert {test["name"] for test in report["dot_tests"] if test["outcome"] == "fail"} == {"y/b", "total/b"}
