"""Attributes of one number for all of several axes, or of one number for each."""

from typing import Annotated

from annotated_types import Ge, Len

from service.numerics.core.batching import Shape
from service.numerics.ops.op import ShapeError

Positive = Annotated[int, Ge(1)]
NotNegative = Annotated[int, Ge(0)]
PositiveSingle = Annotated[list[Positive], Len(1, 1)]
NotNegativeSingle = Annotated[list[NotNegative], Len(1, 1)]
PositiveTriple = Annotated[list[Positive], Len(1, 3)]
NotNegativeTriple = Annotated[list[NotNegative], Len(1, 3)]
PositivePairOrLengths = Annotated[list[Positive | None], Len(1, 2)]
PositiveTripleOrLengths = Annotated[list[Positive | None], Len(1, 3)]
"""A number for each axis, None for the length of the axis."""


def spread_over_axes(value: int | list[int], count: int) -> tuple[int, ...]:
    """Return the number of each axis: a list of one number, or a number, stands for all.

    Raises
    ------
    ShapeError
        The list has several numbers, but not one for each axis.
    """
    if isinstance(value, int):
        return (value,) * count
    if len(value) not in (1, count):
        raise ShapeError(f"one number for all axes, or one for each of {count}, in place of {value}")
    return tuple(value) if len(value) == count else (value[0],) * count


def choose_axis_lengths(value: int | list[int | None], lengths: Shape) -> tuple[int, ...]:
    """Return the number of each axis, its length for None: see `spread_over_axes`."""
    if isinstance(value, int):
        return spread_over_axes(value, len(lengths))
    numbers = value if len(value) == len(lengths) else value * len(lengths) if len(value) == 1 else None
    if numbers is None:
        raise ShapeError(f"one number for all axes, or one for each of {len(lengths)}, in place of {value}")
    return tuple(length if number is None else number for number, length in zip(numbers, lengths, strict=True))


def is_of_axis_lengths(value: int | list[int | None]) -> bool:
    """Return whether a number for each axis stands for the length of some axis."""
    return isinstance(value, list) and None in value
