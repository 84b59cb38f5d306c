"""Inputs get random values of their shapes and types."""

import numpy as np
import pytest
from onnx import helper

from service.checks.common.limits import Limits
from service.checks.importing.import_errors import LimitError, ModelFileError
from service.checks.importing.model_inputs import DrawnElements, draw_input
from service.checks.importing.random_values import ValueSource
from tests.service.checks.importing.onnx_files import (
    BOOL,
    FLOAT,
    INT64,
    make_classifier,
    run_import,
)

pytestmark = pytest.mark.covers_by_cases


def test_indices_lie_in_the_range_of_the_axis_that_they_index():
    imported = run_import(make_classifier())
    ids, labels = (imported.tensors[name].array for name in ("ids", "labels"))
    assert ids.min() >= 0
    assert 1 < ids.max() < 11
    assert set(labels.tolist()) <= {0, 1, 2}


@pytest.mark.parametrize(
    ("data_type", "name"),
    [(11, "FP64"), (1, "FP32"), (10, "FP16"), (16, "BF16"), (INT64, "INT64"), (6, "INT64"), (BOOL, "BOOL")],
)
def test_each_type_has_its_datatype(data_type, name):
    known = draw_input(helper.make_tensor_value_info("x", data_type, [40]), Limits(), ValueSource(0))
    assert (known.origin, known.shape, known.wire_datatype.name) == ("drawn", (40,), name)
    # The numbers are those of the datatype, and not finer ones.
    stored = known.wire_datatype.to_storage(known.array).tobytes()
    np.testing.assert_array_equal(known.wire_datatype.from_storage(stored), known.array)
    assert (len(set(known.array.tolist())) == 2) == (name in ("INT64", "BOOL"))


def test_a_type_that_is_not_taken_is_refused():
    with pytest.raises(ModelFileError, match="has the type STRING"):
        draw_input(helper.make_tensor_value_info("x", 8, [2]), Limits(), ValueSource(0))


def test_the_inputs_together_keep_the_limit():
    known = draw_input(helper.make_tensor_value_info("x", FLOAT, [6]), Limits(), ValueSource(0))
    drawn = DrawnElements(Limits(elements=12))
    drawn.add(known)
    drawn.add(known)
    with pytest.raises(LimitError, match="more than 12 elements"):
        drawn.add(known)
