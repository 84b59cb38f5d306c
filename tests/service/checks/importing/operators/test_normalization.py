"""Normalisations have the values of ONNX's reference evaluator."""

import numpy as np
import pytest

from tests.service.checks.importing.onnx_files import draw, evaluate_operator, find_refusal, measure_operator_error

pytestmark = pytest.mark.covers_by_cases

CASES = {
    "batch": ("BatchNormalization", [draw(2, 3, 4), draw(3), draw(3, seed=1), draw(3, seed=2), draw(3, low=0.5)], {}),
    "training": (
        "BatchNormalization",
        [draw(2, 3, 4), draw(3), draw(3, seed=1), draw(3, seed=2), draw(3, low=0.5)],
        {"training_mode": 1, "output_count": 3},
    ),
    "layer": ("LayerNormalization", [draw(2, 3, 4), draw(4), draw(4, seed=1)], {}),
    "two axes": ("LayerNormalization", [draw(2, 3, 4), draw(3, 4)], {"axis": 1}),
    "statistics": ("LayerNormalization", [draw(2, 3, 4), draw(4), draw(4, seed=1)], {"output_count": 3}),
    "root mean square": ("RMSNormalization", [draw(2, 3, 4), draw(4)], {"opset": 23}),
    "instance": ("InstanceNormalization", [draw(2, 3, 4), draw(3), draw(3, seed=1)], {"epsilon": 0.01}),
}


@pytest.mark.parametrize(("operator", "arrays", "options"), CASES.values(), ids=CASES)
def test_an_operator_has_the_values_of_the_reference(operator, arrays, options):
    assert measure_operator_error(operator, *arrays, **options) < 1e-10


REFUSED = {
    "instance": ("InstanceNormalization", [draw(2, 3), draw(3), draw(3)], {}, "takes an input (N, C, ...)"),
    "running statistics": (
        "BatchNormalization",
        [draw(2, 3), draw(3), draw(3), draw(3), draw(3, low=1)],
        {"opset": 14, "output_count": 3},
        "in training_mode alone",
    ),
}


@pytest.mark.parametrize(("operator", "arrays", "options", "words"), REFUSED.values(), ids=REFUSED)
def test_a_form_that_is_not_taken_is_refused(operator, arrays, options, words):
    assert words in find_refusal(operator, *arrays, **options)


@pytest.mark.parametrize(("opset", "repeats"), [(21, 1), (18, 2)])
def test_groups_are_normalised_with_a_scale_for_each_channel_or_each_group(opset, repeats):
    x, scale, bias = draw(2, 4, 3), draw(4 // repeats), draw(4 // repeats, seed=1)
    groups = x.reshape(2, 2, 6)
    normal = (groups - groups.mean(-1, keepdims=True)) / np.sqrt(groups.var(-1, keepdims=True) + 0.125)
    truth = normal.reshape(x.shape) * np.repeat(scale, repeats)[:, None] + np.repeat(bias, repeats)[:, None]
    options = {"opset": opset, "num_groups": 2, "epsilon": 0.125}
    np.testing.assert_allclose(evaluate_operator("GroupNormalization", x, scale, bias, **options), truth, rtol=1e-12)
