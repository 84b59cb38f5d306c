"""Right numbers in the wrong places."""

import pytest

from tests.candidates import preset

MLP, LENET = preset("mlp_classifier"), preset("lenet")


def test_a_transpose_is_named_by_its_shape() -> None:
    right = MLP.right("w1")
    verdicts, found = MLP.judged({"w1": right.T})
    assert [each.name for each in found["w1"]] == ["transposed", "memory_order"]
    assert "[7, 11] instead of [11, 7]" in verdicts["w1"].reason


@pytest.mark.parametrize("order", ["F", "C"])
def test_a_buffer_that_was_read_in_the_other_order_is_named(order: str) -> None:
    right = MLP.right("w1")
    other = {"F": right.ravel(order="F").reshape(right.shape), "C": right.ravel().reshape(right.shape, order="F")}
    assert MLP.named({"w1": other[order]}) == {"w1": {"memory_order"}}


def test_a_flat_buffer_is_named_whichever_its_order() -> None:
    right = MLP.right("w1")
    assert MLP.named({"w1": right.ravel()}) == {"w1": {"reshaped"}}
    assert MLP.named({"w1": right.T.ravel()}) == {"w1": {"memory_order"}}


def test_axes_in_another_order_are_named() -> None:
    assert "axes_permuted" in LENET.named({"k2": LENET.right("k2").transpose(2, 3, 1, 0)})["k2"]


def test_gradients_in_each_others_place_are_named() -> None:
    named = MLP.named({"w1": MLP.right("w2"), "w2": MLP.right("w1")})
    assert named == {"w1": {"swapped"}, "w2": {"swapped"}}
    assert MLP.named({"w1": MLP.right("w2"), "w2": 2 * MLP.right("w2")})["w1"] == {"unknown"}


def test_a_kernel_that_was_read_backwards_is_named() -> None:
    assert LENET.named({"k2": LENET.right("k2")[..., ::-1, ::-1]})["k2"] == {"kernel_flipped"}
