"""Checks of a part: random elements, or random directions, and what they say they are worth."""

import math

import numpy as np
import pytest

from schemas.problem_details import InvalidRequestError
from service.checks.common.limits import Limits
from service.checks.graph.check import check
from tests.service.checks.common.counting_clock import end_time_after_looks
from tests.service.checks.graph.test_check import collect_errors, get_report
from tests.trials import split_count

PROJECTIONS = {"finite_difference": {"projections": 3, "joint": False}}


def test_projections_answer_in_directions_and_not_in_elements(change_example):
    report = get_report(change_example(with_respect_to=["x", "w2", "L1"], **PROJECTIONS))
    assert report["outcome"] == "pass"
    for name, total in (("x", 9), ("w2", 4), ("L1", 4)):
        verdict, gradient = report["verdicts"][name], report["gradients"][name]
        assert set(np.ravel(gradient["finite_difference"])) == {"NaN"}
        assert set(np.ravel(gradient["error_bound"])) == {"Infinity"}
        assert np.shape(gradient["analytic"]) == np.shape(gradient["finite_difference"])
        assert verdict["elements"] == {
            "total": total,
            "pass": 0,
            "negligible": 0,
            "fail": 0,
            "inconclusive": 0,
            "not_examined": total,
        }
        assert (verdict["worst"], verdict["kinks"]) == ([], [])
        assert len(verdict["directions"]) == 3
        for direction in verdict["directions"]:
            assert set(direction) == {"reference", "judged", "route", "error_bound", "allowed", "outcome"}
            assert abs(direction["reference"] - direction["judged"]) <= direction["allowed"] < 1e-9
            assert 0 < direction["error_bound"] <= direction["allowed"]
        missed = verdict["missed"]
        assert 0 < missed["relative_l2"] == verdict["smallest_detectable_error"] < 1e-6
        assert 0 < missed["probability"] <= 1e-3
        assert f"{missed['relative_l2']:.1e}" in verdict["reason"]
    assert "along 3 random directions each of x, w2, L1" in report["summary"]
    assert "missed with probability 0.001" in report["summary"]
    assert report["cost"]["loss_evaluations"] > 0


def test_metrics_without_the_difference_are_whole_and_with_it_not_a_number(change_example):
    whole, along = get_report(change_example()), get_report(change_example(**PROJECTIONS))
    for name in ("w1", "w2"):
        pairs = along["discrepancies"][name]
        assert pairs["analytic_vs_autograd"] == whole["discrepancies"][name]["analytic_vs_autograd"]
        for pair in ("analytic_vs_finite_difference", "autograd_vs_finite_difference"):
            index = pairs[pair].pop("worst_index")
            assert set(pairs[pair].values()) == {"NaN"}
            assert index == [0] * len(np.shape(along["gradients"][name]["analytic"]))


@pytest.mark.parametrize("route", ["candidate", "ours"])
def test_a_wrong_gradient_fails_along_directions(change_example, route):
    right = np.array(get_report(change_example())["gradients"]["w1"]["analytic"])
    for error, outcome in ((0, "pass"), (1e-4, "fail"), (1.0, "fail")):
        wrong = right.copy()
        wrong[1, 0] *= 1 + error
        report = get_report(change_example(candidate={"w1": wrong.tolist()}, **PROJECTIONS))
        assert report["verdicts"]["w1"]["outcome"] == report["outcome"] == outcome
        assert {direction["route"] for direction in report["verdicts"]["w1"]["directions"]} == {"candidate"}
        assert report["verdicts"]["w2"]["outcome"] == "pass"
    assert "3 of 3 directions of w1; the first is direction 0 of w1, along which" in report["summary"]


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity"])
def test_a_candidate_that_is_not_finite_fails_along_directions(change_example, number):
    verdict = get_report(change_example(candidate={"w1": [[number, 1], [2, 3]]}, **PROJECTIONS))["verdicts"]["w1"]
    assert verdict["outcome"] == "fail"
    assert "not a finite number" in verdict["reason"]
    assert {direction["judged"] for direction in verdict["directions"]} <= {"NaN", "Infinity", "-Infinity"}


@pytest.mark.parametrize("part", [{"projections": 3}, {"sample": 2}])
def test_candidate_of_another_shape_fails_in_a_partial_check(change_example, part):
    report = get_report(change_example(candidate={"w1": [1, 2, 3]}, finite_difference=part))
    verdict = report["verdicts"]["w1"]
    assert verdict["outcome"] == "fail"
    assert "[3] instead of [2, 2]" in verdict["reason"]
    assert verdict["elements"] == {
        "total": 4,
        "pass": 0,
        "negligible": 0,
        "fail": 4,
        "inconclusive": 0,
        "not_examined": 0,
    }
    assert (verdict["worst"], verdict.get("directions", [])) == ([], [])
    assert "missed" not in verdict
    assert not any(key.startswith("candidate") for key in report["discrepancies"]["w1"])


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_lower_precision_may_carry_its_rounding_along_directions(change_example, dtype):
    for seed in range(5):
        report = get_report(change_example(dtype=dtype, seed=seed, **PROJECTIONS))
        assert report["outcome"] in ("pass", "inconclusive")
        assert dtype == "bfloat16" or report["outcome"] == "pass"
    wrong = (2 * np.array(report["gradients"]["w1"]["analytic"])).tolist()
    assert get_report(change_example(dtype=dtype, candidate={"w1": wrong}, **PROJECTIONS))["outcome"] == "fail"


def test_a_hint_of_a_lower_precision_is_given_along_directions(change_example):
    right = np.array(get_report(change_example())["gradients"]["w1"]["analytic"])
    narrow = right.astype(np.float32).astype(float).tolist()
    refused_as = get_report(change_example(candidate={"w1": narrow}, **PROJECTIONS))["verdicts"]["w1"]
    assert refused_as["outcome"] == "fail"
    assert '"candidate_dtype": "FP32"' in refused_as["reason"]
    assert (
        get_report(change_example(candidate={"w1": narrow}, candidate_dtype="FP32", **PROJECTIONS))["outcome"] == "pass"
    )


def test_a_tolerance_is_of_the_values_along_directions(change_example):
    right = np.array(get_report(change_example())["gradients"]["w1"]["analytic"])
    off = (right * 1.001).tolist()
    for tolerance, outcome in (({"rtol": 0.01}, "pass"), ({"rtol": 1e-4}, "fail"), ({"atol": 1e-17}, "inconclusive")):
        report = get_report(change_example(candidate={"w1": off}, tolerance=tolerance, **PROJECTIONS))
        assert report["verdicts"]["w1"]["outcome"] == outcome
        for direction in report["verdicts"]["w1"]["directions"]:
            allowed = tolerance.get("atol", 0) + tolerance.get("rtol", 0) * abs(direction["reference"])
            assert direction["allowed"] == pytest.approx(allowed)


def test_both_parts_at_once_are_refused(example):
    body = example | {"finite_difference": {"sample": 2, "projections": 2}}
    assert "give one of them" in collect_errors(body)["/finite_difference/projections"]
    for part in ("sample", "projections"):
        for number in (0, -1, 1.5, True, "1"):
            with pytest.raises(InvalidRequestError):
                check(example | {"finite_difference": {part: number}})


def test_the_same_seed_takes_the_same_part(change_example):
    def list_examined(part, **fields):
        report = get_report(change_example(finite_difference=part, **fields))["verdicts"]["w1"]
        return report.get("directions") or sorted(element["index"] for element in report["worst"])

    for part in ({"sample": 2}, {"projections": 2, "joint": False}):
        assert list_examined(part) == list_examined(part)
        assert any(list_examined(part) != list_examined(part, seed=seed) for seed in range(1, 9))


@pytest.mark.parametrize("count", [1, 2, 4, 9, 10**9])
def test_a_sample_counts_what_it_left_out(change_example, count):
    report = get_report(change_example(finite_difference={"sample": count}, with_respect_to=["x"]))
    verdict, looked_at = report["verdicts"]["x"], min(count, 9)
    left = 9 - looked_at
    assert verdict["elements"] == {
        "total": 9,
        "pass": looked_at,
        "negligible": 0,
        "fail": 0,
        "inconclusive": 0,
        "not_examined": left,
    }
    assert verdict["missed"] == {"wrong_elements": 1, "probability": pytest.approx(1 - looked_at / 9)}
    assert len(verdict["worst"]) == min(10, 2 * looked_at)
    difference = np.array(report["gradients"]["x"]["finite_difference"], dtype=object)
    assert np.count_nonzero(difference == "NaN") == left
    assert ("missed with probability" in report["summary"]) == (left > 0)
    assert ("misses a single wrong" in verdict["reason"]) == (left > 0)
    assert ("examined" in report["summary"]) == (left > 0)


def test_unsampled_elements_never_pass_nor_fail(change_example):
    """One wrong element, found by the seeds that look at it and by no other."""
    right = np.array(get_report(change_example())["gradients"]["w1"]["analytic"])
    wrong = right.copy()
    wrong[0, 1] *= 2
    fails = 0
    for seed in range(40):
        report = get_report(
            change_example(candidate={"w1": wrong.tolist()}, finite_difference={"sample": 1}, seed=seed)
        )
        verdict = report["verdicts"]["w1"]
        fails += verdict["outcome"] == "fail"
        assert sum(verdict["elements"][outcome] for outcome in ("pass", "fail", "inconclusive")) == 1
        seen = report["discrepancies"]["w1"]["candidate_vs_analytic"]["max_abs"] > 0
        assert seen == (verdict["outcome"] == "fail"), "metrics leave out what was not looked at"
    missed = verdict["missed"]["probability"]
    assert missed == 0.75
    assert abs(fails / 40 - (1 - missed)) < 3.5 * math.sqrt(missed * (1 - missed) / 40)


LINEAR = {
    "tensors": {"x": [1.0, -2.0, 0.5, 3.0]},
    "weights": {"w": [0.0, 0.0, 0.0, 0.0]},
    "model": {"nodes": [{"name": "loss", "op": "einsum", "inputs": ["x", "w"], "equation": "i,i->"}]},
    "tolerance": {"atol": 1.0},
    "include": [],
}


@pytest.mark.no_cover
@pytest.mark.parametrize("count", split_count(1000))
def test_errors_are_missed_at_the_stated_rate(count):
    """Whole checks over many seeds, of a gradient off by so much that two directions miss it now and then."""
    size, off = math.sqrt(1 + 4 + 0.25 + 9), 1.2
    body = LINEAR | {"candidate": {"w": [1.0, -2.0 + off, 0.5, 3.0]}, "finite_difference": {"projections": 2}}
    passed = [check(body | {"seed": seed})["outcome"] == "pass" for seed in range(count)]
    stated = math.erf(1.0 / (math.sqrt(2) * off)) ** 2
    deviation = math.sqrt(stated * (1 - stated) / count)
    assert abs(np.mean(passed) - stated) < 3.5 * deviation
    assert abs(np.mean(passed) - math.erf(1.0 / (math.sqrt(2) * off))) > 3.5 * deviation, "one would miss it more often"
    report = check(body | {"candidate": {"w": LINEAR["tensors"]["x"]}})
    missed = report["verdicts"]["w"]["missed"]
    assert math.erf(1.0 / (math.sqrt(2) * missed["relative_l2"] * size)) ** 2 == pytest.approx(1e-3, rel=1e-3)


def test_along_directions_kinks_are_open_to_every_convention_and_decided_by_more_of_them(change_example):
    """abs at 0 in three elements: of three directions some choice explains whatever lies in reach."""
    body = {
        "tensors": {},
        "weights": {"x": [0.0, 0.0, 0.0, 2.0, -1.0]},
        "model": {
            "nodes": [{"name": "y", "op": "abs", "inputs": ["x"]}, {"name": "loss", "op": "sum", "inputs": ["y"]}]
        },
        **PROJECTIONS,
    }
    assert get_report(body)["outcome"] == "pass"
    for signs, outcome in (([1, 1, 1], "pass"), ([1, -1, 1], "inconclusive"), ([0, 0.5, -1], "inconclusive")):
        for seed in range(5):
            asked = body | {"candidate": {"x": [*signs, 1, -1]}, "seed": seed}
            assert get_report(asked)["outcome"] == outcome
            assert get_report(asked | {"finite_difference": {"projections": 8}})["outcome"] == "pass"
    assert get_report(body | {"candidate": {"x": [50, 0, 0, 1, -1]}})["outcome"] == "fail"
    assert get_report(body | {"candidate": {"x": [0, 0, 0, 50, -1]}})["outcome"] == "fail"


def test_directional_check_takes_a_node_and_base64(change_example):
    report = get_report(change_example(with_respect_to=["C1"], encoding="b64", **PROJECTIONS))
    assert report["gradients"]["C1"]["finite_difference"]["shape"] == [2, 2]
    assert report["outcome"] == "pass"


def test_directions_run_out_of_time_under_the_names_of_the_request(example):
    with end_time_after_looks(220):
        detail = collect_errors(example | PROJECTIONS, Limits())["/finite_difference/projections"]
    assert "evaluations for 'w1'" in detail or "evaluations for 'w2'" in detail
