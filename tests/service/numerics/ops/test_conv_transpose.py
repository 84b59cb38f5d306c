import numpy as np
import pytest

from service.numerics.ops import OP_REGISTRY
from tests.service.numerics.ops.shape_refusals import get_refusal

ConvTranspose2d, Conv2d = OP_REGISTRY["conv_transpose2d"], OP_REGISTRY["conv2d"]


@pytest.mark.parametrize("attributes", [{}, {"stride": 2, "padding": 1}, {"stride": [3, 1], "dilation": [1, 2]}])
def test_conv_transpose_is_the_adjoint_of_the_convolution(attributes):
    """<conv(y), x> = <y, conv^T(x)> for any x and y, by which the adjoint is defined."""
    generator = np.random.default_rng(0)
    w = generator.normal(size=(1, 3, 2, 2, 3))
    x = generator.normal(size=(1, 2, 3, 4, 3))
    output = ConvTranspose2d(**attributes).forward(x, w, None)
    y = generator.normal(size=output.shape)
    np.testing.assert_allclose((Conv2d(**attributes).forward(y, w, None) * x).sum(), (y * output).sum(), rtol=1e-12)


@pytest.mark.parametrize("attributes", [{}, {"stride": 2, "padding": 1}, {"stride": [3, 1, 2], "dilation": [1, 2, 1]}])
def test_conv_transpose3d_is_the_adjoint_of_the_convolution(attributes):
    generator = np.random.default_rng(1)
    w, x = generator.normal(size=(1, 3, 2, 2, 3, 2)), generator.normal(size=(1, 2, 3, 3, 2, 4))
    output = OP_REGISTRY["conv_transpose3d"](**attributes).forward(x, w, None)
    y = generator.normal(size=output.shape)
    by_convolution = OP_REGISTRY["conv3d"](**attributes).forward(y, w, None)
    np.testing.assert_allclose((by_convolution * x).sum(), (y * output).sum(), rtol=1e-12)
    assert not np.isclose((by_convolution * x).sum(), (y * np.flip(output, 2)).sum(), rtol=1e-3)


@pytest.mark.parametrize(
    ("attributes", "shapes", "words"),
    [
        ({}, ((2, 3), (2, 1, 2, 2), None), "(B, C, H, W) or (C, H, W)"),
        ({}, ((3, 4, 4), (2, 1, 2, 2), None), "weight (C, out/groups, kh, kw)"),
        ({"groups": 2}, ((3, 4, 4), (3, 1, 2, 2), None), "divisible by groups=2"),
        ({}, ((3, 4, 4), (3, 2, 2, 2), (3,)), "a bias of shape [2]"),
        ({"output_padding": 1}, ((3, 4, 4), (3, 2, 2, 2), None), "smaller than stride or dilation"),
        ({"padding": 3}, ((3, 2, 2), (3, 2, 2, 2), None), "padding=3 does not cut off"),
    ],
)
def test_conv_transpose_refuses_mismatched_inputs(attributes, shapes, words):
    assert words in get_refusal("conv_transpose2d", attributes, *shapes)
