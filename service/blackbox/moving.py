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
from schemas.problem import PlacedError, placed, shown
from schemas.tensor import Tensor, spelled
from service.numerics.blackbox.domain import Domain, Ways, steppable, ways
from service.numerics.blackbox.lines import Point
from service.numerics.blackbox.schedule import LARGEST_SCALE, LEAST_SCALE, Schedule, power_of_two, usual
from service.numerics.tiles import Array
from service.numerics.verdict import index_of

_NOTHING = "there is no tensor {} in the point"


@dataclass(frozen=True)
class Asked:
    """What a request says of how its point is moved: scales and bounds by name."""

    scales: Mapping[str, Tensor]
    bounds: Mapping[str, BoundsSpec]

    def errors(self, tensors: Mapping[str, Tensor], within: tuple[str, ...]) -> Iterator[PlacedError]:
        """Say what is wrong with them, one error for each tensor.

        Parameters
        ----------
        tensors
            The point.
        within
            Path into the request of what holds `point`, `scale` and `bounds`.
        """
        values = {name: each.array.astype(np.float64) for name, each in tensors.items()}
        scales = {name: _of_scale(each, values[name]) for name, each in self.scales.items() if name in values}
        bounds = {name: _of_bounds(each, values[name]) for name, each in self.bounds.items() if name in values}
        for field, named, found in (("scale", self.scales, scales), ("bounds", self.bounds, bounds)):
            for name in named:
                if wrong := found.get(name, (_NOTHING.format(shown(name)),)):
                    yield placed(wrong[0], *within, field, name, *wrong[1:])


def sizes(name: str, values: Array, schedule: Schedule, asked: Asked, *, random: bool) -> Array:
    """How far each element is to be moved where there are no bounds, powers of two, (elements,)."""
    flat = values.ravel()
    if name in asked.scales:
        given = asked.scales[name].array.astype(np.float64)
        found = np.broadcast_to(_lowered(given), values.shape).ravel()
        able = steppable(flat, found, schedule)
        if random or given.ndim == values.ndim > 0 or able.all() or not able.any():
            return found
        return np.where(able, found, usual(flat, schedule, random=False))
    return usual(flat, schedule, random=random)


def _lowered(scale: Array) -> Array:
    """The power of two that is not above a number."""
    _, exponent = np.frexp(scale)
    return np.ldexp(1.0, exponent - 1)


def bounded(name: str, values: Array, schedule: Schedule, moved: Array, asked: Asked, *, random: bool) -> Point:
    """One tensor of a point, and how it is moved within its bounds."""
    given = asked.bounds.get(name)
    domain = None if given is None else Domain(*(_each(each, values) for each in (given.min, given.max)))
    found = Ways(moved, np.zeros(moved.shape, int))
    if domain is not None:
        found = ways(values.ravel(), moved, domain, schedule, random=random)
    unit = power_of_two(float(np.median(found.sizes[found.sizes > 0]))) if found.sizes.any() else 1.0
    return Point(values, schedule, unit, found, domain)


def cramped(name: str, point: Point, moved: Array, within: tuple[str, ...]) -> Iterator[PlacedError]:
    """Say where bounds leave no room for a step that would be one without them."""
    if point.domain is None or point.ways is None:
        return
    flat = point.values.ravel()
    stuck = (point.ways.sizes == 0) & steppable(flat, moved, point.schedule)
    if stuck.any():
        at = int(np.argmax(stuck))
        low, high = (spelled(float(each[at])) for each in (point.domain.low, point.domain.high))
        place = index_of(at, point.values.shape)
        detail = (
            f"leave no room for a step: at index {list(place)} the point is {flat[at]:.17g}, between {low} and {high}, "
            f"where {point.schedule.precision.name} has too few numbers; give wider bounds, or the point in a wider "
            "datatype"
        )
        yield placed(detail, *within, "bounds", name)


def _each(bound: Tensor, values: Array) -> Array:
    return np.broadcast_to(bound.array.astype(np.float64), values.shape).ravel()


def _of_scale(given: Tensor, values: Array) -> tuple[str, ...]:
    wrong = _form(given, values)
    if wrong:
        return (wrong,)
    scale = given.array.astype(np.float64)
    if not (scale > 0).all():
        return (f"must be above 0; {_at(scale, ~(scale > 0))}",)
    outside = ~((scale >= LEAST_SCALE) & (scale <= LARGEST_SCALE))
    if outside.any():
        return (
            f"{_at(scale, outside)}: that leaves a float64 no room around it; give one from {LEAST_SCALE:.3g} to "
            f"{LARGEST_SCALE:.3g}, and have the loss take its numbers in other units",
        )
    return ()


def _of_bounds(given: BoundsSpec, values: Array) -> tuple[str, ...]:
    if not given.model_fields_set:
        return ("have neither min nor max; give one of them, or both",)
    for side, each in (("min", given.min), ("max", given.max)):
        if wrong := _form(each, values):
            return (wrong, side)
        if np.isnan(each.array.astype(np.float64)).any():
            return ("must be numbers, or infinite where there is no bound; NaN was given", side)
    low, high = (np.broadcast_to(each.array.astype(np.float64), values.shape) for each in (given.min, given.max))
    if (low >= high).any():
        return (f"min must be below max; {_at(low, low >= high)}, and as max {_number(high, low >= high)}",)
    for word, beyond, bound in (("min", values < low, low), ("max", values > high, high)):
        if beyond.any():
            return (f"exclude the point: {_at(values, beyond, 'it is')}, and {word} is {_number(bound, beyond)}",)
    return ()


def _form(given: Tensor, values: Array) -> str:
    if given.array.dtype.kind == "b":
        return "must be of numbers; datatype BOOL was given"
    if given.array.ndim and given.array.shape != values.shape:
        shapes = f"{list(given.array.shape)}; the point has {list(values.shape)}"
        return f"must be a number, or a tensor of the point's shape: its shape is {shapes}"
    return ""


def _at(values: Array, where: Array, told: str = "") -> str:
    """Where the first of some elements is, and what was given there."""
    if not values.ndim:
        return f"{_number(values, where)} was given" if not told else f"{told} {_number(values, where)}"
    index = [int(each) for each in np.unravel_index(int(np.argmax(where)), where.shape)]
    if told:
        return f"at index {index} {told} {_number(values, where)}"
    return f"at index {index} {_number(values, where)} was given"


def _number(values: Array, where: Array) -> str:
    return f"{float(np.broadcast_to(values, where.shape)[where].ravel()[0]):.9g}"
