"""Losses as they come: as many as there are points, each a finite number, or null where the function has no value.

A loss that is NaN or infinite is not taken for a missing one: it may be the fault that is looked for. Who knows that
the function has no value there says so. At the base it has one, or there is no gradient.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from schemas.datatype import Array
from schemas.problem_details import InvalidRequestError, PlacedError, error_at, to_short_json
from schemas.tensor import NONFINITE_SPELLINGS
from service.numerics.blackbox.layout import BASE_REPEATS, EvaluationLayout

_NONFINITE_LOSS_REMEDY = (
    "give a smaller scale, or bounds within which it is; or null for it, if it is right that there is no value"
)
_MAX_LISTED_LOSSES = 100
"""Losses that are told of one by one."""
_BASE_LOSS_MESSAGE = "the loss must have a value at the base, where the gradient is; {} was given"


def read_losses(losses: list[Any], layout: EvaluationLayout) -> Array:
    """Read the losses, float64, (evaluations,); NaN where there is none.

    Raises
    ------
    InvalidRequestError
        With each that is neither a finite number nor, away from the base, null; and what its point is.
    """
    expected = layout.evaluation_count
    if len(losses) != expected:
        raise InvalidRequestError(
            [error_at(f"{len(losses)} losses were given; the plan has {expected} points", "losses")]
        )
    values = [math.nan if each is None else _to_float(each) for each in losses]
    if missing := [number for number in range(BASE_REPEATS) if losses[number] is None]:
        raise InvalidRequestError([error_at(_BASE_LOSS_MESSAGE.format("null"), "losses", number) for number in missing])
    if wrong := [number for number, each in enumerate(values) if not _is_valid_loss(losses[number], each)]:
        raise InvalidRequestError(_find_loss_errors(wrong, losses, layout))
    return np.array(values, dtype=np.float64)


def _to_float(value: object) -> float | None:
    if isinstance(value, str):
        return NONFINITE_SPELLINGS.get(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _is_valid_loss(original: object, value: float | None) -> bool:
    return original is None or (value is not None and math.isfinite(value))


def _find_loss_errors(wrong: Sequence[int], losses: list[Any], layout: EvaluationLayout) -> list[PlacedError]:
    """One error for each loss or, of a loss that diverged, for all of them."""
    if len(wrong) <= _MAX_LISTED_LOSSES and len(wrong) < len(losses):
        return [_build_loss_error(number, losses[number], layout) for number in wrong]
    first = wrong[0]
    if len(wrong) == len(losses):
        detail = (
            f"none of the {len(losses)} losses is a finite number, not at the base either; give a point where it is"
        )
    else:
        example = _build_loss_error(first, losses[first], layout)["detail"]
        detail = f"{len(wrong)} of {len(losses)} losses are no finite numbers; the first is number {first}: {example}"
    return [error_at(detail, "losses")]


def _build_loss_error(position: int, value: object, layout: EvaluationLayout) -> PlacedError:
    given = to_short_json(value)
    if _to_float(value) is None:
        return error_at(f"must be a number, or null; {given} was given", "losses", position)
    if position < BASE_REPEATS:
        return error_at(f"{given} is not finite: {_BASE_LOSS_MESSAGE.format(given)}", "losses", position)
    return error_at(
        f"{given} is not finite, at point {position}: {layout.describe_evaluation(position)}; {_NONFINITE_LOSS_REMEDY}",
        "losses",
        position,
    )
