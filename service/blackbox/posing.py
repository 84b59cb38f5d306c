"""From tensors on the wire to a layout of evaluations, or what is too much of it, estimated before it is made."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from schemas.datatype import DATATYPES, Datatype
from schemas.problem import InvalidRequestError, PlacedError, placed, shown
from schemas.tensor import Tensor
from service.checking.question import Limits
from service.numerics.blackbox.layout import BEFORE, DEFAULT_DIRECTIONS, Layout, Point, laid_out
from service.numerics.blackbox.schedule import LARGEST_SCALE, LEAST_SCALE, SCHEDULES, power_of_two, typical
from service.numerics.tiles import Array

BINARY = 8
"""Times as many numbers as in JSON may the points hold in the safetensors format, where each takes 8 bytes at most."""
_OF_A_TENSOR = 8
"""Numbers' worth of what each tensor of each point takes beside its numbers."""
_BYTES = 24
"""Of memory that each number of the points takes on its way out in the safetensors format."""
_COARSEST = 0.5
"""Largest distance on the lattice of a datatype, in moves of the smallest step."""


@dataclass(frozen=True)
class Posed:
    """What is evaluated, in the terms of the numerics, and the datatypes on the wire, by name."""

    layout: Layout
    datatypes: Mapping[str, Datatype]
    random: bool
    count: int


def posed(
    tensors: Mapping[str, Tensor],
    scales: Mapping[str, float],
    *,
    random: bool,
    count: int | None,
    seed: int,
    limits: Limits,
    room: int = 1,
    within: tuple[str, ...] = (),
) -> Posed:
    """Lay out the evaluations for a point.

    Parameters
    ----------
    tensors
        The point.
    scales
        Of those tensors that are not moved by their own scale.
    room
        Times the elements of the limits that points may hold.
    within
        Path into the request of what holds `point`, `scale` and `directions`.

    Raises
    ------
    InvalidRequestError
        With all that is wrong with it.
    """
    _check(tensors, scales, limits, within)
    datatypes = {name: each.datatype or DATATYPES["FP64"] for name, each in tensors.items()}
    points = {
        name: Point(values, schedule, power_of_two(scales[name]) if name in scales else typical(values, schedule))
        for name, each in tensors.items()
        for values, schedule in [(each.array.astype(np.float64), SCHEDULES[datatypes[name].name])]
    }
    largest = max(each.values.size for each in points.values())
    if count is None:
        count = DEFAULT_DIRECTIONS if random else largest
    count = count if random else min(count, largest)
    most = min(limits.elements * room, limits.bytes // _BYTES)
    _check_size(points, random, count, most, room, within)
    layout = laid_out(points, random=random, count=count, seed=seed)
    if errors := [error for name in points for error in _reach(layout, name, datatypes[name], within)]:
        raise InvalidRequestError(errors)
    return Posed(layout, datatypes, random, count)


def _check(tensors: Mapping[str, Tensor], scales: Mapping[str, float], limits: Limits, within: tuple[str, ...]) -> None:
    errors: list[PlacedError] = []
    for name, each in tensors.items():
        if each.datatype is not None and each.datatype.kind != "float":
            detail = f"a point is of floats; datatype {each.datatype.name} was given"
            errors.append(placed(detail, *within, "point", name))
        if each.array.ndim > limits.dimensions:
            detail = f"{each.array.ndim} dimensions; at most {limits.dimensions} are taken"
            errors.append(placed(detail, *within, "point", name))
    errors += [
        placed(f"there is no tensor {shown(name)} in the point", *within, "scale", name)
        for name in scales
        if name not in tensors
    ]
    errors += [
        placed(
            f"the scale {scale:g} leaves a float64 no room around it; give one from {LEAST_SCALE:.3g} to "
            f"{LARGEST_SCALE:.3g}, and have the loss take its numbers in other units",
            *within,
            "scale",
            name,
        )
        for name, scale in scales.items()
        if not LEAST_SCALE <= scale <= LARGEST_SCALE
    ]
    if errors:
        raise InvalidRequestError(errors)


def evaluations(points: Mapping[str, Point], count: int, *, random: bool) -> int:
    """How often the loss would be evaluated."""
    return BEFORE + sum(
        2 * len(each.schedule.exponents) * (count if random else min(count, each.values.size))
        for each in points.values()
    )


def _numbers(points: Mapping[str, Point], count: int, *, random: bool) -> int:
    """What all points would hold."""
    each = sum(point.values.size + _OF_A_TENSOR for point in points.values())
    return evaluations(points, count, random=random) * each


def _check_size(
    points: Mapping[str, Point], random: bool, count: int, most: int, room: int, within: tuple[str, ...]
) -> None:
    """Refuse points that would hold too much, and say how many directions would fit."""
    numbers = _numbers(points, count, random=random)
    if numbers <= most:
        return
    low, high = 0, count
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if _numbers(points, middle, random=random) <= most else (low, middle)
    fits = f"a count of {low} would fit" if low else "not one direction would fit: name fewer or smaller tensors"
    more = f"; with Accept: application/vnd.safetensors {BINARY} times as many may" if room == 1 and not within else ""
    detail = (
        f"{evaluations(points, count, random=random)} points of all tensors would hold {numbers} numbers; at most "
        f"{most} may{more}. Of directions, {fits}"
    )
    raise InvalidRequestError([placed(detail, *within, "directions", "count")], "over-budget")


def _reach(layout: Layout, name: str, datatype: Datatype, within: tuple[str, ...]) -> list[PlacedError]:
    """Refuse a scale by which the tensor cannot be moved in its datatype."""
    point, moves = layout.points[name], layout.lines[name].moves
    place = (*within, "scale", name)
    if moves.coarseness > _COARSEST or not (_moves(moves.moves)):
        least = point.scale * max(moves.coarseness / _COARSEST, 2.0)
        detail = (
            f"the scale {point.scale:g} is too small: {datatype.name} has no numbers that near to some of the "
            f"elements; give {least:.3g} or more, or the point in a wider datatype"
        )
        return [placed(detail, *place)]
    with np.errstate(over="ignore"):
        farthest = float((np.abs(moves.starts) + point.schedule.farthest * np.abs(moves.moves)).max())
    if not farthest <= _largest(datatype):
        detail = f"elements would be moved beyond the largest number of {datatype.name}; give a smaller scale"
        return [placed(detail, *place)]
    return []


def _moves(moves: Array) -> bool:
    return bool(np.isfinite(moves).all()) and bool(moves.any(axis=tuple(range(1, moves.ndim))).all())


def _largest(datatype: Datatype) -> float:
    precision = SCHEDULES[datatype.name].precision
    return float(np.ldexp(1 - 2.0**-precision.digits, 2 - precision.exponent)) / 2
