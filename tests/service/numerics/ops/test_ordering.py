"""Ops with several outputs against PyTorch and finite differences, in whole checks."""

from typing import Any

import numpy as np
import pytest
import torch

from service.checks.graph.check import check

CALLS = {
    "topk": ("topk(a, 2)", lambda a: torch.topk(a, 2)),
    "topk, smallest": ("topk(a, k=3, dim=0, largest=False)", lambda a: torch.topk(a, 3, 0, largest=False)),
    "sort": ("sort(a)", torch.sort),
    "sort, descending": ("sort(a, 0, True)", lambda a: torch.sort(a, 0, True)),
    "sort, stable": ("sort(a, stable=True)", lambda a: torch.sort(a, stable=True)),
    "max": ("max(a, 1)", lambda a: torch.max(a, 1)),
    "max, keepdim": ("max(a, dim=-2, keepdim=True)", lambda a: torch.max(a, -2, keepdim=True)),
    "min": ("min(a, 0)", lambda a: torch.min(a, 0)),
    "median, odd": ("median(a, 1)", lambda a: torch.median(a, 1)),
    "median, even": ("median(a, 0, True)", lambda a: torch.median(a, 0, True)),
    "kthvalue": ("kthvalue(a, 2)", lambda a: torch.kthvalue(a, 2)),
    "cummax": ("cummax(a, 1)", lambda a: torch.cummax(a, 1)),
    "cummin": ("cummin(a, 0)", lambda a: torch.cummin(a, 0)),
    "aminmax": ("aminmax(a, dim=1)", lambda a: torch.aminmax(a, dim=1)),
}
GENERATOR = np.random.default_rng(7)
X, W = GENERATOR.normal(size=(4, 5)), GENERATOR.normal(size=(4, 5))


def run_check(model: str, weights: dict[str, Any], candidate: Any = None, **fields: Any) -> Any:
    given = {} if candidate is None else {"candidate": {"w": candidate}}
    return check({"model": model, "tensors": {}, "weights": weights, **given, **fields})


@pytest.mark.parametrize("name", CALLS)
def test_checks_agree_with_pytorch_and_find_errors(name: str) -> None:
    call, function = CALLS[name]
    w = torch.tensor(W, requires_grad=True)
    outputs = function(torch.tensor(X) * w)
    output = "min" if name == "aminmax" else "values"
    squares = torch.square(getattr(outputs, output))
    chosen = torch.gather(torch.tensor(X), 1, outputs.indices) if name in ("topk", "sort", "cummax") else 1.0
    (squares * chosen).sum().backward()
    assert w.grad is not None
    weight = "g = gather(x, 1, t.indices)\np = mul(q, g)" if name in ("topk", "sort", "cummax") else "p = mul(q, 1.0)"
    model = f"a = mul(x, w)\nt = {call}\nq = square(t.{output})\n{weight}\nloss = sum(p)"
    tensors = {"x": X.tolist()}
    assert run_check(model, {"w": W.tolist()}, w.grad.tolist(), tensors=tensors)["outcome"] == "pass"
    wrong = w.grad.numpy().copy()
    wrong[np.unravel_index(np.abs(wrong).argmax(), wrong.shape)] *= 1 + 1e-6
    assert run_check(model, {"w": W.tolist()}, wrong.tolist(), tensors=tensors)["outcome"] == "fail"


@pytest.mark.parametrize("op", ["max", "min", "median"])
def test_without_dim_the_node_is_its_only_output(op: str) -> None:
    w = torch.tensor(W, requires_grad=True)
    getattr(torch, op)(w).backward()
    assert w.grad is not None
    assert run_check(f"loss = {op}(w)", {"w": W.tolist()}, w.grad.tolist())["outcome"] == "pass"


@pytest.mark.parametrize("op", ["sort(w)", "topk(w, 1)", "max(w, 0)", "median(w, 0)", "cummax(w, 0)", "kthvalue(w, 1)"])
def test_a_number_is_a_vector_of_one_element(op: str) -> None:
    report = run_check(f"t = {op}\nq = mul(t.values, 3.0)\nloss = sum(q)", {"w": 2.0}, 3.0)
    assert report["outcome"] == "pass"


TIED = [[1.0, 1.0, 0.5, 2.0, 2.0]]
RIGHT_AT_TIES = {
    "t = max(w, 1)": [[0, 0, 0, 1, 0], [0, 0, 0, 0, 1], [0, 0, 0, 0.5, 0.5]],
    "t = topk(w, 3)": [[1, 0, 0, 1, 1], [0, 1, 0, 1, 1], [0.5, 0.5, 0, 1, 1]],
    "t = kthvalue(w, 2)": [[1, 0, 0, 0, 0], [0, 1, 0, 0, 0]],
    "t = median(w, 1)": [[1, 0, 0, 0, 0], [0, 1, 0, 0, 0]],
    "t = cummax(w, 1)": [[1, 2, 0, 1, 1], [3, 0, 0, 2, 0]],
}
WRONG_AT_TIES = {
    "t = max(w, 1)": [[0, 0, 0, 1, 1], [0, 0, 0, 0, 0], [1, 0, 0, 0, 0]],
    "t = topk(w, 3)": [[1, 1, 0, 1, 1], [0, 0, 0, 1, 1], [0, 0, 1, 1, 1]],
    "t = kthvalue(w, 2)": [[1, 1, 0, 0, 0], [0, 0, 1, 0, 0]],
    "t = median(w, 1)": [[1, 1, 0, 0, 0], [0, 0, 0, 1, 0]],
    "t = cummax(w, 1)": [[1, 1, 1, 1, 1], [3, 3, 0, 2, 2]],
}


@pytest.mark.parametrize("call", RIGHT_AT_TIES)
def test_at_a_tie_any_of_the_equal_elements_may_be_taken(call: str) -> None:
    model = f"{call}\nloss = sum(t.values)"
    assert [run_check(model, {"w": TIED}, [right])["outcome"] for right in RIGHT_AT_TIES[call]] == ["pass"] * len(
        RIGHT_AT_TIES[call]
    )
    assert [run_check(model, {"w": TIED}, [wrong])["outcome"] for wrong in WRONG_AT_TIES[call]] == ["fail"] * len(
        WRONG_AT_TIES[call]
    )


@pytest.mark.parametrize(
    ("upstream", "w", "candidate", "outcome"),
    [
        ([1, 3], [2, 2], [3, 1], "pass"),
        ([1, 3], [2, 2], [2.5, 1.5], "pass"),
        ([1, 3], [2, 2], [4, 0], "inconclusive"),
        ([1, 3], [2, 2], [1, 1], "fail"),
        ([1, 2, 5], [1, 1, 3], [2, 1, 5], "pass"),
        ([0, 1, 2], [1, 1, 1], [2, 1, 0], "pass"),
        ([0, 1, 2], [1, 1, 1], [2, 2, -1], "fail"),
        ([0, 1, 2, 3], [1, 1, 1, 1], [3, 3, 0, 0], "inconclusive"),
        ([0, 1, 2, 3], [1, 1, 1, 1], [6, 0, 0, 0], "fail"),
    ],
)
def test_equal_elements_take_the_gradients_of_their_ranks_in_one_order(
    upstream: list[float], w: list[float], candidate: list[float], outcome: str
) -> None:
    model = "t = sort(w)\nq = mul(t.values, c)\nloss = sum(q)"
    assert run_check(model, {"w": w}, candidate, tensors={"c": upstream})["outcome"] == outcome


def test_one_result_is_free_among_many_equal_elements() -> None:
    model = "t = topk(w, 2)\nloss = sum(t.values)"
    for last in np.eye(5)[:4].tolist():
        report = run_check(model, {"w": [0, 0, 0, 0, 1]}, [*last[:4], 1])
        assert report["outcome"] == "pass"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("name", ["topk", "sort", "median, odd", "cummax"])
def test_narrow_dtypes_pass_with_right_and_fail_with_wrong_gradients(name: str, dtype: str) -> None:
    call, function = CALLS[name]
    torch_dtype = getattr(torch, dtype)
    x, w = (torch.tensor(array).to(torch_dtype) for array in (X, W))
    w.requires_grad_(True)
    torch.square(function(x * w).values).sum().backward()
    assert w.grad is not None
    model = f"a = mul(x, w)\nt = {call}\nq = square(t.values)\nloss = sum(q)"
    request: dict[str, Any] = {"tensors": {"x": x.double().tolist()}, "dtype": dtype}
    weights = {"w": w.detach().double().tolist()}
    assert run_check(model, weights, w.grad.double().tolist(), **request)["outcome"] != "fail"
    assert run_check(model, weights, (1.2 * w.grad).double().tolist(), **request)["outcome"] == "fail"


def test_the_diagnosis_names_a_gradient_in_the_order_of_the_output() -> None:
    upstream = 2 * np.sort(W, axis=1)
    report = run_check("t = sort(w)\nq = square(t.values)\nloss = sum(q)", {"w": W.tolist()}, upstream.tolist())
    assert report["outcome"] == "fail"
    explanations = [found["explanation"] for found in report["verdicts"]["w"]["diagnoses"]]
    assert any("handed back in the order of the output" in text and "t (sort)" in text for text in explanations)
