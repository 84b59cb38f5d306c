"""The arithmetics a gradient may have been computed in, and what each of them can resolve."""

import math
from dataclasses import dataclass

import numpy as np

from service.numerics.tiles import Array


@dataclass(frozen=True)
class Precision:
    """One arithmetic.

    Attributes
    ----------
    name
        The name on the wire.
    digits
        Bits of the significand, the hidden one included: the unit roundoff is 2**-digits.
    exponent
        Exponent of the smallest normal number.
    matters
        An element matters if its size exceeds this fraction of the largest of its tensor.
    detects
        The relative error of an element that matters which must never pass.
    lower
        The next lower precision, by name, that a gradient may have been computed in without its sender knowing.
    """

    name: str
    digits: int
    exponent: int
    matters: float
    detects: float
    lower: str | None = None

    @property
    def unit_roundoff(self) -> float:
        """Largest relative error of rounding to nearest."""
        return 2.0**-self.digits

    @property
    def smallest_subnormal(self) -> float:
        """Spacing of the numbers next to zero."""
        return 2.0 ** (self.exponent - self.digits + 1)

    def ulps(self, a: Array, b: Array) -> Array:
        """Distance of finite float64 arrays in units in the last place, both rounded to this precision first."""
        if self.digits == _FP64_DIGITS:
            bits = _ordered_bits(a), _ordered_bits(b)
            low, high = np.minimum(*bits), np.maximum(*bits)
            # The distance is below 2**64, so the wrap-around of unsigned subtraction is exact.
            return high.astype(np.uint64) - low.astype(np.uint64)
        return np.abs(self._ordinal(a) - self._ordinal(b))

    def _ordinal(self, values: Array) -> Array:
        """Position of each value among the numbers of this precision, counted from zero outwards.

        Within a binade the numbers are 2**(exponent - digits) apart; binade b starts at ordinal
        2**(digits - 1) (b + 1), and the subnormals fill what lies below the first.
        """
        significand, exponent = np.frexp(np.abs(values))
        lowest = self.exponent - self.digits + 1
        # frexp gives zero the exponent 0, as if it were of the size of 1.
        spacing = np.where(significand == 0, lowest, np.maximum(exponent - self.digits, lowest))
        steps = np.rint(np.ldexp(significand, exponent - spacing))
        return np.copysign(steps + (spacing - lowest) * 2.0 ** (self.digits - 1), values)

    def represents(self, values: Array) -> Array:
        """Which values of a float64 array are numbers of this precision (overflow aside)."""
        if self.digits >= _FP64_DIGITS:
            return np.ones(values.shape, dtype=np.bool_)
        scaled = np.ldexp(values, -self._spacing(values))
        return scaled == np.rint(scaled)

    def nearest(self, values: Array) -> Array:
        """Round to this precision, ties to even, in the float dtype given; infinite beyond its largest number."""
        spacing = self._spacing(values)
        with np.errstate(over="ignore"):
            rounded = np.ldexp(np.rint(np.ldexp(values, -spacing)), spacing)
        largest = np.ldexp(1 - 2.0**-self.digits, 2 - self.exponent)
        return np.where(np.abs(rounded) > largest, np.copysign(np.inf, values), rounded).astype(values.dtype)

    def rounded(self, number: float) -> float:
        """Round one number to this precision."""
        return float(self.nearest(np.array(number, dtype=np.float64)))

    def shortened(self, number: float) -> float:
        """Round the significand of one number to this precision; its exponent may be any that a float64 has."""
        if not math.isfinite(number):
            return number
        significand, exponent = math.frexp(number)
        unit = 2.0**self.digits
        return math.ldexp(round(significand * unit) / unit, exponent)

    def _spacing(self, values: Array) -> Array:
        """Exponent of the distance between neighbours of each value."""
        _, exponent = np.frexp(values)
        return np.maximum(exponent - self.digits, self.exponent - self.digits + 1)


_FP64_DIGITS = 53


def _ordered_bits(values: Array) -> Array:
    """Map the bits of float64 to integers in the order of the numbers; both zeros to 0."""
    bits = np.ascontiguousarray(values, dtype=np.float64).view(np.int64)
    return np.where(bits < 0, np.int64(-(2**63)) - bits, bits)


PRECISIONS: dict[str, Precision] = {
    precision.name: precision
    for precision in (
        Precision("FP64", digits=53, exponent=-1022, matters=1e-6, detects=1e-4, lower="FP32"),
        Precision("FP32", digits=24, exponent=-126, matters=1e-2, detects=1e-2, lower="TF32"),
        Precision("TF32", digits=11, exponent=-126, matters=1e-2, detects=1e-2),
        Precision("FP16", digits=11, exponent=-14, matters=0.1, detects=0.1),
        Precision("BF16", digits=8, exponent=-126, matters=0.3, detects=0.3),
    )
}


@dataclass(frozen=True)
class Dtype:
    """A dtype in which the analytic and autograd routes run.

    Attributes
    ----------
    name
        PyTorch's.
    precision
        What it resolves.
    holder
        NumPy's dtype in which its numbers are held: where that is wider, every result has to be rounded.
    """

    name: str
    precision: Precision
    holder: type[np.floating]
    wider: bool = False

    @property
    def narrow(self) -> bool:
        """Whether it has fewer numbers than those of a request."""
        return self.precision.digits < _FP64_DIGITS

    def rounded(self, array: Array) -> Array:
        """Round a float array to the dtype, in its holder."""
        return (self.precision.nearest(array) if self.wider else array).astype(self.holder)


DTYPES: dict[str, Dtype] = {
    dtype.name: dtype
    for dtype in (
        Dtype("float64", PRECISIONS["FP64"], np.float64),
        Dtype("float32", PRECISIONS["FP32"], np.float32),
        Dtype("float16", PRECISIONS["FP16"], np.float32, wider=True),
        Dtype("bfloat16", PRECISIONS["BF16"], np.float32, wider=True),
    )
}
