from typing import Any

import numpy as np
import pytest
import torch

from service.checks.graph.check import check
from service.numerics.ops import OP_REGISTRY
from tests.service.numerics.ops.composed_gradients import evaluate
from tests.service.numerics.ops.shape_refusals import get_refusal

SMALL = {"scale": 0.25, "quant_min": -4, "quant_max": 3}
X = np.array([-1.2, -1.1, -0.9, -0.1, 0.3, 0.8, 0.86, 0.9, 5.0])


def test_levels_and_their_ends_by_hand() -> None:
    y, (by_x,) = evaluate("fake_quantize", X, **SMALL)
    np.testing.assert_array_equal(y, [-1, -1, -1, 0, 0.25, 0.75, 0.75, 0.75, 0.75])
    # -1.1 and 0.86 round to the last levels, -4 and 3; -1.2 and 0.9 do not.
    np.testing.assert_array_equal(by_x, [0, 1, 1, 1, 1, 1, 1, 0, 0])


def test_values_and_gradients_are_those_of_pytorch() -> None:
    generator = np.random.default_rng(0)
    x = (generator.normal(size=(4, 50)) * 2).astype(np.float32)
    scales, zeros = [0.125, 0.25, 0.5, 0.0625], [0, 3, -2, 7]
    leaf = torch.tensor(x, requires_grad=True)
    expected = torch.fake_quantize_per_channel_affine(
        leaf, torch.tensor(scales), torch.tensor(zeros, dtype=torch.int32), 0, -8, 7
    )
    expected.sum().backward()
    y, (by_x,) = evaluate("fake_quantize", x, scale=scales, zero_point=zeros, quant_min=-8, quant_max=7)
    np.testing.assert_array_equal(y, expected.detach().numpy())
    assert leaf.grad is not None
    np.testing.assert_array_equal(by_x, leaf.grad.numpy())
    assert 0 < by_x.sum() < by_x.size


def make_request(w: Any, **fields: Any) -> dict[str, Any]:
    nodes = [
        {"name": "q", "op": "fake_quantize", "inputs": ["w"], **SMALL},
        {"name": "loss", "op": "half_squared_error", "inputs": ["q", "y"], "reduction": "sum"},
    ]
    return {"tensors": {"y": [0.0] * len(w)}, "weights": {"w": w}, "model": {"nodes": nodes}, **fields}


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_difference_is_that_of_the_declaration(dtype: str) -> None:
    """The loss is constant between jumps, and its gradient is not 0."""
    w = [-2.0, -0.9, 0.3, 0.8, 5.0]
    report: Any = check(make_request(w, dtype=dtype, include=["gradients"]))
    assert report["outcome"] == "pass"
    np.testing.assert_allclose(
        report["gradients"]["w"]["finite_difference"], [0, -1, 0.25, 0.75, 0], rtol=1e-6, atol=1e-12
    )


@pytest.mark.parametrize(
    ("candidate", "outcome"),
    [
        ([0.0, -1.0, 0.25, 0.75, 0.0], "pass"),
        ([0.0, -0.25, 0.0625, 0.1875, 0.0], "fail"),
        ([-1.0, -1.0, 0.25, 0.75, 0.75], "fail"),
        ([0.0, 0.0, 0.0, 0.0, 0.0], "fail"),
    ],
    ids=["right", "times the scale", "passed outside the range", "differentiated"],
)
def test_candidate_is_held_against_the_declaration(candidate: list[float], outcome: str) -> None:
    report: Any = check(make_request([-2.0, -0.9, 0.3, 0.8, 5.0], candidate={"w": candidate}))
    assert report["outcome"] == outcome


@pytest.mark.parametrize(
    ("slope", "outcome"), [(0.0, "pass"), (1.0, "pass"), (0.5, "pass"), (-0.5, "fail"), (2.0, "fail")]
)
@pytest.mark.parametrize("end", [0.875, -1.125])
def test_end_of_the_range_is_a_kink(end: float, slope: float, outcome: str) -> None:
    level = 0.75 if end > 0 else -1.0
    report: Any = check(make_request([end, 0.3], candidate={"w": [slope * level, 0.25]}))
    assert report["outcome"] == outcome


def test_level_that_rounding_decides_is_inconclusive() -> None:
    """Half way between two levels after a product, a program in float32 may choose either."""
    nodes = [
        {"name": "v", "op": "mul", "inputs": ["w", "u"]},
        {"name": "q", "op": "fake_quantize", "inputs": ["v"], **SMALL},
        {"name": "loss", "op": "half_squared_error", "inputs": ["q", "y"], "reduction": "sum"},
    ]
    report: Any = check(
        {
            "tensors": {"y": [0.0, 0.0], "u": [1 / 3, 1.0]},
            "weights": {"w": [0.375, 0.3]},
            "model": {"nodes": nodes},
            "dtype": "float32",
        }
    )
    assert report["verdicts"]["w"]["outcome"] == "inconclusive"


def test_numbers_beyond_all_levels_are_clipped() -> None:
    op = OP_REGISTRY["fake_quantize"](**SMALL)
    x = np.array([[1e300, -1e300, 1e-320, np.inf, -np.inf, 0.0]])
    y = op.forward(x)
    np.testing.assert_array_equal(y, [[0.75, -1, 0, 0.75, -1, 0]])
    np.testing.assert_array_equal(op.backward(np.ones_like(x), y, x)[0], [[0, 0, 1, 0, 0, 1]])
    assert np.isnan(op.forward(np.array([[np.nan]]))).all()


@pytest.mark.parametrize(
    ("attributes", "shape", "words"),
    [
        ({"scale": 1.0, "quant_min": 3, "quant_max": 3}, (4,), "a quant_min below its quant_max"),
        ({"scale": [1.0, 2.0]}, (3, 2), "a list of 3 numbers as its scale"),
        ({"scale": 1.0, "zero_point": [1, 2], "axis": 1}, (2, 3), "a list of 3 numbers as its zero_point"),
        ({"scale": [1.0]}, (), "an input with axes"),
        ({"scale": [1.0], "axis": 2}, (1, 1), "axis"),
    ],
)
def test_fake_quantize_refuses_by_name(attributes, shape, words) -> None:
    assert words in get_refusal("fake_quantize", attributes, shape)
