from typing import Any

import numpy as np
import pytest

from service.checks.graph.check import check
from service.numerics.model.kernel_presets import KERNEL_PRESETS
from tests.solved_problems import SolvedProblem, solve_preset


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("preset", KERNEL_PRESETS, ids=lambda preset: preset.name)
def test_preset_passes(preset: Any, dtype: str) -> None:
    report: Any = check({**preset.example_request, "dtype": dtype})
    assert report["outcome"] == "pass"


def test_fused_head_ignores_a_label() -> None:
    solved = solve_preset("fused_linear_cross_entropy")
    assert not solved.get_gradient("x")[-1].any()
    assert solved.get_gradient("x")[:-1].all()


def test_quantised_layer_has_weights_beyond_the_range() -> None:
    solved = solve_preset("quantized_linear")
    is_inside = solved.get_gradient("w") != 0
    assert 0 < is_inside.sum() < is_inside.size
    levels = solved.get_value("levels") / np.array([[0.25], [0.375], [0.5]])
    assert set(np.unique(levels)) <= set(range(-4, 4))


def test_keys_beyond_the_window_change_no_query() -> None:
    """The first key is seen by the first two queries alone."""
    (preset,) = (preset for preset in KERNEL_PRESETS if preset.name == "sliding_window_attention")
    body = preset.example_request
    value = np.array(body["weights"]["value"])
    value[:, :, 0] += 1
    moved = {**body, "weights": {**body["weights"], "value": value.tolist()}}
    before, after = (SolvedProblem(request).get_value("attended") for request in (body, moved))
    assert (before[:, :, :2] != after[:, :, :2]).all()
    np.testing.assert_array_equal(before[:, :, 2:], after[:, :, 2:])
