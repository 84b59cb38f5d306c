"""Where our own routes disagree, the check says so first, and fails no candidate on their evidence.

The wrong route is planted here, and by no switch in the service.
"""

import dataclasses
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from service.checks.graph import gradients
from service.checks.graph.check import check
from service.numerics.gradients import analytic, autograd, finite_difference
from service.numerics.gradients.sources import GRADIENT_SOURCES, ComputedGradients, GradientSource
from service.numerics.model.graph import Graph
from service.numerics.ops.activation import Tanh


def _double_backward(gradient: Any, output: Any, input: Any) -> Any:
    return (2 * gradient * (1 - output**2),)


def _differentiate_analytically(graph: Graph, leaves: Any, names: Sequence[str], dtype: Any) -> ComputedGradients:
    return analytic.differentiate_analytically(graph, leaves, {"L1A": _double_backward}, dtype)


def _differentiate_by_torch(graph: Graph, leaves: Any, names: Sequence[str], dtype: Any) -> ComputedGradients:
    result = autograd.differentiate_by_torch(graph, leaves, names)
    return dataclasses.replace(result, gradients={**result.gradients, "w1": 2 * result.gradients["w1"]})


def _differentiate_numerically(*args: Any, **more: Any) -> Any:
    differences = finite_difference.differentiate_numerically(*args, **more)
    return {**differences, "w1": dataclasses.replace(differences["w1"], value=2 * differences["w1"].value)}


WRONG = {
    "analytic": GradientSource("", _differentiate_analytically),
    "autograd": GradientSource("", _differentiate_by_torch),
    "finite difference": None,
}
FUNCTIONS = {
    "analytic": "differentiate_analytically",
    "autograd": "differentiate_by_torch",
    "finite_difference": "differentiate_numerically",
}


@pytest.fixture(params=WRONG)
def wrong_source(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The source that is wrong in dL/dw1."""
    source = WRONG[request.param]
    if source is not None:
        monkeypatch.setitem(GRADIENT_SOURCES, request.param, source)
    else:
        module = SimpleNamespace(**vars(finite_difference))
        module.differentiate_numerically = _differentiate_numerically
        monkeypatch.setattr(gradients, "finite_difference", module)
    return str(request.param)


def test_disagreement_comes_first_and_names_the_agreeing_sources(wrong_source: str, example: dict[str, Any]) -> None:
    report = check(example)
    others = [source for source in WRONG if source != wrong_source]
    assert report["summary"].startswith(
        "Our own gradients disagree: at 4 of 4 elements of w1, "
        f"{others[0]} and {others[1]} agree and {wrong_source} does not. "
    )
    assert report["disputes"]["w1"] == [
        {
            "elements": 4,
            "agree": [other.replace(" ", "_") for other in others],
            "alone": [wrong_source.replace(" ", "_")],
        }
    ]
    assert "w2" not in report["disputes"]


@pytest.mark.parametrize("factor", [1, 2, 3])
def test_disputed_sources_fail_no_candidate(wrong_source: str, factor: int, example: dict[str, Any]) -> None:
    right = [[-0.1342557202950444, -0.18325792430504], [-0.28126233232502, -0.33026453633502]]
    candidate = {"w1": [[factor * value for value in row] for row in right]}
    report = check({**example, "candidate": candidate})
    assert report["outcome"] == report["verdicts"]["w1"]["outcome"] == "inconclusive"
    assert report["verdicts"]["w1"]["diagnoses"] == []
    assert report["summary"].startswith("Our own gradients disagree")


def test_agreeing_gradients_have_no_dispute(example: dict[str, Any]) -> None:
    report = check(example)
    assert "disputes" not in report
    assert "disagree" not in report["summary"]


def test_a_wrong_op_of_pytorch_is_seen(monkeypatch: pytest.MonkeyPatch, example: dict[str, Any]) -> None:
    """A twin with the right value and the wrong derivative."""

    def forward_halved(self: Tanh, torch: Any, input: Any) -> Any:
        value = torch.tanh(input)
        return value.detach() + 0.5 * (value - value.detach())

    monkeypatch.setattr(Tanh, "torch_forward", forward_halved)
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
