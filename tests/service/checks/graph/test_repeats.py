"""Further runs of a candidate: what differs from run to run."""

from typing import Any

import numpy as np
import pytest

from schemas.problem_details import InvalidRequestError
from service.checks.common.limits import Limits
from service.checks.graph.check import check
from service.numerics.core.precision import PRECISIONS

BF16 = PRECISIONS["BF16"]
MODEL = "h = linear(x, w)\ns = tanh(h)\nloss = mean(s)"


def draw_body(seed: int = 0, **fields: Any) -> tuple[dict[str, Any], np.ndarray]:
    """Return a request, and the right gradient of w."""
    generator = np.random.default_rng(seed)
    x, w = generator.normal(size=(64, 8)), generator.normal(size=(3, 8))
    upstream = (1 - np.tanh(x @ w.T) ** 2) / (64 * 3)
    body = {"tensors": {"x": x.tolist()}, "weights": {"w": w.tolist()}, "model": MODEL, "include": []} | fields
    return body, upstream.T @ x


def run_in_order(seed: int, body: dict[str, Any]) -> np.ndarray:
    """Compute the gradient in float32, the sum over the batch in a random order."""
    x, w = (np.array(body[section][name], np.float32) for section, name in (("tensors", "x"), ("weights", "w")))
    upstream = (1 - np.tanh(x @ w.T) ** 2) / np.float32(64 * 3)
    total = np.zeros(w.shape, np.float32)
    for row in np.random.default_rng(seed).permutation(len(x)):
        total += np.outer(upstream[row], x[row])
    return total


def judge(body: dict[str, Any], runs: list[np.ndarray], **fields: Any) -> Any:
    first, *others = (run.tolist() for run in runs)
    report = check(body | {"candidate": {"w": first}, "repeats": {"w": others}, "candidate_dtype": "FP32"} | fields)
    return report["verdicts"]["w"]


@pytest.mark.parametrize("fields", [{}, {"finite_difference": {"projections": 1}}], ids=["elements", "directions"])
def test_runs_in_another_order_are_explained(fields: dict[str, Any]) -> None:
    body, _ = draw_body()
    runs = [run_in_order(seed, body) for seed in range(5)]
    spread = np.ptp(runs, axis=0).max()
    assert spread > 0
    verdict = judge(body, runs, **fields)
    assert verdict["outcome"] == "pass"
    assert verdict["repeatability"] == {"runs": 5, "max_abs": pytest.approx(spread), "explained": True}


@pytest.mark.parametrize("fields", [{}, {"finite_difference": {"projections": 1}}], ids=["elements", "directions"])
def test_a_run_that_lost_a_row_is_not_reproducible(fields: dict[str, Any]) -> None:
    body, _ = draw_body()
    runs = [run_in_order(seed, body) for seed in range(5)]
    runs[3][1, 2] *= 1.001
    verdict = judge(body, runs, **fields)
    assert (verdict["outcome"], verdict["repeatability"]["explained"]) == ("fail", False)
    assert "at 1 of 24 elements, first at index [1, 2]" in verdict["reason"]


@pytest.mark.parametrize(("factor", "outcome"), [(1.0, "pass"), (1 + 1e-9, "fail")])
def test_runs_of_a_tensor_that_joint_directions_would_decide_are_compared(factor: float, outcome: str) -> None:
    body, right = draw_body(finite_difference={"projections": 1})
    report = check(body | {"candidate": {"w": right.tolist()}, "repeats": {"w": [(right * factor).tolist()]}})
    verdict = report["verdicts"]["w"]
    assert len(report["directions"]) == len(verdict["directions"]) == 1
    assert (verdict["outcome"], verdict["repeatability"]["explained"]) == (outcome, outcome == "pass")


def test_a_number_that_is_not_finite_in_one_run_alone_is_a_finding() -> None:
    body, _ = draw_body()
    runs = [run_in_order(seed, body) for seed in range(3)]
    lost = runs[1].astype(object)
    lost[0, 0] = "NaN"
    verdict = judge(body, [runs[0], lost, runs[2]])
    assert (verdict["outcome"], verdict["repeatability"]["max_abs"]) == ("fail", "NaN")


def test_the_reason_of_a_wrong_candidate_stays() -> None:
    body, _ = draw_body()
    runs = [run_in_order(seed, body) for seed in range(2)]
    verdict = judge(body, [runs[0] * 2, runs[1] * 3])
    assert "The 2 runs are farther apart" in verdict["reason"]
    assert "farther from the finite difference" in verdict["reason"]


def test_runs_may_be_tensors_with_a_datatype() -> None:
    body, right = draw_body()
    tensor = {"datatype": "FP32", "shape": [3, 8], "data": right.tolist()}
    report = check(body | {"candidate": {"w": tensor}, "repeats": {"w": [tensor, tensor]}})
    assert report["verdicts"]["w"]["repeatability"] == {"runs": 3, "max_abs": 0.0, "explained": True}


REFUSED: dict[str, tuple[Any, str]] = {
    "no candidate": ({"x": [[[1.0]]]}, "no candidate"),
    "another shape": ({"w": [[1.0, 2.0]]}, "each run has shape [2], the candidate [3, 8]"),
    "a number": ({"w": 1.0}, "one number"),
    "different shapes": (
        {"w": [{"datatype": "FP32", "shape": [1], "data": [1]}, {"datatype": "FP32", "shape": [2], "data": [1, 2]}]},
        "runs of different shapes",
    ),
    "integers": ({"w": {"datatype": "INT64", "shape": [1, 3, 8], "data": [1] * 24}}, "a gradient is of floats"),
}


@pytest.mark.parametrize(("repeats", "words"), REFUSED.values(), ids=REFUSED)
def test_runs_of_nothing_are_refused(repeats: Any, words: str) -> None:
    body, right = draw_body()
    with pytest.raises(InvalidRequestError) as refusal:
        check(body | {"candidate": {"w": right.tolist()}, "repeats": repeats})
    (error,) = refusal.value.errors
    assert error["pointer"] == f"/repeats/{next(iter(repeats))}"
    assert words in error["detail"]


def test_runs_beyond_the_limit_are_refused() -> None:

    body, right = draw_body()
    body |= {"candidate": {"w": right.tolist()}, "repeats": {"w": [right.tolist()] * 100}}
    with pytest.raises(InvalidRequestError) as refusal:
        check(body, Limits(elements=2000))
    assert refusal.value.errors[0]["pointer"] == "/repeats"


@pytest.mark.parametrize("method", [{}, {"projections": 1}], ids=["elements", "directions"])
def test_runs_count_in_the_memory_of_a_check_whose_plan_is_kept(method: dict[str, Any]) -> None:
    body, right = draw_body(finite_difference=method)
    body |= {"candidate": {"w": right.tolist()}}
    limits = Limits(bytes=2**25)
    assert check(body, limits)["outcome"] == "pass"
    runs = {"datatype": "FP64", "shape": [60_000, 3, 8], "data": np.zeros(60_000 * 24).tolist()}
    with pytest.raises(InvalidRequestError) as refusal:
        check(body | {"repeats": {"w": runs}}, limits)
    assert refusal.value.reason == "over-budget"


def test_a_later_run_of_integers_is_refused_too() -> None:
    body, right = draw_body()
    first = {"datatype": "FP32", "shape": [3, 8], "data": right.tolist()}
    second = {"datatype": "INT64", "shape": [3, 8], "data": [1] * 24}
    with pytest.raises(InvalidRequestError) as refusal:
        check(body | {"candidate": {"w": right.tolist()}, "repeats": {"w": [first, second]}})
    assert "datatype INT64 was given" in refusal.value.errors[0]["detail"]
