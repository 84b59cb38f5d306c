"""Numbers one position off."""

from collections.abc import Callable

import numpy as np
import pytest

from schemas.datatype import Array
from tests.solved_problems import SolvedProblem, solve_preset

MLP, LENET = solve_preset("mlp_classifier"), solve_preset("lenet")


def test_shift_by_one_is_named_and_shift_by_two_is_not() -> None:
    right = MLP.get_gradient("w1")
    assert MLP.list_bug_names({"w1": np.roll(right, 1, axis=0)})["w1"] == {"shifted"}
    assert MLP.list_bug_names({"w1": np.roll(right, 2, axis=0)})["w1"] == {"unknown"}


def test_single_correct_tap_is_not_named_as_correct_interior() -> None:
    generator = np.random.default_rng(3)
    nodes = [
        {"name": "c", "op": "conv2d", "inputs": ["x", "k"]},
        {"name": "t", "op": "tanh", "inputs": ["c"]},
        {"name": "loss", "op": "sum", "inputs": ["t"]},
    ]
    x, k = generator.normal(size=(2, 4, 6, 6)), generator.normal(size=(8, 4, 3, 3))
    worked = SolvedProblem({"tensors": {"x": x.tolist()}, "weights": {"k": k.tolist()}, "model": {"nodes": nodes}})
    flipped = worked.get_gradient("k")[..., ::-1, ::-1]
    assert worked.list_bug_names({"k": flipped})["k"] == {"kernel_flipped"}


def test_wrong_border_is_named_only_beyond_chance() -> None:
    worked = solve_preset("lenet", "x")
    right = worked.get_gradient("x")
    border = np.ones(right.shape, np.bool_)
    border[..., 1:-1, 1:-1] = False
    wrong = np.where(border, right + 0.1, right)
    assert worked.list_bug_names({"x": wrong})["x"] == {"shifted"}
    wrong[0, 0, 5, 5] += 1
    assert worked.list_bug_names({"x": wrong})["x"] == {"unknown"}


@pytest.mark.parametrize(
    "moved",
    [
        lambda g: np.roll(g, 1),
        lambda g: np.roll(g, (1, -1), (-2, -1)),
        lambda g: np.concatenate([g[..., :1], g[..., :-1]], -1),
        lambda g: np.concatenate([g[1:], 0 * g[:1]], 0),
    ],
    ids=["in the buffer", "down and left", "the border again", "zeros come in"],
)
def test_ways_to_move_by_one_are_all_shifts(moved: Callable[[Array], Array]) -> None:
    right = MLP.get_gradient("w1")
    assert MLP.list_bug_names({"w1": moved(right)}) == {"w1": {"shifted"}}
    assert MLP.list_bug_names({"w1": np.roll(right, 3)}) == {"w1": {"unknown"}}
