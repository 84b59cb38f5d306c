"""The arithmetics of gradients, and the numbers and errors that each resolves."""

import math
import sys
from dataclasses import dataclass

import numpy as np

from service.numerics.core.batching import Array


@dataclass(frozen=True)
class Precision:
    """One arithmetic.

    Attributes
    ----------
    name
        The name on the wire.
    significand_bits
        Bits of the significand, the hidden one included: the unit roundoff is 2**-digits.
    min_exponent
        Exponent of the smallest normal number.
    negligible_fraction
        An element matters if its size exceeds this fraction of the largest of its tensor.
    detectable_error
        The relative error of an element that matters which must never pass.
    lower_precision
        The next lower precision, by name, that a gradient may have been computed in without its sender knowing.
    largest
        The largest number; that of an exponent range like IEEE's by default.
    """

    name: str
    significand_bits: int
    min_exponent: int
    negligible_fraction: float
    detectable_error: float
    lower_precision: str | None = None
    largest: float | None = None

    @property
    def largest_number(self) -> float:
        """The largest number."""
        if self.largest is not None:
            return self.largest
        return math.ldexp(2 - 2.0 ** (1 - self.significand_bits), 1 - self.min_exponent)

    @property
    def unit_roundoff(self) -> float:
        """Largest relative error of rounding to nearest."""
        return 2.0**-self.significand_bits

    @property
    def smallest_subnormal(self) -> float:
        """Spacing of the numbers next to zero."""
        return 2.0 ** (self.min_exponent - self.significand_bits + 1)

    def compute_ulp_distance(self, a: Array, b: Array) -> Array:
        """Return the distance in ulps of finite float64 arrays, rounded first."""
        if self.significand_bits == _FP64_SIGNIFICAND_BITS:
            # Zeros lose their sign.
            plain = tuple(np.asarray(array + 0.0, np.float64).view(np.int64) for array in (a, b))
            if not ((plain[0] ^ plain[1]) < 0).any():
                distance = plain[0] - plain[1]
                # Faster than the absolute value, which NumPy finds number by number.
                return np.maximum(distance, -distance).view(np.uint64)
            bits = _to_ordered_bits(a), _to_ordered_bits(b)
            low, high = np.minimum(*bits), np.maximum(*bits)
            # The distance is below 2**64, so the wrap-around of unsigned subtraction is exact.
            return high.astype(np.uint64) - low.astype(np.uint64)
        return np.abs(self._compute_ordinal_positions(a) - self._compute_ordinal_positions(b))

    def _compute_ordinal_positions(self, values: Array) -> Array:
        """Return the position of each value among this precision's numbers.

        Within a binade the numbers are 2**(exponent - digits) apart; binade b starts at ordinal
        2**(digits - 1) (b + 1), and the subnormals fill what lies below the first.
        """
        significand, exponent = np.frexp(np.abs(values))
        lowest = self.min_exponent - self.significand_bits + 1
        # frexp gives zero the exponent 0, as if it were of the size of 1.
        spacing = np.where(significand == 0, lowest, np.maximum(exponent - self.significand_bits, lowest))
        steps = np.rint(np.ldexp(significand, exponent - spacing))
        return np.copysign(steps + (spacing - lowest) * 2.0 ** (self.significand_bits - 1), values)

    def is_representable(self, values: Array) -> Array:
        """Return which float64 values are numbers of this precision, overflow aside."""
        if self.significand_bits >= _FP64_SIGNIFICAND_BITS:
            return np.ones(values.shape, dtype=np.bool_)
        scaled = np.ldexp(values, -self._compute_spacing_exponents(values))
        return scaled == np.rint(scaled)

    def round_to_nearest(self, values: Array) -> Array:
        """Round to this precision, ties to even; infinite beyond its largest number."""
        spacing = self._compute_spacing_exponents(values)
        with np.errstate(over="ignore"):
            rounded = np.ldexp(np.rint(np.ldexp(values, -spacing)), spacing)
        return np.where(np.abs(rounded) > self.largest_number, np.copysign(np.inf, values), rounded).astype(
            values.dtype
        )

    def compute_half_spacings(self, values: Array) -> Array:
        """Return half the distance of this precision's numbers around each finite value: the largest rounding error.

        Formats with scales have their binades wherever the scale puts them: there it is that of the upper end of one.
        """
        if self.is_scaled:
            return self.unit_roundoff * np.maximum(np.abs(values), 2.0**self.min_exponent)
        smallest = np.where(values == 0, self.smallest_subnormal, values)
        return np.ldexp(0.5, self._compute_spacing_exponents(smallest))

    @property
    def is_scaled(self) -> bool:
        """True if tensors are scaled to its range, as those of 8 bits are."""
        return self.significand_bits <= _FP8_SIGNIFICAND_BITS

    def round_tensor(self, values: Array) -> Array:
        """Round all of a tensor, scaled so that its largest number is that of this precision if that is customary.

        A tensor of numbers of this precision stays as it is.
        """
        largest = float(np.abs(values).max(initial=0))
        if not self.is_scaled or not largest or self.fits(values):
            return self.round_to_nearest(values)
        scale = self.largest_number / largest
        return self.round_to_nearest(values * scale) / scale

    def fits(self, values: Array) -> bool:
        """Return whether all values are numbers of this precision."""
        return bool(self.is_representable(values).all() and (np.abs(values) <= self.largest_number).all())

    def round_number(self, number: float) -> float:
        """Round one number to this precision."""
        return float(self.round_to_nearest(np.array(number, dtype=np.float64)))

    def round_significand(self, number: float) -> float:
        """Round the significand of one number to this precision, at any exponent; towards 0 where it would overflow."""
        if not math.isfinite(number):
            return number
        significand, exponent = math.frexp(number)
        unit = 2.0**self.significand_bits
        rounded = round(significand * unit) / unit
        if abs(rounded) == 1.0 and exponent == sys.float_info.max_exp:
            rounded = math.trunc(significand * unit) / unit
        return math.ldexp(rounded, exponent)

    def _compute_spacing_exponents(self, values: Array) -> Array:
        """Return the exponent of the distance between the neighbours of each value."""
        _, exponent = np.frexp(values)
        return np.maximum(exponent - self.significand_bits, self.min_exponent - self.significand_bits + 1)


_FP64_SIGNIFICAND_BITS = 53
_FP8_SIGNIFICAND_BITS = 4


def _to_ordered_bits(values: Array) -> Array:
    """Map float64 bits to integers in the order of the numbers; both zeros to 0."""
    bits = np.ascontiguousarray(values, dtype=np.float64).view(np.int64)
    return np.where(bits < 0, np.int64(-(2**63)) - bits, bits)


PRECISIONS: dict[str, Precision] = {
    precision.name: precision
    for precision in (
        Precision(
            "FP64",
            significand_bits=53,
            min_exponent=-1022,
            negligible_fraction=1e-6,
            detectable_error=1e-4,
            lower_precision="FP32",
        ),
        Precision(
            "FP32",
            significand_bits=24,
            min_exponent=-126,
            negligible_fraction=1e-2,
            detectable_error=1e-2,
            lower_precision="TF32",
        ),
        Precision("TF32", significand_bits=11, min_exponent=-126, negligible_fraction=0.1, detectable_error=0.1),
        Precision("FP16", significand_bits=11, min_exponent=-14, negligible_fraction=0.1, detectable_error=0.1),
        Precision("BF16", significand_bits=8, min_exponent=-126, negligible_fraction=0.3, detectable_error=0.3),
        # Micikevicius et al., FP8 formats for deep learning (2022), table 1: E4M3 has no infinity, and one NaN.
        Precision(
            "FP8_E4M3",
            significand_bits=4,
            min_exponent=-6,
            negligible_fraction=0.3,
            detectable_error=0.5,
            largest=448.0,
        ),
        Precision("FP8_E5M2", significand_bits=3, min_exponent=-14, negligible_fraction=0.3, detectable_error=0.5),
    )
}


@dataclass(frozen=True)
class ComputeDtype:
    """A dtype in which the analytic and autograd routes run.

    Attributes
    ----------
    name
        PyTorch's.
    precision
        Arithmetic of its numbers.
    storage_dtype
        NumPy's dtype in which its numbers are held: where that is wider, every result has to be rounded.
    """

    name: str
    precision: Precision
    storage_dtype: type[np.floating]
    is_storage_wider: bool = False

    @property
    def is_narrow(self) -> bool:
        """Tell whether the dtype has fewer numbers than float64."""
        return self.precision.significand_bits < _FP64_SIGNIFICAND_BITS

    def round_array(self, array: Array) -> Array:
        """Round a float array to the dtype, in its holder: itself where nothing rounds."""
        return (self.precision.round_to_nearest(array) if self.is_storage_wider else array).astype(
            self.storage_dtype, copy=False
        )


DTYPES: dict[str, ComputeDtype] = {
    dtype.name: dtype
    for dtype in (
        ComputeDtype("float64", PRECISIONS["FP64"], np.float64),
        ComputeDtype("float32", PRECISIONS["FP32"], np.float32),
        ComputeDtype("float16", PRECISIONS["FP16"], np.float32, is_storage_wider=True),
        ComputeDtype("bfloat16", PRECISIONS["BF16"], np.float32, is_storage_wider=True),
    )
}
