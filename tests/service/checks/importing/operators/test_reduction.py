"""Reductions have the values of ONNX's reference evaluator."""

import numpy as np
import pytest

from tests.service.checks.importing.onnx_files import draw, find_refusal, measure_operator_error

pytestmark = pytest.mark.covers_by_cases

CASES = {
    "ReduceSum": ("ReduceSum", [draw(2, 3, 4, low=0.5), np.array([1])], {"keepdims": 0}),
    "ReduceMean": ("ReduceMean", [draw(2, 3, 4, low=0.5), np.array([1])], {"keepdims": 0}),
    "ReduceMax": ("ReduceMax", [draw(2, 3, 4, low=0.5), np.array([1])], {"keepdims": 0}),
    "ReduceMin": ("ReduceMin", [draw(2, 3, 4, low=0.5), np.array([1])], {"keepdims": 0}),
    "ReduceProd": ("ReduceProd", [draw(2, 3, 4, low=0.5), np.array([1])], {"keepdims": 0}),
    "ReduceL1": ("ReduceL1", [draw(2, 3, 4, low=0.5), np.array([1])], {"keepdims": 0}),
    "ReduceL2": ("ReduceL2", [draw(2, 3, 4, low=0.5), np.array([1])], {"keepdims": 0}),
    "ReduceSumSquare": ("ReduceSumSquare", [draw(2, 3, 4, low=0.5), np.array([1])], {"keepdims": 0}),
    "ReduceLogSum": ("ReduceLogSum", [draw(2, 3, 4, low=0.5), np.array([1])], {"keepdims": 0}),
    "ReduceLogSumExp": ("ReduceLogSumExp", [draw(2, 3, 4, low=0.5), np.array([1])], {"keepdims": 0}),
    "all axes": ("ReduceProd", [draw(2, 3)], {}),
    "old axes": ("ReduceSum", [draw(2, 3)], {"opset": 11, "axes": [-1]}),
    "no axes": ("ReduceL2", [draw(2, 3), np.array([], np.int64)], {"noop_with_empty_axes": 1}),
    "CumSum": ("CumSum", [draw(2, 5), np.array(1)], {}),
    "CumSum, exclusive": ("CumSum", [draw(2, 5), np.array(1)], {"exclusive": 1, "reverse": 1}),
    "GlobalAveragePool": ("GlobalAveragePool", [draw(2, 3, 4, 5)], {}),
    "GlobalMaxPool": ("GlobalMaxPool", [draw(2, 3, 4, 5)], {}),
    "LpNormalization": ("LpNormalization", [draw(3, 4)], {"axis": 1, "p": 2}),
}


@pytest.mark.parametrize(("operator", "arrays", "options"), CASES.values(), ids=CASES)
def test_an_operator_has_the_values_of_the_reference(operator, arrays, options):
    assert measure_operator_error(operator, *arrays, **options) < 1e-10


REFUSED = {
    "integers": ("ReduceSum", [draw(3), np.array([3])], {}, "has the axis 3"),
    "axis twice": ("ReduceMean", [draw(2, 3), np.array([1, -1])], {}, "has an axis twice"),
    "axes": ("GlobalMaxPool", [draw(2)], {}, "takes an input (N, C, ...)"),
}


@pytest.mark.parametrize(("operator", "arrays", "options", "words"), REFUSED.values(), ids=REFUSED)
def test_a_form_that_is_not_taken_is_refused(operator, arrays, options, words):
    assert words in find_refusal(operator, *arrays, **options)
