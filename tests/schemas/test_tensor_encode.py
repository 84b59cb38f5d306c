"""Tensors in answers: they read back as exactly what they were."""

import json
import struct
from base64 import b64encode
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from schemas.datatype import DATATYPES
from schemas.tensor import Tensor, encode_number, encode_tensor


def make_tensor(datatype: str, shape: list[int], **data: Any) -> dict[str, Any]:
    return {"datatype": datatype, "shape": shape, **data}


FLOATS = st.sampled_from(["FP64", "FP32", "FP16"]).flatmap(
    lambda name: st.tuples(
        st.just(name),
        arrays.arrays(DATATYPES[name].storage_dtype, arrays.array_shapes(min_dims=0, max_dims=4, max_side=4)),
    )
)


def pass_through_json(document: Any) -> Any:
    return json.loads(orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY))


@given(FLOATS, st.sampled_from(["nested", "b64"]))
def test_an_answer_reads_back_as_exactly_what_it_was(named: tuple[str, Any], encoding: str) -> None:
    name, array = named
    with np.errstate(invalid="ignore"):  # widening a signalling NaN
        wire = pass_through_json(encode_tensor(array, encoding))
        read = Tensor.decode_any(wire).array
    if encoding == "b64":
        assert {key: wire[key] for key in ("datatype", "shape")} == {"datatype": name, "shape": list(array.shape)}
        assert read.tobytes() == array.tobytes()
    assert read.shape == array.shape
    np.testing.assert_array_equal(read, array)
    np.testing.assert_array_equal(np.signbit(read[~np.isnan(read)]), np.signbit(array[~np.isnan(array)]))


@given(FLOATS.filter(lambda named: bool(np.isfinite(named[1]).all())))
def test_all_encodings_of_a_tensor_hold_the_same_values(named: tuple[str, Any]) -> None:
    name, array = named
    shape = list(array.shape)
    wide = array.astype(np.float64)
    forms = [
        make_tensor(name, shape, data=wide.tolist()),
        make_tensor(name, shape, data=wide.ravel().tolist()),
        make_tensor(DATATYPES[name].numpy_name, shape, data=wide.tolist()),
        encode_tensor(array, "b64"),
    ]
    assert {Tensor.decode(form).array.tobytes() for form in forms} == {array.tobytes()}
    assert Tensor.decode(wide.tolist()).array.tobytes() == wide.tobytes()


@pytest.mark.parametrize(
    ("value", "spelling"), [(np.nan, "NaN"), (np.inf, "Infinity"), (-np.inf, "-Infinity"), (0.1, 0.1), (3, 3)]
)
def test_numbers_are_encoded_as_spelled(value: float, spelling: float | str) -> None:
    assert encode_number(value) == spelling


def test_bfloat16_tensor_is_encoded_unchanged() -> None:
    raw = struct.pack("<3H", 0x3F80, 0x7FC0, 0xFF80)
    wire = make_tensor("BF16", [3], b64=b64encode(raw).decode())
    tensor = Tensor.decode_any(wire)
    assert encode_tensor(tensor.array, "b64", tensor.datatype) == wire
    assert encode_tensor(tensor.array, "nested", tensor.datatype) == [1.0, "NaN", "-Infinity"]


@pytest.mark.parametrize("name", ["FP64", "FP32", "FP16", "BF16"])
def test_a_tensor_without_dimensions_is_a_number(name: str) -> None:
    tensor = Tensor.decode_any(make_tensor(name, [], data=0.5))
    number = pass_through_json(encode_tensor(tensor.array, "nested"))
    assert isinstance(number, float)
    assert number == 0.5
    wire = encode_tensor(tensor.array, "b64", tensor.datatype)
    assert wire["shape"] == []
    assert Tensor.decode_any(wire).array.tolist() == 0.5


@pytest.mark.parametrize("shape", [(1,), (2,), (3,), (7,), (2, 3), (2, 1, 4)])
@pytest.mark.parametrize("number", [np.nan, -np.inf, 1.5])
@pytest.mark.parametrize("name", ["FP64", "FP32", "FP16", "BF16"])
def test_a_view_of_one_number_is_written_as_an_array_of_it(shape: tuple[int, ...], number: float, name: str) -> None:
    view, whole = np.broadcast_to(number, shape), np.full(shape, number)
    nested = pass_through_json(encode_tensor(view, "nested"))
    assert nested == pass_through_json(encode_tensor(whole, "nested"))
    datatype = DATATYPES[name]
    wire = encode_tensor(view, "b64", datatype)
    assert wire == encode_tensor(whole, "b64", datatype)
    assert wire["b64"] == b64encode(datatype.to_storage(whole).tobytes()).decode()
