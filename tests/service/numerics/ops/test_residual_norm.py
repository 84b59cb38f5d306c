import numpy as np
import pytest

from tests.service.numerics.ops.composed_gradients import evaluate
from tests.service.numerics.ops.shape_refusals import get_refusal

X, R, W = (np.random.default_rng(seed).normal(size=shape) for seed, shape in enumerate([(3, 4), (3, 4), (4,)]))


def test_sum_is_normalised_and_weighted_around_one() -> None:
    y, (by_x, by_r, by_w) = evaluate("add_rms_norm", X, R, W, normalized_shape=4, eps=0.01, weight_offset=1.0)
    h = X + R
    z = h / np.sqrt((h * h).mean(-1, keepdims=True) + 0.01)
    np.testing.assert_allclose(y, z * (1 + W), rtol=1e-14)
    np.testing.assert_array_equal(by_x, by_r)
    np.testing.assert_allclose(by_w, z.sum(0), rtol=1e-13)
    assert np.abs(evaluate("add_rms_norm", X, R, W, normalized_shape=4, eps=0.01)[0] - y).max() > 0.1


def test_without_residual_and_offset_it_is_rms_norm() -> None:
    y, _ = evaluate("add_rms_norm", X, normalized_shape=4)
    np.testing.assert_allclose(np.square(y).mean(-1), 1, rtol=1e-5)
    np.testing.assert_array_equal(y, evaluate("rms_norm", X, normalized_shape=4, eps=1e-6)[0])


@pytest.mark.parametrize(
    ("attributes", "shapes", "words"),
    [
        ({"normalized_shape": 4}, ((3, 4), (4,), None), "a residual of one shape"),
        ({"normalized_shape": 3}, ((3, 4), None, None), "the axes [3]"),
        ({"normalized_shape": 4}, ((), None, None), "the axes [4]"),
        ({"normalized_shape": 4}, ((3, 4), None, (3,)), "a weight of shape [4]"),
        ({"normalized_shape": 4, "weight_offset": 1.0}, ((3, 4), None, None), "a weight beside its weight_offset"),
    ],
)
def test_add_rms_norm_refuses_by_name(attributes, shapes, words) -> None:
    assert words in get_refusal("add_rms_norm", attributes, *shapes)
