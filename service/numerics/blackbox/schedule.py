"""How far a tensor is moved, by what its datatype can represent.

Steps are powers of two, in units of the tensor's scale. The coarse ones lie close together: where losses are noisy only
those are of use, and a table over 1/8, 1/16, 1/32 takes less of the noise along than one over 1/8, 1/32, 1/128. The
fine ones lie far apart: they are there for losses that bend within a small part of the scale. The finest is as fine as
the datatype allows: 2^-15 of the scale leaves 37 bits of a float64 for the direction, 2^-8 leaves 15 of a float32.
"""

from dataclasses import dataclass

import numpy as np

from service.numerics.precision import PRECISIONS, Precision
from service.numerics.tiles import Array

_NEIGHBOURS = 8.0
"""Roundings of the largest element that a smallest step has at least: the lattice is then a quarter of it."""
NEAR = 8
"""Points of a line from which the noise of the loss is estimated."""


@dataclass(frozen=True)
class Schedule:
    """Steps of one datatype: 2^-e of the scale for each exponent, and 2^-e between the near points of each line."""

    precision: Precision
    exponents: tuple[int, ...]
    near: tuple[int, int]

    @property
    def steps(self) -> Array:
        """Steps in units of the scale, falling, (levels,)."""
        return 2.0 ** -np.array(self.exponents, dtype=np.float64)

    @property
    def farthest(self) -> float:
        """Largest step of a direction."""
        return 2.0 ** -self.exponents[0]

    @property
    def finest(self) -> float:
        """Smallest step of a direction."""
        return 2.0 ** -self.exponents[-1]


SCHEDULES: dict[str, Schedule] = {
    name: Schedule(PRECISIONS[name], exponents, near)
    for name, exponents, near in (
        ("FP64", (3, 4, 5, 6, 8, 11, 15), (18, 28)),
        ("FP32", (3, 4, 5, 6, 8, 10), (13, 17)),
        ("FP16", (2, 3, 4, 5), (5, 7)),
        ("BF16", (1, 2, 3), (4, 5)),
    )
}
"""By the name of the datatype on the wire."""


def typical(point: Array, schedule: Schedule) -> float:
    """Scale of a tensor: the power of two next to the median size of its elements that are not 0, or 1.

    Larger where the largest element could not be moved by as little, in the datatype, as the smallest step asks for.

    A random direction moves all elements at once, each by a Gaussian part of this. What a weight of n inputs adds to a
    unit then moves as the root of n of such parts, just as the unit itself is made of n of them: so the same part of
    the scale is a step of the same boldness for few elements and for many.
    """
    sizes = np.abs(point[point != 0])
    if not sizes.size:
        return 1.0
    least = _NEIGHBOURS * schedule.precision.unit_roundoff * float(sizes.max()) / schedule.finest
    return power_of_two(max(float(np.median(sizes)), least))


_ROOM = 960
LEAST_SCALE, LARGEST_SCALE = 2.0**-_ROOM, 2.0**_ROOM


def power_of_two(number: float) -> float:
    """Next power of two, within what a float64 has room around for."""
    return float(2.0 ** np.clip(np.rint(np.log2(max(number, 5e-324))), -_ROOM, _ROOM))
