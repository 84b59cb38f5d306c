from typing import Any

import numpy as np
import pytest
import torch

from service.checks.graph.check import check
from tests.matrix_requests import differentiate_by_torch, get_outcome, get_refusal, make_request

MATRIX = np.random.default_rng(5).normal(size=(3, 4))


@pytest.mark.parametrize("order", ["fro", "nuc", "inf", "-inf", 1, -1, 2, -2])
def test_norms_are_those_of_pytorch(order: Any) -> None:
    request = make_request("matrix_norm(a)", MATRIX)
    request["model"] = {
        "nodes": [
            {"name": "x", "op": "matrix_norm", "inputs": ["a"], "ord": order},
            {"name": "y", "op": "pow", "inputs": ["x"], "exponent": 3},
            {"name": "loss", "op": "sum", "inputs": ["y"]},
        ]
    }
    torch_order = float(order) if order not in ("fro", "nuc") else order
    right = differentiate_by_torch(lambda a: torch.linalg.matrix_norm(a, torch_order), MATRIX)
    assert get_outcome(request, right) == "pass"
    assert get_outcome(request, 1.001 * right) == "fail"


@pytest.mark.parametrize("n", [1, 2, 7, -1, -2])
def test_powers_are_those_of_pytorch(n: int) -> None:
    matrix = np.random.default_rng(6).normal(size=(3, 3)) + 3 * np.eye(3)
    right = differentiate_by_torch(lambda a: torch.linalg.matrix_power(a, n), matrix)
    request = make_request(f"matrix_power(a, n={n})", matrix)
    assert get_outcome(request, right) == "pass"
    assert get_outcome(request, 1.001 * right) == "fail"


def test_zero_is_no_exponent() -> None:
    assert "an exponent n other than 0" in get_refusal(make_request("matrix_power(a, n=0)", np.eye(2)))


def test_norm_of_zeros_does_not_fail() -> None:
    assert check(make_request("matrix_norm(a)", np.zeros((2, 2))))["outcome"] != "fail"
