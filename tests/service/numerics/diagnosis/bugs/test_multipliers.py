"""An explanation states what the candidate proves: what multiplies a gradient at a node, and which way."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from schemas.datatype import Array
from tests.solved_problems import SolvedProblem

GENERATOR = np.random.default_rng(16)
X = GENERATOR.normal(size=(4, 6)) + 0.1
T = GENERATOR.normal(size=(4, 6))
TENSORS: dict[str, Any] = {
    "t": T,
    "s": np.array(1.7),
    "k": GENERATOR.normal(size=(4, 6)),
    "v": GENERATOR.normal(size=(4, 6)),
    "labels": np.array([1, 0, 5, 3]),
    "c": np.array([0.5, 2.0, 1.2, 0.7, 1.4, 0.9]),
}

Where = str | None
FACTORS: list[tuple[str, Mapping[str, Any], float, str, Where]] = [
    ("mul", {"inputs": ["x", 0.8]}, 0.8, "the factor 0.8 of", None),
    ("mul", {"inputs": [0.8, "x"]}, 0.8, "the factor 0.8 of", None),
    ("mul", {"inputs": ["x", "s"]}, 1.7, "the factor 1.7 of", None),
    ("mul", {"inputs": ["x", -0.6]}, -0.6, "the factor -0.6 of", None),
    ("div", {"inputs": ["x", 0.8]}, 1 / 0.8, "the division by 0.8 in", None),
    ("div", {"inputs": ["x", "s"]}, 1 / 1.7, "the division by 1.7 in", None),
    ("div", {"inputs": [3.5, "x"]}, 3.5, "the factor 3.5 of", None),
    ("add", {"inputs": ["t", "x"], "alpha": 2.5}, 2.5, "the factor 2.5 of", None),
    ("sub", {"inputs": ["t", "x"], "alpha": 2.5}, 2.5, "the factor 2.5 of", None),
    ("pow", {"inputs": ["x"], "exponent": 3}, 3, "the exponent 3 of", None),
    ("sqrt", {"inputs": ["x2"]}, 0.5, "the factor 0.5 of", None),
    ("rsqrt", {"inputs": ["x2"]}, 0.5, "the factor 0.5 of", None),
    ("erf", {"inputs": ["x"]}, 2 / np.sqrt(np.pi), "the factor 1.12838 of", None),
    ("leaky_relu", {"inputs": ["x"], "negative_slope": 0.3}, 0.3, "the slope 0.3 of", "below 0"),
    ("elu", {"inputs": ["x"], "alpha": 0.7}, 0.7, "the factor 0.7 of", "below 0"),
    ("huber_loss", {"inputs": ["x", "t"], "delta": 0.7}, 0.7, "the factor 0.7 of", "outside"),
    ("smooth_l1_loss", {"inputs": ["x", "t"], "beta": 0.7}, 1 / 0.7, "the division by 0.7 in", "inside"),
    ("mse_loss", {"inputs": ["x", "t"]}, 2, "the factor 2 of", None),
    ("var", {"inputs": ["x"], "correction": 1}, 1 / 23, "the division by 23 in", None),
    ("scaled_dot_product_attention", {"inputs": ["x", "k", "v"]}, 6**-0.5, "the factor 0.408248 of", None),
    ("scaled_dot_product_attention", {"inputs": ["x", "k", "v"], "scale": 0.3}, 0.3, "the factor 0.3 of", None),
    ("nll_loss", {"inputs": ["x", "labels", "c"]}, 1 / 4.1, "the division of the mean by 4.1 in", None),
]
"""Ops with the number that multiplies the gradient of x, in words, and where, by hand."""

COUNTS: list[tuple[str, Mapping[str, Any], float, str]] = [
    ("mean", {"inputs": ["x"]}, 24, "the sum over all 24 elements was taken where n (mean) takes the mean"),
    ("mean", {"inputs": ["x"]}, 4, "the sum over the batch (B = 4) was taken where n (mean) takes the mean"),
    ("mean", {"inputs": ["x"], "dim": 1}, 6, "the sum over the batch (B = 6) was taken where n (mean) takes the mean"),
    (
        "sum",
        {"inputs": ["x"], "dim": 1},
        1 / 6,
        "the mean over the batch (B = 6) was taken where n (sum) takes the sum",
    ),
    (
        "mse_loss",
        {"inputs": ["x", "t"]},
        24,
        "the sum over all 24 elements was taken where n (mse_loss) takes the mean",
    ),
    ("l1_loss", {"inputs": ["x", "t"]}, 1 / 24, "the mean over all 24 elements was taken once too often"),
    (
        "cross_entropy",
        {"inputs": ["x", "labels"]},
        4,
        "the sum over the batch (B = 4) was taken where n (cross_entropy)",
    ),
    ("avg_pool2d", {"inputs": ["p"], "kernel_size": 2}, 4, "the sum over the 4 elements of a window was taken"),
]

NUMBERS: list[tuple[str, Mapping[str, Any], float]] = [
    ("add", {"inputs": ["x", 7.0]}, 7),
    ("sub", {"inputs": ["x", 7.0]}, 7),
    ("maximum", {"inputs": ["x", -9.0]}, 9),
    ("clamp", {"inputs": ["x"], "min": -9.0, "max": 11.0}, 11),
    ("narrow", {"inputs": ["x"], "dim": 1, "start": 3, "length": 2}, 3),
    ("softplus", {"inputs": ["x"], "beta": 0.7}, 0.7),
    ("softplus", {"inputs": ["x"], "threshold": 11.0}, 11),
    ("leaky_relu", {"inputs": ["x"], "negative_slope": 0.3}, 0.3),
    ("elu", {"inputs": ["x"], "alpha": 0.7}, 0.7),
    ("huber_loss", {"inputs": ["x", "t"], "delta": 0.7}, 0.7),
    ("smooth_l1_loss", {"inputs": ["x", "t"], "beta": 0.7}, 0.7),
    ("layer_norm", {"inputs": ["x"], "normalized_shape": [6], "eps": 0.1}, 0.1),
    ("rms_norm", {"inputs": ["x"], "normalized_shape": [6], "eps": 0.3}, 0.3),
    ("group_norm", {"inputs": ["x"], "num_groups": 3, "eps": 0.1}, 3),
    ("vector_norm", {"inputs": ["x"], "ord": 3}, 3),
    ("var", {"inputs": ["x"], "correction": 3}, 3),
    ("cumsum", {"inputs": ["x"], "dim": 1}, 3),
    ("pad", {"inputs": ["x"], "pad": [1, 2], "value": 11.0}, 11),
    ("triplet_margin_loss", {"inputs": ["x", "t", "k"], "margin": 7.0, "p": 3.0}, 7),
    ("triplet_margin_loss", {"inputs": ["x", "t", "k"], "margin": 7.0, "p": 3.0}, 3),
    ("cross_entropy", {"inputs": ["x", "labels"], "label_smoothing": 0.3}, 0.3),
    ("scaled_dot_product_attention", {"inputs": ["t", "k", "x"], "scale": 0.3}, 0.3),
    ("sub", {"inputs": ["x", "t"], "alpha": 0.7}, 0.7),
    ("avg_pool2d", {"inputs": ["p"], "kernel_size": 3, "padding": 1, "count_include_pad": False}, 9),
]
"""Ops with a number that multiplies no gradient of x, or not everywhere."""

DONE = {"was left out": -1, "was applied twice": 1, "was inverted": -2}


def solve_op(op: str, attributes: Mapping[str, Any]) -> SolvedProblem:
    """A loss through one node `n`, behind which nothing is a factor, so that no other story fits by chance."""
    before = {
        "x2": {"name": "x2", "op": "exp", "inputs": ["x"]},
        "p": {"name": "p", "op": "unsqueeze", "inputs": ["x"], "dim": 0},
    }
    nodes = [line for name, line in before.items() if name in attributes["inputs"]]
    nodes += [
        {"name": "n", "op": op, **attributes},
        {"name": "o", "op": "sin", "inputs": ["n"]},
        {"name": "f", "op": "flatten", "inputs": ["o"]},
        {"name": "loss", "op": "logsumexp", "inputs": ["f"], "dim": 0},
    ]
    tensors = {name: TENSORS[name].tolist() for name in attributes["inputs"] if name in TENSORS}
    return SolvedProblem({"tensors": tensors, "weights": {"x": X.tolist()}, "model": {"nodes": nodes}})


def select_elements(model: SolvedProblem, aside: Where) -> Array:
    x = model.get_value("x")
    inside = np.abs(X - T) < 0.7
    return {None: np.ones(x.shape, np.bool_), "below 0": x <= 0, "inside": inside, "outside": ~inside}[aside]


def explain_scaling(model: SolvedProblem, candidate: Array) -> str:
    explanations = model.judge_candidates({"x": candidate})[1]["x"]
    return " ".join(explanation.explanation for explanation in explanations if explanation.bug_name == "scaled")


@pytest.mark.parametrize("done", DONE)
@pytest.mark.parametrize(("op", "attributes", "factor", "words", "aside"), FACTORS)
def test_wrong_factor_explains_the_action(
    op: str, attributes: Mapping[str, Any], factor: float, words: str, aside: Where, done: str
) -> None:
    model = solve_op(op, attributes)
    candidate = model.get_gradient("x") * np.where(select_elements(model, aside), factor ** DONE[done], 1)
    told = explain_scaling(model, candidate)
    behind = "" if aside is None else f" {aside}" if aside == "below 0" else f" {aside} of it"
    assert f"{words} n ({op}){behind} {done}" in told
    assert told.startswith("Matches exactly: ")
    for other in DONE.keys() - {done}:
        if not np.isclose(factor ** DONE[other], factor ** DONE[done]):
            assert f"{words} n ({op}){behind} {other}" not in told


@pytest.mark.parametrize(("op", "attributes", "factor", "words"), COUNTS)
def test_wrong_count_names_the_counted_elements(
    op: str, attributes: Mapping[str, Any], factor: float, words: str
) -> None:
    model = solve_op(op, attributes)
    assert words in explain_scaling(model, factor * model.get_gradient("x"))


@pytest.mark.parametrize("power", [1, -1])
@pytest.mark.parametrize(("op", "attributes", "number"), NUMBERS)
def test_number_outside_the_gradient_is_in_no_explanation(
    op: str, attributes: Mapping[str, Any], number: float, power: int
) -> None:
    model = solve_op(op, attributes)
    told = explain_scaling(model, number**power * model.get_gradient("x"))
    assert told.startswith("dL/dx is ")
    assert f"({op})" not in told
    assert "one factor is missing or extra" in told


def test_nodes_with_equal_factors_are_both_named() -> None:
    nodes = [
        {"name": "m", "op": "mul", "inputs": ["x", 1.25]},
        {"name": "d", "op": "div", "inputs": ["m", 0.8]},
        {"name": "n", "op": "sin", "inputs": ["d"]},
        {"name": "loss", "op": "logsumexp", "inputs": ["n"], "dim": [0, 1]},
    ]
    model = SolvedProblem({"tensors": {}, "weights": {"x": X.tolist()}, "model": {"nodes": nodes}})
    told = explain_scaling(model, 0.8 * model.get_gradient("x"))
    assert "the factor 1.25 of m (mul) was left out, or the division by 0.8 in d (div) was left out" in told


def test_action_contradicted_by_another_gradient_is_omitted() -> None:
    nodes = [
        {"name": "p", "op": "mul", "inputs": ["x", "y"]},
        {"name": "m", "op": "mul", "inputs": ["p", 1.25]},
        {"name": "n", "op": "sin", "inputs": ["m"]},
        {"name": "loss", "op": "logsumexp", "inputs": ["n"], "dim": [0, 1]},
    ]
    model = SolvedProblem({"tensors": {}, "weights": {"x": X.tolist(), "y": T.tolist()}, "model": {"nodes": nodes}})
    wrong = {name: model.get_gradient(name) / 1.25 for name in ("x", "y")}
    assert "of m (mul) was left out" in model.judge_candidates(wrong)[1]["x"][0].explanation
    (told,) = model.judge_candidates({**wrong, "y": model.get_gradient("y")})[1]["x"]
    assert told.explanation == (
        "dL/dx is 0.8 times the reference everywhere: one factor is missing or extra, and this model suggests none of "
        "that value."
    )


def test_contradiction_of_all_actions_is_reported() -> None:
    nodes = [
        {"name": "p", "op": "mul", "inputs": ["x", "y"]},
        {"name": "m", "op": "tanh", "inputs": ["p"]},
        {"name": "loss", "op": "logsumexp", "inputs": ["m"], "dim": [0, 1]},
    ]
    model = SolvedProblem({"tensors": {}, "weights": {"x": X.tolist(), "y": T.tolist()}, "model": {"nodes": nodes}})
    through = model.get_gradient("m")
    explanations = model.judge_candidates({"x": through * T, "y": model.get_gradient("y")})[1]["x"]
    (told,) = (explanation for explanation in explanations if explanation.bug_name == "missing_activation_derivative")
    assert told.explanation.endswith("But the same bug would change dL/dy too, and your candidate does not show that.")
