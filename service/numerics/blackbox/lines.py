"""Lines of one tensor: random directions, single elements, and near points."""

from dataclasses import dataclass

import numpy as np

from service.numerics.blackbox.direction_law import ONE_SIDED_CONCENTRATION
from service.numerics.blackbox.domain import ElementMoves, LossDomain
from service.numerics.blackbox.lattice import LatticeMoves, compute_lattice_spacing, round_moves, round_to_lattice
from service.numerics.blackbox.random_numbers import choose_elements, draw_numbers
from service.numerics.blackbox.schedule import NEAR_POINT_COUNT, StepSchedule, round_to_power_of_two
from service.numerics.core.batching import Array

NEAR_LINE_COUNT = 2


@dataclass(frozen=True)
class TensorPoint:
    """One tensor with the rules of its moves.

    Attributes
    ----------
    values
        Elements in float64.
    schedule
        Steps of the moves.
    scale
        Unit of the directions, a power of two: the size of the moves without `element_moves`.
    element_moves
        Move of each element; None by default. Without it a direction moves every element by the scale, and an element
        alone moves by the scale or, if larger, by its own size.
    domain
        Bounds of every point, which require `element_moves`; None by default.
    """

    values: Array
    schedule: StepSchedule
    scale: float
    element_moves: ElementMoves | None = None
    domain: LossDomain | None = None

    def choose_element_moves(self, *, random: bool) -> ElementMoves:
        """Return the moves of the elements."""
        if self.element_moves is not None:
            return self.element_moves
        flat_values = self.values.ravel()
        sizes = np.full(flat_values.shape, self.scale)
        if not random:
            sizes = np.array([max(self.scale, round_to_power_of_two(abs(value))) for value in flat_values.tolist()])
        return ElementMoves(sizes, np.zeros(flat_values.shape, int))


@dataclass(frozen=True)
class TensorLines:
    """Directions of one tensor.

    Attributes
    ----------
    moved_elements
        Flat index of the element that each line moves; None if each line moves all elements.
    moves
        Representable moves along the lines.
    derivative_units
        Divisor that makes a difference by the step the derivative, (k,).
    direction_weights
        Move of each element in a random direction, in units of the tensor's scale, (elements,) or (1,): the direction
        is that of `direction_law` for the gradient times these weights.
    sides
        Sides of the points of each line: 0 for both, 1 or -1 for one alone, (k,).
    has_one_sided_moves
        True if random directions move some elements to one side alone; False by default.
    """

    moved_elements: Array | None
    moves: LatticeMoves
    derivative_units: Array
    direction_weights: Array
    sides: Array
    has_one_sided_moves: bool = False

    def __len__(self) -> int:
        return len(self.derivative_units)

    @property
    def zero_concentration(self) -> float:
        """Factor by which inner products lie nearer to 0 than if all elements moved to both sides, at most."""
        return ONE_SIDED_CONCENTRATION if self.has_one_sided_moves else 1.0

    @property
    def directions(self) -> Array:
        """Random directions, (k, elements), for a gradient times `direction_weights`."""
        return self.moves.directions / (self.derivative_units[:, None] * self.direction_weights)


def draw_random_lines(point: TensorPoint, count: int, seed: int, name: str) -> TensorLines:
    """Draw random directions in units of the moves, within the bounds."""
    schedule, element_moves = point.schedule, point.choose_element_moves(random=True)
    has_one_sided_moves = bool(element_moves.move_sides.any())
    size = point.values.size
    drawn_moves = draw_numbers(seed, "direction", name, 0, count * size).reshape(count, size)
    moves = round_to_lattice(
        point.values.ravel(),
        _turn_inward(drawn_moves, element_moves) * element_moves.move_sizes,
        element_moves.move_sizes,
        schedule.largest_step,
        schedule.smallest_step,
        schedule.precision,
        element_moves.move_sides,
    )
    weights = element_moves.move_sizes / point.scale
    return TensorLines(
        None,
        moves,
        np.full(count, point.scale),
        weights[:1] if (weights == weights[0]).all() else weights,
        np.full(count, int(has_one_sided_moves)),
        has_one_sided_moves,
    )


def _turn_inward(relative_moves: Array, element_moves: ElementMoves) -> Array:
    """Return moves in parts of their sizes, (..., elements), on the sides of the elements."""
    sides = element_moves.move_sides
    return np.where(sides == 0, relative_moves, np.abs(relative_moves) * sides)


def draw_element_lines(point: TensorPoint, count: int, seed: int, name: str) -> TensorLines:
    """Draw elements without replacement, in order, each moved by its own size."""
    elements = choose_elements(seed, name, point.values.size, count)
    values, schedule, element_moves = (
        point.values.ravel()[elements],
        point.schedule,
        point.choose_element_moves(random=False),
    )
    sizes, sides = element_moves.move_sizes[elements], element_moves.move_sides[elements]
    moves = round_to_lattice(
        values, sizes, sizes, schedule.largest_step, schedule.smallest_step, schedule.precision, sides
    )
    return TensorLines(elements, moves, moves.directions, np.ones(1), sides)


_MIN_NEAR_SPACING = 2.0
"""Distances on the lattice by which an element that is moved by little is moved at least from one near point to the
next: noise that it does not feel is not measured."""


def place_near_points(point: TensorPoint, seed: int, name: str, line: int, *, random: bool) -> Array:
    """Return near points 1 ... NEAR of a line, (NEAR, elements)."""
    schedule, element_moves = point.schedule, point.choose_element_moves(random=random)
    step = 2.0 ** -schedule.near_exponents[line]
    values = point.values.ravel()
    relative_moves = _turn_inward(
        draw_numbers(seed, "near", name, line * values.size, values.size)[None], element_moves
    )
    if point.domain is not None:
        max_move = schedule.largest_step / (NEAR_POINT_COUNT * step)
        relative_moves = np.clip(relative_moves, -max_move, max_move)
    # A near point is no farther away than others are: the largest of them by as much as a direction's part of one.
    min_sizes = _MIN_NEAR_SPACING * compute_lattice_spacing(np.abs(values), schedule.precision) / step
    sizes = np.maximum(
        element_moves.move_sizes,
        np.minimum(min_sizes, element_moves.move_sizes * schedule.largest_step / (NEAR_POINT_COUNT * step)),
    )
    starts, directions, _ = round_moves(
        values,
        relative_moves * sizes,
        NEAR_POINT_COUNT * step,
        step,
        schedule.precision,
        element_moves.move_sides,
    )
    points = starts + np.arange(1, NEAR_POINT_COUNT + 1)[:, None] * step * directions
    if point.domain is not None:
        leaves_domain = ~np.logical_and.reduce(point.domain.contains_points(points))
        points[:, leaves_domain] = values[leaves_domain]
    return points
