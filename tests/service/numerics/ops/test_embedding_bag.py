"""Bags of rows against sums written out and PyTorch."""

from typing import Any

import numpy as np
import pytest
import torch

from service.numerics.ops import OP_REGISTRY
from service.numerics.ops.op import ShapeError
from tests.service.numerics.ops.shape_refusals import get_refusal

Bag = OP_REGISTRY["embedding_bag"]
W = np.random.default_rng(0).normal(size=(5, 3))
INDICES = np.array([4, 1, 1, 0, 2, 1, 4])


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize("padding", [None, 1, -1])
@pytest.mark.parametrize(("offsets", "with_end"), [([0, 3, 3, 6], False), ([0, 2, 2, 7], True), ([0], False)])
def test_bags_equal_pytorch(mode: str, padding: int | None, offsets: list[int], with_end: bool) -> None:
    factors = np.random.default_rng(1).normal(size=7) if mode == "sum" else None
    op = Bag(mode=mode, padding_idx=padding, include_last_offset=with_end)
    inputs = (INDICES[None], W[None], np.array([offsets]), None if factors is None else factors[None])
    op.check_values(((7,), (5, 3), (len(offsets),), ()), INDICES, W, np.array(offsets), factors)
    output = op.forward(*inputs)
    weight = torch.tensor(W, requires_grad=True)
    of_torch = None if factors is None else torch.tensor(factors, requires_grad=True)
    theirs = op.torch_forward(torch, torch.tensor(INDICES), weight, torch.tensor(offsets), of_torch)
    np.testing.assert_allclose(output[0], theirs.detach(), rtol=1e-14, atol=1e-16)
    gradient = np.random.default_rng(2).normal(size=output.shape)
    _, by_weight, _, by_factors = op.backward(gradient, output, *inputs)
    leaves = [weight] if of_torch is None else [weight, of_torch]
    expected = torch.autograd.grad(theirs, leaves, torch.tensor(gradient[0]))
    np.testing.assert_allclose(by_weight[0], expected[0], rtol=1e-13, atol=1e-15)
    if of_torch is not None and padding is None:
        np.testing.assert_allclose(by_factors[0], expected[1], rtol=1e-13)


def test_bags_equal_their_definition() -> None:
    output = Bag(mode="sum").forward(INDICES[None], W[None], np.array([[0, 3, 3]]), np.arange(7.0)[None])[0]
    np.testing.assert_allclose(output[0], 0 * W[4] + 1 * W[1] + 2 * W[1], rtol=1e-14)
    np.testing.assert_array_equal(output[1], 0)
    np.testing.assert_allclose(output[2], 3 * W[0] + 4 * W[2] + 5 * W[1] + 6 * W[4], rtol=1e-14)
    rows = Bag(mode="mean", padding_idx=1).forward(INDICES[None, :6].reshape(1, 2, 3), W[None], None, None)[0]
    np.testing.assert_allclose(rows, [W[4], (W[0] + W[2]) / 2], rtol=1e-14)


def test_equal_rows_of_a_bag_are_choices_and_the_same_row_twice_is_none() -> None:
    weight = np.array([[[1.0, 4.0], [1.0, 3.0], [0.0, 4.0]]])
    op, no_error = Bag(mode="max"), [None, np.zeros_like(weight), None, None]
    assert op.list_subgradient_choices(no_error, np.array([[[1, 1]]]), weight, None, None) is None
    choices = op.list_subgradient_choices(no_error, np.array([[[1, 0, 2, 0]]]), weight, None, None)
    assert choices is not None
    assert choices.entry_elements.tolist() == [0, 2, 1, 5]
    assert choices.entry_positions.tolist() == [1, 1, 1, 1], "the weight is the second operand"
    by_weight = op.backward(np.ones((1, 1, 2)), np.zeros((1, 1, 2)), np.array([[[1, 0, 2, 0]]]), weight, None, None)[1]
    np.testing.assert_array_equal(by_weight.ravel()[choices.entry_elements], choices.weights)


@pytest.mark.parametrize(
    ("attributes", "shapes", "words"),
    [
        ({}, ((3,), (5, 2), None, None), "indices (B, n) without offsets"),
        ({}, ((3, 2), (5, 2), (2,), None), "(n,) with offsets"),
        ({}, ((3, 2), (5,), None, None), "a weight (V, D)"),
        ({"include_last_offset": True}, ((3,), (5, 2), (1,), None), "one behind with include_last_offset"),
        ({"padding_idx": 5}, ((3, 2), (5, 2), None, None), "padding_idx from -5 to 4"),
        ({}, ((3, 2), (5, 2), None, (3, 2)), 'mode "sum" with them'),
        ({"mode": "sum"}, ((3, 2), (5, 2), None, (3,)), "of the shape of the indices"),
    ],
)
def test_embedding_bag_refuses_mismatched_inputs(attributes: Any, shapes: Any, words: str) -> None:
    assert words in get_refusal("embedding_bag", attributes, *shapes)


@pytest.mark.parametrize(
    ("offsets", "with_end", "words"),
    [([1, 2], False, "begin with 0"), ([0, 3, 2], False, "do not fall"), ([0, 8], False, "end at 7"),
     ([0, 3], True, "a last offset of 7")],
)  # fmt: skip
def test_offsets_are_places_of_the_indices(offsets: list[int], with_end: bool, words: str) -> None:
    op = Bag(include_last_offset=with_end)
    with pytest.raises(ShapeError, match=words):
        op.check_values(((7,), (5, 3), (len(offsets),), ()), INDICES, W, np.array(offsets), None)
