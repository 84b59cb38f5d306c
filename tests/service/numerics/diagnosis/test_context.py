"""What a fault may look at."""

import numpy as np

from service.numerics.core.precision import PRECISIONS
from tests.solved_problems import solve_preset


def test_uses_are_in_order_and_indices_are_none() -> None:
    scene = solve_preset("lstm_step").build_context()
    assert [node.name for node, _ in scene.get_uses("w_hidden")] == ["from_h1", "from_h2"]
    assert scene.list_slot_names("bias") == {"bias"}
    assert solve_preset("mlp_classifier").build_context().get_uses("label") == ()


def test_vectors_are_what_has_one_axis_longer_than_1() -> None:
    vectors = solve_preset("layer_norm_mlp").build_context().vectors_by_name
    assert vectors.keys() == {"gain", "shift"}
    assert vectors["gain"].shape == (11,)


def test_rounding_is_wider_where_the_arithmetic_is_coarser() -> None:
    scene = solve_preset("mlp_classifier").build_context()
    fine, coarse = (scene.estimate_rounding_allowance("w1", PRECISIONS[name]) for name in ("FP64", "BF16"))
    assert (coarse > 1e10 * fine).all()
    assert scene.estimate_rounding_allowance("w1", PRECISIONS["FP64"]) is fine
    assert np.isfinite(coarse).all()
