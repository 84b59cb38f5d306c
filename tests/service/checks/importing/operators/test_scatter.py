"""Updates have the values of ONNX's reference evaluator."""

import numpy as np
import pytest

from tests.service.checks.importing.onnx_files import draw, find_refusal, measure_operator_error

pytestmark = pytest.mark.covers_by_cases

CASES = {
    "elements": ("ScatterElements", [draw(4, 3), np.array([[0, 1, 3], [2, 0, 2]]), draw(2, 3)], {}),
    "add": ("ScatterElements", [draw(4, 3), np.array([[0, 1, 3], [0, 1, 2]]), draw(2, 3)], {"reduction": "add"}),
    "mul": ("ScatterElements", [draw(4, 3), np.array([[0, 1, 3], [0, 1, 2]]), draw(2, 3)], {"reduction": "mul"}),
    "max": ("ScatterElements", [draw(4, 3), np.array([[0, 1, 3], [0, 1, 2]]), draw(2, 3)], {"reduction": "max"}),
    "min": ("ScatterElements", [draw(4, 3), np.array([[0, 1, 3], [0, 1, 2]]), draw(2, 3)], {"reduction": "min"}),
    "other axis": ("ScatterElements", [draw(4, 3), np.array([[0, 2], [1, 0]]), draw(2, 2)], {"axis": 1}),
    "several axes": ("ScatterND", [draw(4, 3), np.array([[1], [3]]), draw(2, 3)], {}),
    "sum at one place": ("ScatterND", [draw(4, 3), np.array([[1], [1]]), draw(2, 3)], {"reduction": "add"}),
    "many at one place": ("ScatterND", [draw(4), np.array([[1]] * 33), draw(33)], {"reduction": "add"}),
    "greatest at one place": ("ScatterND", [draw(4), np.array([[1], [1], [0]]), draw(3)], {"reduction": "max"}),
    "cache": ("TensorScatter", [draw(2, 4, 3), draw(2, 2, 3), np.array([1, 2])], {"opset": 24}),
    "cache in a circle": (
        "TensorScatter",
        [draw(2, 4, 3), draw(2, 2, 3), np.array([3, 2])],
        {"opset": 24, "mode": "circular"},
    ),
    "Col2Im": ("Col2Im", [draw(1, 4, 9), np.array([4, 4]), np.array([2, 2])], {}),
}


@pytest.mark.parametrize(("operator", "arrays", "options"), CASES.values(), ids=CASES)
def test_an_operator_has_the_values_of_the_reference(operator, arrays, options):
    assert measure_operator_error(operator, *arrays, **options) < 1e-10


REFUSED = {
    "shape": ("ScatterElements", [draw(4), np.array([1, 2]), draw(3)], {}, "shape of its updates"),
    "reduction": ("ScatterND", [draw(4), np.array([[1]]), draw(1)], {"reduction": "mean"}, "has the reduction"),
    "outside": ("ScatterElements", [draw(4), np.array([4]), draw(1)], {"reduction": "add"}, "outside its axis"),
    "cache": ("TensorScatter", [draw(2, 3, 4), draw(2, 3, 1)], {"opset": 24}, "needs updates of the shape"),
    "updates": ("ScatterND", [draw(4), np.array([[1]]), draw(2)], {}, "do not fit its indices"),
}


@pytest.mark.parametrize(("operator", "arrays", "options", "words"), REFUSED.values(), ids=REFUSED)
def test_a_form_that_is_not_taken_is_refused(operator, arrays, options, words):
    assert words in find_refusal(operator, *arrays, **options)
