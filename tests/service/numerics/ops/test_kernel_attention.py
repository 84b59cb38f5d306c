import numpy as np
import pytest
import torch

from service.numerics.ops import OP_REGISTRY
from tests.service.numerics.ops.composed_gradients import evaluate
from tests.service.numerics.ops.shape_refusals import get_refusal

GENERATOR = np.random.default_rng(0)
QUERY, KEY, VALUE = (GENERATOR.normal(size=shape) for shape in ((2, 4, 3, 2), (2, 2, 3, 2), (2, 2, 3, 5)))


def test_heads_in_groups_are_those_of_pytorch() -> None:
    leaves = [torch.tensor(array, requires_grad=True) for array in (QUERY, KEY, VALUE)]
    expected = torch.nn.functional.scaled_dot_product_attention(*leaves, is_causal=True, enable_gqa=True)
    expected.sum().backward()
    output, gradients = evaluate("attention", QUERY, KEY, VALUE, is_causal=True)
    np.testing.assert_allclose(output, expected.detach().numpy(), rtol=1e-13)
    for gradient, leaf in zip(gradients, leaves, strict=True):
        assert leaf.grad is not None
        np.testing.assert_allclose(gradient, leaf.grad.numpy(), rtol=1e-11, atol=1e-14)


def test_causal_mask_is_that_of_the_last_query_and_a_window_stays() -> None:
    """Of two queries the last sees what the last of three sees."""
    last, _ = evaluate("attention", QUERY[:, :, 1:], KEY, VALUE, is_causal=True)
    all_queries, _ = evaluate("attention", QUERY, KEY, VALUE, is_causal=True)
    np.testing.assert_allclose(last, all_queries[:, :, 1:], rtol=1e-14)
    np.testing.assert_array_equal(
        evaluate("attention", QUERY, KEY, VALUE, is_causal=True, window=[1, 2])[0],
        evaluate("attention", QUERY, KEY, VALUE, window=[1, 0])[0],
    )


def test_a_mask_makes_lengths_that_vary() -> None:
    """The second sample has two keys: its output is that of these alone, and the third has no gradient."""
    op = OP_REGISTRY["attention"]
    assert op.slots[3].kinds[0] == "bool"
    mask = np.array([[[[True, True, True]]], [[[True, True, False]]]])
    leaves = [torch.tensor(array, requires_grad=True) for array in (QUERY, KEY, VALUE)]
    output = op().torch_forward(torch, *leaves, torch.tensor(mask), None, None)
    alone, _ = evaluate("attention", QUERY[1:], KEY[1:, :, :2], VALUE[1:, :, :2])
    np.testing.assert_allclose(output[1:].detach().numpy(), alone, rtol=1e-13)
    output.sum().backward()
    assert leaves[1].grad is not None
    np.testing.assert_array_equal(leaves[1].grad[1, :, 2], 0)


def test_alibi_takes_the_slope_times_the_distance_away() -> None:
    bias, (by_slopes,) = evaluate("alibi_bias", [1.0, 0.5], queries=2, keys=3)
    np.testing.assert_array_equal(bias[0], [[-1, 0, -1], [-2, -1, 0]])
    np.testing.assert_array_equal(bias[1], bias[0] / 2)
    np.testing.assert_array_equal(by_slopes, [-5, -5])
    slopes = np.array([0.5, 0.25, 0.125, 1.0])
    mask = -slopes[:, None, None] * np.abs(np.arange(3) - np.arange(3)[:, None])
    leaves = [torch.tensor(array) for array in (QUERY, KEY, VALUE)]
    expected = torch.nn.functional.scaled_dot_product_attention(*leaves, attn_mask=torch.tensor(mask), enable_gqa=True)
    op = OP_REGISTRY["attention"]()
    output = op.torch_forward(torch, *leaves, None, torch.tensor(slopes), None)
    np.testing.assert_allclose(output.numpy(), expected.numpy(), rtol=1e-13)


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        (((4, 3, 2), (2, 3, 2), (2, 3, 5), None, None, None), "query (B, H, L, E)"),
        (((2, 4, 3, 2), (2, 3, 3, 2), (2, 3, 3, 5), None, None, None), "a multiple of the 3"),
        (((2, 4, 3, 2), (1, 2, 3, 2), (1, 2, 3, 5), None, None, None), "the same batch"),
        (((2, 4, 3, 2), (2, 2, 3, 2), (2, 4, 3, 5), None, None, None), "the same heads"),
        (((2, 4, 3, 2), (2, 2, 3, 2), (2, 2, 3, 5), None, (2,), None), "alibi_slopes of shape [4] or [2, 4]"),
        (((2, 4, 3, 2), (2, 2, 3, 2), (2, 2, 3, 5), None, None, (2,)), "sinks of shape [4]"),
        (((2, 4, 3, 2), (2, 2, 3, 2), (2, 2, 3, 5), (2, 3, 4), None, None), "an attn_mask that broadcasts"),
        (((2, 4, 3, 2), (2, 2, 3, 3), (2, 2, 3, 5), None, None, None), "the same length E"),
    ],
)
def test_attention_refuses_by_name(shapes, words) -> None:
    assert words in get_refusal("attention", {}, *shapes)
