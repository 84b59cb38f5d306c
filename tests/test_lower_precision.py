"""Candidates that PyTorch computed in a lower precision than the check's, where a number of the model is none of it."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional

from service.checks.graph.check import check

# What lines this runs others count; to count them takes as long again.
pytestmark = pytest.mark.no_cover

WEIGHT = [0.1, 0.1015625, 0.098, 0.11, 0.3, 0.2]
"""About 0.1, of which every precision has another number, so that what is left of a difference is that of the two."""

CASES: dict[str, tuple[str, list[Any], dict[str, Any], Callable[[Any], Any]]] = {
    "a constant": ("sub", ["w", 0.1], {}, lambda w: w - 0.1),
    "an upper bound": ("clamp", ["w"], {"max": 0.1}, lambda w: w.clamp(max=0.1)),
    "a lower bound": ("clamp", ["w"], {"min": 0.1}, lambda w: w.clamp(min=0.1)),
    "an exponent": ("pow", ["w"], {"exponent": 0.3}, lambda w: w**0.3),
    "two numbers": ("sub", ["w", 0.1], {"alpha": 0.3}, lambda w: torch.sub(w, 0.1, alpha=0.3)),
    "a slope": ("leaky_relu", ["w"], {"negative_slope": 0.3}, lambda w: functional.leaky_relu(w, 0.3)),
}
PRECISIONS = {"FP32": torch.float32, "BF16": torch.bfloat16, "FP16": torch.float16}


def judge_op(op: str, inputs: list[Any], attributes: dict[str, Any], weight: Any, gradient: Any, name: str) -> Any:
    nodes = [
        {"name": "out", "op": op, "inputs": inputs, **attributes},
        {"name": "square", "op": "pow", "inputs": ["out"], "exponent": 2},
        {"name": "loss", "op": "sum", "inputs": ["square"]},
    ]
    candidate = {"datatype": name, "shape": [len(WEIGHT)], "data": gradient.double().tolist()}
    body = {"tensors": {}, "weights": {"w": weight.double().tolist()}, "candidate": {"w": candidate}}
    return check(body | {"model": {"nodes": nodes}})


def compute_gradient(function: Callable[[Any], Any], weight: Any, dtype: Any) -> Any:
    narrow = weight.to(dtype).clone().requires_grad_()
    (function(narrow) ** 2).sum().backward()
    return narrow.grad


@pytest.mark.parametrize("name", PRECISIONS)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
@pytest.mark.parametrize("exact", [True, False], ids=["a weight of the precision", "a weight of float64"])
def test_right_lower_precision_gradient_does_not_fail(case: Any, name: str, exact: bool) -> None:
    op, inputs, attributes, function = case
    weight = torch.tensor(WEIGHT, dtype=torch.float64)
    weight = weight.to(PRECISIONS[name]) if exact else weight
    gradients = compute_gradient(function, weight, PRECISIONS[name])
    assert judge_op(op, inputs, attributes, weight, gradients, name)["outcome"] != "fail"


@pytest.mark.parametrize("name", PRECISIONS)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_wrong_lower_precision_gradient_fails(case: Any, name: str) -> None:
    op, inputs, attributes, function = case
    weight = torch.tensor(WEIGHT, dtype=PRECISIONS[name])
    wrong = -compute_gradient(function, weight, PRECISIONS[name])
    assert judge_op(op, inputs, attributes, weight, wrong, name)["outcome"] == "fail"


def test_a_bound_beyond_the_precision_is_none() -> None:
    weight = torch.tensor(WEIGHT, dtype=torch.float64)
    nodes = [
        {"name": "out", "op": "clamp", "inputs": ["w"], "max": 1e6},
        {"name": "loss", "op": "sum", "inputs": ["out"]},
    ]
    body = {"tensors": {}, "weights": {"w": weight.tolist()}, "model": {"nodes": nodes}, "dtype": "float16"}
    assert check(body)["outcome"] == "pass"
