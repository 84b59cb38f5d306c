"""Changes of shape have the values of ONNX's reference evaluator."""

import numpy as np
import pytest

from tests.service.checks.importing.onnx_files import draw, evaluate_operator, find_refusal, measure_operator_error

pytestmark = pytest.mark.covers_by_cases

CASES = {
    "Reshape": ("Reshape", [draw(2, 3, 4), np.array([0, -1])], {}),
    "Flatten": ("Flatten", [draw(2, 3, 4)], {"axis": 2}),
    "Squeeze": ("Squeeze", [draw(2, 1, 4), np.array([1])], {}),
    "Unsqueeze": ("Unsqueeze", [draw(2, 4), np.array([0, -1])], {}),
    "Transpose": ("Transpose", [draw(2, 3, 4)], {"perm": [2, 0, 1]}),
    "reversed": ("Transpose", [draw(2, 3, 4)], {}),
    "Expand": ("Expand", [draw(3, 1), np.array([2, 1, 4])], {}),
    "Concat": ("Concat", [draw(2, 3), draw(2, 4)], {"axis": -1}),
    "Split": ("Split", [draw(7, 2), np.array([2, 5])], {"output_count": 2}),
    "even Split": ("Split", [draw(7, 2)], {"num_outputs": 3, "output_count": 3}),
    "Slice": ("Slice", [draw(6, 5), np.array([1, -1]), np.array([5, -9]), np.array([0, 1]), np.array([2, -1])], {}),
    "Tile": ("Tile", [draw(2, 3), np.array([2, 1])], {}),
    "Pad": ("Pad", [draw(2, 3), np.array([1, 0, 0, 2]), np.array(0.5)], {}),
    "Pad by reflect": ("Pad", [draw(3, 4), np.array([1, 2, 2, 1])], {"mode": "reflect"}),
    "Pad by edge": ("Pad", [draw(3, 4), np.array([1, 2, 2, 1])], {"mode": "edge"}),
    "Pad by wrap": ("Pad", [draw(3, 4), np.array([1, 2, 2, 1])], {"mode": "wrap"}),
    "DepthToSpace": ("DepthToSpace", [draw(1, 8, 2, 3)], {"blocksize": 2}),
    "DepthToSpace by columns": ("DepthToSpace", [draw(1, 8, 2, 3)], {"blocksize": 2, "mode": "CRD"}),
    "SpaceToDepth": ("SpaceToDepth", [draw(1, 2, 4, 6)], {"blocksize": 2}),
    "Trilu": ("Trilu", [draw(3, 4), np.array(-1)], {"upper": 0}),
}


@pytest.mark.parametrize(("operator", "arrays", "options"), CASES.values(), ids=CASES)
def test_an_operator_has_the_values_of_the_reference(operator, arrays, options):
    assert measure_operator_error(operator, *arrays, **options) < 1e-10


REFUSED = {
    "Reshape": ("Reshape", [draw(2, 3), np.array([4, 2])], {}, "does not fit an input of shape"),
    "Expand": ("Expand", [draw(3), np.array([2])], {}, "does not fit an input"),
    "Tile": ("Tile", [draw(3), np.array([0])], {}, "positive number of repeats"),
    "Split": ("Split", [draw(7), np.array([2, 2])], {"output_count": 2}, "of an axis of length 7"),
    "blocks": ("DepthToSpace", [draw(1, 6, 2, 2)], {"blocksize": 2}, "divisible by 4"),
    "Pad": ("Pad", [draw(3), np.array([1, 1])], {"mode": "other"}, "has the mode"),
    "huge": ("Tile", [draw(3), np.array([2**40])], {}, "more than 2097152 elements"),
}


@pytest.mark.parametrize(("operator", "arrays", "options", "words"), REFUSED.values(), ids=REFUSED)
def test_a_form_that_is_not_taken_is_refused(operator, arrays, options, words):
    assert words in find_refusal(operator, *arrays, **options)


def test_negative_pads_cut():
    x = draw(4, 5)
    value = evaluate_operator("Pad", x, np.array([-1, 1, 0, -2]))
    np.testing.assert_array_equal(value, np.pad(x[1:, :3], [(0, 0), (1, 0)]))
