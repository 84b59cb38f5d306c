"""Tensors on the wire: every form of a tensor is read as the same numbers, and what is wrong is one error."""

from base64 import b64encode
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from schemas.tensor import AnyTensor, Tensor, make_tensor_schema

pytestmark = pytest.mark.covers_by_cases


def make_tensor(datatype: Any, shape: Any, **data: Any) -> dict[str, Any]:
    return {"datatype": datatype, "shape": shape, **data}


def encode_b64(values: Any, dtype: str) -> str:
    return b64encode(np.array(values, dtype=dtype).tobytes()).decode()


def nest_number(depth: int) -> Any:
    """A number inside so many lists."""
    return [nest_number(depth - 1)] if depth else 1.5


F64, F32, F16, I64 = np.float64, np.float32, np.float16, np.int64

ACCEPTED = {
    "number": (1.5, 1.5, F64, False),
    "integer": (3, 3, I64, True),
    "list": ([1.0, 2.5], [1.0, 2.5], F64, False),
    "integers": ([[1, 2, 3], [4, 5, 6]], [[1, 2, 3], [4, 5, 6]], I64, True),
    "integers among floats": ([1, 2.5], [1.0, 2.5], F64, False),
    "one element": ([[[7.0]]], [[[7.0]]], F64, False),
    "32 dimensions": (nest_number(32), nest_number(32), F64, False),
    "extremes": ([1.7976931348623157e308, 5e-324], [1.7976931348623157e308, 5e-324], F64, False),
    "integer beyond int64": ([2**63, 1], [2.0**63, 1.0], F64, True),
    "nested": (make_tensor("FP64", [2, 1], data=[[1], [2.5]]), [[1.0], [2.5]], F64, False),
    "flat": (make_tensor("FP64", [2, 2], data=[1, 2, 3, 4.5]), [[1, 2], [3, 4.5]], F64, False),
    "declared number": (make_tensor("FP64", [], data=0.5), 0.5, F64, False),
    "declared number in a list": (make_tensor("FP64", [], data=[0.5]), 0.5, F64, False),
    "integers of a float datatype": (make_tensor("FP64", [2], data=[1, 2]), [1.0, 2.0], F64, False),
    "NumPy name": (make_tensor("float64", [1], data=[0.1]), [0.1], F64, False),
    "FP32": (make_tensor("FP32", [1], data=[0.1]), [0.10000000149011612], F32, False),
    "float32": (make_tensor("float32", [1], data=[0.1]), [0.10000000149011612], F32, False),
    "FP16": (make_tensor("FP16", [1], data=[0.1]), [0.0999755859375], F16, False),
    "BF16": (make_tensor("BF16", [1], data=[0.1]), [0.10009765625], F32, False),
    "bfloat16 rounds once": (make_tensor("bfloat16", [1], data=[1 + 2**-8 + 2**-40]), [1 + 2**-7], F32, False),
    "INT64": (make_tensor("INT64", [2], data=[2**53 + 1, -(2**63)]), [2**53 + 1, -(2**63)], I64, False),
    "INT32": (make_tensor("int32", [1], data=[-(2**31)]), [-(2**31)], np.int32, False),
    "BOOL": (make_tensor("BOOL", [2], data=[True, False]), [True, False], np.bool_, False),
    "BOOL as 0 and 1": (make_tensor("bool", [2], data=[0, 1]), [False, True], np.bool_, False),
    "b64 FP64": (make_tensor("FP64", [1, 2], b64=encode_b64([0.1, -2], "<f8")), [[0.1, -2.0]], F64, False),
    "b64 FP32": (make_tensor("FP32", [1], b64=encode_b64([0.1], "<f4")), [0.10000000149011612], F32, False),
    "b64 FP16": (make_tensor("FP16", [1], b64=encode_b64([0.5], "<f2")), [0.5], F16, False),
    "b64 BF16": (make_tensor("BF16", [2], b64=encode_b64([0x3F80, 0xC000], "<u2")), [1.0, -2.0], F32, False),
    "b64 INT64": (make_tensor("INT64", [1], b64=encode_b64([2**62 + 1], "<i8")), [2**62 + 1], I64, False),
    "b64 INT32": (make_tensor("INT32", [1], b64=encode_b64([-5], "<i4")), [-5], np.int32, False),
    "b64 BOOL": (make_tensor("BOOL", [2], b64=encode_b64([1, 0], "u1")), [True, False], np.bool_, False),
    "b64 number": (make_tensor("FP64", [], b64=encode_b64(0.1, "<f8")), 0.1, F64, False),
}


@pytest.mark.parametrize(("wire", "values", "dtype", "integral"), ACCEPTED.values(), ids=ACCEPTED)
def test_every_form_is_read(wire: Any, values: Any, dtype: type[np.generic], integral: bool) -> None:
    tensor = Tensor.decode(wire)
    assert tensor.array.tolist() == values
    assert tensor.array.dtype == np.dtype(dtype)
    assert tensor.is_integral is integral
    named = wire["datatype"] if isinstance(wire, dict) else None
    assert named == tensor.datatype or named in (tensor.datatype.name, tensor.datatype.numpy_name)
    assert Draft202012Validator(make_tensor_schema(finite=True)).is_valid(wire)


NOT_FINITE = {
    "NaN": (["NaN", 1.0], [0]),
    "Infinity": ([[1, 2], [3, "Infinity"]], [1, 1]),
    "-Infinity": ("-Infinity", []),
    "declared": (make_tensor("FP32", [2], data=[1, "-Infinity"]), [1]),
    "b64": (make_tensor("FP64", [2, 1], b64=encode_b64([1, np.nan], "<f8")), [1, 0]),
    "b64 BF16": (make_tensor("BF16", [1], b64=encode_b64([0x7F80], "<u2")), [0]),
}


@pytest.mark.parametrize(("wire", "index"), NOT_FINITE.values(), ids=NOT_FINITE)
def test_nan_and_infinities_are_for_candidates_alone(wire: Any, index: list[int]) -> None:
    with pytest.raises(PydanticCustomError, match="not a finite number") as error:
        Tensor.decode(wire)
    given = str(Tensor.decode_any(wire).array[tuple(index)]).replace("inf", "Infinity").replace("nan", "NaN")
    assert f"at index {index}: {given};" in str(error.value)
    array = Tensor.decode_any(wire).array
    assert not np.isfinite(array[tuple(index)])
    assert np.count_nonzero(~np.isfinite(array)) == 1


def test_spelled_numbers_are_decoded() -> None:
    array = Tensor.decode_any([["NaN", "Infinity"], ["-Infinity", 1]]).array
    np.testing.assert_array_equal(array, [[np.nan, np.inf], [-np.inf, 1]])


REFUSED = {
    "ragged": ([[1, 2], [3]], "ragged"),
    "ragged in depth": ([1, [2]], "ragged"),
    "ragged further in": ([[[1], [2]], [[3], [4, 5]]], "ragged"),
    "null": ([[1, 2], [3, None], [None, 4]], "null among numbers, at index [1, 1]"),
    "null alone": (None, "null where a tensor belongs; one is a number, nested lists of numbers, or an object"),
    "string": ([1.0, "NaN", "0.5"], "a string among numbers: '0.5', at index [2]"),
    "string alone": ("tensor", "a string where a tensor belongs: 'tensor'; one is a number"),
    "long string": (["x" * 1000], "x" * 20 + "..."),
    "nan in other letters": (["nan"], "'nan'"),
    "boolean among numbers": ([1, True], "true or false among numbers, at index [1]"),
    "booleans": ([True, False], "BOOL"),
    "boolean alone": (True, "BOOL"),
    "object among numbers": ([[1], [{}]], "an object among numbers, at index [1, 0]"),
    "empty": ([], "empty"),
    "empty further in": ([[], []], "empty"),
    "empty by its shape": (make_tensor("FP32", [0, 2**60], data=[]), "empty"),
    "too deep": (nest_number(33), "32"),
    "integer too large": ([10**400], "integer"),
    "empty object": ({}, "datatype"),
    "no datatype": ({"shape": [1], "data": [1]}, "datatype"),
    "no shape": ({"datatype": "FP32", "data": [1]}, "shape"),
    "neither data nor b64": (make_tensor("FP32", [1]), "data or b64"),
    "both": (make_tensor("FP32", [1], data=[1], b64=""), "data or b64"),
    "another field": (make_tensor("FP32", [1], data=[1], name="w"), "'name'"),
    "unknown datatype": (
        make_tensor("FP8", [1], data=[1]),
        "FP8_E5M2, INT64, INT32, BOOL, or the NumPy name; 'FP8' was",
    ),
    "datatype in small letters": (make_tensor("fp32", [1], data=[1]), "FP64"),
    "datatype null": (make_tensor(None, [1], data=[1]), "datatype"),
    "datatype list": (make_tensor(["FP32"], [1], data=[1]), "datatype"),
    "shape number": (make_tensor("FP32", 1, data=[1]), "shape"),
    "shape negative": (make_tensor("FP32", [-1], data=[1]), "shape"),
    "shape of floats": (make_tensor("FP32", [1.0], data=[1]), "shape"),
    "shape of booleans": (make_tensor("FP32", [True], data=[1]), "shape"),
    "shape of 33 dimensions": (make_tensor("FP32", [1] * 33, data=[1]), "32"),
    "shape too large": (make_tensor("FP32", [3], data=[1, 2]), "[3] does not fit data of shape [2]"),
    "shape of other order": (make_tensor("FP32", [2, 1], data=[[1, 2]]), "[2, 1] does not fit data of shape [1, 2]"),
    "shape of another rank": (make_tensor("FP32", [4], data=[[1, 2], [3, 4]]), "[4] does not fit data of shape [2, 2]"),
    "data null": (make_tensor("FP32", [1], data=None), "null"),
    "data string": (make_tensor("FP32", [1], data=["a"]), "'a'"),
    "true in floats": (make_tensor("FP32", [1], data=[True]), "true or false"),
    "true in integers": (make_tensor("INT32", [1], data=[True]), "true or false"),
    "too large for FP16": (make_tensor("FP16", [2], data=[1, 65520]), "FP16"),
    "too large for BF16": (make_tensor("BF16", [1], data=[3.4e38]), "BF16"),
    "too large for FP32": (make_tensor("FP32", [1], data=[-1e39]), "FP32"),
    "fraction in INT64": (make_tensor("INT64", [1], data=[1.5]), "INT64"),
    "float in INT32": (make_tensor("INT32", [1], data=[1.0]), "INT32"),
    "too large for INT32": (make_tensor("INT32", [1], data=[2**31]), "INT32"),
    "too large for INT64": (make_tensor("INT64", [1], data=[2**63]), "INT64"),
    "NaN in INT64": (make_tensor("INT64", [1], data=["NaN"]), "INT64"),
    "2 in BOOL": (make_tensor("BOOL", [1], data=[2]), "BOOL"),
    "fraction in BOOL": (make_tensor("BOOL", [1], data=[1.0]), "BOOL"),
    "b64 no string": (make_tensor("FP32", [1], b64=1), "b64 must be a string"),
    "b64 not base64": (make_tensor("FP32", [1], b64="%%%%%%=="), "not base64"),
    "b64 not ASCII": (make_tensor("FP32", [1], b64="é"), "not base64"),
    "b64 short": (make_tensor("FP32", [2], b64=encode_b64([1], "<f4")), "8 bytes; b64 holds 4"),
    "b64 long": (make_tensor("BF16", [1], b64=encode_b64([1], "<f4")), "2 bytes; b64 holds 4"),
    "b64 BOOL of 2": (make_tensor("BOOL", [1], b64=encode_b64([2], "u1")), "BOOL"),
    "b64 of a shape beyond memory": (make_tensor("FP32", [2**63] * 32, b64=""), "b64 holds 0"),
}


@pytest.mark.parametrize(("wire", "words"), REFUSED.values(), ids=REFUSED)
@pytest.mark.parametrize("decode", [Tensor.decode, Tensor.decode_any], ids=["tensor", "candidate"])
def test_values_that_are_no_tensor_are_refused(decode: Any, wire: Any, words: str) -> None:
    with pytest.raises(PydanticCustomError) as error:
        decode(wire)
    assert words in str(error.value)
    assert len(str(error.value)) < 300


def test_tensor_has_one_error_not_one_per_element() -> None:
    adapter = TypeAdapter(dict[str, Tensor])
    with pytest.raises(ValidationError) as error:
        adapter.validate_python({"a": [None] * 10_000, "b": [["x"]] * 10_000, "c": [1.0]})
    assert [entry["loc"] for entry in error.value.errors()] == [("a",), ("b",)]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9) | st.sampled_from(["NaN", "FP32"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["datatype", "shape", "data", "b64", "x"]), inner, max_size=4)
    ),
)


@given(JSON)
def test_any_value_is_decoded_to_a_finite_tensor_or_refused(wire: Any) -> None:
    try:
        tensor = Tensor.decode(wire)
    except PydanticCustomError:
        return
    assert tensor.array.size >= 1
    assert np.isfinite(tensor.array).all()


def test_the_schema_tells_finite_tensors_from_others() -> None:
    schemas = [TypeAdapter(kind).json_schema() for kind in (Tensor, AnyTensor)]
    assert [Draft202012Validator(schema).is_valid("NaN") for schema in schemas] == [False, True]
    for schema in schemas:
        Draft202012Validator.check_schema(schema)
        for name in ("null alone", "boolean alone", "string alone", "empty object", "both", "unknown datatype"):
            assert not Draft202012Validator(schema).is_valid(REFUSED[name][0]), name
