import numpy as np
import pytest

from tests.service.numerics.ops.composed_gradients import evaluate
from tests.service.numerics.ops.shape_refusals import get_refusal

X, W, B = (np.random.default_rng(seed).normal(size=shape) for seed, shape in enumerate([(2, 3, 5), (3, 4), (3,)]))


def convolve(x: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Convolve each channel by NumPy's convolution, which reads the weights backwards."""
    return np.stack([[np.convolve(row, w[d][::-1])[: len(row)] for d, row in enumerate(sample)] for sample in x])


def test_each_channel_sees_the_present_and_the_past() -> None:
    y, (by_x, by_w, by_b) = evaluate("causal_conv1d", X, W, B)
    np.testing.assert_allclose(y, convolve(X, W) + B[:, None], rtol=1e-13)
    np.testing.assert_array_equal(by_b, 10)
    np.testing.assert_allclose(by_x[0], by_x[1])
    np.testing.assert_allclose(by_x[0, :, -1], W[:, -1], rtol=1e-15), "the last element reaches one output"
    np.testing.assert_allclose(by_w[:, -1], X.sum((0, 2)), rtol=1e-13)


def test_later_elements_change_no_earlier_output() -> None:
    later = X.copy()
    later[..., 3:] += 1
    before, after = (evaluate("causal_conv1d", x, W, B, activation="silu")[0] for x in (X, later))
    np.testing.assert_array_equal(before[..., :3], after[..., :3])
    assert (before[..., 3] != after[..., 3]).all()


def test_silu_follows_the_bias() -> None:
    z = convolve(X, W) + B[:, None]
    np.testing.assert_allclose(
        evaluate("causal_conv1d", X, W, B, activation="silu")[0], z / (1 + np.exp(-z)), rtol=1e-13
    )


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        (((3, 5), (3, 4), None), "(B, D, L)"),
        (((2, 3, 5), (2, 4), None), "one row of weights for each channel"),
        (((2, 3, 5), (3, 4), (4,)), "a bias of shape [3]"),
    ],
)
def test_causal_convolution_refuses_by_name(shapes, words) -> None:
    assert words in get_refusal("causal_conv1d", {}, *shapes)
