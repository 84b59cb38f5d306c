"""Values know their shape and their datatype in a request."""

import numpy as np
import pytest

from schemas.datatype import DATATYPES
from service.checks.importing.values import Known, Symbol

pytestmark = pytest.mark.covers_by_cases


@pytest.mark.parametrize(
    ("dtype", "name", "is_float"),
    [("f8", "FP64", True), ("f4", "FP32", True), ("f2", "FP16", True), ("i4", "INT64", False), ("?", "BOOL", False)],
)
def test_numbers_have_the_datatype_of_their_array(dtype, name, is_float):
    known = Known(np.zeros((2, 3), dtype), "x")
    assert (known.wire_datatype.name, known.is_float, known.shape) == (name, is_float, (2, 3))


def test_bfloat16_has_its_datatype_though_its_array_is_wider():
    assert Known(np.zeros(2, np.float32), "x", DATATYPES["BF16"]).wire_datatype.name == "BF16"


def test_the_result_of_a_node_is_one_of_floats_and_equal_to_itself_alone():
    symbol = Symbol("s", (2,))
    assert symbol.is_float
    assert symbol != Symbol("s", (2,))
