"""Losses of a request: a finite number, or null, for each point.

A null stands for a point at which the function has no value.

A NaN or an infinity is an error, not a missing loss: it may be the very bug to find. A client that knows of a point
without a value says so by null. At the base the loss has a value, or there is no gradient.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from schemas.datatype import Array
from schemas.problem_details import InvalidRequestError, PlacedError, error_at, to_short_json
from schemas.tensor import NONFINITE_SPELLINGS
from service.checks.blackbox.looks import Look
from service.numerics.blackbox.layout import BASE_REPEATS, EvaluationLayout

_NONFINITE_LOSS_REMEDY = (
    "give a smaller scale, or bounds within which it is; or null for it, if it is right that there is no value"
)
_MAX_LISTED_LOSSES = 100
"""Wrong losses that are listed one by one."""
_BASE_LOSS_MESSAGE = "the loss must have a value at the base, where the gradient is; {} was given"


def read_losses(losses: list[Any], layout: EvaluationLayout, look: Look) -> Array:
    """Read the losses by the number of their evaluation, float64 of shape (evaluations,); a missing loss is NaN.

    Parameters
    ----------
    losses
        Losses of the request, in the order of the points.
    layout
        Layout of the points.
    look
        Look with as many points as there are losses.

    Raises
    ------
    InvalidRequestError
        Losses that are neither finite numbers nor null, or null at the base.
    """
    values = [math.nan if loss is None else _to_float(loss) for loss in losses]
    if missing_positions := [position for position in range(BASE_REPEATS) if losses[position] is None]:
        raise InvalidRequestError(
            [error_at(_BASE_LOSS_MESSAGE.format("null"), "losses", position) for position in missing_positions]
        )
    if wrong_positions := [
        position for position, value in enumerate(values) if not _is_valid_loss(losses[position], value)
    ]:
        raise InvalidRequestError(_find_loss_errors(wrong_positions, losses, layout, look))
    return look.spread_values(np.array(values, dtype=np.float64), layout.evaluation_count)


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


def _find_loss_errors(
    wrong_positions: Sequence[int], losses: list[Any], layout: EvaluationLayout, look: Look
) -> list[PlacedError]:
    """Return one error for each wrong loss, or a single one for a loss that diverged."""
    if len(wrong_positions) <= _MAX_LISTED_LOSSES and len(wrong_positions) < len(losses):
        return [_build_loss_error(position, losses[position], layout, look) for position in wrong_positions]
    first_position = wrong_positions[0]
    if len(wrong_positions) == len(losses):
        detail = (
            f"none of the {len(losses)} losses is a finite number, not at the base either; give a point where it is"
        )
    else:
        example = _build_loss_error(first_position, losses[first_position], layout, look)["detail"]
        detail = (
            f"{len(wrong_positions)} of {len(losses)} losses are no finite numbers; the first is number "
            f"{first_position}: {example}"
        )
    return [error_at(detail, "losses")]


def _build_loss_error(position: int, value: object, layout: EvaluationLayout, look: Look) -> PlacedError:
    text = to_short_json(value)
    if _to_float(value) is None:
        return error_at(f"must be a number, or null; {text} was given", "losses", position)
    if position < BASE_REPEATS:
        return error_at(f"{text} is not finite: {_BASE_LOSS_MESSAGE.format(text)}", "losses", position)
    meaning = layout.describe_evaluation(int(look.evaluations[position]))
    return error_at(
        f"{text} is not finite, at point {position}: {meaning}; {_NONFINITE_LOSS_REMEDY}", "losses", position
    )
