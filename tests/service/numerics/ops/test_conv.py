import itertools

import numpy as np
import pytest

from service.numerics.ops import OP_REGISTRY
from service.numerics.ops.op import ShapeError
from tests.service.numerics.ops.shape_refusals import get_refusal

Conv2d, Conv3d = OP_REGISTRY["conv2d"], OP_REGISTRY["conv3d"]


def test_conv2d_equals_its_documented_sum():
    """The sum written out with loops, beside strides, dilation and padding that differ by axis."""
    generator = np.random.default_rng(0)
    x, w = generator.normal(size=(1, 2, 4, 7, 6)), generator.normal(size=(1, 6, 2, 2, 3))
    b = generator.normal(size=(1, 6))
    op = Conv2d(stride=[2, 1], dilation=[1, 2], padding=[0, 1], groups=2)
    padded = np.pad(x[0], [(0, 0), (0, 0), (0, 0), (1, 1)])
    output = op.forward(x, w, b)[0]
    expected = np.zeros((2, 6, 3, 4))
    for n, o, p, q in itertools.product(range(2), range(6), range(3), range(4)):
        first = 2 * (o // 3)
        expected[n, o, p, q] = b[0, o] + sum(
            w[0, o, c, i, j] * padded[n, first + c, 2 * p + i, q + 2 * j]
            for c, i, j in itertools.product(range(2), range(2), range(3))
        )
    assert output.shape == op.infer_output_shape((2, 4, 7, 6), (6, 2, 2, 3), (6,)) == expected.shape
    np.testing.assert_allclose(output, expected, rtol=1e-13, atol=1e-14)


GOOD = ((2, 4, 6, 5), (6, 4, 3, 3), (6,))
REFUSED = {
    "a plain input and a whole weight": ({}, ((6, 5), (6, 4, 3, 3), None), "plain"),
    "a whole input and a plain weight": ({}, ((1, 6, 5), (3, 3), None), "plain"),
    "rank 5": ({}, ((1, 1, 4, 6, 5), (6, 4, 3, 3), None), "plain"),
    "other channels": ({}, ((2, 3, 6, 5), *GOOD[1:]), r"a weight of shape \(out, 3, kh, kw\) for 3 input channels"),
    "groups of the input": ({"groups": 3}, GOOD, "divisible by groups=3"),
    "groups of the output": ({"groups": 4}, ((2, 4, 6, 5), (6, 1, 3, 3), (6,)), "divisible by groups=4"),
    "a bias too long": ({}, (*GOOD[:2], (7,)), r"a bias of shape \[6\]"),
    "a bias for the plain form": ({}, ((6, 5), (3, 3), (1,)), r"a bias of shape \[\]"),
    "a kernel too large": ({}, ((2, 4, 2, 5), *GOOD[1:]), "a kernel no larger"),
    "too large by its dilation": ({"dilation": 3}, GOOD, "a kernel no larger"),
    "same with a stride": ({"padding": "same", "stride": 2}, GOOD, "stride 1"),
}


@pytest.mark.parametrize(("attributes", "shapes", "message"), REFUSED.values(), ids=REFUSED)
def test_conv2d_refuses_mismatched_inputs(attributes, shapes, message):
    assert Conv2d().infer_output_shape(*GOOD) == (2, 6, 4, 3)
    with pytest.raises(ShapeError, match=message):
        Conv2d(**attributes).infer_output_shape(*shapes)


def test_cost_counts_products_and_what_padding_makes():
    small, large = Conv2d(), Conv2d(padding=100)
    assert small.estimate_cost((4, 4), (6, 6), (3, 3), None).work >= 16 * 9
    assert large.estimate_cost((204, 204), (6, 6), (3, 3), None).largest_array >= 206 * 206


def test_conv3d_equals_its_documented_sum():
    """The sum written out with loops, beside strides, dilation and padding that differ by axis."""
    generator = np.random.default_rng(1)
    x, w = generator.normal(size=(1, 2, 4, 3, 5, 6)), generator.normal(size=(1, 6, 2, 2, 2, 3))
    b = generator.normal(size=(1, 6))
    op = Conv3d(stride=[1, 2, 1], dilation=[2, 1, 2], padding=[1, 0, 1], groups=2)
    padded = np.pad(x[0], [(0, 0), (0, 0), (1, 1), (0, 0), (1, 1)])
    output = op.forward(x, w, b)[0]
    expected = np.zeros((2, 6, 3, 2, 4))
    for n, o, p, q, r in np.ndindex(*expected.shape):
        first = 2 * (o // 3)
        expected[n, o, p, q, r] = b[0, o] + sum(
            w[0, o, c, i, j, k] * padded[n, first + c, p + 2 * i, 2 * q + j, r + 2 * k]
            for c, i, j, k in np.ndindex(2, 2, 2, 3)
        )
    assert output.shape == op.infer_output_shape((2, 4, 3, 5, 6), (6, 2, 2, 2, 3), (6,)) == expected.shape
    np.testing.assert_allclose(output, expected, rtol=1e-13, atol=1e-14)


@pytest.mark.parametrize(
    ("attributes", "shapes", "words"),
    [
        ({}, ((2, 3, 3), (2, 3, 3), None), "(B, C, D, H, W) or (C, D, H, W) with weight (out, C/groups, kd, kh, kw)"),
        ({}, ((2, 3, 3, 3), (2, 1, 2, 2, 2), None), "(out, 2, kd, kh, kw) for 2 input channels"),
        ({}, ((2, 3, 3, 3), (2, 2, 4, 2, 2), None), "a kernel no larger"),
        ({"stride": [1, 2]}, ((2, 3, 3, 3), (2, 2, 2, 2, 2), None), "one for each of 3, in place of [1, 2]"),
        ({"padding": "same", "stride": [1, 1, 2]}, ((2, 3, 3, 3), (2, 2, 2, 2, 2), None), "stride 1"),
    ],
)
def test_conv3d_refuses_mismatched_inputs(attributes, shapes, words):
    assert words in get_refusal("conv3d", attributes, *shapes)


@pytest.mark.parametrize("axis", [-3, -2, -1])
def test_conv3d_of_one_layer_is_conv2d(axis):
    generator = np.random.default_rng(2)
    x, w = generator.normal(size=(1, 2, 5, 4)), generator.normal(size=(1, 3, 2, 2, 3))
    numbers = {"stride": [2, 1], "padding": [1, 2], "dilation": [1, 2]}
    wide = {name: [*pair] for name, pair in numbers.items()}
    for name, pair in wide.items():
        pair.insert(axis + 3, 0 if name == "padding" else 1)
    output = Conv3d(**wide).forward(np.expand_dims(x, axis), np.expand_dims(w, axis), None)
    np.testing.assert_allclose(np.squeeze(output, axis), Conv2d(**numbers).forward(x, w, None), rtol=1e-13, atol=1e-13)
