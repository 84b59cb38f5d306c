"""Candidates that are judged by a recipe: what the report says, and which recipes are refused."""

from typing import Any

import numpy as np
import pytest

from schemas.float8 import E4M3
from schemas.problem_details import InvalidRequestError
from service.checks.graph.check import check
from service.numerics.core.precision import PRECISIONS

BF16 = PRECISIONS["BF16"]
FLASH = {"inputs": "BF16", "casts": {"o": "BF16", "o.p": "BF16", "o.ds": "BF16"}, "output": "BF16"}
MODEL = "o = scaled_dot_product_attention(q, k, v, is_causal=True)\nt = mul(o, g)\nloss = sum(t)"


def draw_operands(seed: int, length: int = 9, width: int = 4) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(seed)
    return {name: BF16.round_to_nearest(generator.normal(size=(2, length, width))) for name in "qkvg"}


def run_kernel(operands: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Compute attention's gradients as flash kernels do: sums in float32, P, dS, the output and gradients rounded."""
    q, k, v, g = (operands[name].astype(np.float32) for name in "qkvg")
    scale = np.float32(q.shape[-1] ** -0.5)
    scores = q @ np.swapaxes(k, -1, -2) * scale
    scores = np.where(np.tril(np.ones(scores.shape[-2:], bool)), scores, -np.inf)
    p = np.exp(scores - scores.max(axis=-1, keepdims=True))
    p = p / p.sum(axis=-1, keepdims=True)
    rounded_p = BF16.round_to_nearest(p)
    o = BF16.round_to_nearest(rounded_p @ v)
    ds = p * (g @ np.swapaxes(v, -1, -2) - (g * o).sum(axis=-1, keepdims=True))
    ds = BF16.round_to_nearest(ds) * scale
    gradients = {"q": ds @ k, "k": np.swapaxes(ds, -1, -2) @ q, "v": np.swapaxes(rounded_p, -1, -2) @ g}
    return {name: BF16.round_to_nearest(gradient) for name, gradient in gradients.items()}


def judge(operands: dict[str, np.ndarray], candidate: dict[str, np.ndarray], recipe: Any = FLASH, **fields: Any) -> Any:
    body: dict[str, Any] = {
        "tensors": {"g": operands["g"].tolist()},
        "weights": {name: operands[name].tolist() for name in "qkv"},
        "model": MODEL,
        "candidate": {name: gradient.tolist() for name, gradient in candidate.items()},
        "candidate_dtype": recipe,
        "include": [],
    }
    return check(body | fields)


@pytest.mark.parametrize("recipe", [FLASH, "BF16"], ids=["recipe", "name"])
@pytest.mark.parametrize("seed", range(3))
def test_a_right_kernel_passes(seed: int, recipe: Any) -> None:
    operands = draw_operands(seed)
    report = judge(operands, run_kernel(operands), recipe)
    assert report["outcome"] == "pass"
    for verdict in report["verdicts"].values():
        assert verdict["scale"]["factor"] == pytest.approx(1, abs=0.01)
        assert abs(verdict["scale"]["factor"] - 1) <= verdict["scale"]["allowed"] <= 0.04


WRONG = {
    "2 % too large": lambda gradient: gradient * 1.02,
    "one element doubled": lambda gradient: (
        np.where(np.abs(gradient) == np.sort(np.abs(gradient), None)[40], 2, 1) * gradient
    ),
    "one head zeroed": lambda gradient: gradient * np.array([1.0, 0.0])[:, None, None],
    "the last row lost": lambda gradient: gradient * (np.arange(gradient.shape[1]) < 8)[:, None],
}


@pytest.mark.parametrize("recipe", [FLASH, "BF16"], ids=["recipe", "name"])
@pytest.mark.parametrize("change", WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("name", "qkv")
def test_a_wrong_kernel_fails(name: str, change: Any, recipe: Any) -> None:
    operands = draw_operands(5, length=16, width=8)
    candidate = run_kernel(operands)
    wrong = candidate | {name: BF16.round_to_nearest(change(candidate[name]))}
    report = judge(operands, wrong, recipe)
    outcomes = {judged: verdict["outcome"] for judged, verdict in report["verdicts"].items()}
    assert outcomes == {"q": "pass", "k": "pass", "v": "pass"} | {name: "fail"}


def test_a_factor_that_no_element_shows_is_explained() -> None:
    operands = draw_operands(0, length=48, width=16)
    candidate = run_kernel(operands)
    allowed = judge(operands, candidate)["verdicts"]["q"]["scale"]["allowed"]
    candidate["q"] = candidate["q"] * (1 + 1.3 * allowed)
    verdict = judge(operands, candidate)["verdicts"]["q"]
    assert (verdict["outcome"], verdict["elements"]["fail"]) == ("fail", 0)
    assert "as a whole is 1.00" in verdict["reason"]


@pytest.mark.parametrize(("factor", "outcome"), [(1.0, "pass"), (1.01, "fail")])
def test_the_rounding_of_equal_gradients_is_no_factor(factor: float, outcome: str) -> None:
    """The gradient of a mean is 1/768 everywhere, and bfloat16 has a number 0.2 % above it."""
    points = BF16.round_to_nearest(np.random.default_rng(0).normal(size=768))
    gradient = BF16.round_to_nearest(np.full(768, factor / 768))
    body = {"model": "loss = mean(x)", "tensors": {}, "weights": {"x": points.tolist()}}
    report = check(body | {"candidate": {"x": gradient.tolist()}, "candidate_dtype": {"output": "BF16"}})
    assert report["verdicts"]["x"]["outcome"] == outcome


def test_a_pass_says_what_it_was_judged_as() -> None:
    operands = draw_operands(0)
    report = judge(operands, run_kernel(operands))
    assert report["judged_as"] == "BF16 inputs, FP32 accumulation, BF16 at o, o.p, o.ds and output"
    assert "judged_as" not in judge(operands, run_kernel(operands), "BF16")


def test_a_kernel_that_rounds_where_its_recipe_does_not_fails() -> None:
    operands = draw_operands(0)
    honest = {**FLASH, "casts": "none", "output": "FP32"}
    assert judge(operands, run_kernel(operands), honest)["outcome"] == "fail"


def test_inputs_are_rounded_for_all_routes() -> None:
    operands = {name: array + 1e-4 for name, array in draw_operands(0).items()}
    rounded = {name: BF16.round_to_nearest(array) for name, array in operands.items()}
    assert any((rounded[name] != operands[name]).any() for name in operands)
    candidate = run_kernel(rounded)
    assert judge(operands, candidate)["loss"] == judge(rounded, candidate)["loss"]
    as_they_are = judge(operands, candidate, {**FLASH, "inputs": None})
    assert as_they_are["loss"] != judge(rounded, candidate)["loss"]


def test_a_tensor_in_float8_is_scaled_to_its_range() -> None:
    weight = np.array([1e4, -3e3, 1.7, 0.0])
    body = {"tensors": {}, "weights": {"w": weight.tolist()}, "model": "h = mul(w, w)\nloss = sum(h)"}
    body |= {"candidate": {"w": (2 * weight).tolist()}, "candidate_dtype": {"inputs": "FP8_E4M3"}}
    report = check(body)
    held = np.array(report["gradients"]["w"]["analytic"]) / 2
    assert held[0] == 1e4
    assert held[1] == pytest.approx(-3e3, rel=2.0**-4)
    assert held[3] == 0
    assert held[2] == pytest.approx(1.7, rel=2.0**-4)
    assert held[2] != 1.7


REFUSED = {
    "an unknown node": ({"casts": {"z": "BF16"}}, "/candidate_dtype/casts/z", "'o', 'd:o', 't'"),
    "an unknown gradient": ({"casts": {"d:z": "BF16"}}, "/candidate_dtype/casts/d:z", "there is no node"),
    "an unknown place": ({"casts": {"o.scores": "BF16"}}, "/candidate_dtype/casts/o.scores", "'o.p'"),
    "a tensor": ({"casts": {"q": "BF16"}}, "/candidate_dtype/casts/q", "inputs rounds tensors"),
    "an unknown arithmetic": ({"casts": {"o": "BF17"}}, "/candidate_dtype/casts/o", "BF16"),
    "an unknown field": ({"cast": {}}, "/candidate_dtype/cast", "casts"),
    "an unknown word": ({"casts": "all"}, "/candidate_dtype/casts", "every_node"),
    "an unknown name": ("BF17", "/candidate_dtype", "BF16"),
    "a number": (16, "/candidate_dtype", "name of an arithmetic"),
}


@pytest.mark.parametrize(("recipe", "pointer", "words"), REFUSED.values(), ids=REFUSED)
def test_a_recipe_that_names_nothing_is_refused(recipe: Any, pointer: str, words: str) -> None:
    operands = draw_operands(0)
    with pytest.raises(InvalidRequestError) as refusal:
        judge(operands, run_kernel(operands), recipe)
    assert {error["pointer"] for error in refusal.value.errors} == {pointer}
    assert any(words in error["detail"] for error in refusal.value.errors)


def cast_to_e4m3(values: np.ndarray, *, is_scaled: bool) -> np.ndarray:
    scale = E4M3.numbers[np.isfinite(E4M3.numbers)].max() / np.abs(values).max() if is_scaled else 1.0
    return (E4M3.round_to_nearest(values * scale) / scale).astype(np.float64)


def judge_scaled_cast(magnitude: float, *, is_scaled: bool, seed: int = 0, factor: float = 1.0) -> Any:
    """Judge the gradient of w and v of sum(c (x w^T v^T)), with x w^T and its gradient in FP8."""
    generator = np.random.default_rng(seed)
    x, w, v, c = (
        BF16.round_to_nearest(generator.normal(size=shape)) for shape in ((64, 32), (48, 32), (16, 48), (64, 16))
    )
    x = x * magnitude
    hidden = x @ w.T
    stored = cast_to_e4m3(hidden, is_scaled=is_scaled)
    candidate = {
        "v": BF16.round_to_nearest(factor * c.T @ stored),
        "w": BF16.round_to_nearest(cast_to_e4m3(c @ v, is_scaled=is_scaled).T @ x),
    }
    body: dict[str, Any] = {
        "tensors": {"x": x.tolist(), "c": c.tolist()},
        "weights": {"w": w.tolist(), "v": v.tolist()},
        "model": "h = linear(x, w)\ny = linear(h, v)\nt = mul(y, c)\nloss = sum(t)",
        "candidate": {name: gradient.tolist() for name, gradient in candidate.items()},
        "candidate_dtype": {"casts": {"h": "FP8_E4M3", "d:h": "FP8_E4M3"}, "output": "BF16"},
        "include": [],
    }
    return check(body)


@pytest.mark.parametrize("magnitude", [1.0, 2.0**-14, 2.0**14])
@pytest.mark.parametrize("seed", range(3))
def test_casts_to_8_bits_are_scaled(magnitude: float, seed: int) -> None:
    # Errors of 6 % leave some elements undecided.
    assert judge_scaled_cast(magnitude, is_scaled=True, seed=seed)["outcome"] != "fail"
    # Without a scale, small numbers become 0 and large ones are lost.
    outcome = judge_scaled_cast(magnitude, is_scaled=False, seed=seed)["verdicts"]["v"]["outcome"]
    assert (outcome == "fail") == (magnitude != 1.0)
    assert judge_scaled_cast(magnitude, is_scaled=True, seed=seed, factor=1.1)["outcome"] == "fail"
