import numpy as np
import pytest
import torch

from service.numerics.ops import OP_REGISTRY
from tests.service.numerics.ops.shape_refusals import get_refusal


@pytest.mark.parametrize("mode", ["nearest", "nearest-exact", "linear", "area"])
@pytest.mark.parametrize("length", [1, 2, 5, 7])
@pytest.mark.parametrize("count", [1, 2, 3, 7, 14, 29])
def test_interpolation_is_that_of_pytorch_at_any_size(mode: str, length: int, count: int) -> None:
    x = np.random.default_rng(0).normal(size=(1, 1, 1, length))
    expected = torch.nn.functional.interpolate(torch.tensor(x[0]), count, mode=mode)
    np.testing.assert_allclose(
        OP_REGISTRY["interpolate"](size=count, mode=mode).forward(x)[0], expected.numpy(), rtol=1e-12, atol=1e-14
    )


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({}, "either a size or a scale_factor"),
        ({"size": 3, "scale_factor": 2.0}, "either a size or a scale_factor"),
        ({"size": 3, "mode": "linear"}, "as many axes"),
        ({"size": 3, "align_corners": True}, "align_corners"),
        ({"scale_factor": 0.1}, "leaves an element"),
        ({"size": [1, 2, 3]}, "one number"),
    ],
)
def test_interpolation_refuses_by_name(attributes: dict, words: str) -> None:
    assert words in get_refusal("interpolate", attributes, (1, 2, 4, 4))
