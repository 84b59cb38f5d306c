"""Right numbers in the wrong places."""

import pytest

from tests.solved_problems import solve_preset

MLP, LENET = solve_preset("mlp_classifier"), solve_preset("lenet")


def test_transposed_gradient_is_named_by_its_shape() -> None:
    right = MLP.get_gradient("w1")
    verdicts, explanations = MLP.judge_candidates({"w1": right.T})
    assert [explanation.bug_name for explanation in explanations["w1"]] == ["transposed", "memory_order"]
    assert "[7, 11] instead of [11, 7]" in verdicts["w1"].reason


@pytest.mark.parametrize("order", ["F", "C"])
def test_wrong_memory_order_is_named(order: str) -> None:
    right = MLP.get_gradient("w1")
    other = {"F": right.ravel(order="F").reshape(right.shape), "C": right.ravel().reshape(right.shape, order="F")}
    assert MLP.list_bug_names({"w1": other[order]}) == {"w1": {"memory_order"}}


def test_flat_gradient_is_named_in_either_order() -> None:
    right = MLP.get_gradient("w1")
    assert MLP.list_bug_names({"w1": right.ravel()}) == {"w1": {"reshaped"}}
    assert MLP.list_bug_names({"w1": right.T.ravel()}) == {"w1": {"memory_order"}}


def test_axes_in_another_order_are_named() -> None:
    assert "axes_permuted" in LENET.list_bug_names({"k2": LENET.get_gradient("k2").transpose(2, 3, 1, 0)})["k2"]


def test_gradients_in_each_others_place_are_named() -> None:
    named = MLP.list_bug_names({"w1": MLP.get_gradient("w2"), "w2": MLP.get_gradient("w1")})
    assert named == {"w1": {"swapped"}, "w2": {"swapped"}}
    assert MLP.list_bug_names({"w1": MLP.get_gradient("w2"), "w2": 2 * MLP.get_gradient("w2")})["w1"] == {"unknown"}


def test_reversed_kernel_is_named() -> None:
    assert LENET.list_bug_names({"k2": LENET.get_gradient("k2")[..., ::-1, ::-1]})["k2"] == {"kernel_flipped"}
