"""Derivatives of products against exact fractions, with factors of 0."""

from fractions import Fraction
from math import prod

import numpy as np
import pytest
import torch

from service.numerics.ops import OP_REGISTRY

FACTORS = {
    "none is 0": [3, -2, 5, 7],
    "one is 0": [3, 0, 5, 7],
    "the first is 0": [0, 3, 5, 7],
    "two are 0": [3, 0, 5, 0],
    "one factor": [4],
    "one factor of 0": [0],
}


@pytest.mark.parametrize("case", FACTORS)
def test_derivatives_are_products_of_the_others(case: str) -> None:
    x = FACTORS[case]
    array, op = np.array([x], dtype=float), OP_REGISTRY["prod"]()
    y = op.forward(array)
    assert y == prod(x)
    expected = [prod(x[:i] + x[i + 1 :]) for i in range(len(x))]
    np.testing.assert_array_equal(op.backward(np.ones(1), y, array)[0], [expected])


@pytest.mark.parametrize("case", FACTORS)
def test_derivatives_of_running_products_are_exact(case: str) -> None:
    x = [Fraction(factor) for factor in FACTORS[case]]
    g = [Fraction(k + 1, 4) for k in range(len(x))]
    array, op = np.array([x], dtype=float), OP_REGISTRY["cumprod"](dim=0)
    y = op.forward(array)
    np.testing.assert_array_equal(y[0], [float(prod(x[: i + 1])) for i in range(len(x))])
    expected = [sum(g[i] * prod(x[:k] + x[k + 1 : i + 1]) for i in range(k, len(x))) for k in range(len(x))]
    np.testing.assert_array_equal(op.backward(np.array([g], dtype=float), y, array)[0][0], np.array(expected, float))


@pytest.mark.parametrize("dim", [None, 1, [0, -1], [0, 1, 2]])
@pytest.mark.parametrize("keepdim", [False, True])
def test_axes_stay_in_their_places(dim, keepdim) -> None:
    x = np.random.default_rng(0).normal(size=(2, 3, 4))
    op = OP_REGISTRY["prod"](dim=dim, keepdim=keepdim)
    y = op.forward(x[None])
    tensor = torch.tensor(x, requires_grad=True)
    expected = op.torch_forward(torch, tensor)
    np.testing.assert_allclose(y[0], expected.detach().numpy(), rtol=1e-13)
    g = np.random.default_rng(1).normal(size=y.shape)
    expected.backward(torch.tensor(g[0]))
    assert tensor.grad is not None
    np.testing.assert_allclose(op.backward(g, y, x[None])[0][0], tensor.grad.numpy(), rtol=1e-12)


def test_a_number_is_its_own_running_product() -> None:
    op, x = OP_REGISTRY["cumprod"](dim=-1), np.array([3.0])
    np.testing.assert_array_equal(op.forward(x), x)
    np.testing.assert_array_equal(op.backward(np.array([2.0]), x, x)[0], [2])
