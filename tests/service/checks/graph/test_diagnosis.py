"""Who is diagnosed: candidates that fail, where our own routes agree."""

from typing import Any

import pytest

from service.checks.graph.check import check
from service.numerics.model.presets import PRESETS


def list_diagnoses(request: dict[str, Any]) -> dict[str, list[str]]:
    report = check(request)
    return {
        name: [diagnosis["name"] for diagnosis in verdict["diagnoses"]] for name, verdict in report["verdicts"].items()
    }


def make_flipped_request(**more: Any) -> dict[str, Any]:
    request = {**PRESETS["mlp_classifier"].example_request, **more}
    report = check({**request, "candidate": {}})
    right = report["gradients"]["w1"]["analytic"]
    return {**request, "candidate": {"w1": (-right).tolist()}}


def test_only_failing_gradients_are_diagnosed() -> None:
    assert list_diagnoses(make_flipped_request()) == {"w1": ["sign_flipped"], "b1": [], "w2": [], "b2": []}


@pytest.mark.parametrize("part", [{"sample": 9}, {"projections": 3}])
def test_sampled_gradient_is_diagnosed_whole(part: dict[str, int]) -> None:
    assert list_diagnoses(make_flipped_request(finite_difference=part))["w1"] == ["sign_flipped"]


def test_a_lower_dtype_is_diagnosed_at_its_own_point() -> None:
    assert list_diagnoses(make_flipped_request(dtype="float32"))["w1"] == ["sign_flipped"]


def test_diagnosis_time_is_reported() -> None:
    assert check(make_flipped_request())["cost"]["stages"]["diagnosis"] > 0


def test_names_that_are_hostile_stay_in_their_sentence() -> None:
    name = "w\n\x1b[31m" + "x" * 150
    report = check(
        {
            "tensors": {"x": [1.0, 2.0]},
            "weights": {name: [0.5, 0.25]},
            "model": {
                "nodes": [
                    {"name": "z", "op": "mul", "inputs": ["x", name]},
                    {"name": "loss", "op": "sum", "inputs": ["z"]},
                ]
            },
            "candidate": {name: [-1.0, -2.0]},
        }
    )
    text = report["verdicts"][name]["diagnoses"][0]["explanation"]
    assert "\n" not in text
    assert "\x1b" not in text
    assert len(text) < 200
