import numpy as np
import pytest

from service.numerics.ops import OP_REGISTRY
from tests.service.numerics.ops.shape_refusals import get_refusal


def test_gradients_of_copies_add_up() -> None:
    x = np.array([[1.0, 2.0]])
    g = np.array([[1.0, 10.0, 100.0, 1000.0]])
    np.testing.assert_array_equal(OP_REGISTRY["repeat"](repeats=[2]).backward(g, g, x)[0], [[101, 1010]])
    np.testing.assert_array_equal(OP_REGISTRY["repeat_interleave"](repeats=2).backward(g, g, x)[0], [[11, 1100]])


def test_unshuffled_pixels_are_those_before() -> None:
    x = np.random.default_rng(0).normal(size=(1, 2, 8, 3, 2))
    shuffled = OP_REGISTRY["pixel_shuffle"](upscale_factor=2).forward(x)
    assert shuffled.shape == (1, 2, 2, 6, 4)
    np.testing.assert_array_equal(OP_REGISTRY["pixel_unshuffle"](downscale_factor=2).forward(shuffled), x)


@pytest.mark.parametrize(
    ("name", "attributes", "shape", "words"),
    [
        ("repeat", {"repeats": [2]}, (3, 4), "no more axes than repeats"),
        ("pixel_shuffle", {"upscale_factor": 2}, (6, 2, 2), "a multiple of upscale_factor squared"),
        ("pixel_unshuffle", {"downscale_factor": 2}, (1, 3, 2), "multiples of downscale_factor"),
        ("channel_shuffle", {"groups": 4}, (1, 6, 2), "a multiple of groups"),
    ],
)
def test_moves_refuse_by_name(name, attributes, shape, words) -> None:
    assert words in get_refusal(name, attributes, shape)
