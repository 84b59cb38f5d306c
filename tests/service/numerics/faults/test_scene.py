"""What a fault may look at."""

import numpy as np

from service.numerics.precision import PRECISIONS
from tests.candidates import preset


def test_uses_are_in_order_and_indices_are_none() -> None:
    scene = preset("lstm_step").scene()
    assert [node.name for node, _ in scene.uses("w_hidden")] == ["from_h1", "from_h2"]
    assert scene.slots("bias") == {"bias"}
    assert preset("mlp_classifier").scene().uses("label") == ()


def test_vectors_are_what_has_one_axis_longer_than_1() -> None:
    vectors = preset("layer_norm_mlp").scene().vectors
    assert vectors.keys() == {"gain", "shift"}
    assert vectors["gain"].shape == (11,)


def test_rounding_is_wider_where_the_arithmetic_is_coarser() -> None:
    scene = preset("mlp_classifier").scene()
    fine, coarse = (scene.rounding("w1", PRECISIONS[name]) for name in ("FP64", "BF16"))
    assert (coarse > 1e10 * fine).all()
    assert scene.rounding("w1", PRECISIONS["FP64"]) is fine
    assert np.isfinite(coarse).all()
