import numpy as np
import pytest

from service.numerics.core.batching import add_batch_axis
from service.numerics.ops import OP_REGISTRY
from tests.service.numerics.ops.shape_refusals import get_refusal

NAME = "windowed_attention"
GENERATOR = np.random.default_rng(0)
QUERY, KEY, VALUE = (GENERATOR.normal(size=shape) for shape in ((2, 3, 4), (2, 5, 4), (2, 5, 2)))
BIAS, SINKS = GENERATOR.normal(size=(3, 5)), np.array([0.3, -1.2])


def attend(query, key, value, mask=None, bias=None, sinks=None, **attributes):
    """Output of the op, and gradients of its sum."""
    inputs = [None if array is None else add_batch_axis(array) for array in (query, key, value, mask, bias, sinks)]
    op = OP_REGISTRY[NAME](**attributes)
    output = op.forward(*inputs)
    gradients = op.backward(np.ones_like(output), output, *inputs)
    return output[0], [None if gradient is None else gradient[0] for gradient in gradients]


def attend_by_loops(mask, bias, sinks, left, right, cap, scale):
    """The definition, one query and one key at a time."""
    heads, queries, keys = len(QUERY), QUERY.shape[1], KEY.shape[1]
    output = np.zeros((heads, queries, VALUE.shape[-1]))
    for h in range(heads):
        for i in range(queries):
            logits = {}
            for j in range(keys):
                place = i + keys - queries
                if (left >= 0 and j < place - left) or (right >= 0 and j > place + right) or not mask[i, j]:
                    continue
                score = scale * sum(QUERY[h, i, e] * KEY[h, j, e] for e in range(4))
                logits[j] = cap * np.tanh(score / cap) + bias[i, j]
            total = sum(np.exp(logit) for logit in logits.values()) + np.exp(sinks[h])
            for j, logit in logits.items():
                output[h, i] += np.exp(logit) / total * VALUE[h, j]
    return output


@pytest.mark.parametrize("window", [[-1, -1], [0, 0], [1, 0], [-1, 0], [2, 1], [1, -1]])
def test_output_is_that_of_the_definition(window) -> None:
    mask = GENERATOR.random((3, 5)) < 0.7
    output, _ = attend(QUERY, KEY, VALUE, mask, BIAS, SINKS, window=window, softcap=1.5, scale=0.8)
    expected = attend_by_loops(mask, BIAS, SINKS, *window, 1.5, 0.8)
    np.testing.assert_allclose(output, expected, rtol=1e-12, atol=1e-14)


def test_without_options_it_is_scaled_dot_product_attention() -> None:
    inputs = [add_batch_axis(array) for array in (QUERY, KEY, VALUE)]
    op = OP_REGISTRY["scaled_dot_product_attention"]()
    expected = op.forward(*inputs, None)
    output, gradients = attend(QUERY, KEY, VALUE)
    np.testing.assert_array_equal(output, expected[0])
    for gradient, right in zip(
        gradients[:3], op.backward(np.ones_like(expected), expected, *inputs, None), strict=False
    ):
        np.testing.assert_allclose(gradient, right[0], rtol=1e-12, atol=1e-15)


def test_query_without_keys_is_zero_with_zero_gradient() -> None:
    """Rows of the window that lie before the first key, and rows that a mask empties."""
    query, mask = GENERATOR.normal(size=(2, 7, 4)), np.ones((7, 5), bool)
    mask[4] = False
    output, gradients = attend(query, KEY, VALUE, mask, window=[-1, 0])
    empty = [0, 1, 4]
    np.testing.assert_array_equal(output[:, empty], 0)
    np.testing.assert_array_equal(gradients[0][:, empty], 0)
    assert (output[:, [2, 3, 5, 6]] != 0).all()
    assert all(np.isfinite(gradient).all() for gradient in gradients[:3])


def test_sink_is_one_more_key_without_a_value() -> None:
    """A key of zeros whose bias is the sink, with a value of zeros, is a sink."""
    key, value = (np.concatenate([array, np.zeros_like(array[:, :1])], axis=1) for array in (KEY, VALUE))
    bias = np.zeros((2, 3, 6))
    bias[..., 5] = SINKS[:, None]
    expected, of_bias = attend(QUERY, key, value, bias=bias)
    output, gradients = attend(QUERY, KEY, VALUE, sinks=SINKS)
    np.testing.assert_allclose(output, expected, rtol=1e-13)
    np.testing.assert_allclose(gradients[0], of_bias[0], rtol=1e-11, atol=1e-14)
    np.testing.assert_allclose(gradients[5], of_bias[4][..., 5].sum(-1), rtol=1e-12)
    np.testing.assert_allclose(
        attend(QUERY, KEY, VALUE, sinks=SINKS - 800)[0], attend(QUERY, KEY, VALUE)[0], rtol=1e-13
    )
    np.testing.assert_array_equal(attend(QUERY, KEY, VALUE, sinks=SINKS + 800)[0], 0)


def test_scores_of_any_size_do_not_overflow() -> None:
    with np.errstate(over="raise", invalid="raise"):
        for attributes in ({}, {"softcap": 30.0}):
            output, gradients = attend(QUERY * 1e4, KEY * 1e4, VALUE, sinks=SINKS, window=[1, 0], **attributes)
            assert np.isfinite(output).all()
            assert all(np.isfinite(gradients[position]).all() for position in (0, 1, 2, 5))


def test_a_wide_cap_is_no_cap() -> None:
    np.testing.assert_allclose(attend(QUERY, KEY, VALUE, softcap=1e9)[0], attend(QUERY, KEY, VALUE)[0], rtol=1e-12)


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        (((4,), (4,), (4,), None, None, None), "query (..., L, E)"),
        (((3, 4), (5, 3), (5, 2), None, None, None), "the same length E"),
        (((3, 4), (5, 4), (5, 2), (2, 3, 5), None, None), "an attn_mask that broadcasts to [3, 5]"),
        (((3, 4), (5, 4), (5, 2), None, (4, 5), None), "a bias that broadcasts to [3, 5]"),
        (((2, 3, 4), (2, 5, 4), (2, 5, 2), None, None, (3,)), "the leading axes [2]"),
    ],
)
def test_windowed_attention_refuses_by_name(shapes, words) -> None:
    assert words in get_refusal(NAME, {}, *shapes)
