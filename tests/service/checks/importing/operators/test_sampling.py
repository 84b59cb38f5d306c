"""Samples between the elements of an image have the values of ONNX's reference evaluator, and their gradients pass."""

import numpy as np
import pytest

from service.checks.graph.check import check
from tests.service.checks.importing.onnx_files import (
    draw,
    evaluate_operator,
    find_refusal,
    make_operator_file,
    measure_operator_error,
    run_import,
)

pytestmark = pytest.mark.covers_by_cases
GRID, VOLUME = 2 * draw(2, 3, 2, 2, low=-0.5), 2 * draw(1, 2, 2, 2, 3, low=-0.5)
KERNEL = [draw(1, 4, 4, 5), draw(4, 2, 2, 2), draw(1, 16, 3, 4) / 4, draw(4), draw(1, 8, 3, 4)]
GROUPS = {"group": 2, "offset_group": 2, "pads": [0, 0, 0, 0]}
REGIONS = np.array([[0.3, 0.4, 4.1, 3.2], [-2.0, 1.0, 2.5, 5.5]])

CASES = {
    "grid": ("GridSample", [draw(2, 3, 4, 5), GRID], {"opset": 20}),
    "cubic": ("GridSample", [draw(2, 3, 4, 5), GRID], {"opset": 20, "mode": "cubic", "padding_mode": "border"}),
    "nearest": ("GridSample", [draw(2, 3, 4, 5), GRID], {"opset": 20, "mode": "nearest", "align_corners": 1}),
    "reflection": ("GridSample", [draw(2, 3, 4, 5), GRID], {"opset": 20, "padding_mode": "reflection"}),
    "volume": ("GridSample", [draw(1, 2, 3, 4, 2), VOLUME], {"opset": 20}),
    "affine grid": ("AffineGrid", [draw(2, 2, 3), np.array([2, 1, 3, 4])], {"opset": 20}),
    "affine grid of corners": (
        "AffineGrid",
        [draw(1, 3, 4), np.array([1, 1, 2, 3, 2])],
        {"opset": 20, "align_corners": 1},
    ),
    "kernel": ("DeformConv", KERNEL[:3], {**GROUPS, "opset": 22}),
    "kernel with mask": ("DeformConv", KERNEL, {**GROUPS, "opset": 22}),
    "kernel with strides": (
        "DeformConv",
        [draw(1, 2, 6, 7), draw(3, 2, 3, 2), draw(1, 12, 3, 4) / 4],
        {"opset": 22, "strides": [2, 2], "pads": [1, 1, 1, 0], "dilations": [1, 1]},
    ),
    "regions": (
        "RoiAlign",
        [draw(2, 3, 5, 6), REGIONS, np.array([1, 0])],
        {"opset": 16, "output_height": 2, "output_width": 3, "sampling_ratio": 2},
    ),
    "regions with samples by their size": (
        "RoiAlign",
        [draw(2, 3, 5, 6), REGIONS, np.array([1, 0])],
        {"opset": 16, "output_height": 2, "output_width": 3},
    ),
    "greatest of regions": (
        "RoiAlign",
        [draw(2, 3, 5, 6), REGIONS, np.array([1, 0])],
        {"opset": 16, "output_height": 2, "output_width": 3, "sampling_ratio": 2, "mode": "max"},
    ),
    "regions of whole elements": (
        "RoiAlign",
        [draw(2, 3, 5, 6), REGIONS, np.array([1, 0])],
        {"opset": 16, "coordinate_transformation_mode": "output_half_pixel", "spatial_scale": 0.5, "sampling_ratio": 2},
    ),
}


@pytest.mark.parametrize(("operator", "arrays", "options"), CASES.values(), ids=CASES)
def test_an_operator_has_the_values_of_the_reference(operator, arrays, options):
    # The reference evaluates some of these in float32.
    assert measure_operator_error(operator, *arrays, **options) < 1e-6


def test_a_kernel_that_is_not_moved_is_a_convolution():
    x, w = draw(1, 2, 5, 6), draw(3, 2, 3, 2)
    moved = evaluate_operator("DeformConv", x, w, np.zeros((1, 12, 3, 5)), opset=22)
    np.testing.assert_allclose(moved, evaluate_operator("Conv", x, w), rtol=1e-12, atol=1e-12)
    elsewhere = evaluate_operator("DeformConv", x, w, np.full((1, 12, 3, 5), 0.25), opset=22)
    assert np.abs(elsewhere - moved).max() > 0.01


def test_the_gradients_of_a_moved_kernel_pass():
    document = run_import(make_operator_file("DeformConv", KERNEL, **GROUPS, opset=22)).document
    assert check(document)["outcome"] == "pass"


REFUSED = {
    "axes": (
        "DeformConv",
        [draw(1, 2, 5), draw(3, 2, 3), draw(1, 12, 3)],
        {"opset": 22},
        "takes an input (N, C, H, W)",
    ),
    "offsets": (
        "DeformConv",
        [draw(1, 2, 5, 6), draw(3, 2, 3, 2), draw(1, 8, 3, 5)],
        {"opset": 22},
        "do not fit its kernel",
    ),
    "groups": (
        "DeformConv",
        [draw(1, 2, 5, 6), draw(3, 2, 3, 2), draw(1, 12, 3, 5)],
        {"opset": 22, "group": 2},
        "do not share",
    ),
    "regions": ("RoiAlign", [draw(1, 2, 5, 6), draw(3, 3), np.array([0])], {"opset": 16}, "regions (R, 4)"),
    "counts": (
        "RoiAlign",
        [draw(2, 3, 5, 6), REGIONS * 2, np.array([1, 0])],
        {"opset": 16, "mode": "max"},
        "different numbers",
    ),
}


@pytest.mark.parametrize(("operator", "arrays", "options", "words"), REFUSED.values(), ids=REFUSED)
def test_a_form_that_is_not_taken_is_refused(operator, arrays, options, words):
    assert words in find_refusal(operator, *arrays, **options)


def test_old_names_of_interpolations_are_those_of_the_new_ones():
    arrays = draw(2, 3, 4, 5), GRID
    for old, new in (("bilinear", "linear"), ("bicubic", "cubic")):
        values = [
            evaluate_operator("GridSample", *arrays, opset=opset, mode=mode) for opset, mode in ((16, old), (20, new))
        ]
        assert (values[0] == values[1]).all()
