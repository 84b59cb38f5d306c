"""Tensors that come as bytes: right, or one clear error."""

import struct

import numpy as np
import pytest
from pydantic_core import PydanticCustomError

from schemas.datatype import BY_SHORT_NAME, DATATYPES
from schemas.raw_tensor import RawTensor, decode_base64, decode_bytes
from schemas.tensor import Tensor

READ = {
    "F64": ("<2d", [0.1, -0.0], np.float64),
    "F32": ("<2f", [0.5, -0.0], np.float32),
    "F16": ("<2e", [0.5, 65504.0], np.float16),
    "BF16": ("<2H", [0x3F80, 0xC000], np.float32),
    "F8_E4M3": ("<2B", [0x38, 0xC0], np.float32),
    "F8_E5M2": ("<2B", [0x3C, 0xC0], np.float32),
    "I64": ("<2q", [2**63 - 1, -(2**63)], np.int64),
    "I32": ("<2i", [2**31 - 1, -7], np.int32),
    "BOOL": ("<2?", [True, False], np.bool_),
}


@pytest.mark.parametrize("dtype", READ)
def test_every_dtype_that_is_taken_is_read(dtype: str) -> None:
    packing, values, becomes = READ[dtype]
    tensor = Tensor.decode(RawTensor(dtype, [1, 2], bytearray(struct.pack(packing, *values))))
    expected = [1.0, -2.0] if dtype in ("BF16", "F8_E4M3", "F8_E5M2") else values
    assert (tensor.array.tolist(), tensor.array.dtype) == ([expected], np.dtype(becomes))
    assert (tensor.datatype, tensor.is_integral) == (BY_SHORT_NAME[dtype], False)
    tensor.array[0, 0] = 0  # an array of one's own
    assert set(READ) == set(BY_SHORT_NAME)


def test_a_number_is_a_tensor() -> None:
    assert Tensor.decode(RawTensor("F32", [], bytearray(struct.pack("<f", 2.5)))).array.tolist() == 2.5


REFUSED = {
    "F8_E8M0": (
        RawTensor("F8_E8M0", [1], bytearray(1)),
        "one of F64, F32, F16, BF16, F8_E4M3, F8_E5M2, I64, I32, BOOL; F8_E8M0 was given",
    ),
    "I8": (RawTensor("I8", [1], bytearray(1)), "I8 was given"),
    "U8": (RawTensor("U8", [1], bytearray(1)), "U8 was given"),
    "complex": (RawTensor("C64", [1], bytearray(8)), "C64 was given"),
    "nothing": (RawTensor("F64", [0, 2**40], bytearray()), "empty, and too long: its shape is [0, 1099511627776]"),
    "deep": (RawTensor("F64", [1] * 33, bytearray(8)), "33 dimensions; at most 32"),
    "deep beyond measure": (RawTensor("F64", [1] * 10**5, bytearray(8)), "100000 dimensions; at most 32"),
    "too short": (RawTensor("F64", [3], bytearray(16)), "shape [3] of FP64 takes 24 bytes; the body holds 16"),
    "huge": (RawTensor("F32", [2**40, 2**40], bytearray(4)), "takes more bytes than any body has; the body holds 4"),
    "no booleans": (RawTensor("BOOL", [3], bytearray(b"\0\2\1")), "BOOL takes bytes 0 and 1"),
    "NaN": (RawTensor("F16", [2], bytearray(struct.pack("<2e", 1, float("nan")))), "a finite number at index [1]: NaN"),
    "infinite": (RawTensor("BF16", [1], bytearray(struct.pack("<H", 0xFF80))), "at index [0]: -Infinity"),
}  # fmt: skip


@pytest.mark.parametrize(("stored", "words"), REFUSED.values(), ids=REFUSED)
def test_invalid_raw_tensor_is_refused_with_its_reason(stored: RawTensor, words: str) -> None:
    with pytest.raises(PydanticCustomError) as error:
        Tensor.decode(stored)
    assert words in error.value.message()


@pytest.mark.parametrize("dtype", ["F64", "F32", "F16", "BF16"])
def test_candidate_may_hold_any_float(dtype: str) -> None:
    datatype = BY_SHORT_NAME[dtype]
    values = np.array([np.nan, np.inf, -np.inf, 1.5])
    raw = bytearray(datatype.to_storage(values).tobytes())
    np.testing.assert_array_equal(Tensor.decode_any(RawTensor(dtype, [4], raw)).array, values)


def test_base64_is_the_same_bytes() -> None:
    datatype = DATATYPES["FP16"]
    np.testing.assert_array_equal(
        decode_base64("ADwAwA==", datatype, (2,)), decode_bytes(b"\0<\0\xc0", datatype, (2,), "")
    )
    for wrong, words in ((7, "must be a string"), ("AA=", "not base64"), ("ADw=", "b64 holds 2")):
        with pytest.raises(PydanticCustomError, match=words):
            decode_base64(wrong, datatype, (2,))


def test_bytes_that_are_given_away_are_not_copied() -> None:
    raw = bytearray(8)
    decode_bytes(raw, DATATYPES["FP64"], (1,), "")[0] = 1.0
    assert raw != bytearray(8)
    kept = bytes(8)
    decode_bytes(kept, DATATYPES["FP64"], (1,), "")[0] = 1.0
    assert kept == bytes(8)
