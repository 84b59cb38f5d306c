"""Attributes of one number, alone or as a list, or of one for each of two axes."""

from typing import Annotated

from annotated_types import Ge, Len

Positive = Annotated[int, Ge(1)]
NotNegative = Annotated[int, Ge(0)]
PositivePair = Annotated[list[Positive], Len(1, 2)]
NotNegativePair = Annotated[list[NotNegative], Len(1, 2)]


def to_pair(value: int | list[int]) -> tuple[int, int]:
    """Return the value of each of two axes."""
    return (value, value) if isinstance(value, int) else (value[0], value[-1])
