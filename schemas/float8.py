"""Floats of 8 bits, E4M3 and E5M2, in the float32 that holds them.

A byte is a sign, an exponent e and a significand of m bits s. With the bias b its number is 2^(e-b) (1 + s / 2^m), and
2^(1-b) s / 2^m where e is 0. E5M2 ends in infinity and NaNs, as the types of IEEE 754 do. E4M3 has no infinity: the
last byte of each sign alone is a NaN.

Source: Micikevicius et al., FP8 formats for deep learning (2022), section 3.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

_Array = npt.NDArray[Any]
_SIGN_BIT = 0x80


@dataclass(frozen=True)
class Float8Format:
    """One format of 8 bits.

    Attributes
    ----------
    exponent_bits, significand_bits
        Bits of the exponent and of the stored significand, 7 together.
    has_infinity
        True if the last exponent is kept for infinity and NaNs.
    """

    exponent_bits: int
    significand_bits: int
    has_infinity: bool

    @cached_property
    def numbers(self) -> _Array:
        """Number of each byte, (256,), float32."""
        codes = np.arange(_SIGN_BIT)
        exponent, significand = codes >> self.significand_bits, codes & ((1 << self.significand_bits) - 1)
        bias = (1 << (self.exponent_bits - 1)) - 1
        fraction = significand / (1 << self.significand_bits)
        numbers = np.where(exponent == 0, np.ldexp(fraction, 1 - bias), np.ldexp(1 + fraction, exponent - bias))
        if self.has_infinity:
            is_last = exponent == (1 << self.exponent_bits) - 1
            numbers = np.where(is_last, np.where(significand == 0, np.inf, np.nan), numbers)
        else:
            numbers[-1] = np.nan
        return np.concatenate([numbers, -numbers]).astype(np.float32)

    @cached_property
    def _finite_numbers(self) -> _Array:
        """Finite numbers from 0 on, in the order of their bytes."""
        numbers = self.numbers[:_SIGN_BIT].astype(np.float64)
        return numbers[np.isfinite(numbers)]

    def decode(self, codes: _Array) -> _Array:
        """Return the numbers of bytes, float32."""
        return self.numbers[codes]

    def encode(self, values: _Array) -> _Array:
        """Return the bytes of the nearest numbers, ties to even.

        Numbers that round beyond the largest one become infinity, or NaN where there is none.
        """
        values = np.asarray(values, np.float64)
        finite, sizes = self._finite_numbers, np.abs(values)
        # One number more than there is, to which what is too large would round.
        ladder = np.append(finite, 2 * finite[-1] - finite[-2])
        middles = (ladder[1:] + ladder[:-1]) / 2
        codes = np.searchsorted(middles, sizes, side="left")
        is_tie = middles[np.minimum(codes, len(middles) - 1)] == sizes
        codes = np.where(is_tie & (codes % 2 == 1), codes + 1, codes)
        codes = np.where(np.isnan(values), _SIGN_BIT - 1, np.minimum(codes, len(finite)))
        return (codes + np.where(np.signbit(values), _SIGN_BIT, 0)).astype(np.uint8)

    def round_to_nearest(self, values: _Array) -> _Array:
        """Return the nearest numbers, float32: see `encode`."""
        return self.decode(self.encode(values))


E4M3 = Float8Format(exponent_bits=4, significand_bits=3, has_infinity=False)
E5M2 = Float8Format(exponent_bits=5, significand_bits=2, has_infinity=True)
