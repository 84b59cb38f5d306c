"""Gradients that were cut off."""

import numpy as np
import pytest

from tests.solved_problems import solve_preset

MLP = solve_preset("mlp_classifier")
RIGHT = {name: MLP.get_gradient(name) for name in MLP.problem.names}


def compute_norm(*names: str) -> float:
    return float(np.sqrt(sum(np.square(RIGHT[name]).sum() for name in names)))


def test_clip_by_value_is_named_from_several_cut_elements() -> None:
    right = RIGHT["w1"]
    most = float(np.sort(np.abs(right).ravel())[-6])
    assert MLP.list_bug_names({"w1": np.clip(right, -most, most)}) == {"w1": {"clipped"}}
    largest = np.where(np.abs(right) == np.abs(right).max(), np.sign(right) * most, right)
    assert MLP.list_bug_names({"w1": np.where(np.abs(right) > most, largest * 1.01, right)}) == {"w1": {"unknown"}}


def test_common_factor_of_all_tensors_is_named_as_clip_and_several_factors_are_not() -> None:
    named = MLP.list_bug_names({name: 0.37 * RIGHT[name] for name in ("w1", "w2", "b1")})
    assert all("clipped" in names for names in named.values())
    named = MLP.list_bug_names({name: (0.37 if name == "w1" else 0.41) * RIGHT[name] for name in ("w1", "w2", "b1")})
    assert all(names == {"scaled"} for names in named.values())


@pytest.mark.parametrize("epsilon", [0.0, 1e-6])
def test_clip_by_tensor_norm_is_named_by_a_round_norm(epsilon: float) -> None:
    named = MLP.list_bug_names(
        {name: 0.01 * gradient / (compute_norm(name) + epsilon) for name, gradient in RIGHT.items()}
    )
    assert all("clipped" in names for names in named.values())
    assert MLP.list_bug_names({"w1": 0.0137 * RIGHT["w1"] / compute_norm("w1")})["w1"] == {"scaled"}


@pytest.mark.parametrize("epsilon", [0.0, 1e-6])
def test_clip_by_joint_norm_is_named_for_a_single_candidate(epsilon: float) -> None:
    factor = 0.1 / (compute_norm(*RIGHT) + epsilon)
    _, explanations = MLP.judge_candidates({"w2": factor * RIGHT["w2"]})
    (told,) = (explanation.explanation for explanation in explanations["w2"] if explanation.bug_name == "clipped")
    assert "brings the norm of all gradients to 0.1" in told
    assert MLP.list_bug_names({"w2": 1.013 * factor * RIGHT["w2"]})["w2"] == {"scaled"}


def test_tiny_gradient_is_named_neither_clipped_nor_scaled() -> None:
    assert MLP.list_bug_names({"w2": np.full(RIGHT["w2"].shape, 1e-17)})["w2"] <= {"detached", "unknown"}
    assert MLP.list_bug_names({"w2": np.full(RIGHT["w2"].shape, 1e-3)}, "FP16") == {"w2": {"unknown"}}
