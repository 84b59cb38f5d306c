"""Reports of outcomes that a whole check seldom shows; the rest is in `test_check.py` beside this."""

import re

import numpy as np
import pytest

from service.checks.graph.check import check


def get_summary(body):
    return check(body)["summary"]


def test_pass_states_its_detectable_error(example):
    text = get_summary(example)
    assert text.startswith("pass: all 8 elements of w1, w2 agree with the finite difference; a relative error of ")
    assert float(text.split("relative error of ")[1].split()[0]) < 1e-6


def test_a_failure_names_the_worst_element(example):
    text = get_summary(example | {"candidate": {"w2": [0.2, 0.3, -0.1, -0.1]}})
    assert text.startswith("fail: 4 of 4 elements of w2; the worst is w2[")
    assert "where the candidate gradient is" in text


def test_a_failure_without_a_worst_element_gives_its_reason(example):
    text = get_summary(example | {"candidate": {"w2": [0.2]}})
    assert text.startswith("fail: 4 of 4 elements of w2. The candidate has another shape")


def test_numbers_are_spelled_as_elsewhere_in_the_report(example):
    text = get_summary(example | {"candidate": {"w2": [0.2, "-Infinity", "NaN", 0.1]}})
    assert "nan" not in text
    assert "-Infinity" in text or "NaN" in text


def test_report_omits_a_missing_finite_difference(example):
    text = get_summary(example | {"finite_difference": {"method": "central", "step": 100}})
    assert text.startswith("inconclusive: 8 of 8 elements of w1, w2; the worst is w")
    assert text.endswith(" and there is no finite difference with a bound.")


def test_quotes_of_a_name_are_kept():
    nodes = [{"name": "loss", "op": "half_squared_error", "inputs": ["w'1", "y"]}]
    body = {"tensors": {"y": 0}, "weights": {"w'1": 1}, "model": {"nodes": nodes}}
    assert get_summary(body).startswith("pass: all 1 elements of w'1 agree")
    assert "the worst is w'1," in get_summary(body | {"candidate": {"w'1": 2}})


def test_zero_gradient_has_no_detectable_relative_error():
    """A gradient that is truly zero has nothing that could be wrong by a part of it."""
    nodes = [
        {"name": "p", "op": "mul", "inputs": ["w", 0]},
        {"name": "loss", "op": "half_squared_error", "inputs": ["p", "y"]},
    ]
    report = check({"tensors": {"y": 0}, "weights": {"w": 1}, "model": {"nodes": nodes}})
    # The smallest numbers of float64: their sum depends on the order of operations.
    zero = r"The gradient of w is 0 within its error bounds, \d\.\de-323 at most: it has no relative error\."
    assert re.fullmatch(rf"pass: all 1 elements of w agree with the finite difference\. {zero}", report["summary"])
    assert report["verdicts"]["w"]["smallest_detectable_error"] == "Infinity"


@pytest.mark.parametrize("count", [5, 7])
def test_long_list_of_names_is_shortened(count):
    names = [f"w{number}" for number in range(count)]
    nodes = [{"name": "p0", "op": "mul", "inputs": ["x", names[0]]}]
    nodes += [{"name": f"p{n}", "op": "mul", "inputs": [f"p{n - 1}", names[n]]} for n in range(1, count)]
    nodes += [{"name": "loss", "op": "half_squared_error", "inputs": [nodes[-1]["name"], "x"]}]
    text = get_summary({"tensors": {"x": 1.5}, "weights": dict.fromkeys(names, 0.9), "model": {"nodes": nodes}})
    assert ("w0, w1, w2, w3, w4 and 2 more" in text) == (count == 7)


@pytest.mark.parametrize(("given", "said"), [({}, False), ({"w1": 0}, True), ({"w1": 0, "w2": 0}, False)])
def test_report_names_gradients_without_candidate(example, given, said):
    text = check(example | {"candidate": given})["summary"]
    assert text.endswith("No candidate was given for w2: there our own gradients were judged.") is said


def test_non_finite_candidates_are_shown_as_they_came(example):
    report = check(example | {"candidate": {"w2": ["NaN", "Infinity", 1, 2]}, "include": ["gradients"]})
    assert report["gradients"]["w2"]["candidate"] == ["NaN", "Infinity", 1.0, 2.0]
    metrics = report["discrepancies"]["w2"]["candidate_vs_analytic"]
    assert metrics["max_abs"] == "NaN"
    assert metrics["worst_index"] == [0]
    assert isinstance(report["gradients"]["w1"]["analytic"], np.ndarray)


RIGHT_W1 = [[-0.13425572029504, -0.18325792430504], [-0.28126233232502, -0.33026453633502]]


@pytest.mark.parametrize(
    ("change", "pattern"),
    [
        (lambda g: np.where([[0, 0], [0, 1]], -g, g), "one element, sign flipped: w1[1][1]"),
        (lambda g: -g, "all elements, sign flipped"),
        (lambda g: np.where([[0, 0], [1, 1]], 2 * g, g), "exactly the last row (1), doubled"),
        (lambda g: np.where([[0, 1], [0, 1]], 0 * g, g), "exactly the last column (1), zero"),
        (lambda g: np.where([[1, 0], [0, 0]], np.nan, g), "one element, NaN: w1[0][0]"),
        (lambda g: g, None),
    ],
)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_failure_has_the_pattern_of_its_wrong_elements(example, change, pattern, dtype):
    candidate = [["NaN" if np.isnan(g) else g for g in row] for row in change(np.array(RIGHT_W1)).tolist()]
    verdicts = check(example | {"candidate": {"w1": candidate}, "candidate_dtype": dtype})["verdicts"]
    assert verdicts["w1"].get("pattern") == pattern
    assert "pattern" not in verdicts["w2"]


def test_verdicts_without_compared_elements_have_no_error_pattern(example):
    for fields in (
        {"finite_difference": {"projections": 3}, "candidate": {"w1": [[0, 0], [0, 0.5]]}},
        {"candidate": {"w1": [1, 2, 3]}},
        {"finite_difference": {"method": "central", "step": 100}, "candidate": {"w1": RIGHT_W1}},
    ):
        assert "pattern" not in check(example | fields)["verdicts"]["w1"]


def test_error_pattern_of_a_sample_is_not_exact(example):
    fields = {"finite_difference": {"sample": 3}, "candidate": {"w1": [[-g for g in row] for row in RIGHT_W1]}}
    pattern = check(example | fields)["verdicts"]["w1"]["pattern"]
    assert pattern == "all 3 elements that could be judged, sign flipped"


def test_the_pattern_counts_what_the_tolerance_fails(example):
    """Off by 1e-3 of itself in one element, and by 1e-5 in the others."""
    candidate = (np.array(RIGHT_W1) * [[1 + 1e-5, 1 + 1e-5], [1 + 1e-5, 1 + 1e-3]]).tolist()
    body = example | {"candidate": {"w1": candidate}}
    assert check(body)["verdicts"]["w1"]["pattern"] == "all elements"
    assert check(body | {"tolerance": {"rtol": 1e-4}})["verdicts"]["w1"]["pattern"] == "one element: w1[1][1]"
