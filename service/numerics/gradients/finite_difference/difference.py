"""What the engine answers, element by element."""

from dataclasses import dataclass
from enum import IntEnum

from service.numerics.tiles import Array


class Status(IntEnum):
    """What became of one element."""

    SETTLED = 0
    """The table settled; the bound is its estimate and the noise."""

    UNSETTLED = 1
    """Steps of different size contradict each other: the bound covers what they span, or is infinite."""

    NOT_FINITE = 2
    """No difference could be had: the value is NaN, the bound infinite."""


@dataclass(frozen=True)
class Difference:
    """Finite differences of the loss with respect to one tensor or node of shape (...).

    Attributes
    ----------
    value
        The differences, float64, (...).
    error_bound
        Largest distance from the derivative that is to be expected, float64, (...).
    status
        `Status` of each element, uint8, (...).
    evaluations
        Evaluations of the loss that it took.
    """

    value: Array
    error_bound: Array
    status: Array
    evaluations: int
