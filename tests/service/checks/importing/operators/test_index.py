"""Selections have the values of ONNX's reference evaluator."""

import numpy as np
import pytest

from tests.service.checks.importing.onnx_files import draw, find_refusal, measure_operator_error

pytestmark = pytest.mark.covers_by_cases

CASES = {
    "rows": ("Gather", [draw(5, 3), np.array([[1, -1], [0, 4]])], {}),
    "other axis": ("Gather", [draw(2, 5, 3), np.array([1, 1, 4])], {"axis": 1}),
    "one": ("Gather", [draw(5, 3), np.array(2)], {}),
    "elements": ("GatherElements", [draw(4, 3), np.array([[0, 1, 3], [-1, 0, 2]])], {"axis": 0}),
    "several axes": ("GatherND", [draw(4, 3, 2), np.array([[0, 1], [3, 2], [0, 1]])], {}),
    "batch": ("GatherND", [draw(2, 3, 4), np.array([[1], [2]])], {"batch_dims": 1}),
    "Compress": ("Compress", [draw(4, 3), np.array([True, False, True])], {"axis": 0}),
    "flat Compress": ("Compress", [draw(2, 3), np.array([False, True, True])], {}),
    "OneHot": ("OneHot", [np.array([0, 2, -1]), np.array(4), draw(2)], {"axis": 0}),
    "ReverseSequence": ("ReverseSequence", [draw(4, 3, 2), np.array([4, 1, 3])], {"time_axis": 0, "batch_axis": 1}),
    "CenterCropPad": ("CenterCropPad", [draw(5, 3), np.array([2, 6])], {}),
}


@pytest.mark.parametrize(("operator", "arrays", "options"), CASES.values(), ids=CASES)
def test_an_operator_has_the_values_of_the_reference(operator, arrays, options):
    assert measure_operator_error(operator, *arrays, **options) < 1e-10


REFUSED = {
    "outside": ("Gather", [draw(5, 3), np.array([5])], {}, "outside its axis of length 5"),
    "outside, several": ("GatherND", [draw(4, 3), np.array([[0, 3]])], {}, "outside the tensor"),
    "nothing": ("Compress", [draw(4), np.zeros(4, bool)], {"axis": 0}, "nothing to differentiate"),
    "floats": ("Gather", [draw(5, 3), draw(2)], {}, "needs indices"),
}


@pytest.mark.parametrize(("operator", "arrays", "options", "words"), REFUSED.values(), ids=REFUSED)
def test_a_form_that_is_not_taken_is_refused(operator, arrays, options, words):
    assert words in find_refusal(operator, *arrays, **options)
