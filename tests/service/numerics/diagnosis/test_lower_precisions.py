"""Errors of the size of roundings are told from larger ones, and from those of a few elements."""

import numpy as np
import pytest

from schemas.datatype import Array
from service.numerics.core.interrupts import OutOfTimeError
from service.numerics.core.precision import PRECISIONS
from service.numerics.diagnosis import diagnose
from service.numerics.diagnosis.lower_precisions import list_lower_precisions
from tests.solved_problems import solve_preset

MLP = solve_preset("mlp_classifier")
RIGHT = MLP.get_gradient("w1")
NOISE = np.random.default_rng(0).uniform(-1, 1, RIGHT.shape)


def explain(wrong: Array) -> str:
    _, explanations = MLP.judge_candidates({"w1": wrong}, "FP32")
    (explanation,) = explanations["w1"]
    assert explanation.bug_name == "unknown"
    return explanation.explanation


@pytest.mark.parametrize(("size", "name"), [(2.0**-11, "TF32"), (2.0**-6, "BF16")])
def test_errors_of_the_size_of_roundings_are_said_to_be(size: float, name: str) -> None:
    text = explain(RIGHT * (1 + size * NOISE))
    assert text.endswith(
        f"All errors are within those of a computation in {name}: something on the way may have been rounded to it, or "
        "to fewer digits."
    )


def test_larger_errors_and_those_of_few_elements_are_not() -> None:
    assert "rounded" not in explain(RIGHT * (1 + NOISE / 2))
    few = RIGHT.copy()
    few[4] *= 1 + 2.0**-11 * NOISE[4]
    assert "rounded" not in explain(few)


def test_lower_precisions_come_with_the_fewest_digits_first() -> None:
    assert [lower.name for lower in list_lower_precisions(PRECISIONS["FP32"])] == ["BF16", "FP16", "TF32"]
    assert list_lower_precisions(PRECISIONS["BF16"]) == []


def test_explanation_without_time_for_that_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def run_out(*_: object) -> None:
        raise OutOfTimeError

    monkeypatch.setattr(diagnose, "find_covering_precision", run_out)
    text = explain(RIGHT * (1 + 2.0**-11 * NOISE))
    assert text.startswith("No known bug explains dL/dw1")
    assert "rounded" not in text
