"""A candidate may be a function, which runs as often as it is asked to."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

import gradcheckd
from gradcheckd.errors import RequestError

pytestmark = pytest.mark.covers_by_cases

X = np.array([1.0, -2.0, 0.5])
REQUEST: Mapping[str, Any] = {"model": "y = mul(x, x)\nloss = sum(y)", "weights": {"x": X}}


class Kernel:
    """2 x, off by a part of it that grows from run to run."""

    def __init__(self, growth: float = 0.0) -> None:
        self._growth, self.runs = growth, 0

    def __call__(self) -> Mapping[str, Any]:
        self.runs += 1
        return {"x": 2 * X * (1 + self._growth * (self.runs - 1))}


def test_a_function_runs_once_and_as_often_again_as_it_is_asked_to() -> None:
    kernel = Kernel()
    assert gradcheckd.check(**REQUEST, candidate=kernel).outcome == "pass"
    assert kernel.runs == 1
    report = gradcheckd.check(**REQUEST, candidate=kernel, repeats=3)
    assert kernel.runs == 5
    assert report.outcome == "pass"
    assert report.verdicts["x"].repeatability == gradcheckd.Repeatability(runs=4, max_abs=0.0, explained=True)


def test_runs_that_differ_fail() -> None:
    report = gradcheckd.check(**REQUEST, candidate=Kernel(1e-3), repeats=1)
    assert report.outcome == "fail"
    repeatability = report.verdicts["x"].repeatability
    assert repeatability is not None
    assert not repeatability.explained
    assert repeatability.max_abs == pytest.approx(4e-3)
    with pytest.raises(AssertionError, match="fail"):
        gradcheckd.assert_gradients(**REQUEST, candidate=Kernel(1e-3), repeats=1)
    kernel = Kernel()
    gradcheckd.assert_gradients(**REQUEST, candidate=kernel, repeats=1)
    assert kernel.runs == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"candidate": {"x": X}, "repeats": 2}, "candidate is no function that could run again"),
        ({"repeats": 2}, "candidate is no function"),
        ({"candidate": Kernel(), "repeats": -1}, "the number of its further runs, not -1"),
        ({"candidate": Kernel(), "repeats": True}, "the number of its further runs, not True"),
        ({"candidate": Kernel(), "repeats": {"x": [X]}}, "the number of its further runs, not {"),
        ({"candidate": lambda: X}, "candidate returns ndarray. It returns gradients by name"),
    ],
)
def test_runs_without_a_meaning_are_refused(options: Mapping[str, Any], message: str) -> None:
    with pytest.raises(RequestError, match=message):
        gradcheckd.check(**REQUEST, **options)


def test_runs_have_the_same_names() -> None:
    results = iter([{"x": X}, {"w": X}])
    with pytest.raises(RequestError, match=r"other names: \['x'\] at first, and then \['w'\]"):
        gradcheckd.check(**REQUEST, candidate=lambda: next(results), repeats=1)


def test_a_function_without_gradients_asserts_nothing() -> None:
    with pytest.raises(RequestError, match="no gradient of yours"):
        gradcheckd.assert_gradients(**REQUEST, candidate=dict)


def test_verdicts_have_the_factor_of_a_kernel_and_none_without_a_recipe() -> None:
    scales = {
        name: gradcheckd.check(**REQUEST, candidate={"x": 2.5 * X}, candidate_dtype=name).verdicts["x"].scale
        for name in ("BF16", "FP64")
    }
    assert scales["FP64"] is None
    assert scales["BF16"] is not None
    assert scales["BF16"].factor == pytest.approx(1.25)
    assert 0 < scales["BF16"].allowed < 0.05
