"""The finite differences of one tensor, element by element, and their progress."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from service.numerics.core.batching import Array


class DifferenceStatus(IntEnum):
    """The status of one element's difference."""

    SETTLED = 0
    """The table settled; the bound is its estimate and the noise."""

    UNSETTLED = 1
    """Steps of different size contradict each other: the bound covers what they span, or is infinite."""

    NOT_FINITE = 2
    """There is no difference: the value is NaN, the bound infinite."""

    NOT_EXAMINED = 3
    """The request leaves it out: the value is NaN, the bound infinite."""


@dataclass(frozen=True)
class Difference:
    """Finite differences of the loss for one tensor or node of shape (...).

    Attributes
    ----------
    value
        Differences, float64, (...).
    error_bound
        Largest expected distance from the derivative, float64, (...).
    status
        `DifferenceStatus` of each element, uint8, (...).
    evaluations
        Evaluations of the loss; those that serve several tensors count for the first.
    rounding_error
        Part of each bound that does not depend on the step, float64, (...).
    steps
        First step of the table that each value is taken from, in units of what was moved for it, float64, (...); 0
        where nothing had to be moved, NaN where there is no value.
    left_derivative, right_derivative
        One-sided differences at the elements where they differ, NaN elsewhere; None if there are no such elements.
    is_unexamined
        True if no element was examined, and the arrays are views of one number each; False by default.
    """

    value: Array
    error_bound: Array
    status: Array
    evaluations: int
    rounding_error: Array
    steps: Array
    left_derivative: Array | None = None
    right_derivative: Array | None = None
    is_unexamined: bool = False


class DifferenceProgress(Protocol):
    """A callback for the engine's progress between tiles.

    It may raise to stop the engine.
    """

    def __call__(self, name: str, done: int, total: int) -> None:
        """Take note of `done` of `total` evaluations of the loss.

        The last of them were for the tensor or node `name`.
        """
        ...
