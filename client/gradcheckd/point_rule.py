"""The points of a plan, made here as a service makes them: the rule of docs/points.md, without bounds."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gradcheckd.arrays import Array
from gradcheckd.lazy_attribute import lazy_attribute
from gradcheckd.move_sizes import DatatypeRule, compute_median, round_to_power_of_two
from gradcheckd.random_numbers import draw_numbers, draw_words

BASE_REPEATS, NEAR_POINTS, SHARED_LINES, MOST_SEPARATE_LINES, FIRST_DIRECTIONS = 3, 8, 2, 16, 2


@dataclass(frozen=True)
class Moves:
    """Starts and directions on the lattice of a datatype, and whether they move as meant.

    Attributes
    ----------
    starts, directions
        X and v of the points X + h v, (lines, elements) or (elements,).
    spacing
        Distance of numbers on the lattice.
    """

    starts: Array
    directions: Array
    spacing: Array


def round_to_lattice(values: Array, moves: Array, largest: float, smallest: float, rule: DatatypeRule) -> Moves:
    """Put moves on the lattice of a datatype, of which every point X + h v is a number.

    Parameters
    ----------
    values
        x, float64, (elements,).
    moves
        v as it is meant, (lines, elements) or (elements,).
    largest, smallest
        Largest and smallest h, powers of two.
    """
    spacing = rule.compute_spacing(np.abs(values) + largest * np.abs(moves))
    starts = np.where(moves == 0, values, spacing * np.rint(values / spacing))
    return Moves(starts, spacing * np.rint(smallest * moves / spacing) / smallest, spacing)


@dataclass(frozen=True)
class MovedTensor:
    """One tensor of a point, with its moves.

    Attributes
    ----------
    name, values
        Name and elements, float64, (elements,).
    rule
        Rule of its datatype.
    sizes
        Moves of the elements, powers of two, (elements,).
    random
        True for random directions, False for single elements.
    count
        Number of directions.
    seed
        Seed of the plan.
    """

    name: str
    values: Array
    rule: DatatypeRule
    sizes: Array
    random: bool
    count: int
    seed: int

    @lazy_attribute
    def unit(self) -> float:
        """Return the unit of random directions."""
        return round_to_power_of_two(compute_median(self.sizes))

    @lazy_attribute
    def elements(self) -> Array:
        """Return the flat indices of the elements that move alone, ascending, (count,)."""
        if self.count == self.values.size:
            return np.arange(self.count)
        words = draw_words(self.seed, "element", self.name, self.values.size)
        return np.sort(np.argsort(words, kind="stable")[: self.count])

    @lazy_attribute
    def moves(self) -> Moves:
        """Return the lines, (count, elements), or of single elements (count,)."""
        steps = self.rule.largest_step, self.rule.smallest_step
        if not self.random:
            return round_to_lattice(self.values[self.elements], self.sizes[self.elements], *steps, self.rule)
        numbers = draw_numbers(self.seed, "direction", self.name, self.count * self.values.size)
        return round_to_lattice(self.values, numbers.reshape(self.count, -1) * self.sizes, *steps, self.rule)

    def moves_as_meant(self) -> bool:
        """Tell whether the datatype has numbers for the moves; a service refuses the scale otherwise."""
        moves, sizes = self.moves, self.sizes if self.random else self.sizes[self.elements]
        by_direction = moves.directions.reshape(self.count, -1)
        largest = np.ldexp(1 - 2.0**-self.rule.bits, 2 - self.rule.min_exponent) / 2
        reach = np.abs(moves.starts) + self.rule.largest_step * np.abs(moves.directions)
        is_fine = moves.spacing <= self.rule.smallest_step * sizes / 2
        return bool(is_fine.all() and by_direction.any(axis=1).all() and (reach <= largest).all())

    def list_tangents(self) -> Array:
        """Return the tangents in units of the derivative, (count, elements)."""
        if self.random:
            return self.moves.directions / self.unit
        tangents = np.zeros((self.count, self.values.size))
        tangents[np.arange(self.count), self.elements] = 1.0
        return tangents

    def place_near_points(self, line: int) -> Array:
        """Return the near points of a line, (NEAR_POINTS, elements)."""
        step, count = 2.0 ** -self.rule.near_exponents[line], self.values.size
        farthest = self.sizes * self.rule.largest_step / (NEAR_POINTS * step)
        smallest = 2.0 * self.rule.compute_spacing(np.abs(self.values)) / step
        sizes = np.maximum(self.sizes, np.minimum(smallest, farthest))
        numbers = draw_numbers(self.seed, "near", self.name, (line + 1) * count)[line * count :]
        moves = round_to_lattice(self.values, numbers * sizes, NEAR_POINTS * step, step, self.rule)
        return moves.starts + np.arange(1, NEAR_POINTS + 1)[:, None] * step * moves.directions

    def place_step_points(self, *, is_first: bool) -> Array:
        """Return the points along the directions, of the first look or of all, (points, elements)."""
        count = FIRST_DIRECTIONS if is_first and self.random else self.count
        exponents = self.rule.first_exponents if is_first else self.rule.exponents
        steps = 2.0 ** -np.array(exponents, np.float64)
        offsets = np.stack([steps, -steps], axis=-1).ravel()
        starts, directions = (array[:count, None] for array in (self.moves.starts, self.moves.directions))
        if self.random:
            return (starts + offsets[:, None] * directions).reshape(-1, self.values.size)
        points = np.tile(self.values, (count, len(offsets), 1))
        points[np.arange(count)[:, None], np.arange(len(offsets)), self.elements[:count, None]] = (
            starts + offsets * directions
        )
        return points.reshape(-1, self.values.size)


def count_points(tensors: list[MovedTensor]) -> int:
    """Return the number of all points."""
    lines = SHARED_LINES + _count_separate_lines(tensors)
    steps = sum(2 * len(tensor.rule.exponents) * tensor.count for tensor in tensors)
    return BASE_REPEATS + NEAR_POINTS * lines + steps


def _count_separate_lines(tensors: list[MovedTensor]) -> int:
    return min(len(tensors), MOST_SEPARATE_LINES) if len(tensors) > 1 else 0


def place_points(tensors: list[MovedTensor], *, is_first: bool) -> list[Array]:
    """Return the points of each tensor, of the first look or of all, (points, elements)."""
    shared_lines = 1 if is_first else SHARED_LINES
    separate_lines = 0 if is_first else _count_separate_lines(tensors)
    first_step = BASE_REPEATS + NEAR_POINTS * (shared_lines + separate_lines)
    step_points = [tensor.place_step_points(is_first=is_first) for tensor in tensors]
    count = first_step + sum(map(len, step_points))
    points: list[Array] = []
    start = first_step
    for position, (tensor, own_points) in enumerate(zip(tensors, step_points, strict=True)):
        rows = np.tile(tensor.values, (count, 1))
        near = [tensor.place_near_points(line) for line in range(shared_lines)]
        rows[BASE_REPEATS : BASE_REPEATS + NEAR_POINTS * shared_lines] = np.concatenate(near)
        if separate_lines:
            first_row = BASE_REPEATS + NEAR_POINTS * (shared_lines + position % separate_lines)
            rows[first_row : first_row + NEAR_POINTS] = near[0]
        rows[start : start + len(own_points)] = own_points
        start += len(own_points)
        points.append(rows)
    return points


def compute_digest(points: Mapping[str, Array], cotangents: Mapping[str, Array]) -> str:
    """Return the SHA-256 of points, by name of shape (points, ...), and of cotangents, in hexadecimal digits."""
    rows = np.concatenate([array.reshape(len(array), -1) for array in points.values()], axis=1)
    parts = [rows.ravel(), *(array.ravel() for array in cotangents.values())]
    # A sum with 0 is 0 for -0.
    return hashlib.sha256((np.concatenate(parts) + 0.0).astype("<f8").tobytes()).hexdigest()
