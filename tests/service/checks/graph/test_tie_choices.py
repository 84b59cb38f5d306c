"""How the joint judgement is joined to the verdict."""

import numpy as np
import pytest

from service.checks.graph.check import check

X = [0.1, 0.3]
W = [[0.7, -0.7 / 3], [0.5, 0.25]]
"""W x is 0 but for rounding in its first element."""


def check_relu_of_product(slope_by_w, slope_by_x=None, **fields):
    nodes = [
        {"name": "z", "op": "matmul", "inputs": ["w", "x"]},
        {"name": "y", "op": "relu", "inputs": ["z"]},
        {"name": "loss", "op": "sum", "inputs": ["y"]},
    ]
    candidate = {"w": np.outer([slope_by_w, 1], X).tolist()}
    if slope_by_x is not None:
        candidate["x"] = (np.array(W).T @ [slope_by_x, 1]).tolist()
    body = {"tensors": {}, "weights": {"w": W, "x": X}, "model": {"nodes": nodes}, "candidate": candidate}
    return check(body | fields)


@pytest.mark.parametrize("slope", [0.0, 0.3, 0.5, 1.0])
def test_one_slope_for_all_tensors_passes_at_a_kink_that_is_computed(slope):
    assert check_relu_of_product(slope, slope)["outcome"] == "pass"
    assert check_relu_of_product(slope)["outcome"] == "pass"


def test_two_slopes_at_one_kink_fail():
    report = check_relu_of_product(0.3, 0.6)
    assert report["outcome"] == "fail"
    assert "no single choice of subgradient at the ties" in report["verdicts"]["w"]["reason"]
    assert "FP32" not in report["verdicts"]["w"]["reason"]


def test_rounding_to_a_lower_precision_is_named_at_a_kink_too():
    """0.3 rounded to float32 is one slope there, and by x and w two in float64."""
    report = check_relu_of_product(0.3, float(np.float32(0.3)))
    assert report["outcome"] == "fail"
    assert "It would not fail as FP32" in report["verdicts"]["w"]["reason"]


def test_a_sample_of_the_elements_is_judged_together():
    assert check_relu_of_product(0.3, 0.3, finite_difference={"sample": 2})["outcome"] == "pass"


def test_directions_are_judged_by_conventions():
    assert check_relu_of_product(1.0, 1.0, finite_difference={"projections": 4})["outcome"] == "pass"
    assert check_relu_of_product(0.3, 0.9, finite_difference={"projections": 8})["outcome"] == "fail"


def make_index(*values, shape=None):
    return {"datatype": "INT64", "shape": shape or [len(values)], "data": list(values)}


KINKS = {
    "hinge_embedding_loss": (
        {"op": "hinge_embedding_loss", "inputs": ["x", "t"], "reduction": "sum"},
        {"t": [-1.0, 1.0]},
        [1.0, 0.3],
        [[0, 1], [-1, 1], [-0.5, 1]],
        [[0.1, 1], [-1.1, 1]],
    ),
    "multi_margin_loss": (
        {"op": "multi_margin_loss", "inputs": ["x", "t"], "reduction": "sum"},
        {"t": make_index(0)},
        [[1.5, 0.5, -2.0]],
        [[[0, 0, 0]], [[-1 / 3, 1 / 3, 0]], [[-1 / 6, 1 / 6, 0]]],
        [[[-0.4, 0.4, 0]], [[0.1, -0.1, 0]], [[-1 / 3, 0, 0]]],
    ),
    "scatter_reduce": (
        {"op": "scatter_reduce", "inputs": ["a", "i", "x"], "dim": 0, "reduce": "amax", "include_self": False},
        {"a": [0.0, 0.0], "i": make_index(0, 0, 1)},
        [2.0, 2.0, 1.0],
        [[1, 0, 1], [0, 1, 1], [0.5, 0.5, 1]],
        [[1, 1, 1], [1.1, -0.1, 1], [0.4, 0.4, 1]],
    ),
    "embedding_bag": (
        {"op": "embedding_bag", "inputs": ["i", "x"], "mode": "max"},
        {"i": make_index(0, 1, shape=[1, 2])},
        [[2.0, 1.0], [2.0, 0.5], [1.0, 3.0]],
        [[[1, 1], [0, 0], [0, 0]], [[0, 1], [1, 0], [0, 0]], [[0.5, 1], [0.5, 0], [0, 0]]],
        [[[1, 1], [1, 0], [0, 0]], [[1.1, 1], [-0.1, 0], [0, 0]], [[0, 1], [1, 0], [0, 0.1]]],
    ),
}
"""A node y, tensors, a point x with a kink, gradients of sum(y) by x there, and numbers that are none."""


@pytest.mark.parametrize(
    ("name", "candidate", "outcome"),
    [
        (name, candidate, outcome)
        for name, (*_, right, wrong) in KINKS.items()
        for outcome, candidates in (("pass", right), ("fail", wrong))
        for candidate in candidates
    ],
)
def test_both_sides_of_a_kink_pass_and_what_lies_outside_fails(name, candidate, outcome):
    node, tensors, x, *_ = KINKS[name]
    nodes = [{"name": "y", **node}, {"name": "loss", "op": "sum", "inputs": ["y"]}]
    body = {"model": {"nodes": nodes}, "tensors": tensors, "weights": {"x": x}, "candidate": {"x": candidate}}
    assert check(body)["outcome"] == outcome
