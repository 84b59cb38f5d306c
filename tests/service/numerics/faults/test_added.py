"""What was added that belongs elsewhere, and what is missing."""

import numpy as np

from tests.candidates import preset

MLP, NORM = preset("mlp_classifier"), preset("layer_norm_mlp", "normal")


def test_weight_decay_is_named_with_its_size_and_its_sign() -> None:
    right, own = MLP.right("w1"), MLP.value("w1")
    for factor, name, said in ((1e-3, "added", "plus 0.001 times w1"), (-1e-2, "missing_sign", "less 0.01 times w1")):
        _, found = MLP.judged({"w1": right + factor * own})
        assert [each.name for each in found["w1"]] == [f"weight_decay_{name}"]
        assert said in found["w1"][0].explanation


def test_zeros_are_named_and_a_gradient_of_zeros_is_not() -> None:
    assert MLP.named({"w1": 0 * MLP.right("w1")})["w1"] == {"detached"}
    assert MLP.named({"b2": 0 * MLP.right("b2")})["b2"] == {"detached"}


def test_a_factor_of_channels_is_named_by_the_vector_that_it_is() -> None:
    right, gain = NORM.right("normal"), NORM.value("gain")
    _, found = NORM.judged({"normal": right / gain})
    assert found["normal"][0].name == "channel_factor_missing"
    assert (
        found["normal"][0].explanation
        == "dL/dnormal is the reference over gain along axis 1: this factor was left out."
    )
    assert NORM.named({"normal": right * gain})["normal"] == {"channel_factor_missing"}
    assert NORM.named({"normal": right * np.linspace(1, 2, 11)})["normal"] == {"unknown"}
