"""Where a loss is to be evaluated: the base, near points for its noise, and steps along directions of each tensor.

    0, 1, 2                  the base, three times: a loss that is not the same each time gives itself away
    3 ... 10, 11 ... 18      two lines of near points, all tensors moved together
    from 19                  of several tensors, a line of near points each, all others staying; of more than 16, each
                             line is of every 16th
    then                     by tensor, in the order of the request; by direction; by step, falling: plus, then minus;
                             of directions that have room on one side alone, two steps on that side (sides.py)

All of it follows from the point, the order of its tensors, the kind and number of directions, the seed, the scales and
the bounds alone, so that a plan need not hold the points. What a tensor is moved by does not depend on the order.
"""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from service.numerics.blackbox.lines import NEAR_LINES, Lines, Point, gaussian, near, of_elements
from service.numerics.blackbox.schedule import NEAR
from service.numerics.blackbox.sides import offsets, told
from service.numerics.pausing import pausing
from service.numerics.tiles import Array

REPEATS, LINES = 3, NEAR_LINES
BEFORE = REPEATS + LINES * NEAR
"""Evaluations before the first step."""
DEFAULT_DIRECTIONS = 4
"""Random directions of a tensor. One misses what it allows for over sqrt(pi / 2) times the error: to have found with
probability 0.999 an error r takes an allowance of r / 800 with one direction, r / 25 with two, r / 4 with four; from
there on further ones gain little. In float64 the allowance is some 1e-10 of the gradient's norm; 1e-4 of one element
of 10,000 is 1e-6 of it."""


@dataclass(frozen=True)
class Layout:
    """Everything that is evaluated, by the names of the tensors, in the order in which they were given.

    Attributes
    ----------
    begins
        Number of the first evaluation for each tensor, and the number of all behind the last.
    places
        Positions of the tensors.
    """

    points: Mapping[str, Point]
    lines: Mapping[str, Lines]
    seed: int
    begins: tuple[int, ...]
    places: Mapping[str, int]

    @property
    def evaluations(self) -> int:
        """How often the loss is evaluated."""
        return self.begins[-1]

    def first(self, name: str) -> int:
        """Number of the first evaluation for a tensor, but for near points."""
        return self.begins[self.places[name]]

    def near(self, name: str, losses: Array) -> Array:
        """Losses at near points, of all tensors moved together and of this one without the others, (lines, NEAR)."""
        return np.concatenate([losses[REPEATS:BEFORE], losses[self._own(name)]]).reshape(-1, NEAR)

    def _own(self, name: str) -> slice:
        """Near points of a tensor without the others; none if it is the only one."""
        lines = own_lines(len(self.points))
        first = BEFORE + NEAR * (self.places[name] % max(lines, 1))
        return slice(first, first + min(lines, 1) * NEAR)

    def of(self, name: str, losses: Array) -> Array:
        """Losses for a tensor, (k, levels, 2), of all of them, (evaluations,)."""
        shape = len(self.lines[name]), len(self.points[name].schedule.steps), 2
        first = self.first(name)
        return losses[first : first + int(np.prod(shape))].reshape(shape)

    def offsets(self, name: str) -> Array:
        """Signed steps at which a tensor's losses are, in units of the moves, (k, levels, 2)."""
        return offsets(self.points[name].schedule, self.lines[name].sides)

    def stacked(self, name: str) -> Array:
        """All points of a tensor, float64, (evaluations, ...)."""
        point = self.points[name]
        flat = np.tile(point.values.ravel(), (self.evaluations, 1))
        for line in range(LINES):
            begin = REPEATS + line * NEAR
            flat[begin : begin + NEAR] = near(point, self.seed, name, line, random=self.lines[name].elements is None)
        lines, offsets = self.lines[name], self.offsets(name)
        own, first = self._own(name), self.first(name)
        flat[own] = near(point, self.seed, name, 0, random=self.lines[name].elements is None)[: own.stop - own.start]
        block = flat[first : first + offsets.size].reshape(*offsets.shape, -1)
        for side in range(2):
            along = offsets[:, :, side]
            moved = (
                lines.moves.starts[:, None]
                + along.reshape(*along.shape, *[1] * (lines.moves.moves.ndim - 1)) * (lines.moves.moves[:, None])
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
        if number < self.begins[0]:
            line, near = divmod(number - BEFORE, NEAR)
            of = [f"{name!r:.60}" for name in list(self.points)[line :: own_lines(len(self.points))]]
            others = f" and {len(of) - 1} others" if len(of) > 1 else ""
            return f"near point {near + 1} of {of[0]}{others}, moved without the rest"
        place = bisect_right(self.begins, number) - 1
        if place == len(self.places):
            raise IndexError(number)
        name = list(self.places)[place]
        levels = len(self.points[name].schedule.steps)
        direction, rest = divmod(number - self.begins[place], 2 * levels)
        level, side = divmod(rest, 2)
        schedule, sides = self.points[name].schedule, self.lines[name].sides
        step = told(schedule, float(offsets(schedule, sides[direction : direction + 1])[0, level, side]))
        return f"{name!r:.60} moved along direction {direction} by {step} of its scale"


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
        name: (gaussian if random else of_elements)(point, directions_of(point, random=random, count=count), seed, name)
        for name, point in pausing(points.items())
    }
    counts = [2 * len(each) * len(points[name].schedule.steps) for name, each in lines.items()]
    places = {name: place for place, name in enumerate(points)}
    return Layout(
        points, lines, seed, tuple(accumulate(counts, initial=BEFORE + NEAR * own_lines(len(points)))), places
    )


_MOST_LINES = 16


def own_lines(tensors: int) -> int:
    """Lines of near points of several tensors without the others: what all do together may hide what one does."""
    return min(tensors, _MOST_LINES) if tensors > 1 else 0


def directions_of(point: Point, *, random: bool, count: int | None) -> int:
    """How many directions a tensor is moved along."""
    if random:
        return count or DEFAULT_DIRECTIONS
    return min(count or point.values.size, point.values.size)
