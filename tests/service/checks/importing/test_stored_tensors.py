"""Tensors of a file are read in all types, and refused before they are too large."""

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from service.checks.common.limits import Limits
from service.checks.importing.import_errors import ModelFileError
from service.checks.importing.stored_tensors import FLOAT_TYPES, INTEGER_TYPES, get_type_name, read_tensor
from tests.service.checks.importing.onnx_files import (
    BOOL,
)

pytestmark = pytest.mark.covers_by_cases


@pytest.mark.parametrize("data_type", [*FLOAT_TYPES, *INTEGER_TYPES, BOOL], ids=get_type_name)
@pytest.mark.parametrize("is_raw", [True, False])
def test_each_type_is_read(data_type, is_raw):
    numbers = [1.0, 0.0, 1.0] if data_type == BOOL else [0.0, 1.0, 100.0]
    dtype = helper.tensor_dtype_to_np_dtype(data_type)
    content = np.array(numbers).astype(dtype).tobytes() if is_raw else numbers
    array, datatype = read_tensor(helper.make_tensor("t", data_type, [3], content, raw=is_raw), Limits(), "t")
    assert array.tolist() == numbers
    assert (datatype is None) == (data_type not in FLOAT_TYPES)


def change(**fields):
    tensor = numpy_helper.from_array(np.zeros(3, np.float32), "t")
    for name, value in fields.items():
        setattr(tensor, name, value)
    return tensor


SEGMENT = change()
SEGMENT.segment.begin = 1
SIZES = change(), change(), change()
for tensor, dims in zip(SIZES, ([4], [2**62], [-3]), strict=True):
    tensor.dims[:] = dims
REFUSED = {
    "external": (change(data_location=onnx.TensorProto.EXTERNAL), "external data"),
    "segments": (SEGMENT, "in segments"),
    "text": (change(data_type=8), "has the type STRING"),
    "complex": (change(data_type=14), "has the type COMPLEX64"),
    "unknown": (change(data_type=999), "has the type 999"),
    "longer": (SIZES[0], "do not fit its shape"),
    "huge": (SIZES[1], "more than 2097152 elements"),
    "negative": (SIZES[2], "negative length"),
    "cut off": (change(raw_data=b"\x00" * 11), "do not fit its shape"),
}


@pytest.mark.parametrize(("tensor", "words"), REFUSED.values(), ids=REFUSED)
def test_a_tensor_that_cannot_be_read_is_refused(tensor, words):
    with pytest.raises(ModelFileError, match=words):
        read_tensor(tensor, Limits(), "t")
