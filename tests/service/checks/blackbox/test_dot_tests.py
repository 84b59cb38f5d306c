"""Entries of dot tests; tests/service/numerics/blackbox/test_dot_test.py has the tests themselves."""

import copy

import numpy as np
import pytest

from service.checks.blackbox.judge import judge_losses
from tests.service.checks.blackbox.output_requests import make_output_request

BODIES = {kind: make_output_request(kind, "vjp", "jvp") for kind in ("random", "coordinates")}


def run(kind, factor=1.0, **fields):
    """Dot tests by name, with one element of the vjp of y by b off by a factor."""
    body = copy.deepcopy(BODIES[kind])
    body["vjp"]["y"]["b"][1] *= factor
    return {test["name"]: test for test in judge_losses(body | fields)["dot_tests"]}


@pytest.mark.parametrize("kind", BODIES)
def test_right_products_agree(kind):
    for test in run(kind).values():
        assert test["outcome"] == "pass"
        assert abs(test["vjp"] - test["jvp"]) <= test["allowed"] < 1e-10


@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize("factor", [1 + 1e-9, 1.0001, -1.0])
def test_products_of_different_jacobians_contradict_each_other(kind, factor):
    tests = run(kind, factor)
    assert [name for name, test in tests.items() if test["outcome"] == "fail"] == ["y/b"]
    assert abs(tests["y/b"]["vjp"] - tests["y/b"]["jvp"]) > tests["y/b"]["allowed"]
    assert kind == "random" or tests["y/b"]["direction"] == 1


@pytest.mark.parametrize("tolerance", [{"rtol": 0.01}, {"atol": 0.5}])
def test_a_tolerance_comes_on_top_of_rounding(tolerance):
    assert run("coordinates", 1.001)["y/b"]["outcome"] == "fail"
    test = run("coordinates", 1.001, tolerance=tolerance)["y/b"]
    assert test["outcome"] == "pass"
    assert abs(test["vjp"] - test["jvp"]) <= test["allowed"]
    assert run("coordinates", 30.0, tolerance=tolerance)["y/b"]["outcome"] == "fail"


def test_a_product_that_is_not_finite_decides_nothing_here():
    body = copy.deepcopy(BODIES["coordinates"])
    body["vjp"]["y"]["b"][1] = "NaN"
    report = judge_losses(body)
    test = next(test for test in report["dot_tests"] if test["name"] == "y/b")
    assert (test["outcome"], test["vjp"]) == ("inconclusive", "NaN")
    assert report["verdicts"]["y/b"]["outcome"] == "fail"


def test_an_output_without_a_base_decides_nothing_of_the_others():
    body = copy.deepcopy(BODIES["random"])
    body["values"]["y"][0][0][0] = "NaN"
    tests = {test["name"]: test["outcome"] for test in judge_losses(body)["dot_tests"]}
    assert tests["total/w"] == tests["total/b"] == "pass"
    assert np.isfinite([test["allowed"] for test in judge_losses(body)["dot_tests"]]).all()
