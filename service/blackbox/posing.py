"""From tensors on the wire to a layout of evaluations, or what is too much of it, estimated before it is made."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from schemas.datatype import DATATYPES, Datatype
from schemas.plan import BoundsSpec
from schemas.problem import InvalidRequestError, PlacedError, placed
from schemas.tensor import Tensor
from service.blackbox.moving import Asked, bounded, cramped, sizes
from service.checking.question import Limits
from service.numerics.blackbox.domain import COARSEST
from service.numerics.blackbox.lattice import spacing
from service.numerics.blackbox.layout import BEFORE, DEFAULT_DIRECTIONS, Layout, laid_out, own_lines
from service.numerics.blackbox.lines import Point
from service.numerics.blackbox.schedule import NEAR, SCHEDULES
from service.numerics.tiles import Array
from service.numerics.verdict import index_of

BINARY = 8
"""Times as many numbers as in JSON may the points hold in the safetensors format, where each takes 8 bytes at most."""
_OF_A_TENSOR = 8
"""Numbers' worth of what each tensor of each point takes beside its numbers."""
_BYTES = 24
"""Of memory that each number of the points takes on its way out in the safetensors format."""


@dataclass(frozen=True)
class Posed:
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

    layout: Layout
    datatypes: Mapping[str, Datatype]
    random: bool
    count: int
    sizes: Mapping[str, Array]
    bounds: Mapping[str, BoundsSpec]


def posed(
    tensors: Mapping[str, Tensor],
    asked: Asked,
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
    _check(tensors, asked, limits, within)
    datatypes = {name: each.datatype or DATATYPES["FP64"] for name, each in tensors.items()}
    moved: dict[str, Array] = {}
    points: dict[str, Point] = {}
    for name, each in tensors.items():
        values, schedule = each.array.astype(np.float64), SCHEDULES[datatypes[name].name]
        moved[name] = sizes(name, values, schedule, asked, random=random)
        points[name] = bounded(name, values, schedule, moved[name], asked, random=random)
    if errors := [error for name, each in points.items() for error in cramped(name, each, moved[name], within)]:
        raise InvalidRequestError(errors)
    largest = max(each.values.size for each in points.values())
    if count is None:
        count = DEFAULT_DIRECTIONS if random else largest
    count = count if random else min(count, largest)
    most = min(limits.elements * room, limits.bytes // _BYTES)
    _check_size(points, random, count, most, room, within)
    layout = laid_out(points, random=random, count=count, seed=seed)
    if errors := [error for name in points for error in _reach(layout, name, moved[name], datatypes[name], within)]:
        raise InvalidRequestError(errors)
    return Posed(layout, datatypes, random, count, moved, asked.bounds)


def _check(tensors: Mapping[str, Tensor], asked: Asked, limits: Limits, within: tuple[str, ...]) -> None:
    errors: list[PlacedError] = []
    for name, each in tensors.items():
        if each.datatype is not None and each.datatype.kind != "float":
            detail = f"a point is of floats; datatype {each.datatype.name} was given"
            errors.append(placed(detail, *within, "point", name))
        if each.array.ndim > limits.dimensions:
            detail = f"{each.array.ndim} dimensions; at most {limits.dimensions} are taken"
            errors.append(placed(detail, *within, "point", name))
    errors += asked.errors(tensors, within)
    if errors:
        raise InvalidRequestError(errors)


def evaluations(points: Mapping[str, Point], count: int, *, random: bool) -> int:
    """How often the loss would be evaluated."""
    return (
        BEFORE
        + NEAR * own_lines(len(points))
        + sum(
            2 * len(each.schedule.exponents) * (count if random else min(count, each.values.size))
            for each in points.values()
        )
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


def _reach(layout: Layout, name: str, moved: Array, datatype: Datatype, within: tuple[str, ...]) -> list[PlacedError]:
    """Refuse a scale by which the tensor cannot be moved in its datatype."""
    point, moves = layout.points[name], layout.lines[name].moves
    place = (*within, "scale", name)
    stuck = point.ways is not None and not point.ways.sizes.all()
    if moves.coarseness > COARSEST or stuck or not _moves(moves.moves):
        return [placed(_too_small(point, moved, datatype), *place)]
    with np.errstate(over="ignore"):
        farthest = float((np.abs(moves.starts) + point.schedule.farthest * np.abs(moves.moves)).max())
    if not farthest <= _largest(datatype):
        detail = f"elements would be moved beyond the largest number of {datatype.name}; give a smaller scale"
        return [placed(detail, *place)]
    return []


def _too_small(point: Point, moved: Array, datatype: Datatype) -> str:
    flat, schedule = point.values.ravel(), point.schedule
    with np.errstate(over="ignore"):
        near = spacing(np.abs(flat) + schedule.farthest * moved, schedule.precision)
        least = np.maximum(near / (COARSEST * schedule.finest), 2 * moved)
        at = int((least / moved).argmax())
    return (
        f"the scale {moved[at]:g} is too small: {datatype.name} has no numbers that near to {flat[at]:g}, at index "
        f"{list(index_of(at, point.values.shape))}; give {least[at]:.3g} or more, or the point in a wider datatype"
    )


def _moves(moves: Array) -> bool:
    return bool(np.isfinite(moves).all()) and bool(moves.any(axis=tuple(range(1, moves.ndim))).all())


def _largest(datatype: Datatype) -> float:
    precision = SCHEDULES[datatype.name].precision
    return float(np.ldexp(1 - 2.0**-precision.digits, 2 - precision.exponent)) / 2
