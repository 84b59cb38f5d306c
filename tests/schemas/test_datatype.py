"""Datatypes: bfloat16 is rounded once and to nearest, and bytes come back as the numbers they are."""

import struct
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from schemas.datatype import BY_ANY_NAME, DATATYPES, bfloat16_to_float32, round_to_bfloat16

ALL_BITS = np.arange(2**16, dtype=np.uint16)
LARGEST = 255 * 2.0**120


def find_nearest_bfloat16(value: float) -> float:
    """The bfloat16 next to a number, ties to even, worked out in fractions."""
    if value == 0:
        return value
    exponent = max(int(np.frexp(value)[1]) - 1, -126)
    spacing = Fraction(2) ** (exponent - 7)
    rounded = round(Fraction(value) / spacing) * spacing
    return float("inf") if rounded >= 2**128 else float("-inf") if rounded <= -(2**128) else float(rounded)


@given(st.floats(allow_nan=False, allow_infinity=False))
@example(1 + 2.0**-8)
@example(1 + 3 * 2.0**-8)
@example(1 + 2.0**-8 + 2.0**-40)  # float32 rounds this to a tie; from there ties to even would go the wrong way
@example(1 + 3 * 2.0**-8 - 2.0**-40)
@example(-1 - 3 * 2.0**-8 + 2.0**-40)
@example(2.0**-134)
@example(2.0**-134 * (1 + 2.0**-30))
@example(LARGEST)
@example(LARGEST + 2.0**119)
@example(np.nextafter(LARGEST + 2.0**119, 0).item())
@example(5e-324)
def test_rounding_to_bfloat16_is_to_nearest(value: float) -> None:
    with np.errstate(over="ignore"):
        rounded = round_to_bfloat16(np.array([value]))
    assert rounded.dtype == np.float32
    assert rounded[0] == find_nearest_bfloat16(value)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_rounding_keeps_nonfinite_numbers(value: float) -> None:
    np.testing.assert_array_equal(round_to_bfloat16(np.array([value, 1.0])), np.array([value, 1.0], np.float32))


def test_every_bfloat16_is_widened_exactly() -> None:
    expected = [struct.unpack("<f", struct.pack("<HH", 0, int(bits)))[0] for bits in ALL_BITS]
    np.testing.assert_array_equal(bfloat16_to_float32(ALL_BITS), np.array(expected, dtype=np.float32))


def test_every_finite_bfloat16_rounds_to_itself() -> None:
    wide = bfloat16_to_float32(ALL_BITS)
    finite = wide[np.isfinite(wide)].astype(np.float64)
    rounded = round_to_bfloat16(finite)
    np.testing.assert_array_equal(rounded, finite)
    np.testing.assert_array_equal(np.signbit(rounded), np.signbit(finite))


STORED = [
    ("FP64", "<3d", [0.1, -0.0, 1e300], np.float64),
    ("FP32", "<3f", [0.5, -0.0, 2.0**-149], np.float32),
    ("FP16", "<3e", [0.5, -0.0, 65504.0], np.float16),
    ("BF16", "<3H", [0x3F80, 0x8000, 0x7F7F], np.float32),
    ("INT64", "<3q", [2**63 - 1, -(2**63), 2**53 + 1], np.int64),
    ("INT32", "<3i", [2**31 - 1, -(2**31), 7], np.int32),
    ("BOOL", "<3?", [True, False, True], np.bool_),
]


@pytest.mark.parametrize(("name", "packing", "values", "dtype"), STORED, ids=[row[0] for row in STORED])
def test_little_endian_bytes_are_decoded(name: str, packing: str, values: list[float], dtype: type[np.generic]) -> None:
    restored = DATATYPES[name].from_storage(struct.pack(packing, *values))
    expected = [1.0, -0.0, LARGEST] if name == "BF16" else values
    assert restored.dtype == np.dtype(dtype)
    assert restored.tolist() == expected
    assert str(restored.tolist()) == str(expected), "the sign of zero"
    assert DATATYPES[name].to_storage(restored).tobytes() == struct.pack(packing, *values)
    restored[0] = 0  # an array of one's own


def test_elements_are_stored_row_by_row() -> None:
    for name in ("FP64", "BF16"):
        datatype = DATATYPES[name]
        array = np.arange(6.0, dtype=np.float32).reshape(2, 3)
        stored = datatype.to_storage(array.T)
        assert stored.shape == (3, 2)
        assert stored.flags.c_contiguous
        assert datatype.from_storage(stored.tobytes()).tolist() == array.T.ravel().tolist()


def test_table_has_every_datatype_of_the_wire_under_both_names() -> None:
    assert set(DATATYPES) == {"FP64", "FP32", "FP16", "BF16", "FP8_E4M3", "FP8_E5M2", "INT64", "INT32", "BOOL"}
    for name, datatype in DATATYPES.items():
        assert BY_ANY_NAME[name] is datatype
        assert BY_ANY_NAME[datatype.numpy_name] is datatype
    plain = [datatype for datatype in DATATYPES.values() if hasattr(np, datatype.numpy_name)]
    assert len(plain) == 6
    assert {np.dtype(datatype.numpy_name) for datatype in plain} == {datatype.storage_dtype for datatype in plain}
    assert {(entry.name, entry.kind) for entry in DATATYPES.values() if entry.kind != "float"} == {
        ("INT64", "integer"),
        ("INT32", "integer"),
        ("BOOL", "boolean"),
    }
