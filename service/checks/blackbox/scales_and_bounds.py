"""How far tensors are moved, and within which bounds: what a request asks for, validated, and what follows from it.

A scale that is given is obeyed: it is taken down to a power of two, so that no step is larger than was asked for. One
number for a tensor whose elements are moved by themselves may be too small for its large elements, where their
datatype has no numbers so near; those are moved by their own sizes, as without it. Where there is a scale for each
element, or one that is too small for all, that is an error.
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
from service.numerics.core.batching import Array
from service.numerics.verdict.gradient_verdict import unravel_index

_UNKNOWN_TENSOR_MESSAGE = "there is no tensor {} in the point"


@dataclass(frozen=True)
class MoveSettings:
    """What a request says of how its point is moved: scales and bounds by name."""

    scales: Mapping[str, Tensor]
    bounds: Mapping[str, BoundsSpec]

    def find_errors(self, tensors: Mapping[str, Tensor], path_prefix: tuple[str, ...]) -> Iterator[PlacedError]:
        """Say what is wrong with them, one error for each tensor.

        Parameters
        ----------
        tensors
            The point.
        within
            Path into the request of what holds `point`, `scale` and `bounds`.
        """
        values = {name: each.array.astype(np.float64) for name, each in tensors.items()}
        scales = {name: _find_scale_errors(each, values[name]) for name, each in self.scales.items() if name in values}
        bounds = {name: _find_bounds_errors(each, values[name]) for name, each in self.bounds.items() if name in values}
        for field, named, found in (("scale", self.scales, scales), ("bounds", self.bounds, bounds)):
            for name in named:
                if wrong := found.get(name, (_UNKNOWN_TENSOR_MESSAGE.format(quote_name(name)),)):
                    yield error_at(wrong[0], *path_prefix, field, name, *wrong[1:])


def compute_step_sizes(
    name: str, values: Array, schedule: StepSchedule, settings: MoveSettings, *, random: bool
) -> Array:
    """How far each element is to be moved where there are no bounds, powers of two, (elements,)."""
    flat = values.ravel()
    if name in settings.scales:
        given = settings.scales[name].array.astype(np.float64)
        found = np.broadcast_to(_floor_to_power_of_two(given), values.shape).ravel()
        able = is_steppable(flat, found, schedule)
        if random or given.ndim == values.ndim > 0 or able.all() or not able.any():
            return found
        return np.where(able, found, choose_move_sizes(flat, schedule, random=False))
    return choose_move_sizes(flat, schedule, random=random)


def _floor_to_power_of_two(scale: Array) -> Array:
    """The power of two that is not above a number."""
    _, exponent = np.frexp(scale)
    return np.ldexp(1.0, exponent - 1)


def build_bounded_point(
    name: str, values: Array, schedule: StepSchedule, step_sizes: Array, settings: MoveSettings, *, random: bool
) -> TensorPoint:
    """One tensor of a point, and how it is moved within its bounds."""
    given = settings.bounds.get(name)
    domain = None if given is None else LossDomain(*(_broadcast_bound(each, values) for each in (given.min, given.max)))
    found = ElementMoves(step_sizes, np.zeros(step_sizes.shape, int))
    if domain is not None:
        found = find_element_moves(values.ravel(), step_sizes, domain, schedule, random=random)
    unit = (
        round_to_power_of_two(float(np.median(found.move_sizes[found.move_sizes > 0])))
        if found.move_sizes.any()
        else 1.0
    )
    return TensorPoint(values, schedule, unit, found, domain)


def find_narrow_bounds(
    name: str, point: TensorPoint, step_sizes: Array, path_prefix: tuple[str, ...]
) -> Iterator[PlacedError]:
    """Say where bounds leave no room for a step that would be one without them."""
    if point.domain is None or point.element_moves is None:
        return
    flat = point.values.ravel()
    stuck = (point.element_moves.move_sizes == 0) & is_steppable(flat, step_sizes, point.schedule)
    if stuck.any():
        at = int(np.argmax(stuck))
        low, high = (encode_number(float(each[at])) for each in (point.domain.low, point.domain.high))
        place = unravel_index(at, point.values.shape)
        detail = (
            f"leave no room for a step: at index {list(place)} the point is {flat[at]:.17g}, between {low} and {high}, "
            f"where {point.schedule.precision.name} has too few numbers; give wider bounds, or the point in a wider "
            "datatype"
        )
        yield error_at(detail, *path_prefix, "bounds", name)


def _broadcast_bound(bound: Tensor, values: Array) -> Array:
    return np.broadcast_to(bound.array.astype(np.float64), values.shape).ravel()


def _find_scale_errors(given_scale: Tensor, values: Array) -> tuple[str, ...]:
    wrong = _describe_wrong_form(given_scale, values)
    if wrong:
        return (wrong,)
    scale = given_scale.array.astype(np.float64)
    if not (scale > 0).all():
        return (f"must be above 0; {_describe_first_element(scale, ~(scale > 0))}",)
    outside = ~((scale >= MIN_SCALE) & (scale <= MAX_SCALE))
    if outside.any():
        return (
            f"{_describe_first_element(scale, outside)}: that leaves a float64 no room around it; give one from {MIN_SCALE:.3g} to "
            f"{MAX_SCALE:.3g}, and have the loss take its numbers in other units",
        )
    return ()


def _find_bounds_errors(bounds: BoundsSpec, values: Array) -> tuple[str, ...]:
    if not bounds.model_fields_set:
        return ("have neither min nor max; give one of them, or both",)
    for side, each in (("min", bounds.min), ("max", bounds.max)):
        if wrong := _describe_wrong_form(each, values):
            return (wrong, side)
        if np.isnan(each.array.astype(np.float64)).any():
            return ("must be numbers, or infinite where there is no bound; NaN was given", side)
    low, high = (np.broadcast_to(each.array.astype(np.float64), values.shape) for each in (bounds.min, bounds.max))
    if (low >= high).any():
        return (
            f"min must be below max; {_describe_first_element(low, low >= high)}, and as max {_format_first_value(high, low >= high)}",
        )
    for word, beyond, bound in (("min", values < low, low), ("max", values > high, high)):
        if beyond.any():
            return (
                f"exclude the point: {_describe_first_element(values, beyond, 'it is')}, and {word} is {_format_first_value(bound, beyond)}",
            )
    return ()


def _describe_wrong_form(tensor: Tensor, values: Array) -> str:
    if tensor.array.dtype.kind == "b":
        return "must be of numbers; datatype BOOL was given"
    if tensor.array.ndim and tensor.array.shape != values.shape:
        shapes = f"{list(tensor.array.shape)}; the point has {list(values.shape)}"
        return f"must be a number, or a tensor of the point's shape: its shape is {shapes}"
    return ""


def _describe_first_element(values: Array, mask: Array, statement: str = "") -> str:
    """Where the first of some elements is, and what was given there."""
    if not values.ndim:
        return (
            f"{_format_first_value(values, mask)} was given"
            if not statement
            else f"{statement} {_format_first_value(values, mask)}"
        )
    index = [int(each) for each in np.unravel_index(int(np.argmax(mask)), mask.shape)]
    if statement:
        return f"at index {index} {statement} {_format_first_value(values, mask)}"
    return f"at index {index} {_format_first_value(values, mask)} was given"


def _format_first_value(values: Array, mask: Array) -> str:
    return f"{float(np.broadcast_to(values, mask.shape)[mask].ravel()[0]):.9g}"
