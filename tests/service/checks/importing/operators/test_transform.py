"""Fourier transforms have the values of ONNX's reference evaluator."""

import numpy as np
import pytest

from tests.service.checks.importing.onnx_files import draw, find_refusal, measure_operator_error

pytestmark = pytest.mark.covers_by_cases

HALF = draw(2, 5, 2)
CASES = {
    "reals": ("DFT", [draw(2, 6, 1)], {"opset": 17, "axis": 1}),
    "complex": ("DFT", [draw(2, 5, 2)], {"opset": 17, "axis": 1}),
    "half": ("DFT", [draw(2, 6, 1)], {"opset": 17, "axis": 1, "onesided": 1}),
    "inverse": ("DFT", [draw(2, 5, 2)], {"opset": 17, "axis": 1, "inverse": 1}),
    "other axis": ("DFT", [draw(4, 3, 2), None, np.array(0)], {"opset": 20}),
    "half of an inverse": ("DFT", [HALF, np.array(8)], {"opset": 17, "inverse": 1, "onesided": 1}),
    "half of an odd inverse": ("DFT", [HALF, np.array(9)], {"opset": 17, "inverse": 1, "onesided": 1}),
    "frames": ("STFT", [draw(2, 10, 1), np.array(3), draw(4)], {"opset": 17}),
    "frames of complex numbers": (
        "STFT",
        [draw(2, 10, 2), np.array(2), None, np.array(5)],
        {"opset": 17, "onesided": 0},
    ),
    "longer": ("DFT", [draw(2, 5, 1), np.array(8)], {"opset": 17, "axis": 1}),
}


@pytest.mark.parametrize(("operator", "arrays", "options"), CASES.values(), ids=CASES)
def test_an_operator_has_the_values_of_the_reference(operator, arrays, options):
    assert measure_operator_error(operator, *arrays, **options) < 1e-10


REFUSED = {
    "frames": ("STFT", [draw(2, 5, 1), np.array(0)], {"opset": 17}, "a positive frame_step"),
    "parts": ("DFT", [draw(2, 5, 3)], {"opset": 17}, "takes an input (..., n, 1)"),
}


@pytest.mark.parametrize(("operator", "arrays", "options", "words"), REFUSED.values(), ids=REFUSED)
def test_a_form_that_is_not_taken_is_refused(operator, arrays, options, words):
    assert words in find_refusal(operator, *arrays, **options)
