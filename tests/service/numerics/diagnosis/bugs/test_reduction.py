"""Axes over which nothing was summed."""

import numpy as np

from tests.solved_problems import solve_preset

MLP, LENET = solve_preset("mlp_classifier"), solve_preset("lenet")


def test_bias_not_summed_over_batch_is_named() -> None:
    verdicts, explanations = MLP.judge_candidates({"b1": MLP.get_gradient("hidden")})
    assert [explanation.bug_name for explanation in explanations["b1"]] == ["bias_not_summed", "broadcast_not_reduced"]
    assert explanations["b1"][0].explanation == (
        "dL/db1 was not summed over axis 0: it has shape [5, 11], and its sum is the reference, of shape [11]. A bias "
        "is used once for each sample, and its gradient is the sum over them."
    )
    assert verdicts["b1"].outcome.wire_name == "fail"


def test_channel_bias_not_summed_over_other_axes_is_named() -> None:
    assert "bias_not_summed" in LENET.list_bug_names({"a1": LENET.get_gradient("c1")})["a1"]


def test_another_shape_whose_sum_is_another_is_unknown() -> None:
    named = MLP.list_bug_names({"b1": MLP.get_gradient("hidden") * np.arange(1, 6)[:, None]})
    assert named == {"b1": {"unknown"}}


def test_unreduced_broadcast_scalar_is_named() -> None:
    worked = solve_preset("logistic_regression")
    assert "bias_not_summed" in worked.list_bug_names({"b": worked.get_gradient("logit")})["b"]
