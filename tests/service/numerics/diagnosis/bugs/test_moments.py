"""Normalisation from primitives, and softmax."""

import numpy as np
import pytest

from service.numerics.diagnosis.bugs.moments import ConstantMean, ConstantVariance
from tests.solved_problems import SolvedProblem

X = np.random.default_rng(4).normal(size=(3, 5))
G = np.random.default_rng(5).normal(size=(3, 5))
NODES = [
    {"name": "m", "op": "mean", "inputs": ["w"], "dim": -1, "keepdim": True},
    {"name": "c", "op": "sub", "inputs": ["w", "m"]},
    {"name": "s", "op": "mul", "inputs": ["c", "c"]},
    {"name": "v", "op": "mean", "inputs": ["s"], "dim": -1, "keepdim": True},
    {"name": "e", "op": "add", "inputs": ["v", 0.1]},
    {"name": "r", "op": "rsqrt", "inputs": ["e"]},
    {"name": "n", "op": "mul", "inputs": ["c", "r"]},
    {"name": "p", "op": "mul", "inputs": ["n", "g"]},
    {"name": "loss", "op": "sum", "inputs": ["p"]},
]
WORKED = SolvedProblem({"tensors": {"g": G.tolist()}, "weights": {"w": X.tolist()}, "model": {"nodes": NODES}})
RATE = 1 / np.sqrt(X.var(-1, keepdims=True) + 0.1)
UNIT = (X - X.mean(-1, keepdims=True)) * RATE
MEAN, ALONG = G.mean(-1, keepdims=True), UNIT * (G * UNIT).mean(-1, keepdims=True)


@pytest.mark.parametrize(
    ("wrong", "names"),
    [
        (RATE * (G - ALONG), {"missing_mean_path"}),
        (RATE * (G - MEAN), {"missing_variance_path"}),
        (RATE * G, {"missing_mean_path", "missing_variance_path"}),
    ],
)
def test_constant_moment_is_named(wrong: np.ndarray, names: set[str]) -> None:
    named = WORKED.list_bug_names({"w": wrong})["w"]
    assert named & {"missing_mean_path", "missing_variance_path"} == names


def test_moment_without_normalisation_is_not_named() -> None:
    scene = WORKED.build_context()
    for bug, held in ((ConstantMean(), "m"), (ConstantVariance(), "v")):
        first, both = bug.iterate_overrides(scene, ["w"])
        assert first.wrong_backward_by_node.keys() == {held}
        assert both.wrong_backward_by_node.keys() == {"m", "v"}
