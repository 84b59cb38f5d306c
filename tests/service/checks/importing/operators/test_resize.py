"""Changes of size have the values of ONNX's reference evaluator."""

import numpy as np
import pytest
import torch

from tests.service.checks.importing.onnx_files import draw, evaluate_operator, find_refusal, measure_operator_error

pytestmark = pytest.mark.covers_by_cases

CASES = {
    "linear, half_pixel": (
        "Resize",
        [draw(1, 2, 4, 6), None, np.array([1, 1, 2, 1.5], np.float32)],
        {"mode": "linear", "coordinate_transformation_mode": "half_pixel"},
    ),
    "linear, align_corners": (
        "Resize",
        [draw(1, 2, 4, 6), None, np.array([1, 1, 2, 1.5], np.float32)],
        {"mode": "linear", "coordinate_transformation_mode": "align_corners"},
    ),
    "linear, asymmetric": (
        "Resize",
        [draw(1, 2, 4, 6), None, np.array([1, 1, 2, 1.5], np.float32)],
        {"mode": "linear", "coordinate_transformation_mode": "asymmetric"},
    ),
    "nearest, half_pixel": (
        "Resize",
        [draw(1, 2, 4, 6), None, np.array([1, 1, 2, 1.5], np.float32)],
        {"mode": "nearest", "coordinate_transformation_mode": "half_pixel"},
    ),
    "nearest, align_corners": (
        "Resize",
        [draw(1, 2, 4, 6), None, np.array([1, 1, 2, 1.5], np.float32)],
        {"mode": "nearest", "coordinate_transformation_mode": "align_corners"},
    ),
    "nearest, asymmetric": (
        "Resize",
        [draw(1, 2, 4, 6), None, np.array([1, 1, 2, 1.5], np.float32)],
        {"mode": "nearest", "coordinate_transformation_mode": "asymmetric"},
    ),
    "sizes": ("Resize", [draw(1, 1, 4, 4), None, None, np.array([1, 1, 3, 7])], {"mode": "linear"}),
    "smooth": (
        "Resize",
        [draw(1, 1, 8, 8), None, np.array([1, 1, 0.6, 0.6], np.float32)],
        {"mode": "linear", "antialias": 1},
    ),
}


@pytest.mark.parametrize(("operator", "arrays", "options"), CASES.values(), ids=CASES)
def test_an_operator_has_the_values_of_the_reference(operator, arrays, options):
    assert measure_operator_error(operator, *arrays, **options) < 1e-10


REFUSED = {
    "scales": ("Resize", [draw(1, 1, 4, 4), None, np.array([1, 1, 2], np.float32)], {}, "positive scale or a size"),
    "transformation": (
        "Resize",
        [draw(1, 1, 4, 4), None, np.array([1, 1, 2, 1.5], np.float32)],
        {"coordinate_transformation_mode": "other"},
        "coordinate_transformation_mode",
    ),
    "mode": (
        "Resize",
        [draw(1, 1, 4, 4), None, np.array([1, 1, 2, 1.5], np.float32)],
        {"mode": "other"},
        "has the mode",
    ),
}


@pytest.mark.parametrize(("operator", "arrays", "options", "words"), REFUSED.values(), ids=REFUSED)
def test_a_form_that_is_not_taken_is_refused(operator, arrays, options, words):
    assert words in find_refusal(operator, *arrays, **options)


@pytest.mark.parametrize(("mode", "is_aligned"), [("half_pixel", False), ("align_corners", True)])
def test_cubic_interpolation_is_that_of_torch(mode, is_aligned):
    x = draw(1, 2, 4, 6)
    options = {"mode": "cubic", "coordinate_transformation_mode": mode}
    value = evaluate_operator("Resize", x, None, None, np.array([1, 2, 8, 9]), **options)
    truth = torch.nn.functional.interpolate(torch.tensor(x), size=[8, 9], mode="bicubic", align_corners=is_aligned)
    np.testing.assert_allclose(value, truth, rtol=1e-12, atol=1e-12)
