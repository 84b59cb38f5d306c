"""The padding of windows follows from the attributes, as ONNX defines it."""

import pytest

from service.checks.importing.import_errors import OperatorUseError
from service.checks.importing.operators.windows import get_list, read_windows
from tests.service.checks.importing.onnx_files import make_call

pytestmark = pytest.mark.covers_by_cases

PADDINGS = {
    "none": ({}, [0, 0], [0, 0]),
    "pads": ({"pads": [1, 2, 3, 4]}, [1, 2], [3, 4]),
    "valid": ({"auto_pad": "VALID"}, [0, 0], [0, 0]),
    # 5 and 6 elements in windows of 2 and 3, a step of 1: 1 and 2 elements are missing.
    "same, more behind": ({"auto_pad": "SAME_UPPER"}, [0, 1], [1, 1]),
    "same, more before": ({"auto_pad": "SAME_LOWER"}, [1, 1], [0, 1]),
}


@pytest.mark.parametrize(("attributes", "before", "behind"), PADDINGS.values(), ids=PADDINGS)
def test_the_padding_is_that_of_the_attributes(attributes, before, behind):
    windows = read_windows(make_call("Conv", **attributes), (2, 3), (5, 6))
    assert (windows.before, windows.behind) == (before, behind)
    assert windows.is_symmetric == (before == behind)
    assert windows.padding_by_axis == {2: (before[0], behind[0]), 3: (before[1], behind[1])}


def test_the_span_of_a_window_counts_its_gaps():
    assert read_windows(make_call("Conv", dilations=[1, 3]), (2, 3), (9, 9)).spans == [2, 7]


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"strides": [0, 1]}, "strides"),
        ({"dilations": [1]}, "has 1 dilations; it must have 2"),
        ({"pads": [-1, 0, 0, 0]}, "negative ones are not taken"),
        ({"auto_pad": "OTHER"}, "has the auto_pad 'OTHER'"),
    ],
)
def test_attributes_that_do_not_fit_are_refused(attributes, words):
    with pytest.raises(OperatorUseError, match=words):
        read_windows(make_call("Conv", **attributes), (2, 3), (5, 6))


def test_a_list_that_is_left_out_has_its_default_for_each_axis():
    assert get_list(make_call("Conv", strides=[]), "strides", 2, 7) == [7, 7]
