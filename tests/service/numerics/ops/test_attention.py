import numpy as np
import pytest

from service.numerics.ops import OP_REGISTRY
from tests.service.numerics.ops.shape_refusals import get_refusal

NAME = "scaled_dot_product_attention"


@pytest.mark.parametrize(
    ("attributes", "shapes", "words"),
    [
        ({}, ((4,), (4,), (4,), None), "query (..., L, E)"),
        ({}, ((2, 3, 4), (3, 3, 4), (2, 3, 4), None), "leading axes that broadcast together"),
        ({"enable_gqa": True}, ((4, 3, 4), (3, 3, 4), (1, 3, 4), None), "number of heads"),
        ({"dropout_p": 0.5}, ((3, 4), (3, 4), (3, 4), None), "mul(p, mask)"),
        ({}, ((3, 4), (5, 3), (5, 2), None), "the same length E"),
        ({}, ((3, 4), (5, 4), (6, 2), None), "the same number S"),
        ({"is_causal": True}, ((3, 4), (5, 4), (5, 2), (3, 5)), "either an attn_mask or is_causal"),
        ({}, ((3, 4), (5, 4), (5, 2), (2, 3, 5)), "broadcasts to [3, 5]"),
        ({}, ((3, 4), (5, 4), (5, 2), (4, 5)), "broadcasts to [3, 5]"),
    ],
)
def test_attention_refuses_mismatched_inputs(attributes, shapes, words):
    assert words in get_refusal(NAME, attributes, *shapes)


def draw_inputs():
    generator = np.random.default_rng(0)
    return generator.normal(size=(1, 3, 4)), generator.normal(size=(1, 3, 4)), generator.normal(size=(1, 3, 2))


def test_masked_keys_have_no_effect():
    query, key, value = draw_inputs()
    op = OP_REGISTRY[NAME](is_causal=True)
    output = op.forward(query, key, value, None)
    np.testing.assert_allclose(output[0, 0], value[0, 0], rtol=1e-15), "the first sees only itself"
    by_value = op.backward(np.ones((1, 3, 2)), output, query, key, value, None)[2]
    np.testing.assert_allclose(by_value.sum(axis=1), 3, rtol=1e-14)
    mask = np.tril(np.ones((1, 3, 3), dtype=bool))
    np.testing.assert_array_equal(OP_REGISTRY[NAME]().forward(query, key, value, mask), output)


def test_fully_masked_row_is_zero_with_zero_gradient():
    query, key, value = draw_inputs()
    mask = np.ones((1, 3, 3), dtype=bool)
    mask[0, 1] = False
    op = OP_REGISTRY[NAME]()
    output = op.forward(query, key, value, mask)
    np.testing.assert_array_equal(output[0, 1], 0)
    gradients = op.backward(np.ones((1, 3, 2)), output, query, key, value, mask)
    np.testing.assert_array_equal(gradients[0][0, 1], 0)
    assert gradients[3] is None, "truths have no gradient"


def test_scores_of_any_size_do_not_overflow():
    query, key, value = draw_inputs()
    with np.errstate(over="raise", invalid="raise"):
        output = OP_REGISTRY[NAME]().forward(query * 1e4, key * 1e4, value, None)
    assert np.isfinite(output).all()
