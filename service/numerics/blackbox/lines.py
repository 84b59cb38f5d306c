"""Lines along which one tensor is moved: Gaussian directions of all its elements, single elements, and near points."""

from dataclasses import dataclass

import numpy as np

from service.numerics.blackbox.domain import MOST_DEVIATIONS, Domain, Ways
from service.numerics.blackbox.lattice import Moves, on_lattice, spacing
from service.numerics.blackbox.schedule import NEAR, Schedule, power_of_two
from service.numerics.projection import drawn
from service.numerics.tiles import Array

NEAR_LINES = 2
_HALVED = 4.2
"""A sum of halves of Gaussian numbers and whole ones, of deviations of norm s, is log-concave with a variance of
(1 - 2 / pi) s^2 at least. The density of such a one is 1 over its deviation at most (Bobkov and Chistyakov 2015),
which is 1.66 / s, and that of N(0, s^2) is 0.399 / s: 4.2 times as much."""


@dataclass(frozen=True)
class Point:
    """One tensor.

    Attributes
    ----------
    values
        In float64.
    schedule
        Its steps.
    scale
        The unit of its directions, a power of two: how far it is moved where `ways` does not tell.
    ways
        How each element is moved; None where along a direction all are moved by the scale, and an element alone by its
        own size where that is larger.
    domain
        Within which all of its points lie, if it has bounds; then it has `ways`.
    """

    values: Array
    schedule: Schedule
    scale: float
    ways: Ways | None = None
    domain: Domain | None = None

    def moved(self, *, random: bool) -> Ways:
        """How each element is moved."""
        if self.ways is not None:
            return self.ways
        flat = self.values.ravel()
        sizes = np.full(flat.shape, self.scale)
        if not random:
            sizes = np.array([max(self.scale, power_of_two(abs(value))) for value in flat.tolist()])
        return Ways(sizes, np.zeros(flat.shape, int))


@dataclass(frozen=True)
class Lines:
    """Directions of one tensor.

    Attributes
    ----------
    elements
        Flat index of the element that each moves; None where each moves all.
    moves
        Where to.
    units
        What a difference by the step is divided by to be the derivative, (k,).
    weights
        How far each element is moved by a random direction, in units of its tensor's scale, (elements,) or (1,): the
        direction is standard Gaussian where the gradient is taken times these.
    sides
        0 for a direction with points on both sides, 1 or -1 for one with points on one side alone, (k,).
    halved
        Whether random directions have elements that they move to one side alone, by half a Gaussian.
    """

    elements: Array | None
    moves: Moves
    units: Array
    weights: Array
    sides: Array
    halved: bool = False

    def __len__(self) -> int:
        return len(self.units)

    @property
    def concentration(self) -> float:
        """Times how much nearer to 0 an inner product with a random direction may lie than a Gaussian one."""
        return _HALVED if self.halved else 1.0

    @property
    def directions(self) -> Array:
        """The directions, (k, elements), of random ones; for a gradient that was taken times `weights`."""
        return self.moves.moves / (self.units[:, None] * self.weights)


def gaussian(point: Point, count: int, seed: int, name: str) -> Lines:
    """Standard Gaussian directions, in units of the moves of elements; no more of bounded ones than fits."""
    schedule, ways = point.schedule, point.moved(random=True)
    halved = bool(ways.sides.any())
    drawn_parts = _within(drawn(count, (point.values.size,), seed, name), point, ways, MOST_DEVIATIONS)
    moves = on_lattice(
        point.values.ravel(),
        drawn_parts * ways.sizes,
        ways.sizes,
        schedule.farthest,
        schedule.finest,
        schedule.precision,
        ways.sides,
    )
    weights = ways.sizes / point.scale
    return Lines(
        None,
        moves,
        np.full(count, point.scale),
        weights[:1] if (weights == weights[0]).all() else weights,
        np.full(count, int(halved)),
        halved,
    )


def _within(parts: Array, point: Point, ways: Ways, most: float) -> Array:
    """Parts of the sizes by which elements are moved, (..., elements): no more than there is room for, and to there."""
    if point.domain is None:
        return parts
    parts = np.clip(parts, -most, most)
    return np.where(ways.sides == 0, parts, np.abs(parts) * ways.sides)


def of_elements(point: Point, count: int, seed: int, name: str) -> Lines:
    """Elements without replacement, in order, each moved by its own size."""
    generator = np.random.default_rng([seed, 0xC0, *name.encode()])
    elements = np.sort(generator.choice(point.values.size, count, replace=False))
    values, schedule, ways = point.values.ravel()[elements], point.schedule, point.moved(random=False)
    sizes, sides = ways.sizes[elements], ways.sides[elements]
    moves = on_lattice(values, sizes, sizes, schedule.farthest, schedule.finest, schedule.precision, sides)
    return Lines(elements, moves, moves.moves, np.ones(1), sides)


_NEAREST = 2.0
"""Distances on the lattice by which an element that is moved by little is moved at least from one near point to the
next: noise that it does not feel is not measured."""


def near(point: Point, seed: int, name: str, line: int, *, random: bool) -> Array:
    """Near points 1 ... NEAR of a line, (NEAR, elements)."""
    schedule, ways = point.schedule, point.moved(random=random)
    step = 2.0 ** -schedule.near[line]
    values = point.values.ravel()
    parts = drawn(NEAR_LINES, (values.size,), seed, f"{name}\0near")[line : line + 1]
    parts = _within(parts, point, ways, schedule.farthest / (NEAR * step))
    # A near point is no farther away than others are: the largest of them by as much as a direction's part of one.
    least = _NEAREST * spacing(np.abs(values), schedule.precision) / step
    sizes = np.maximum(ways.sizes, np.minimum(least, ways.sizes * schedule.farthest / (NEAR * step)))
    found = on_lattice(values, parts * sizes, sizes, NEAR * step, step, schedule.precision, ways.sides)
    points = found.starts + np.arange(1, NEAR + 1)[:, None] * step * found.moves
    if point.domain is not None:
        stays = ~np.logical_and.reduce(point.domain.holds(points))
        points[:, stays] = values[stays]
    return points
