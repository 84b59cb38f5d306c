"""Softmax from primitives."""

import numpy as np
import pytest

from tests.solved_problems import SolvedProblem

Z, G = np.random.default_rng(4).normal(size=(2, 3, 5))
NODES = [
    {"name": "e", "op": "exp", "inputs": ["z"]},
    {"name": "d", "op": "sum", "inputs": ["e"], "dim": -1, "keepdim": True},
    {"name": "p", "op": "div", "inputs": ["e", "d"]},
    {"name": "q", "op": "mul", "inputs": ["p", "g"]},
    {"name": "loss", "op": "sum", "inputs": ["q"]},
]
WORKED = SolvedProblem({"tensors": {"g": G.tolist()}, "weights": {"z": Z.tolist()}, "model": {"nodes": NODES}})
P = np.exp(Z) / np.exp(Z).sum(-1, keepdims=True)


@pytest.mark.parametrize(("wrong", "said"), [(G * P * (1 - P), "only the diagonal"), (G * P, "only the first part")])
def test_truncated_softmax_jacobian_is_named(wrong: np.ndarray, said: str) -> None:
    _, explanations = WORKED.judge_candidates({"z": wrong})
    told = {explanation.bug_name: explanation.explanation for explanation in explanations["z"]}
    assert said in told["softmax_jacobian_diagonal_only"]
    assert told.keys() <= {"softmax_jacobian_diagonal_only", "detached"}
