import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.datatype import round_to_bfloat16
from service.numerics.core.precision import DTYPES, PRECISIONS

NATIVE = {"FP64": np.float64, "FP32": np.float32, "FP16": np.float16}
ORDINARY = st.floats(-1e4, 1e4)


@pytest.mark.parametrize("name", NATIVE)
@given(value=ORDINARY)
def test_neighbours_are_one_unit_apart(name, value):
    here = NATIVE[name](value)
    there = np.nextafter(here, NATIVE[name](np.inf))
    precision = PRECISIONS[name]
    pair = np.array([float(here)]), np.array([float(there)])
    assert precision.compute_ulp_distance(*pair) == 1
    assert precision.compute_ulp_distance(*pair[::-1]) == 1
    assert precision.compute_ulp_distance(pair[0], pair[0]) == 0


@pytest.mark.parametrize(("name", "steps"), [("FP64", 2), ("FP32", 2), ("FP16", 2)])
def test_ulp_distance_counts_across_zero(name, steps):
    tiny = PRECISIONS[name].smallest_subnormal
    assert float(np.nextafter(NATIVE[name](0), NATIVE[name](1))) == tiny
    assert PRECISIONS[name].compute_ulp_distance(np.array(-tiny), np.array(tiny)) == steps
    assert PRECISIONS[name].compute_ulp_distance(np.array(-0.0), np.array(0.0)) == 0


def test_the_largest_distance_is_exact():
    largest = np.finfo(np.float64).max
    bits = int(np.array(largest).view(np.int64))
    assert int(PRECISIONS["FP64"].compute_ulp_distance(np.array(-largest), np.array(largest)).item()) == 2 * bits


@pytest.mark.parametrize("name", ["FP32", "FP16"])
@given(value=ORDINARY)
def test_representable_numbers_survive_a_cast(name, value):
    survives = float(NATIVE[name](value)) == value
    assert PRECISIONS[name].is_representable(np.array(value)) == survives
    assert PRECISIONS[name].is_representable(np.array(float(NATIVE[name](value))))


@pytest.mark.parametrize("precision", PRECISIONS.values(), ids=PRECISIONS)
def test_the_unit_roundoff_is_where_one_begins_to_move(precision):
    u = precision.unit_roundoff
    assert precision.is_representable(np.array(1 + 2 * u))
    assert precision.significand_bits == 53 or not precision.is_representable(np.array(1 + u))
    assert math.log2(precision.smallest_subnormal) == precision.min_exponent - precision.significand_bits + 1
    assert precision.lower_precision is None or PRECISIONS[precision.lower_precision].unit_roundoff > u


def test_dtypes_round_to_their_own_precision():
    for dtype in DTYPES.values():
        rounded = dtype.round_array(np.array([0.1, 1 / 3])).astype(np.float64)
        assert dtype.precision.is_representable(rounded).all()


@given(value=st.floats(allow_nan=False))
def test_rounding_agrees_with_numpy_and_the_bits(value):
    wide = np.array([value])
    with np.errstate(over="ignore"):
        np.testing.assert_array_equal(
            PRECISIONS["FP16"].round_to_nearest(wide), wide.astype(np.float16).astype(np.float64)
        )
        np.testing.assert_array_equal(
            PRECISIONS["FP32"].round_to_nearest(wide), wide.astype(np.float32).astype(np.float64)
        )
        np.testing.assert_array_equal(
            PRECISIONS["BF16"].round_to_nearest(wide), round_to_bfloat16(wide).astype(np.float64)
        )


def test_nan_and_the_sign_of_zero_survive_rounding():
    rounded = PRECISIONS["BF16"].round_to_nearest(np.array([np.nan, -0.0, -np.inf, 3.4e38], dtype=np.float32))
    assert rounded.dtype == np.float32
    assert np.isnan(rounded[0])
    assert np.signbit(rounded[1])
    assert rounded[2:].tolist() == [-np.inf, np.inf]


@pytest.mark.parametrize(
    ("number", "expected"), [(0.5, 0.5), (1e-30, 1.0016e-30), (0.1, 0.0999755859375), (np.inf, np.inf), (0.0, 0.0)]
)
def test_number_of_any_exponent_is_shortened_to_its_digits(number, expected):
    assert PRECISIONS["FP16"].round_significand(number) == pytest.approx(expected, rel=3e-4)
    assert PRECISIONS["FP64"].round_significand(number) == number


@pytest.mark.parametrize("name", PRECISIONS)
def test_significand_of_the_largest_number_rounds_towards_zero(name):
    largest = np.finfo(np.float64).max
    precision = PRECISIONS[name]
    rounded = precision.round_significand(-largest)
    assert -largest <= rounded <= -largest * (1 - 2 * precision.unit_roundoff)
    assert precision.round_significand(rounded) == rounded
