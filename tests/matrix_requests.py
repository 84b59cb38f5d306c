"""Checks of functions of matrices, with candidates by PyTorch's own functions."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from schemas.problem_details import InvalidRequestError
from service.checks.graph.check import check

Request = dict[str, Any]


def draw_matrix(condition: float, seed: int = 0, length: int = 3) -> np.ndarray:
    """A matrix with singular values from 1 to 1 / condition."""
    generator = np.random.default_rng(seed)
    left, right = (np.linalg.qr(generator.normal(size=(length, length)))[0] for _ in range(2))
    return left * np.geomspace(1, 1 / condition, length) @ right


def make_request(expression: str, matrix: Any, **fields: Any) -> Request:
    """The sum of the cubes of an expression of `a`, or of x where lines are given."""
    lines = expression if "\n" in expression else f"x = {expression}"
    nodes = f"{lines}\ny = pow(x, exponent=3)\nloss = sum(y)"
    return {"tensors": {}, "weights": {"a": np.asarray(matrix).tolist()}, "model": nodes, **fields}


def differentiate_by_torch(function: Callable[[Any], Any], matrix: Any, dtype: Any = torch.float64) -> np.ndarray:
    """The gradient of the sum of cubes of a function of PyTorch, as a user has it."""
    leaf = torch.tensor(np.asarray(matrix), dtype=dtype, requires_grad=True)
    function(leaf).pow(3).sum().backward()
    return leaf.grad.double().numpy()


def get_outcome(request: Request, candidate: Any) -> str:
    """The verdict on a candidate."""
    answer: Any = check(request | {"candidate": {"a": np.asarray(candidate).tolist()}})
    return answer["outcome"]


def get_refusal(request: Request) -> str:
    """The text with which a request is refused."""
    with pytest.raises(InvalidRequestError) as refusal:
        check(request)
    return refusal.value.errors[0]["detail"]
