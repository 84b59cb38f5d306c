"""Losses as they come: as many as there are points, and all of them finite."""

import math
from typing import Any

import numpy as np

from schemas.datatype import Array
from schemas.problem import InvalidRequestError, PlacedError, as_json, placed
from schemas.tensor import SPELLINGS
from service.numerics.blackbox.layout import Layout

_REMEDY = "give a smaller scale where the loss is not finite"


def evaluated(losses: list[Any], layout: Layout) -> Array:
    """Read the losses, float64, (evaluations,).

    Raises
    ------
    InvalidRequestError
        With each that is not a finite number, and what its point is.
    """
    expected = layout.evaluations
    if len(losses) != expected:
        raise InvalidRequestError(
            [placed(f"{len(losses)} losses were given; the plan has {expected} points", "losses")]
        )
    values = [_number(each) for each in losses]
    if errors := [_error(number, losses[number], layout) for number, each in enumerate(values) if not _finite(each)]:
        raise InvalidRequestError(errors)
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


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _error(number: int, value: object, layout: Layout) -> PlacedError:
    given = as_json(value)
    if _number(value) is None:
        return placed(f"must be a number; {given} was given", "losses", number)
    return placed(f"{given} is not finite, at point {number}: {layout.told(number)}; {_REMEDY}", "losses", number)
