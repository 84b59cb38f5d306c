"""Losses have the values of ONNX's reference evaluator."""

import numpy as np
import pytest

from tests.service.checks.importing.onnx_files import draw, find_refusal, measure_operator_error

pytestmark = pytest.mark.covers_by_cases

CASES = {
    "mean": ("SoftmaxCrossEntropyLoss", [draw(4, 3), np.array([0, 2, 1, 1])], {}),
    "weights": ("SoftmaxCrossEntropyLoss", [draw(4, 3), np.array([0, 2, 1, 1]), draw(3, low=0.5)], {}),
    "sum": ("SoftmaxCrossEntropyLoss", [draw(4, 3, 2), np.array([[0, 2], [1, 1]] * 2)], {"reduction": "sum"}),
    "ignored": ("SoftmaxCrossEntropyLoss", [draw(4, 3), np.array([0, 2, 1, 1])], {"ignore_index": 2}),
    "each": ("NegativeLogLikelihoodLoss", [draw(4, 3), np.array([0, 2, 1, 1])], {"reduction": "none"}),
    "two outputs": ("SoftmaxCrossEntropyLoss", [draw(4, 3), np.array([0, 2, 1, 1])], {"output_count": 2}),
}


@pytest.mark.parametrize(("operator", "arrays", "options"), CASES.values(), ids=CASES)
def test_an_operator_has_the_values_of_the_reference(operator, arrays, options):
    assert measure_operator_error(operator, *arrays, **options) < 1e-10


REFUSED = {
    "one axis": ("SoftmaxCrossEntropyLoss", [draw(4), np.array([0])], {}, "takes scores (N, C, ...)"),
    "label": ("NegativeLogLikelihoodLoss", [draw(2, 3), np.array([0, 3])], {}, "outside its axis of length 3"),
}


@pytest.mark.parametrize(("operator", "arrays", "options", "words"), REFUSED.values(), ids=REFUSED)
def test_a_form_that_is_not_taken_is_refused(operator, arrays, options, words):
    assert words in find_refusal(operator, *arrays, **options)
