"""What was added that belongs elsewhere, and what is missing."""

import numpy as np
import pytest

from tests.solved_problems import SolvedProblem, solve_preset

GENERATOR = np.random.default_rng(11)
MLP, NORM = solve_preset("mlp_classifier"), solve_preset("layer_norm_mlp", "normal")


def test_weight_decay_is_named_with_its_size_and_its_sign() -> None:
    right, own = MLP.get_gradient("w1"), MLP.get_value("w1")
    for factor, name, said in ((1e-3, "added", "plus 0.001 times w1"), (-1e-2, "missing_sign", "minus 0.01 times w1")):
        _, explanations = MLP.judge_candidates({"w1": right + factor * own})
        assert [explanation.bug_name for explanation in explanations["w1"]] == [f"weight_decay_{name}"]
        assert said in explanations["w1"][0].explanation


def test_zeros_are_named_and_a_gradient_of_zeros_is_not() -> None:
    assert MLP.list_bug_names({"w1": 0 * MLP.get_gradient("w1")})["w1"] == {"detached"}
    assert MLP.list_bug_names({"b2": 0 * MLP.get_gradient("b2")})["b2"] == {"detached"}


def solve_channel_scale(op: str) -> SolvedProblem:
    """A tensor h, whose channels a vector s multiplies or divides, and its gradient."""
    return SolvedProblem(
        {
            "tensors": {"x": GENERATOR.normal(size=(5, 3)).tolist(), "s": [0.7, 1.6, -2.2], "t": [0.3, 1.9, 0.6]},
            "weights": {"w": GENERATOR.normal(size=(3, 3)).tolist()},
            "with_respect_to": ["h"],
            "model": {
                "nodes": [
                    {"name": "h", "op": "linear", "inputs": ["x", "w"]},
                    {"name": "m", "op": op, "inputs": ["h", "s"]},
                    {"name": "n", "op": "sin", "inputs": ["m"]},
                    {"name": "o", "op": "add", "inputs": ["n", "t"]},
                    {"name": "p", "op": "mul", "inputs": ["o", "o"]},
                    {"name": "loss", "op": "sum", "inputs": ["p"]},
                ]
            },
        }
    )


@pytest.mark.parametrize(
    ("op", "times", "over"),
    [
        ("mul", "this factor was applied once too often", "this factor was left out"),
        ("div", "this divisor was left out", "this divisor was applied once too often"),
    ],
)
def test_missing_channel_factor_names_the_multiplying_vector(op: str, times: str, over: str) -> None:
    worked = solve_channel_scale(op)
    right, s = worked.get_gradient("h"), worked.get_value("s")
    for candidate, how, done in ((right * s, "times", times), (right / s, "over", over)):
        (told,) = worked.judge_candidates({"h": candidate})[1]["h"]
        assert told.bug_name == "channel_factor_missing"
        assert f"dL/dh is the reference {how} s along axis 1" in told.explanation
        assert done in told.explanation or f"at m ({op})" in told.explanation
        assert not {times, over} - {done} & {told.explanation}


def test_vector_outside_the_path_is_no_missing_factor() -> None:
    worked = solve_channel_scale("mul")
    assert worked.list_bug_names({"h": worked.get_gradient("h") * worked.get_value("t")}) == {"h": {"unknown"}}
    right = NORM.get_gradient("normal")
    # The gain multiplies the gradient behind the norm, and not that at its output.
    for factor in (NORM.get_value("gain"), 1 / NORM.get_value("gain"), np.linspace(1, 2, 11)):
        assert NORM.list_bug_names({"normal": right * factor}) == {"normal": {"unknown"}}


def solve_decayed_loss(scale: float) -> SolvedProblem:
    """A loss with the decay scale w^2 / 2."""
    return SolvedProblem(
        {
            "tensors": {"a": GENERATOR.normal(size=(4, 3)).tolist()},
            "weights": {"w": GENERATOR.normal(size=(4, 3)).tolist()},
            "model": {
                "nodes": [
                    {"name": "q", "op": "mul", "inputs": ["w", "w"]},
                    {"name": "r", "op": "sum", "inputs": ["q"]},
                    {"name": "d", "op": "mul", "inputs": ["r", scale / 2]},
                    {"name": "p", "op": "mul", "inputs": ["w", "a"]},
                    {"name": "e", "op": "sum", "inputs": ["p"]},
                    {"name": "loss", "op": "add", "inputs": ["d", "e"]},
                ]
            },
        }
    )


@pytest.mark.parametrize(
    ("ratio", "said"),
    [
        (1.0, "Matches the weight decay of the loss counted twice in the gradient: "),
        (-1.0, "Matches the weight decay of the loss left out of the gradient: "),
        (-2.0, "Matches the weight decay of the loss with the wrong sign in the gradient: "),
        (-0.5, None),
        (0.4, None),
    ],
)
def test_size_of_decay_term_tells_the_action(ratio: float, said: str | None) -> None:
    worked = solve_decayed_loss(0.28)
    explanations = worked.judge_candidates({"w": worked.get_gradient("w") + ratio * 0.28 * worked.get_value("w")})[1][
        "w"
    ]
    told = [explanation.explanation for explanation in explanations if explanation.bug_name.startswith("weight_decay")]
    assert [said in explanation for explanation in told] == ([] if said is None else [True])


def test_half_of_a_square_is_named_as_a_missing_use() -> None:
    worked = solve_decayed_loss(0.28)
    (told,) = worked.judge_candidates({"w": worked.get_gradient("w") - 0.14 * worked.get_value("w")})[1]["w"]
    assert told.bug_name == "shared_weight_last_use_only"
    assert "only half of the gradient from q (mul) to w counted" in told.explanation
