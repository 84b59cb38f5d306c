"""Where our own routes disagree, the check says so first, and fails no candidate on their evidence.

The wrong route is planted here, and by no switch in the service.
"""

import dataclasses
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from service.checks.graph import gradients
from service.checks.graph.check import check
from service.numerics.gradients import analytic, autograd, finite_difference
from service.numerics.ops.activation import Tanh


def _twice(gradient: Any, output: Any, input: Any) -> Any:
    return (2 * gradient * (1 - output**2),)


def _of_autograd(*args: Any) -> Any:
    found = autograd.differentiate_by_torch(*args)
    return dataclasses.replace(found, gradients={**found.gradients, "w1": 2 * found.gradients["w1"]})


def _of_difference(*args: Any, **more: Any) -> Any:
    found = finite_difference.differentiate_numerically(*args, **more)
    return {**found, "w1": dataclasses.replace(found["w1"], value=2 * found["w1"].value)}


WRONG = {
    "analytic": ("analytic", partial(analytic.differentiate_analytically, backward_overrides={"L1A": _twice})),
    "autograd": ("autograd", _of_autograd),
    "finite difference": ("finite_difference", _of_difference),
}
FUNCTIONS = {
    "analytic": "differentiate_analytically",
    "autograd": "differentiate_by_torch",
    "finite_difference": "differentiate_numerically",
}


@pytest.fixture(params=WRONG)
def wrong(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The route that is wrong in dL/dw1."""
    name, differentiate = WRONG[request.param]
    module = getattr(gradients, name)
    shim = SimpleNamespace(**{each: getattr(module, each) for each in dir(module) if not each.startswith("__")})
    setattr(shim, FUNCTIONS[name], differentiate)
    monkeypatch.setattr(gradients, name, shim)
    return str(request.param)


def test_it_is_said_first_and_with_which_two_agree(wrong: str, example: dict[str, Any]) -> None:
    report = check(example)
    others = [each for each in WRONG if each != wrong]
    assert report["summary"].startswith(
        f"OUR OWN ROUTES DISAGREE: at 4 of 4 elements of w1 {others[0]} and {others[1]} agree and {wrong} does not. "
    )
    assert report["disputes"]["w1"] == [
        {"elements": 4, "agree": [each.replace(" ", "_") for each in others], "alone": [wrong.replace(" ", "_")]}
    ]
    assert "w2" not in report["disputes"]


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_no_candidate_is_failed_on_such_evidence(wrong: str, factor: int, example: dict[str, Any]) -> None:
    right = [[-0.1342557202950444, -0.18325792430504], [-0.28126233232502, -0.33026453633502]]
    candidate = {"w1": [[factor * each for each in row] for row in right]}
    report = check({**example, "candidate": candidate})
    assert report["outcome"] == report["verdicts"]["w1"]["outcome"] == "inconclusive"
    assert report["verdicts"]["w1"]["diagnoses"] == []
    assert report["summary"].startswith("OUR OWN ROUTES DISAGREE")


def test_where_all_agree_nothing_is_said(example: dict[str, Any]) -> None:
    report = check(example)
    assert "disputes" not in report
    assert "DISAGREE" not in report["summary"]


def test_a_wrong_op_of_pytorch_is_seen(monkeypatch: pytest.MonkeyPatch, example: dict[str, Any]) -> None:
    """A twin with the right value and the wrong derivative."""

    def twin(self: Tanh, torch: Any, input: Any) -> Any:
        value = torch.tanh(input)
        return value.detach() + 0.5 * (value - value.detach())

    monkeypatch.setattr(Tanh, "torch_forward", twin)
    assert "analytic and finite difference agree and autograd does not" in check(example)["summary"]


def test_the_range_of_a_dtype_is_no_dispute() -> None:
    body = {
        "tensors": {"x": [300.0, 500.0]},
        "weights": {"w": [1.0, 1.0]},
        "model": {
            "nodes": [
                {"name": "z", "op": "mul", "inputs": ["x", "w"]},
                {"name": "squares", "op": "mul", "inputs": ["z", "z"]},
                {"name": "loss", "op": "sum", "inputs": ["squares"]},
            ]
        },
        "dtype": "float16",
    }
    assert "disputes" not in check(body)
