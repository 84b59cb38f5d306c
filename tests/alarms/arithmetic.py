"""Arithmetics of the second implementation: a dtype, an order of summation, and what products do to their operands."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from service.numerics.core.batching import Array


def keep_operand(array: Array) -> Array:
    return array


def round_significand(bits: int, array: Array) -> Array:
    """Round float32 to significands of so many bits less, ties away from zero, as products of matrices take them."""
    whole = np.ascontiguousarray(array, dtype=np.float32).view(np.uint32)
    return ((whole + np.uint32(1 << (bits - 1))) & np.uint32(2**32 - (1 << bits))).view(np.float32)


def round_to_float16(array: Array) -> Array:
    """Round float32 to float16; FloatingPointError beyond its range, if overflows are to raise."""
    return array.astype(np.float16).astype(np.float32)


TF32 = partial(round_significand, 13)
BF16 = partial(round_significand, 16)


@dataclass(frozen=True)
class Arithmetic:
    """How the second implementation computes.

    Attributes
    ----------
    dtype
        Of every intermediate and of every partial sum.
    generator
        Draws the order of each sum.
    operand
        What happens to the operands of products of matrices.
    """

    dtype: type[np.floating]
    generator: np.random.Generator
    round_operand: Callable[[Array], Array] = keep_operand

    def total(self, terms: Array | Sequence[Array], axis: int = 0) -> Array:
        """Sum along an axis, one after the other, in a random order."""
        moved = np.moveaxis(np.asarray(terms, self.dtype), axis, 0)
        total = np.zeros(moved.shape[1:], self.dtype)
        for position in self.generator.permutation(len(moved)):
            total = total + moved[position]
        return total

    def product(self, a: Array, b: Array) -> Array:
        """Product of two matrices."""
        a, b = self.round_operand(a), self.round_operand(b)
        return self.total([np.multiply.outer(a[:, index], b[index]) for index in range(len(b))])

    def mean(self, array: Array) -> Array:
        """Mean of the last axis, which stays."""
        return (self.total(array, -1) / self.dtype(array.shape[-1]))[..., None]
