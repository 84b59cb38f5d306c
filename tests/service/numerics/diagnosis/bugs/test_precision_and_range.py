"""Too few digits, too short a range."""

import numpy as np
import pytest

from service.numerics.core.precision import PRECISIONS
from service.numerics.diagnosis.bugs.precision_and_range import find_overflow
from tests.solved_problems import SolvedProblem, solve_preset

MLP = solve_preset("mlp_classifier")


def test_float32_gradient_declared_float64_is_named() -> None:
    right = MLP.get_gradient("w1")
    verdicts, explanations = MLP.judge_candidates({"w1": right.astype(np.float32).astype(np.float64)})
    assert verdicts["w1"].outcome.wire_name == "fail"
    assert [explanation.bug_name for explanation in explanations["w1"]] == ["low_precision"]
    assert "is a number of FP32" in explanations["w1"][0].explanation


def test_float16_is_told_from_float32() -> None:
    wrong = MLP.get_gradient("w1").astype(np.float16).astype(np.float64)
    _, explanations = MLP.judge_candidates({"w1": wrong}, "FP32")
    assert "is a number of FP16" in explanations["w1"][0].explanation


def test_short_numbers_that_are_wrong_are_not_a_matter_of_precision() -> None:
    wrong = (MLP.get_gradient("w1") * 1.01).astype(np.float32).astype(np.float64)
    assert MLP.list_bug_names({"w1": wrong})["w1"] == {"scaled"}


WRITTEN = {
    "as by printf": ("%.6g", "6 significant digits"),
    "in scientific notation": ("%.3e", "4 significant digits"),
    "as a tensor is printed": ("%.4f", "4 decimals"),
    "as an array is printed": ("%.8f", "8 decimals"),
}


def write_with_format(form: str, gradient: np.ndarray) -> np.ndarray:
    return np.array([float(form % value) for value in gradient.ravel()]).reshape(gradient.shape)


@pytest.mark.parametrize(("form", "digits"), WRITTEN.values(), ids=WRITTEN)
def test_numbers_that_were_written_down_are_named_with_their_digits(form: str, digits: str) -> None:
    _, explanations = MLP.judge_candidates({"w1": write_with_format(form, MLP.get_gradient("w1"))})
    assert [explanation.bug_name for explanation in explanations["w1"]] == ["few_digits"]
    assert f"dL/dw1 was rounded to {digits}: every element" in explanations["w1"][0].explanation


def test_few_digits_are_named_in_float32() -> None:
    wrong = write_with_format("%.3g", MLP.get_gradient("w1")).astype(np.float32).astype(np.float64)
    _, explanations = MLP.judge_candidates({"w1": wrong}, "FP32")
    assert [explanation.bug_name for explanation in explanations["w1"]] == ["few_digits"]


@pytest.mark.parametrize(
    "wrong",
    [
        write_with_format("%.6g", 1.001 * MLP.get_gradient("w1")),
        np.where(
            np.arange(77).reshape(11, 7) == 5, MLP.get_gradient("w1"), write_with_format("%.3g", MLP.get_gradient("w1"))
        ),
        np.sign(MLP.get_gradient("w1")),
        write_with_format("%.1g", MLP.get_gradient("w1")),
        write_with_format("%.6g", MLP.get_gradient("w1")) + 1e-4 * (np.arange(77).reshape(11, 7) == 5),
    ],
    ids=["another gradient", "all but one", "signs", "hardly any digits", "one digit is another"],
)
def test_short_numbers_that_are_not_the_nearest_are_another_matter(wrong: np.ndarray) -> None:
    assert "few_digits" not in MLP.list_bug_names({"w1": wrong})["w1"]


def test_infinities_and_nan_are_told_apart_and_located() -> None:
    for value, name in ((np.inf, "overflow"), (np.nan, "not_finite")):
        wrong = MLP.get_gradient("w1").copy()
        wrong[3, 2] = value
        _, explanations = MLP.judge_candidates({"w1": wrong})
        assert [explanation.bug_name for explanation in explanations["w1"]] == [name]
        assert (
            "1 of 77 elements of dL/dw1 are not finite, the first at index [3, 2]" in explanations["w1"][0].explanation
        )


def test_overflow_names_the_first_node_out_of_range() -> None:
    worked = SolvedProblem(
        {
            "tensors": {"x": [300.0, 500.0]},
            "weights": {"w": [1.0, 1.0]},
            "model": {
                "nodes": [
                    {"name": "z", "op": "mul", "inputs": ["x", "w"]},
                    {"name": "squares", "op": "mul", "inputs": ["z", "z"]},
                    {"name": "root", "op": "pow", "inputs": ["squares"], "exponent": 0.5},
                    {"name": "loss", "op": "sum", "inputs": ["root"]},
                ]
            },
        }
    )
    assert find_overflow(worked.build_context(), PRECISIONS["FP16"]) == ("squares", 250000.0)
    assert find_overflow(worked.build_context(), PRECISIONS["FP32"]) is None
    _, explanations = worked.judge_candidates({"w": np.array([300.0, np.nan])}, "FP16")
    assert [explanation.bug_name for explanation in explanations["w"]] == ["overflow"]
    assert "squares reaches 2.5e+05, beyond the largest number" in explanations["w"][0].explanation
