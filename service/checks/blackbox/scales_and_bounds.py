"""Scales and bounds of the moves of tensors, validated, and the moves themselves.

A scale of the request is obeyed. It is rounded down to a power of two, so that no step is larger than requested. A
single number for a tensor of which each element moves alone may be too small for its large elements: their datatype
has no numbers so near. Such elements move by their own sizes, as without a scale. A scale for each element that is too
small, or a number that is too small for all elements, is an error.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from schemas.plan import BoundsSpec
from schemas.problem_details import PlacedError, error_at, quote_name
from schemas.tensor import Tensor, encode_number
from service.numerics.blackbox.domain import ElementMoves, LossDomain, find_element_moves, is_steppable
from service.numerics.blackbox.lines import TensorPoint
from service.numerics.blackbox.schedule import (
    MAX_SCALE,
    MIN_SCALE,
    StepSchedule,
    choose_move_sizes,
    round_to_power_of_two,
)
from service.numerics.core.batching import Array, unravel_index
from service.numerics.core.medians import compute_median

_UNKNOWN_TENSOR_MESSAGE = "there is no tensor {} in the point"


@dataclass(frozen=True)
class MoveSettings:
    """Scales and bounds of a request, by name."""

    scales: Mapping[str, Tensor]
    bounds: Mapping[str, BoundsSpec]

    def find_errors(self, tensors: Mapping[str, Tensor], path_prefix: tuple[str, ...]) -> Iterator[PlacedError]:
        """Yield the errors of scales and bounds, one for each tensor.

        Parameters
        ----------
        tensors
            Tensors of the point, by name.
        path_prefix
            Path into the request of the object with `point`, `scale` and `bounds`.
        """
        values = {name: tensor.array.astype(np.float64) for name, tensor in tensors.items()}
        scale_errors = {
            name: _find_scale_errors(scale, values[name]) for name, scale in self.scales.items() if name in values
        }
        bounds_errors = {
            name: _find_bounds_errors(bounds, values[name]) for name, bounds in self.bounds.items() if name in values
        }
        for field, names, errors in (("scale", self.scales, scale_errors), ("bounds", self.bounds, bounds_errors)):
            for name in names:
                if error := errors.get(name, (_UNKNOWN_TENSOR_MESSAGE.format(quote_name(name)),)):
                    yield error_at(error[0], *path_prefix, field, name, *error[1:])


def compute_step_sizes(
    name: str, values: Array, schedule: StepSchedule, settings: MoveSettings, *, random: bool
) -> Array:
    """Return the move of each element away from bounds, powers of two of shape (elements,)."""
    flat_values = values.ravel()
    if name in settings.scales:
        scale = settings.scales[name].array.astype(np.float64)
        sizes = np.broadcast_to(_floor_to_power_of_two(scale), values.shape).ravel()
        is_able = is_steppable(flat_values, sizes, schedule)
        if random or scale.ndim == values.ndim > 0 or is_able.all() or not is_able.any():
            return sizes
        return np.where(is_able, sizes, choose_move_sizes(flat_values, schedule, random=False))
    return choose_move_sizes(flat_values, schedule, random=random)


def _floor_to_power_of_two(scale: Array) -> Array:
    """Return the largest power of two that is not above each number."""
    _, exponent = np.frexp(scale)
    return np.ldexp(1.0, exponent - 1)


def build_bounded_point(
    name: str, values: Array, schedule: StepSchedule, step_sizes: Array, settings: MoveSettings, *, random: bool
) -> TensorPoint:
    """Build one tensor of a point with its moves within its bounds."""
    bounds = settings.bounds.get(name)
    domain = None
    if bounds is not None:
        domain = LossDomain(_broadcast_bound(bounds.min, values), _broadcast_bound(bounds.max, values))
    moves = ElementMoves(step_sizes, np.zeros(step_sizes.shape, int))
    if domain is not None:
        moves = find_element_moves(values.ravel(), step_sizes, domain, schedule, random=random)
    unit = (
        round_to_power_of_two(compute_median(moves.move_sizes[moves.move_sizes > 0])) if moves.move_sizes.any() else 1.0
    )
    return TensorPoint(values, schedule, unit, moves, domain)


def find_narrow_bounds(
    name: str, point: TensorPoint, step_sizes: Array, path_prefix: tuple[str, ...]
) -> Iterator[PlacedError]:
    """Yield the error of bounds that leave no room for a step, though the datatype has one."""
    if point.domain is None or point.element_moves is None:
        return
    flat_values = point.values.ravel()
    is_immovable = (point.element_moves.move_sizes == 0) & is_steppable(flat_values, step_sizes, point.schedule)
    if is_immovable.any():
        position = int(np.argmax(is_immovable))
        low, high = (encode_number(float(bound[position])) for bound in (point.domain.low, point.domain.high))
        index = unravel_index(position, point.values.shape)
        detail = (
            f"leave no room for a step: at index {list(index)} the point is {flat_values[position]:.17g}, between "
            f"{low} and {high}, where {point.schedule.precision.name} has too few numbers; give wider bounds, or "
            "the point in a wider datatype"
        )
        yield error_at(detail, *path_prefix, "bounds", name)


def _broadcast_bound(bound: Tensor, values: Array) -> Array:
    return np.broadcast_to(bound.array.astype(np.float64), values.shape).ravel()


def _find_scale_errors(given_scale: Tensor, values: Array) -> tuple[str, ...]:
    if error := _describe_wrong_form(given_scale, values):
        return (error,)
    scale = given_scale.array.astype(np.float64)
    if not (scale > 0).all():
        return (f"must be above 0; {_describe_first_element(scale, ~(scale > 0))}",)
    is_outside = ~((scale >= MIN_SCALE) & (scale <= MAX_SCALE))
    if is_outside.any():
        return (
            f"{_describe_first_element(scale, is_outside)}: that leaves a float64 no room around it; give one from "
            f"{MIN_SCALE:.3g} to {MAX_SCALE:.3g}, and have the loss take its numbers in other units",
        )
    return ()


def _find_bounds_errors(bounds: BoundsSpec, values: Array) -> tuple[str, ...]:
    if not bounds.model_fields_set:
        return ("have neither min nor max; give one of them, or both",)
    for side, bound in (("min", bounds.min), ("max", bounds.max)):
        if error := _describe_wrong_form(bound, values):
            return (error, side)
        if np.isnan(bound.array.astype(np.float64)).any():
            return ("must be numbers, or infinite where there is no bound; NaN was given", side)
    low, high = (np.broadcast_to(side.array.astype(np.float64), values.shape) for side in (bounds.min, bounds.max))
    is_crossed = low >= high
    if is_crossed.any():
        first_element = _describe_first_element(low, is_crossed)
        return (f"min must be below max; {first_element}, and as max {_format_first_value(high, is_crossed)}",)
    for side, is_beyond, limit in (("min", values < low, low), ("max", values > high, high)):
        if is_beyond.any():
            first_element = _describe_first_element(values, is_beyond, "it is")
            return (f"exclude the point: {first_element}, and {side} is {_format_first_value(limit, is_beyond)}",)
    return ()


def _describe_wrong_form(tensor: Tensor, values: Array) -> str:
    if tensor.array.dtype.kind == "b":
        return "must be of numbers; datatype BOOL was given"
    if tensor.array.ndim and tensor.array.shape != values.shape:
        shapes = f"{list(tensor.array.shape)}; the point has {list(values.shape)}"
        return f"must be a number, or a tensor of the point's shape: its shape is {shapes}"
    return ""


def _describe_first_element(values: Array, mask: Array, statement: str = "") -> str:
    """Describe the first of some elements by its index and its value."""
    if not values.ndim:
        return (
            f"{_format_first_value(values, mask)} was given"
            if not statement
            else f"{statement} {_format_first_value(values, mask)}"
        )
    index = [int(number) for number in np.unravel_index(int(np.argmax(mask)), mask.shape)]
    if statement:
        return f"at index {index} {statement} {_format_first_value(values, mask)}"
    return f"at index {index} {_format_first_value(values, mask)} was given"


def _format_first_value(values: Array, mask: Array) -> str:
    return f"{float(np.broadcast_to(values, mask.shape)[mask].ravel()[0]):.9g}"
