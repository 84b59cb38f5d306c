"""One share of a sum along several paths, with a factor."""

import numpy as np
import pytest

from tests.solved_problems import SolvedProblem

GENERATOR = np.random.default_rng(8)
W = GENERATOR.normal(size=(3, 4))
X = GENERATOR.normal(size=(3, 4))
WORKED = SolvedProblem(
    {
        "tensors": {"x": X.tolist()},
        "weights": {"w": W.tolist()},
        "model": {
            "nodes": [
                {"name": "a", "op": "sin", "inputs": ["w"]},
                {"name": "b", "op": "mul", "inputs": ["w", "x"]},
                {"name": "c", "op": "add", "inputs": ["a", "b"]},
                {"name": "d", "op": "add", "inputs": ["c", "w"]},
                {"name": "loss", "op": "sum", "inputs": ["d"]},
            ]
        },
    }
)


@pytest.mark.parametrize(
    ("factor", "name", "said"),
    [
        (3.0, "scaled", "the gradient from b (mul) to w was 3 times its right value"),
        (-2.5, "scaled", "the gradient from b (mul) to w was minus 2.5 times its right value"),
        (-1.0, "sign_flipped", "the gradient from b (mul) to w came with the opposite sign"),
        (0.0, "detached", "the path from w through b (mul) carried no gradient"),
        (2.0, "double_counted", "the gradient from b (mul) to w was added twice"),
    ],
)
def test_factor_of_one_path_is_named_and_explained(factor: float, name: str, said: str) -> None:
    _, explanations = WORKED.judge_candidates({"w": np.cos(W) + factor * X + 1})
    assert [explanation.bug_name for explanation in explanations["w"]] == [name]
    assert said in explanations["w"][0].explanation


def test_added_constant_is_not_named_as_factor_of_a_constant_share() -> None:
    assert WORKED.list_bug_names({"w": np.cos(W) + X + 1.7}) == {"w": {"unknown"}}


def test_two_shares_with_factors_of_their_own_have_no_name() -> None:
    assert WORKED.list_bug_names({"w": 1.3 * np.cos(W) + 0.4 * X + 1}) == {"w": {"unknown"}}
