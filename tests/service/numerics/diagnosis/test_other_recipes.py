"""Roundings beside those of a recipe: programs that make them are told from programs with other bugs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from schemas.datatype import Array
from service.checks.graph import model_language
from service.checks.graph.diagnosis import build_context, diagnose_failures
from service.checks.graph.judge import Judge
from service.checks.graph.problem import Problem, build_problem
from service.numerics.core.interrupts import OutOfTimeError
from service.numerics.core.precision import PRECISIONS
from service.numerics.diagnosis import context as context_module
from service.numerics.diagnosis import diagnose, other_recipes
from service.numerics.diagnosis.explanation import BugExplanation
from service.numerics.diagnosis.other_recipes import explain_by_other_recipes, iterate_other_recipes
from service.numerics.verdict.outcome import Outcome
from tests.solved_problems import compute_routes

ROOT = Path(__file__).parents[4]
BF16, TF32 = PRECISIONS["BF16"].round_to_nearest, PRECISIONS["TF32"].round_to_nearest
MODEL = """
a = matmul(x, w1)
h = tanh(a)
y = matmul(h, w2)
p = mul(y, r)
loss = sum(p)
"""
SIZES = {"x": (6, 40), "w1": (40, 7), "w2": (7, 5), "r": (6, 5)}


def draw_tensors(seed: int) -> dict[str, Array]:
    generator = np.random.default_rng(seed)
    return {name: BF16(generator.normal(size=size) / 3) for name, size in SIZES.items()}


def keep(array: Array) -> Array:
    return array


def add_up_narrowly(a: Array, b: Array) -> Array:
    """Multiply matrices; each product, and each sum of two, is rounded."""
    total = np.zeros((a.shape[0], b.shape[1]))
    for k in range(a.shape[1]):
        total = BF16(total + BF16(np.outer(a[:, k], b[k])))
    return total


def run_program(
    tensors: dict[str, Array],
    *,
    multiply: Callable[[Array, Array], Array] = np.matmul,
    read: Callable[[Array], Array] = keep,
    store_h: Callable[[Array], Array] = keep,
    store_dh: Callable[[Array], Array] = keep,
) -> dict[str, Array]:
    """The gradients of the model, by hand, with roundings on the way."""
    x, w1, w2, r = (read(tensors[name]) for name in ("x", "w1", "w2", "r"))
    h = store_h(np.tanh(multiply(x, w1)))
    dh = store_dh(multiply(r, w2.T))
    return {"w1": multiply(x.T, dh * (1 - h * h)), "w2": multiply(h.T, r)}


def make_problem(tensors: dict[str, Array], gradients: dict[str, Array], recipe: Any) -> Problem:
    body = {
        "tensors": {name: tensors[name].tolist() for name in ("x", "r")},
        "weights": {name: tensors[name].tolist() for name in ("w1", "w2")},
        "model": MODEL,
        "candidate": {name: gradient.tolist() for name, gradient in gradients.items()},
        "candidate_dtype": recipe,
    }
    return build_problem(model_language.parse_check_request(body))


def judge(gradients: dict[str, Array], recipe: Any, seed: int) -> dict[str, list[BugExplanation]]:
    problem = make_problem(draw_tensors(seed), gradients, recipe)
    judge = Judge(problem, compute_routes(problem))
    with np.errstate(all="ignore"):
        verdicts = {name: judge.verdict(name) for name in gradients}
        explanations = diagnose_failures(problem, judge, verdicts, 1000)
    outcomes = {name: verdict.outcome for name, verdict in verdicts.items()}
    assert outcomes == {name: Outcome.FAIL if name in explanations else Outcome.PASS for name in gradients}
    return explanations


def multiply_in_tf32(a: Array, b: Array) -> Array:
    return TF32(a) @ TF32(b)


ROUNDINGS: dict[str, dict[str, Any]] = {
    "arithmetic in BF16": {"multiply": add_up_narrowly},
    "factors of products in TF32": {"multiply": multiply_in_tf32},
    "a further rounding of the tensors to BF16": {"read": BF16},
    "a rounding of h to BF16": {"store_h": BF16},
    "a rounding of the gradient at h to BF16": {"store_dh": BF16},
}
NARROW_OUTPUT = {"inputs": "BF16", "accumulate": "FP32", "output": "BF16"}


def explain_narrowly(gradients: dict[str, Array], seed: int) -> dict[str, list[BugExplanation]]:
    return judge({name: BF16(gradient) for name, gradient in gradients.items()}, NARROW_OUTPUT, seed)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "text", ["arithmetic in BF16", "a rounding of h to BF16", "a rounding of the gradient at h to BF16"]
)
def test_further_roundings_are_named(text: str, seed: int) -> None:
    tensors = draw_tensors(seed)
    assert not explain_narrowly(run_program(tensors), seed), "the control: the program of the recipe passes"
    explanations = explain_narrowly(run_program(tensors, **ROUNDINGS[text]), seed)
    assert explanations
    for name, (explanation,) in explanations.items():
        assert explanation.bug_name == "low_precision"
        assert explanation.explanation.startswith(f"The errors of dL/d{name} are like those of ")
        assert text in explanation.explanation
        assert "allows for BF16 inputs, FP32 accumulation, BF16 at output alone." in explanation.explanation


def test_the_documentation_quotes_an_explanation() -> None:
    explanations = explain_narrowly(run_program(draw_tensors(0), store_h=BF16), 0)
    assert explanations["w1"][0].explanation in " ".join((ROOT / "docs" / "low-precision.md").read_text().split())


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("text", "recipe"),
    [
        ("factors of products in TF32", {"accumulate": "FP32", "casts": {"p": "BF16"}}),
        ("a further rounding of the tensors to BF16", {"accumulate": "FP32", "products": "TF32"}),
    ],
)
def test_roundings_of_tensors_and_factors_are_named(text: str, recipe: dict[str, Any], seed: int) -> None:
    generator = np.random.default_rng(seed)
    tensors = {name: generator.normal(size=size).astype(np.float32).astype(float) / 4 for name, size in SIZES.items()}
    context = build_context(make_problem(tensors, run_program(tensors, **ROUNDINGS[text]), recipe))
    explanation = explain_by_other_recipes(context, "w1", 2**40)
    assert explanation is not None
    assert text in explanation.explanation


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("text", "roundings"),
    [
        ("h was rounded to BF16", ROUNDINGS["a rounding of h to BF16"]),
        ("the gradient at h was rounded to BF16", ROUNDINGS["a rounding of the gradient at h to BF16"]),
    ],
)
def test_a_rounding_that_leaves_digits_is_proven(text: str, roundings: dict[str, Any], seed: int) -> None:
    recipe = {"inputs": "BF16", "accumulate": "FP32", "output": "FP32"}
    explanations = judge(run_program(draw_tensors(seed), **roundings), recipe, seed)
    assert explanations
    for (explanation,) in explanations.values():
        assert explanation.bug_name == "low_precision"
        assert explanation.explanation.startswith("Matches exactly: ")
        assert text in explanation.explanation


def drop_a_row(right: dict[str, Array]) -> dict[str, Array]:
    return {**right, "w1": right["w1"] * (np.arange(40) != 3)[:, np.newaxis]}


def move_all(right: dict[str, Array]) -> dict[str, Array]:
    return {**right, "w1": right["w1"] + np.abs(right["w1"]).mean() / 8}


@pytest.mark.parametrize("plant", [drop_a_row, move_all])
def test_other_errors_are_none_of_roundings(plant: Callable[[dict[str, Array]], dict[str, Array]]) -> None:
    (explanation, *_) = explain_narrowly(plant(run_program(draw_tensors(0))), 0)["w1"]
    assert explanation.bug_name != "low_precision"
    assert "like those of" not in explanation.explanation


def test_some_places_are_tried_where_work_is_short() -> None:
    tensors = draw_tensors(0)
    wrong = {name: BF16(gradient) for name, gradient in run_program(tensors, store_h=BF16).items()}
    context = build_context(make_problem(tensors, wrong, NARROW_OUTPUT))
    plenty, little = (explain_by_other_recipes(context, "w1", work) for work in (2**40, 1))
    assert plenty is not None
    assert "a rounding of h to BF16" in plenty.explanation
    assert "too large" not in plenty.explanation
    assert little is not None
    assert "a rounding of h" not in little.explanation
    assert little.explanation.endswith("The model is too large to try the rounding of every value and gradient.")


def test_gradients_that_are_no_numbers_or_few_have_no_roundings() -> None:
    tensors = draw_tensors(0)
    wrong = run_program(tensors, multiply=add_up_narrowly)
    wrong["w1"][0, 0] = np.nan
    wrong["w2"] = wrong["w2"][:1]
    context = build_context(make_problem(tensors, wrong, NARROW_OUTPUT))
    assert explain_by_other_recipes(context, "w1", 2**40) is None
    assert explain_by_other_recipes(context, "w2", 2**40) is None


def test_gradients_in_one_arithmetic_have_no_roundings_but_in_their_digits() -> None:
    tensors = draw_tensors(0)
    context = build_context(make_problem(tensors, run_program(tensors, multiply=add_up_narrowly), "FP32"))
    assert explain_by_other_recipes(context, "w1", 2**40) is None


def test_eager_kernels_have_no_further_casts() -> None:
    context = build_context(make_problem(draw_tensors(0), run_program(draw_tensors(0)), "BF16"))
    recipes = list(iterate_other_recipes(context, context.get_recipe("w1")))
    assert [other.difference for other in recipes] == ["factors of products in TF32", "factors of products in BF16"]


def test_gradients_have_an_explanation_where_time_runs_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_out(*_: object) -> None:
        raise OutOfTimeError

    monkeypatch.setattr(diagnose, "explain_by_other_recipes", run_out)
    (explanation,) = explain_narrowly(run_program(draw_tensors(0), store_h=BF16), 0)["w1"]
    assert explanation.bug_name == "unknown"
    assert explanation.explanation.endswith("Not every bug was tried: the request ran out of time.")


def test_a_diagnosis_keeps_no_more_than_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    tensors = draw_tensors(0)
    wrong = run_program(tensors, store_h=BF16)
    for module in (context_module, other_recipes):
        monkeypatch.setattr(module, "MAX_KEPT_ELEMENTS", 300)
    context = build_context(make_problem(tensors, wrong, NARROW_OUTPUT))
    assert context.compute_single_rounding_gradients(PRECISIONS["BF16"]) == ()
    assert explain_by_other_recipes(context, "w1", 2**40) is None
