"""What is reported: classes of explanations, one of each bug, or that there is none."""

import numpy as np

from service.numerics.diagnosis.diagnose import diagnose_gradients
from tests.solved_problems import SolvedProblem, solve_preset

MLP = solve_preset("mlp_classifier")


def test_explanations_that_a_point_cannot_tell_apart_are_all_reported() -> None:
    named = MLP.list_bug_names({"w2": 2 * MLP.get_gradient("w2")})
    assert named == {"w2": {"scaled", "double_counted"}}


def test_same_bug_in_small_tensors_adds_evidence() -> None:
    """Two numbers of bfloat16 say little; the same factor in all of them is no chance."""
    worked = solve_preset("lenet")
    wrong = {name: -worked.get_gradient(name) for name in ("a1", "k1", "b2")}
    assert all(names == {"sign_flipped"} for names in worked.list_bug_names(wrong, "BF16").values())
    small = SolvedProblem(
        {
            "tensors": {"x": [1.5]},
            "weights": {"a": [0.75], "b": [1.25]},
            "model": {
                "nodes": [
                    {"name": "ax", "op": "mul", "inputs": ["a", "x"]},
                    {"name": "t", "op": "tanh", "inputs": ["ax"]},
                    {"name": "bt", "op": "mul", "inputs": ["b", "t"]},
                    {"name": "loss", "op": "sum", "inputs": ["bt"]},
                ]
            },
        }
    )
    rounded = {name: -small.get_gradient(name).astype(np.float32).astype(np.float64) for name in ("a", "b")}
    assert small.list_bug_names({"a": rounded["a"]}, "FP32") == {"a": {"unknown"}}
    assert small.list_bug_names(rounded, "FP32") == {"a": {"sign_flipped"}, "b": {"sign_flipped"}}


def test_norm_of_one_element_has_no_unbiased_variance() -> None:
    """The bug that divides by N - 1 divides by 0 there; all others are still compared."""
    nodes = [
        {"name": "y", "op": "layer_norm", "inputs": {"input": "x", "bias": "b"}, "normalized_shape": [1]},
        {"name": "z", "op": "mul", "inputs": ["y", "x"]},
        {"name": "loss", "op": "sum", "inputs": ["z"]},
    ]
    problem = SolvedProblem(
        {
            "tensors": {"x": [[1.5], [-2.0]]},
            "weights": {"b": [0.75]},
            "model": {"nodes": nodes},
            "with_respect_to": ["x"],
        }
    )
    assert problem.list_bug_names({"x": -problem.get_gradient("x")}) == {"x": {"sign_flipped"}}


def test_unknown_bug_reports_error_locations() -> None:
    wrong = MLP.get_gradient("w1").copy()
    wrong[4] *= np.linspace(2, 3, 7)
    _, explanations = MLP.judge_candidates({"w1": wrong})
    assert [explanation.bug_name for explanation in explanations["w1"]] == ["unknown"]
    assert explanations["w1"][0].explanation == (
        "No known bug explains dL/dw1: 7 of 77 elements are off: exactly row 4."
    )
    assert 0 < explanations["w1"][0].relative_residual < 1


def test_diagnosis_beyond_its_work_limit_says_so() -> None:
    scene = MLP.build_context(("w1",))
    wrong = dict.fromkeys(["w1"], np.ones((11, 7), np.bool_))
    candidates = {"w1": scene.get_right_gradient("w1") * np.linspace(1, 2, 77).reshape(11, 7)}
    (explanation,) = diagnose_gradients(_replace_candidates(scene, candidates), wrong)["w1"]
    assert "too large" not in explanation.explanation
    scene.graph.__dict__["_total_cost"] = scene.graph.estimate_cost()._replace(work=2**26)
    try:
        (explanation,) = diagnose_gradients(_replace_candidates(scene, candidates), wrong)["w1"]
    finally:
        del scene.graph.__dict__["_total_cost"]
    assert explanation.explanation.endswith("The model is too large to try every wrong backward pass.")


def _replace_candidates(scene: object, candidates: dict[str, np.ndarray]) -> object:
    from dataclasses import replace

    return replace(scene, candidates=candidates)
