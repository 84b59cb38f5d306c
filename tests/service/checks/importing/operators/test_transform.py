"""Fourier transforms have the values of ONNX's reference evaluator."""

import numpy as np
import pytest

from tests.service.checks.importing.onnx_files import draw, find_refusal, measure_operator_error

pytestmark = pytest.mark.covers_by_cases

CASES = {
    "reals": ("DFT", [draw(2, 6, 1)], {"opset": 17, "axis": 1}),
    "complex": ("DFT", [draw(2, 5, 2)], {"opset": 17, "axis": 1}),
    "half": ("DFT", [draw(2, 6, 1)], {"opset": 17, "axis": 1, "onesided": 1}),
    "inverse": ("DFT", [draw(2, 5, 2)], {"opset": 17, "axis": 1, "inverse": 1}),
    "other axis": ("DFT", [draw(4, 3, 2), None, np.array(0)], {"opset": 20}),
    "longer": ("DFT", [draw(2, 5, 1), np.array(8)], {"opset": 17, "axis": 1}),
}


@pytest.mark.parametrize(("operator", "arrays", "options"), CASES.values(), ids=CASES)
def test_an_operator_has_the_values_of_the_reference(operator, arrays, options):
    assert measure_operator_error(operator, *arrays, **options) < 1e-10


REFUSED = {
    "half of an inverse": ("DFT", [draw(2, 5, 2)], {"opset": 17, "inverse": 1, "onesided": 1}, "half a spectrum"),
    "parts": ("DFT", [draw(2, 5, 3)], {"opset": 17}, "takes an input (..., n, 1)"),
}


@pytest.mark.parametrize(("operator", "arrays", "options", "words"), REFUSED.values(), ids=REFUSED)
def test_a_form_that_is_not_taken_is_refused(operator, arrays, options, words):
    assert words in find_refusal(operator, *arrays, **options)
