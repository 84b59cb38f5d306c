"""A call reads its inputs and attributes, and refuses what does not fit."""

import numpy as np
import pytest

from service.checks.importing.import_errors import OperatorUseError
from service.checks.importing.operator_registry import as_list, find_handler, normalize_axes, normalize_axis
from service.checks.importing.values import Known, Symbol
from tests.service.checks.importing.onnx_files import (
    make_call,
)

pytestmark = pytest.mark.covers_by_cases

SYMBOL = Symbol("s", (3,))
WEIGHT = Known(np.array([1.0, 2.0]), "w", origin="weight")
DRAWN = Known(np.array([0, 1]), "x", origin="drawn")

REFUSED = {
    "left out": (lambda: make_call("F").get(0), "lacks its input 0"),
    "no inputs": (lambda: make_call("F").get_all(), "has no inputs"),
    "computed": (lambda: make_call("F", SYMBOL).get_constant(0, "size"), "needs a constant size"),
    "drawn": (lambda: make_call("F", DRAWN).get_constant(0, "size"), "follows from the input 'x'"),
    "floats": (lambda: make_call("F", WEIGHT).get_integers(0, "sizes"), "list of integers"),
    "several": (lambda: make_call("F", WEIGHT).get_number(0, "size"), "one number"),
    "indices of floats": (lambda: make_call("F", WEIGHT).get_indices(0, 3), "needs indices"),
    "indices outside": (lambda: make_call("F", Known(np.array([3]), "i")).get_indices(0, 3), "outside its axis"),
    "axis": (lambda: normalize_axis(2, 2), "has the axis 2"),
    "axis of text": (lambda: normalize_axis("1", 2), "has the axis 1"),
    "axis twice": (lambda: normalize_axes([0, -2], 2), "an axis twice"),
}


@pytest.mark.parametrize(("read", "words"), REFUSED.values(), ids=REFUSED)
def test_what_does_not_fit_is_refused(read, words):
    with pytest.raises(OperatorUseError, match=words):
        read()


def test_negative_indices_and_axes_count_from_the_end():
    assert make_call("F", Known(np.array([-1, 0]), "i")).get_indices(0, 3).array.tolist() == [2, 0]
    assert normalize_axes([-1, 0], 3) == [2, 0]
    assert normalize_axis(0, 0) == 0


def test_drawn_indices_are_drawn_anew_below_the_length_of_their_axis():
    value = Known(np.array([0, 1]), "i", origin="drawn", redraw=lambda limit: np.array([0, limit - 1]))
    assert make_call("F", value).get_indices(0, 9).array.tolist() == [0, 8]
    # An axis that is shorter gets the rest of the division.
    assert make_call("F", value).get_indices(0, 5).array.tolist() == [0, 3]


def test_a_constant_that_follows_from_a_drawn_value_is_drawn():
    call = make_call("F")
    assert call.make_constant(np.zeros(2), "c").origin == "constant"
    assert call.make_constant(np.zeros(2), "c", DRAWN).origin == "drawn"
    assert as_list(SYMBOL) == as_list([SYMBOL]) == [SYMBOL]


def test_an_operator_has_a_function_by_its_version():
    assert find_handler("DFT", 17) is not None
    assert find_handler("DFT", 16) is None
    assert find_handler("Frobnicate", 21) is None
