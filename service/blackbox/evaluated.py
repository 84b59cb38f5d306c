"""Losses as they come: as many as there are points, each a finite number, or null where the function has no value.

A loss that is NaN or infinite is not taken for a missing one: it may be the fault that is looked for. Who knows that
the function has no value there says so. At the base it has one, or there is no gradient.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from schemas.datatype import Array
from schemas.problem import InvalidRequestError, PlacedError, as_json, placed
from schemas.tensor import SPELLINGS
from service.numerics.blackbox.layout import REPEATS, Layout

_REMEDY = "give a smaller scale, or bounds within which it is; or null for it, if it is right that there is no value"
_MOST = 100
"""Losses that are told of one by one."""
_AT_THE_BASE = "the loss must have a value at the base, where the gradient is; {} was given"


def evaluated(losses: list[Any], layout: Layout) -> Array:
    """Read the losses, float64, (evaluations,); NaN where there is none.

    Raises
    ------
    InvalidRequestError
        With each that is neither a finite number nor, away from the base, null; and what its point is.
    """
    expected = layout.evaluations
    if len(losses) != expected:
        raise InvalidRequestError(
            [placed(f"{len(losses)} losses were given; the plan has {expected} points", "losses")]
        )
    values = [math.nan if each is None else _number(each) for each in losses]
    if missing := [number for number in range(REPEATS) if losses[number] is None]:
        raise InvalidRequestError([placed(_AT_THE_BASE.format("null"), "losses", number) for number in missing])
    if wrong := [number for number, each in enumerate(values) if not _taken(losses[number], each)]:
        raise InvalidRequestError(_errors(wrong, losses, layout))
    return np.array(values, dtype=np.float64)


def _number(value: object) -> float | None:
    if isinstance(value, str):
        return SPELLINGS.get(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _taken(given: object, value: float | None) -> bool:
    return given is None or (value is not None and math.isfinite(value))


def _errors(wrong: Sequence[int], losses: list[Any], layout: Layout) -> list[PlacedError]:
    """One error for each loss or, of a loss that diverged, for all of them."""
    if len(wrong) <= _MOST and len(wrong) < len(losses):
        return [_error(number, losses[number], layout) for number in wrong]
    first = wrong[0]
    if len(wrong) == len(losses):
        detail = (
            f"none of the {len(losses)} losses is a finite number, not at the base either; give a point where it is"
        )
    else:
        example = _error(first, losses[first], layout)["detail"]
        detail = f"{len(wrong)} of {len(losses)} losses are no finite numbers; the first is number {first}: {example}"
    return [placed(detail, "losses")]


def _error(number: int, value: object, layout: Layout) -> PlacedError:
    given = as_json(value)
    if _number(value) is None:
        return placed(f"must be a number, or null; {given} was given", "losses", number)
    if number < REPEATS:
        return placed(f"{given} is not finite: {_AT_THE_BASE.format(given)}", "losses", number)
    return placed(f"{given} is not finite, at point {number}: {layout.told(number)}; {_REMEDY}", "losses", number)
