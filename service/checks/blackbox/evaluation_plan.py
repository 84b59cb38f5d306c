"""From tensors on the wire to a layout of evaluations, or what is too much of it, estimated before it is made."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from schemas.datatype import DATATYPES, Datatype
from schemas.plan import BoundsSpec
from schemas.problem_details import InvalidRequestError, PlacedError, error_at
from schemas.tensor import Tensor
from service.checks.blackbox.scales_and_bounds import (
    MoveSettings,
    build_bounded_point,
    compute_step_sizes,
    find_narrow_bounds,
)
from service.checks.common.limits import Limits
from service.numerics.blackbox.domain import MAX_LATTICE_SPACING
from service.numerics.blackbox.lattice import compute_lattice_spacing
from service.numerics.blackbox.layout import (
    DEFAULT_DIRECTIONS,
    EVALUATIONS_BEFORE_STEPS,
    EvaluationLayout,
    count_own_lines,
    lay_out_evaluations,
)
from service.numerics.blackbox.lines import TensorPoint
from service.numerics.blackbox.schedule import NEAR_POINT_COUNT, STEP_SCHEDULES
from service.numerics.core.batching import Array
from service.numerics.verdict.gradient_verdict import unravel_index

BINARY_SIZE_FACTOR = 8
"""Times as many numbers as in JSON may the points hold in the safetensors format, where each takes 8 bytes at most."""
_NUMBERS_PER_TENSOR = 8
"""Numbers' worth of what each tensor of each point takes beside its numbers."""
_BYTES_PER_NUMBER = 24
"""Of memory that each number of the points takes on its way out in the safetensors format."""


@dataclass(frozen=True)
class EvaluationPlan:
    """What is evaluated, in the terms of the numerics, and what a plan says of it.

    Attributes
    ----------
    datatypes
        On the wire, by name.
    sizes
        How far elements are to be moved where no bounds are near, powers of two, by name, (elements,).
    bounds
        As they were given, by name.
    """

    layout: EvaluationLayout
    datatypes: Mapping[str, Datatype]
    random: bool
    direction_count: int
    step_sizes: Mapping[str, Array]
    bounds: Mapping[str, BoundsSpec]


def build_evaluation_plan(
    tensors: Mapping[str, Tensor],
    settings: MoveSettings,
    *,
    random: bool,
    count: int | None,
    seed: int,
    limits: Limits,
    size_factor: int = 1,
    path_prefix: tuple[str, ...] = (),
) -> EvaluationPlan:
    """Lay out the evaluations for a point.

    Parameters
    ----------
    tensors
        The point.
    asked
        How it is to be moved.
    room
        Times the elements of the limits that points may hold.
    within
        Path into the request of what holds `point`, `scale`, `bounds` and `directions`.

    Raises
    ------
    InvalidRequestError
        With all that is wrong with it.
    """
    _check_tensors(tensors, settings, limits, path_prefix)
    datatypes = {name: each.datatype or DATATYPES["FP64"] for name, each in tensors.items()}
    moved: dict[str, Array] = {}
    points: dict[str, TensorPoint] = {}
    for name, each in tensors.items():
        values, schedule = each.array.astype(np.float64), STEP_SCHEDULES[datatypes[name].name]
        moved[name] = compute_step_sizes(name, values, schedule, settings, random=random)
        points[name] = build_bounded_point(name, values, schedule, moved[name], settings, random=random)
    if errors := [
        error for name, each in points.items() for error in find_narrow_bounds(name, each, moved[name], path_prefix)
    ]:
        raise InvalidRequestError(errors)
    largest = max(each.values.size for each in points.values())
    if count is None:
        count = DEFAULT_DIRECTIONS if random else largest
    count = count if random else min(count, largest)
    most = min(limits.elements * size_factor, limits.bytes // _BYTES_PER_NUMBER)
    _check_point_size(points, random, count, most, size_factor, path_prefix)
    layout = lay_out_evaluations(points, random=random, count=count, seed=seed)
    if errors := [
        error
        for name in points
        for error in _find_unusable_scales(layout, name, moved[name], datatypes[name], path_prefix)
    ]:
        raise InvalidRequestError(errors)
    return EvaluationPlan(layout, datatypes, random, count, moved, settings.bounds)


def _check_tensors(
    tensors: Mapping[str, Tensor], settings: MoveSettings, limits: Limits, path_prefix: tuple[str, ...]
) -> None:
    errors: list[PlacedError] = []
    for name, each in tensors.items():
        if each.datatype is not None and each.datatype.kind != "float":
            detail = f"a point is of floats; datatype {each.datatype.name} was given"
            errors.append(error_at(detail, *path_prefix, "point", name))
        if each.array.ndim > limits.dimensions:
            detail = f"{each.array.ndim} dimensions; at most {limits.dimensions} are taken"
            errors.append(error_at(detail, *path_prefix, "point", name))
    errors += settings.find_errors(tensors, path_prefix)
    if errors:
        raise InvalidRequestError(errors)


def count_evaluations(points: Mapping[str, TensorPoint], count: int, *, random: bool) -> int:
    """How often the loss would be evaluated."""
    return (
        EVALUATIONS_BEFORE_STEPS
        + NEAR_POINT_COUNT * count_own_lines(len(points))
        + sum(
            2 * len(each.schedule.exponents) * (count if random else min(count, each.values.size))
            for each in points.values()
        )
    )


def _count_numbers(points: Mapping[str, TensorPoint], count: int, *, random: bool) -> int:
    """What all points would hold."""
    each = sum(point.values.size + _NUMBERS_PER_TENSOR for point in points.values())
    return count_evaluations(points, count, random=random) * each


def _check_point_size(
    points: Mapping[str, TensorPoint],
    random: bool,
    count: int,
    most: int,
    size_factor: int,
    path_prefix: tuple[str, ...],
) -> None:
    """Refuse points that would hold too much, and say how many directions would fit."""
    numbers = _count_numbers(points, count, random=random)
    if numbers <= most:
        return
    low, high = 0, count
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _count_numbers(points, middle, random=random) <= most else (low, middle)
    fits = f"a count of {low} would fit" if low else "not one direction would fit: name fewer or smaller tensors"
    more = (
        f"; with Accept: application/vnd.safetensors {BINARY_SIZE_FACTOR} times as many may"
        if size_factor == 1 and not path_prefix
        else ""
    )
    detail = (
        f"{count_evaluations(points, count, random=random)} points of all tensors would hold {numbers} numbers; at most "
        f"{most} may{more}. Of directions, {fits}"
    )
    raise InvalidRequestError([error_at(detail, *path_prefix, "directions", "count")], "over-budget")


def _find_unusable_scales(
    layout: EvaluationLayout, name: str, step_sizes: Array, datatype: Datatype, path_prefix: tuple[str, ...]
) -> list[PlacedError]:
    """Refuse a scale by which the tensor cannot be moved in its datatype."""
    point, moves = layout.points[name], layout.lines[name].moves
    place = (*path_prefix, "scale", name)
    stuck = point.element_moves is not None and not point.element_moves.move_sizes.all()
    if moves.coarseness > MAX_LATTICE_SPACING or stuck or not _moves_every_direction(moves.directions):
        return [error_at(_describe_small_scale(point, step_sizes, datatype), *place)]
    with np.errstate(over="ignore"):
        farthest = float((np.abs(moves.starts) + point.schedule.largest_step * np.abs(moves.directions)).max())
    if not farthest <= _find_largest_finite(datatype):
        detail = f"elements would be moved beyond the largest number of {datatype.name}; give a smaller scale"
        return [error_at(detail, *place)]
    return []


def _describe_small_scale(point: TensorPoint, step_sizes: Array, datatype: Datatype) -> str:
    flat, schedule = point.values.ravel(), point.schedule
    with np.errstate(over="ignore"):
        near = compute_lattice_spacing(np.abs(flat) + schedule.largest_step * step_sizes, schedule.precision)
        least = np.maximum(near / (MAX_LATTICE_SPACING * schedule.smallest_step), 2 * step_sizes)
        at = int((least / step_sizes).argmax())
    return (
        f"the scale {step_sizes[at]:g} is too small: {datatype.name} has no numbers that near to {flat[at]:g}, at index "
        f"{list(unravel_index(at, point.values.shape))}; give {least[at]:.3g} or more, or the point in a wider datatype"
    )


def _moves_every_direction(moves: Array) -> bool:
    return bool(np.isfinite(moves).all()) and bool(moves.any(axis=tuple(range(1, moves.ndim))).all())


def _find_largest_finite(datatype: Datatype) -> float:
    precision = STEP_SCHEDULES[datatype.name].precision
    return float(np.ldexp(1 - 2.0**-precision.significand_bits, 2 - precision.min_exponent)) / 2
