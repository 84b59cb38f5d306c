"""The evaluations of a loss: base, near points, and steps along directions.

    0, 1, 2                  the base, three times: a loss that is not the same each time gives itself away
    3 ... 10, 11 ... 18      two lines of near points, all tensors moved together
    from 19                  of several tensors, a line of near points each, all others staying; of more than 16, each
                             line is of every 16th
    then                     by tensor, in the order of the request; by direction; by step, falling: plus, then minus;
                             of directions that have room on one side alone, two steps on that side (step_offsets.py)

All of it follows from the point, the order of its tensors, the kind and number of directions, the seed, the scales and
the bounds alone, so that a plan need not hold the points. The moves of a tensor do not depend on the order.
"""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import accumulate

import numpy as np

from service.numerics.blackbox.lines import (
    NEAR_LINE_COUNT,
    TensorLines,
    TensorPoint,
    draw_element_lines,
    draw_random_lines,
    place_near_points,
)
from service.numerics.blackbox.schedule import NEAR_POINT_COUNT
from service.numerics.blackbox.step_offsets import describe_offset, list_signed_step_offsets
from service.numerics.core.batching import Array
from service.numerics.core.interrupts import iterate_interruptibly

BASE_REPEATS, SHARED_NEAR_LINES = 3, NEAR_LINE_COUNT
EVALUATIONS_BEFORE_STEPS = BASE_REPEATS + SHARED_NEAR_LINES * NEAR_POINT_COUNT
"""Evaluations before the first step."""
DEFAULT_DIRECTIONS = 4
"""Random directions of a tensor. One misses what it allows for over sqrt(pi / 2) times the error: to have found with
probability 0.999 an error r takes an allowance of r / 800 with one direction, r / 25 with two, r / 4 with four; from
there on further ones gain little. In float64 the allowance is some 1e-10 of the gradient's norm; 1e-4 of one element
of 10,000 is 1e-6 of it."""


@dataclass(frozen=True)
class EvaluationLayout:
    """The evaluations by the names of the tensors, in the order of the request.

    Attributes
    ----------
    points, lines
        Tensors and their lines, by name.
    seed
        Seed of the directions and near points.
    first_evaluations
        Number of the first evaluation for each tensor, then the number of all evaluations.
    tensor_positions
        Position of each tensor in the order of the request.
    taken_evaluations
        Numbers of the evaluations that a judgement may use; None, the default, for all.
    """

    points: Mapping[str, TensorPoint]
    lines: Mapping[str, TensorLines]
    seed: int
    first_evaluations: tuple[int, ...]
    tensor_positions: Mapping[str, int]
    taken_evaluations: Array | None = None

    @property
    def evaluation_count(self) -> int:
        """Number of evaluations of the loss."""
        return self.first_evaluations[-1]

    def get_first_evaluation(self, name: str) -> int:
        """Return the number of the first evaluation for a tensor, near points apart."""
        return self.first_evaluations[self.tensor_positions[name]]

    def select_near_losses(self, name: str, losses: Array) -> Array:
        """Return losses at near points of all tensors and of this one, (lines, NEAR, ...)."""
        return np.concatenate(
            [losses[BASE_REPEATS:EVALUATIONS_BEFORE_STEPS], losses[self._get_near_slice(name)]]
        ).reshape(-1, NEAR_POINT_COUNT, *losses.shape[1:])

    def _get_near_slice(self, name: str) -> slice:
        """Return the near points of a tensor without the others; none if it is alone."""
        line_count = count_separate_near_lines(len(self.points))
        first = EVALUATIONS_BEFORE_STEPS + NEAR_POINT_COUNT * (self.tensor_positions[name] % max(line_count, 1))
        return slice(first, first + min(line_count, 1) * NEAR_POINT_COUNT)

    def select_tensor_losses(self, name: str, losses: Array) -> Array:
        """Select the losses for a tensor, (k, levels, 2, ...), from all losses, (evaluations, ...)."""
        shape = len(self.lines[name]), len(self.points[name].schedule.steps), 2
        first = self.get_first_evaluation(name)
        return losses[first : first + int(np.prod(shape))].reshape(*shape, *losses.shape[1:])

    def mark_taken(self) -> Array:
        """Return the mask of the evaluations that a judgement may use, (evaluations,)."""
        if self.taken_evaluations is None:
            return np.ones(self.evaluation_count, np.bool_)
        is_taken = np.zeros(self.evaluation_count, np.bool_)
        is_taken[self.taken_evaluations] = True
        return is_taken

    def keep_taken(self, values: Array) -> Array:
        """Return values, (evaluations, ...), with NaN at evaluations that a judgement may not use."""
        is_taken = self.mark_taken().reshape(-1, *[1] * (values.ndim - 1))
        return np.where(is_taken, values, np.nan)

    def list_step_offsets(self, name: str) -> Array:
        """Return signed steps of a tensor's losses in units of the moves, (k, levels, 2)."""
        return list_signed_step_offsets(self.points[name].schedule, self.lines[name].sides)

    def stack_points(self, name: str, evaluations: Array | None = None) -> Array:
        """Return the points of a tensor at some evaluations, by default all, float64, (evaluations, ...)."""
        point = self.points[name]
        flat_points = np.tile(point.values.ravel(), (self.evaluation_count, 1))
        for line in range(SHARED_NEAR_LINES):
            start = BASE_REPEATS + line * NEAR_POINT_COUNT
            is_unused = evaluations is not None and not (evaluations == start).any()
            if line and is_unused:
                # The first line has the moves of all others, too.
                continue
            flat_points[start : start + NEAR_POINT_COUNT] = place_near_points(
                point, self.seed, name, line, random=self.lines[name].moved_elements is None
            )
        lines, offsets = self.lines[name], self.list_step_offsets(name)
        near_rows, first_row = self._get_near_slice(name), self.get_first_evaluation(name)
        # The line of a tensor alone has the moves of the first of those that all tensors share.
        flat_points[near_rows] = flat_points[BASE_REPEATS : BASE_REPEATS + near_rows.stop - near_rows.start]
        line_points = flat_points[first_row : first_row + offsets.size].reshape(*offsets.shape, -1)
        for side in range(2):
            side_offsets = offsets[:, :, side]
            side_points = (
                lines.moves.starts[:, None]
                + side_offsets.reshape(*side_offsets.shape, *[1] * (lines.moves.directions.ndim - 1))
                * (lines.moves.directions[:, None])
            )
            if lines.moved_elements is None:
                line_points[:, :, side] = side_points
            else:
                line_points[np.arange(len(lines)), :, side, lines.moved_elements] = side_points
        chosen = flat_points if evaluations is None else flat_points[evaluations]
        return chosen.reshape(-1, *point.values.shape)

    def describe_evaluation(self, number: int) -> str:
        """Return the meaning of an evaluation in words."""
        if number < BASE_REPEATS:
            return "the base"
        if number < EVALUATIONS_BEFORE_STEPS:
            line, near_point = divmod(number - BASE_REPEATS, NEAR_POINT_COUNT)
            return f"near point {near_point + 1} of line {line + 1}, all tensors moved"
        if number < self.first_evaluations[0]:
            line, near_point = divmod(number - EVALUATIONS_BEFORE_STEPS, NEAR_POINT_COUNT)
            quoted_names = [
                f"{name!r:.60}" for name in list(self.points)[line :: count_separate_near_lines(len(self.points))]
            ]
            other_names = f" and {len(quoted_names) - 1} others" if len(quoted_names) > 1 else ""
            return f"near point {near_point + 1} of {quoted_names[0]}{other_names}, moved without the rest"
        tensor_position = bisect_right(self.first_evaluations, number) - 1
        if tensor_position == len(self.tensor_positions):
            raise IndexError(number)
        name = list(self.tensor_positions)[tensor_position]
        levels = len(self.points[name].schedule.steps)
        direction, remaining = divmod(number - self.first_evaluations[tensor_position], 2 * levels)
        level, side = divmod(remaining, 2)
        schedule, sides = self.points[name].schedule, self.lines[name].sides
        step = describe_offset(
            schedule, float(list_signed_step_offsets(schedule, sides[direction : direction + 1])[0, level, side])
        )
        return f"{name!r:.60} moved along direction {direction} by {step} of its scale"


def lay_out_evaluations(
    points: Mapping[str, TensorPoint], *, random: bool, count: int | None, seed: int
) -> EvaluationLayout:
    """Lay out the evaluations.

    Parameters
    ----------
    points
        Tensors by name, in the order of their moves.
    random
        True for random directions; False for one element each.
    count
        Directions of each tensor; None stands for all elements, or for `DEFAULT_DIRECTIONS`.
    seed
        Seed of the directions and near points.
    """
    points = dict(points)
    lines = {
        name: (draw_random_lines if random else draw_element_lines)(
            point, count_directions(point, random=random, count=count), seed, name
        )
        for name, point in iterate_interruptibly(points.items())
    }
    evaluation_counts = [
        2 * len(tensor_lines) * len(points[name].schedule.steps) for name, tensor_lines in lines.items()
    ]
    positions = {name: position for position, name in enumerate(points)}
    return EvaluationLayout(
        points,
        lines,
        seed,
        tuple(
            accumulate(
                evaluation_counts,
                initial=EVALUATIONS_BEFORE_STEPS + NEAR_POINT_COUNT * count_separate_near_lines(len(points)),
            )
        ),
        positions,
    )


_MAX_SEPARATE_NEAR_LINES = 16


def count_separate_near_lines(tensors: int) -> int:
    """Return the number of near-point lines of tensors moved without the others.

    The effect of one tensor may be hidden while all of them move together.
    """
    return min(tensors, _MAX_SEPARATE_NEAR_LINES) if tensors > 1 else 0


def count_directions(point: TensorPoint, *, random: bool, count: int | None) -> int:
    """Return the number of directions that a tensor is moved along."""
    if random:
        return count or DEFAULT_DIRECTIONS
    return min(count or point.values.size, point.values.size)
