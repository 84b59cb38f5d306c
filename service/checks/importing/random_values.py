"""Random values that an import draws: for inputs, and for the cotangents of outputs."""

from collections.abc import Sequence
from zlib import crc32

import numpy as np

from schemas.datatype import Array


class ValueSource:
    """Values that follow from a seed and a name alone, not from the order in which they are drawn.

    Parameters
    ----------
    seed
        Seed of all values.
    """

    def __init__(self, seed: int) -> None:
        self._seed = seed

    def _make_generator(self, name: str) -> np.random.Generator:
        return np.random.default_rng([self._seed, crc32(name.encode("utf-8", "surrogatepass"))])

    def draw_floats(self, name: str, shape: Sequence[int]) -> Array:
        """Draw normal numbers of mean 0 and variance 1."""
        return np.asarray(self._make_generator(name).standard_normal(tuple(shape)))

    def draw_integers(self, name: str, shape: Sequence[int], limit: int) -> Array:
        """Draw integers from 0 to `limit - 1`."""
        return np.asarray(self._make_generator(name).integers(0, max(1, limit), tuple(shape), dtype=np.int64))
