"""Where a loss is to be evaluated: the base, near points for its noise, and steps along directions of each tensor.

    0, 1, 2                  the base, three times: a loss that is not the same each time gives itself away
    3 ... 10, 11 ... 18      two lines of near points, all tensors moved together
    from 19                  by tensor, in the order of the request; by direction; by step, falling: plus, then minus

All of it follows from the point, the order of its tensors, the kind and number of directions, the seed and the scales
alone, so that a plan need not hold the points. What a tensor is moved by does not depend on the order.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from service.numerics.blackbox.lattice import Moves, on_lattice
from service.numerics.blackbox.schedule import NEAR, Schedule, power_of_two
from service.numerics.projection import drawn
from service.numerics.tiles import Array

REPEATS, LINES = 3, 2
BEFORE = REPEATS + LINES * NEAR
"""Evaluations before the first step."""
DEFAULT_DIRECTIONS = 4
"""Random directions of a tensor. One misses what it allows for over sqrt(pi / 2) times the error: to have found with
probability 0.999 an error r takes an allowance of r / 800 with one direction, r / 25 with two, r / 4 with four; from
there on further ones gain little. In float64 the allowance is some 1e-10 of the gradient's norm; 1e-4 of one element
of 10,000 is 1e-6 of it."""


@dataclass(frozen=True)
class Point:
    """One tensor: its values in float64, how far it is moved, and in which units, a power of two."""

    values: Array
    schedule: Schedule
    scale: float


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
    """

    elements: Array | None
    moves: Moves
    units: Array

    def __len__(self) -> int:
        return len(self.units)

    @property
    def directions(self) -> Array:
        """The directions, (k, elements), of random ones."""
        return self.moves.moves / self.units[:, None]


@dataclass(frozen=True)
class Layout:
    """Everything that is evaluated, by the names of the tensors, in the order in which they were given."""

    points: Mapping[str, Point]
    lines: Mapping[str, Lines]
    seed: int

    @property
    def evaluations(self) -> int:
        """How often the loss is evaluated."""
        return BEFORE + sum(
            2 * len(lines) * len(self.points[name].schedule.steps) for name, lines in self.lines.items()
        )

    def first(self, name: str) -> int:
        """Number of the first evaluation for a tensor."""
        found = BEFORE
        for each, lines in self.lines.items():
            if each == name:
                break
            found += 2 * len(lines) * len(self.points[each].schedule.steps)
        return found

    def of(self, name: str, losses: Array) -> Array:
        """Losses for a tensor, (k, levels, 2), of all of them, (evaluations,)."""
        shape = len(self.lines[name]), len(self.points[name].schedule.steps), 2
        first = self.first(name)
        return losses[first : first + int(np.prod(shape))].reshape(shape)

    def stacked(self, name: str) -> Array:
        """All points of a tensor, float64, (evaluations, ...)."""
        point = self.points[name]
        flat = np.tile(point.values.ravel(), (self.evaluations, 1))
        for line in range(LINES):
            begin = REPEATS + line * NEAR
            flat[begin : begin + NEAR] = _near(point, self.seed, name, line)
        lines, steps = self.lines[name], point.schedule.steps
        first = self.first(name)
        block = flat[first : first + 2 * len(lines) * len(steps)].reshape(len(lines), len(steps), 2, -1)
        for sign, side in ((1.0, 0), (-1.0, 1)):
            moved = (
                lines.moves.starts[:, None]
                + sign * steps.reshape(-1, *[1] * (lines.moves.moves.ndim - 1)) * (lines.moves.moves[:, None])
            )
            if lines.elements is None:
                block[:, :, side] = moved
            else:
                block[np.arange(len(lines)), :, side, lines.elements] = moved
        return flat.reshape(-1, *point.values.shape)

    def told(self, number: int) -> str:
        """What an evaluation is of."""
        if number < REPEATS:
            return "the base"
        if number < BEFORE:
            line, near = divmod(number - REPEATS, NEAR)
            return f"near point {near + 1} of line {line + 1}, all tensors moved"
        for name, lines in self.lines.items():
            schedule = self.points[name].schedule
            within = number - self.first(name)
            if within < 2 * len(lines) * len(schedule.steps):
                direction, rest = divmod(within, 2 * len(schedule.steps))
                level, side = divmod(rest, 2)
                step = ("+", "-")[side] + f"2^-{schedule.exponents[level]}"
                return f"{name!r:.60} moved along direction {direction} by {step} of its scale"
        raise IndexError(number)


def laid_out(points: Mapping[str, Point], *, random: bool, count: int | None, seed: int) -> Layout:
    """Lay out the evaluations.

    Parameters
    ----------
    points
        Tensors by name, in the order in which they are to be moved.
    random
        Whether directions are drawn from the standard Gaussian; else each is that of one element.
    count
        Directions of each tensor; all elements, or `DEFAULT_DIRECTIONS`, if None.
    """
    points = dict(points)
    lines = {
        name: (_gaussian if random else _of_elements)(
            point, directions_of(point, random=random, count=count), seed, name
        )
        for name, point in points.items()
    }
    return Layout(points, lines, seed)


def directions_of(point: Point, *, random: bool, count: int | None) -> int:
    """How many directions a tensor is moved along."""
    if random:
        return count or DEFAULT_DIRECTIONS
    return min(count or point.values.size, point.values.size)


def _gaussian(point: Point, count: int, seed: int, name: str) -> Lines:
    wanted = drawn(count, (point.values.size,), seed, name) * point.scale
    schedule = point.schedule
    moves = on_lattice(
        point.values.ravel(),
        wanted,
        np.array(point.scale),
        schedule.farthest,
        schedule.finest,
        schedule.precision,
    )
    return Lines(None, moves, np.full(count, point.scale))


def _of_elements(point: Point, count: int, seed: int, name: str) -> Lines:
    """Elements without replacement, in order, each moved by its own size where that is larger than the scale."""
    generator = np.random.default_rng([seed, 0xC0, *name.encode()])
    elements = np.sort(generator.choice(point.values.size, count, replace=False))
    values, schedule = point.values.ravel()[elements], point.schedule
    sizes = np.array([max(point.scale, power_of_two(abs(value))) for value in values.tolist()])
    moves = on_lattice(values, sizes, sizes, schedule.farthest, schedule.finest, schedule.precision)
    return Lines(elements, moves, moves.moves)


def _near(point: Point, seed: int, name: str, line: int) -> Array:
    """Near points 1 ... NEAR of a line, (NEAR, elements)."""
    along = drawn(LINES, (point.values.size,), seed, f"{name}\0near")[line : line + 1] * point.scale
    spacing = 2.0 ** -point.schedule.near[line]
    values = point.values.ravel()
    found = on_lattice(values, along, np.array(point.scale), NEAR * spacing, spacing, point.schedule.precision)
    return found.starts + np.arange(1, NEAR + 1)[:, None] * spacing * found.moves
