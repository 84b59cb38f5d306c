"""Checks along joint directions, from the request to the report."""

import numpy as np
import pytest

from schemas.problem_details import InvalidRequestError
from service.checks.common.limits import Limits
from service.checks.graph.check import check
from service.checks.graph.cost_estimate import estimate_check
from service.checks.graph.problem import MAX_JOINT_DIRECTIONS
from service.numerics.gradients.finite_difference import EVALUATIONS_PER_STEP
from service.numerics.model.presets import PRESETS
from tests.service.checks.graph.sized_requests import make_problem


def along(body, count=1, **fields):
    return check(body | {"finite_difference": {"projections": count, **fields}})


@pytest.fixture(name="right")
def compute_right_gradients(example):
    report = check(example)
    return {name: np.array(gradient["analytic"]) for name, gradient in report["gradients"].items()}


@pytest.mark.parametrize("count", [1, 3])
def test_joint_directions_decide_all_tensors_in_six_evaluations_each(example, right, count):
    for candidate in ({}, {"candidate": {name: gradient.tolist() for name, gradient in right.items()}}):
        report = along(example | candidate, count)
        assert report["outcome"] == "pass"
        assert report["cost"]["loss_evaluations"] == EVALUATIONS_PER_STEP * count
        assert len(report["directions"]) == count
        for direction in report["directions"]:
            assert (direction["names"], direction["outcome"]) == (list(example["weights"]), "pass")
            assert abs(direction["judged"] - direction["reference"]) <= direction["allowed"]
        for verdict in report["verdicts"].values():
            assert "directions" not in verdict
            assert verdict["missed"]["relative_l2"] == verdict["smallest_detectable_error"] < 1e-4
            assert verdict["elements"]["not_examined"] == verdict["elements"]["total"]
    assert "together" in report["summary"]


@pytest.mark.parametrize("wrong", [["w1"], ["w2"], ["w1", "w2"]])
def test_a_wrong_tensor_is_told_apart_along_directions_of_its_own(example, right, wrong):
    candidate = {name: (gradient * (1.001 if name in wrong else 1)).tolist() for name, gradient in right.items()}
    report = along(example | {"candidate": candidate}, 2)
    outcomes = {name: verdict["outcome"] for name, verdict in report["verdicts"].items()}
    assert outcomes == {name: "fail" if name in wrong else "pass" for name in right}
    for name, verdict in report["verdicts"].items():
        assert len(verdict.get("directions", [])) == (2 if name in wrong else 0)
    assert {direction["outcome"] for direction in report["directions"]} == {"inconclusive"}


def test_directions_of_each_tensor_are_taken_on_request_and_with_other_methods(example):
    for fields in ({"joint": False}, {"method": "central"}, {"method": "forward"}):
        report = along(example, **fields)
        assert "directions" not in report
        assert all(len(verdict["directions"]) == 1 for verdict in report["verdicts"].values())
    assert "directions" not in along(example, MAX_JOINT_DIRECTIONS + 1)
    report = along(example | {"tolerance": {"rtol": 1e-3}})
    assert "directions" not in report
    assert "directions" in report["verdicts"]["w1"]


KINKED = {
    "tensors": {"x": [1.0, -2.0, 3.0]},
    "weights": {"w": [0.0, 1.0, 2.0], "v": [1.0, 1.0, 1.0]},
    "model": {
        "nodes": [
            {"name": "p", "op": "mul", "inputs": ["x", "w"]},
            {"name": "r", "op": "relu", "inputs": ["p"]},
            {"name": "q", "op": "mul", "inputs": ["r", "v"]},
            {"name": "loss", "op": "sum", "inputs": ["q"]},
        ]
    },
}


def test_at_a_kink_all_tensors_have_directions_of_their_own():
    report = along(KINKED, 2)
    assert report["directions"] == []
    alone = along(KINKED, 2, joint=False)
    assert (report["summary"], report["verdicts"]) == (alone["summary"], alone["verdicts"])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_narrow_gradients_have_directions_of_their_own(example, dtype):
    report, alone = along(example | {"dtype": dtype}), along(example | {"dtype": dtype}, joint=False)
    assert {name: verdict["outcome"] for name, verdict in report["verdicts"].items()} == {
        name: verdict["outcome"] for name, verdict in alone["verdicts"].items()
    }
    assert (report["verdicts"], report["directions"]) == (alone["verdicts"], [])
    assert report["cost"]["loss_evaluations"] == alone["cost"]["loss_evaluations"]


@pytest.mark.parametrize("number", ["NaN", "Infinity"])
def test_a_candidate_that_is_not_finite_fails(example, number):
    report = along(example | {"candidate": {"w2": [number, 0.0, 0.0, 0.0]}})
    assert report["verdicts"]["w2"]["outcome"] == "fail"
    assert report["verdicts"]["w1"]["outcome"] == "pass"


def test_a_candidate_of_another_shape_fails(example):
    report = along(example | {"candidate": {"w1": [1.0, 2.0, 3.0]}})
    assert "[3] instead of [2, 2]" in report["verdicts"]["w1"]["reason"]
    assert (report["verdicts"]["w1"]["outcome"], report["verdicts"]["w2"]["outcome"]) == ("fail", "pass")


def make_shifted(bias):
    """The gradient of a shift of the input of a softmax is 0."""
    nodes = [
        {"name": "z", "op": "linear", "inputs": ["x", "w"]},
        {"name": "s", "op": "add", "inputs": ["z", "b"]},
        {"name": "p", "op": "softmax", "inputs": ["s"], "dim": -1},
        {"name": "loss", "op": "mse_loss", "inputs": ["p", "y"]},
    ]
    generator = np.random.default_rng(0)
    return {
        "tensors": {"x": generator.normal(size=(4, 3)).tolist(), "y": generator.uniform(size=(4, 5)).tolist()},
        "weights": {"w": generator.normal(size=(5, 3)).tolist(), "b": bias},
        "model": {"nodes": nodes},
    }


def test_a_gradient_of_zero_is_told_apart_and_passes_as_zero():
    report = along(make_shifted([0.25]))
    assert report["outcome"] == "pass"
    assert ("directions" in report["verdicts"]["b"], "directions" in report["verdicts"]["w"]) == (True, False)
    assert "The gradient of b is 0 within its error bounds" in report["summary"]


def test_a_tensor_of_one_element_is_decided_with_the_others():
    body = make_shifted(0.5)
    body["model"]["nodes"][1] |= {"op": "mul"}
    report = along(body)
    assert report["outcome"] == "pass"
    assert not any("directions" in verdict for verdict in report["verdicts"].values())


def test_joint_without_projections_is_refused(example):
    for fields in ({"joint": False}, {"joint": True, "sample": 2}):
        with pytest.raises(InvalidRequestError) as info:
            check(example | {"finite_difference": fields})
        (error,) = info.value.errors
        assert error["pointer"] == "/finite_difference/joint"
        assert "together with projections" in error["detail"]


def test_progress_never_goes_back(example):
    told = []
    body = example | {"candidate": {"w1": [[0.0, 0.0], [0.0, 0.0]]}, "finite_difference": {"projections": 2}}
    report = check(body, progress=lambda name, done, total: told.append((done, total)))
    done = [count for count, _ in told]
    assert done == sorted(done)
    assert told[-1] == (report["cost"]["loss_evaluations"],) * 2
    assert all(count <= total for count, total in told)


def test_directions_that_are_told_apart_keep_within_the_limits():
    right = PRESETS["attention_block"].example_request | {"candidate": {}, "include": []}
    zeros = {name: np.zeros(np.shape(weight)).tolist() for name, weight in right["weights"].items()}
    along_one = {"finite_difference": {"projections": 1}}
    limits = Limits(work=estimate_check(make_problem(right | along_one), Limits())[1].work)
    assert check(right | along_one, limits)["outcome"] == "pass"
    with pytest.raises(InvalidRequestError) as info:
        check(right | along_one | {"candidate": zeros}, limits)
    (error,) = info.value.errors
    assert error["pointer"] == "/finite_difference/projections"
    assert f"the limit is {limits.work:.1e}" in error["detail"]


@pytest.mark.trial
@pytest.mark.parametrize("preset", PRESETS)
def test_no_tensor_is_less_decided_than_along_directions_of_its_own(preset):
    body = PRESETS[preset].example_request | {"candidate": {}, "include": []}
    joint, alone = along(body), along(body, joint=False)
    for name, verdict in alone["verdicts"].items():
        assert joint["verdicts"][name]["outcome"] == verdict["outcome"] == "pass", name
