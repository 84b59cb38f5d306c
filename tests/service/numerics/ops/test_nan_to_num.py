import numpy as np
import pytest
import torch

from service.numerics.core.precision import DTYPES
from service.numerics.ops.nan_to_num import NanToNum
from tests.service.checks.graph.test_check import get_report

X = np.array([[np.nan, np.inf, -np.inf, 0.0, -2.5]])


@pytest.mark.parametrize("attributes", [{}, {"nan": 3.0}, {"posinf": 7.0, "neginf": -8.0}, {"posinf": np.inf}])
def test_numbers_and_gradients_are_those_of_pytorch(attributes) -> None:
    op, leaf = NanToNum(**attributes), torch.tensor(X, requires_grad=True)
    expected = torch.nan_to_num(leaf, **attributes)
    y = op.forward(X)
    np.testing.assert_array_equal(y, expected.detach().numpy())
    expected.backward(torch.ones_like(expected))
    np.testing.assert_array_equal(op.backward(np.ones_like(y), y, X)[0], leaf.grad.numpy())


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_an_infinity_becomes_the_largest_number_of_the_dtype(dtype) -> None:
    op = NanToNum().round_constants(DTYPES[dtype].precision.round_number)
    largest = torch.finfo(getattr(torch, dtype)).max
    np.testing.assert_array_equal(op.forward(X)[0, 1:3], [largest, -largest])


def test_a_finite_element_is_judged_beside_an_infinity() -> None:
    """No difference tells the slope at an infinity, right or wrong."""
    body = {
        "model": "q = div(c, d)\nh = add(x, q)\ny = nan_to_num(h, nan=0.5, posinf=2.0)\nz = square(y)\nloss = sum(z)",
        "weights": {"x": [0.3, 0.5, 0.1]},
        "tensors": {"c": [1.0, 1.0, 0.0], "d": [0.0, 1.0, 0.0]},
    }
    outcomes = [
        get_report(body | {"candidate": {"x": gradient}})["outcome"] for gradient in ([0, 3, 0], [4, 3, 0], [0, 3.1, 0])
    ]
    assert outcomes == ["inconclusive", "inconclusive", "fail"]
