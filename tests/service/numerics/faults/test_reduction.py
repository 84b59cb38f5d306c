"""Axes over which nothing was summed."""

import numpy as np

from tests.candidates import preset

MLP, LENET = preset("mlp_classifier"), preset("lenet")


def test_a_bias_that_was_not_summed_over_the_batch_is_named() -> None:
    verdicts, found = MLP.judged({"b1": MLP.right("hidden")})
    assert [each.name for each in found["b1"]] == ["bias_not_summed", "broadcast_not_reduced"]
    assert found["b1"][0].explanation == (
        "dL/db1 has shape [5, 11]; summed over axis 0 it is the reference, of shape [11]: a bias is used once for each "
        "sample, and its gradient is the sum over them."
    )
    assert verdicts["b1"].outcome.text == "fail"


def test_a_bias_of_channels_is_summed_over_what_is_not_last() -> None:
    assert "bias_not_summed" in LENET.named({"a1": LENET.right("c1")})["a1"]


def test_another_shape_whose_sum_is_another_is_unknown() -> None:
    named = MLP.named({"b1": MLP.right("hidden") * np.arange(1, 6)[:, None]})
    assert named == {"b1": {"unknown"}}


def test_a_scalar_that_was_broadcast_is_named() -> None:
    worked = preset("logistic_regression")
    assert "bias_not_summed" in worked.named({"b": worked.right("logit")})["b"]
