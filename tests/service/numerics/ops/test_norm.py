import numpy as np
import pytest

from service.numerics.ops import OP_REGISTRY
from tests.service.numerics.ops.shape_refusals import get_refusal


@pytest.mark.parametrize(
    ("name", "attributes", "shapes", "words"),
    [
        ("layer_norm", {"normalized_shape": 5}, ((3, 4), None, None), "an input (..., 5)"),
        ("layer_norm", {"normalized_shape": [2, 3, 4]}, ((3, 4), None, None), "an input (..., 2, 3, 4)"),
        ("layer_norm", {"normalized_shape": 4}, ((3, 4), (3,), None), "a weight and a bias of shape [4]"),
        ("rms_norm", {"normalized_shape": [4]}, ((3, 4), (3,)), "a weight and a bias of shape [4]"),
        ("batch_norm", {}, ((3,), None, None), "(B, C, ...)"),
        ("batch_norm", {}, ((1, 3), None, None), "more than one element in each channel"),
        ("batch_norm", {}, ((2, 3), (2,), None), "one for each channel"),
        ("group_norm", {"num_groups": 2}, ((2, 3), None, None), "divisible by num_groups=2"),
        ("group_norm", {"num_groups": 3}, ((1, 3), None, None), "more than one element in each group"),
    ],
)
def test_norm_refuses_mismatched_inputs(name, attributes, shapes, words):
    assert words in get_refusal(name, attributes, *shapes)


GROUPS = {
    "layer_norm": ({"normalized_shape": 6, "eps": 0.0}, (2, 6), (2,)),
    "batch_norm": ({"eps": 0.0}, (5, 3, 2), (1, 3)),
    "group_norm": ({"num_groups": 2, "eps": 0.0}, (3, 4, 5), None),
}


@pytest.mark.parametrize("name", GROUPS)
def test_each_group_has_mean_0_and_variance_1(name):
    attributes, shape, axes = GROUPS[name]
    y = OP_REGISTRY[name](**attributes).forward(np.random.default_rng(0).normal(3, 5, size=(1, *shape)), None, None)
    grouped = y.reshape(1, 3, 2, -1) if axes is None else y
    over = (3,) if axes is None else axes
    np.testing.assert_allclose(grouped.mean(axis=over), 0, atol=1e-14)
    np.testing.assert_allclose(grouped.var(axis=over), 1, rtol=1e-13)


def test_the_gradient_is_orthogonal_to_shift_and_scale():
    """y does not change when x is shifted or, without eps, scaled: so neither does L to first order."""
    generator = np.random.default_rng(0)
    x, g = generator.normal(size=(1, 3, 8)), generator.normal(size=(1, 3, 8))
    op = OP_REGISTRY["layer_norm"](normalized_shape=8, eps=0.0)
    by_x = op.backward(g, op.forward(x, None, None), x, None, None)[0]
    np.testing.assert_allclose(by_x.sum(axis=-1), 0, atol=1e-14)
    np.testing.assert_allclose((by_x * x).sum(axis=-1), 0, atol=1e-13)


def test_eps_left_out_is_that_of_the_dtype():
    op = OP_REGISTRY["rms_norm"](normalized_shape=4)
    assert op.resolve_dtype_defaults(2.0**-23).eps == 2.0**-23
    given = OP_REGISTRY["rms_norm"](normalized_shape=4, eps=1e-3)
    assert given.resolve_dtype_defaults(2.0**-23) is given
