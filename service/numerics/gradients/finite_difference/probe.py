"""Differences of the loss, term by term, with respect to one moved name.

The difference is taken of the terms whose sum the loss is, and summed after: the rounding of the sum never enters.
Steps are powers of two, and the divisor is the step as represented. Elements of one colour share an evaluation. The
evaluations of a tile run in one pass behind its tile axis, over the nodes downstream of the moved name.
"""

import math
from collections.abc import Iterator, Mapping
from copy import copy
from dataclasses import dataclass

import numpy as np

from service.numerics.core.batching import MAX_TILE_ELEMENTS, Array
from service.numerics.core.cached_attribute import cached_attribute
from service.numerics.gradients.finite_difference.base_point import BasePoint
from service.numerics.gradients.finite_difference.colouring import Colouring
from service.numerics.gradients.finite_difference.downstream import DownstreamGraph
from service.numerics.gradients.finite_difference.method import DifferenceMethod, StepLevel
from service.numerics.gradients.finite_difference.noise_meter import NoiseMeter
from service.numerics.gradients.finite_difference.quotients import (
    UNIT_ROUNDOFF,
    DifferenceQuotients,
    QuotientColumns,
    estimate_sum_rounding,
    sum_by_felt_element,
    sum_squares_by_felt_element,
)
from service.numerics.gradients.finite_difference.step_scale import find_step_scale, measure_element_magnitudes

UNDERFLOW_LOSS = 2.0**-1072
"""Loss of a difference of two terms, or of its quotient, below the normal numbers.

It is four times the smallest number.
"""
EXTENDED_ROUNDOFF = float(np.finfo(np.longdouble).eps) / 2
"""Largest relative error of rounding to nearest in extended precision, if there is one."""
_ONE_SIDED_MOVE = 2.0**-20
"""Move to one side of a kink, as a part of the stride."""
_MAX_STEP_OVER_REACH = 4.0
"""Largest step from which a bound may follow, in units of the reach.

The reach holds for moves of all elements at once, and a step moves one.
"""


@dataclass(frozen=True)
class OneSidedMove:
    """A small move to one side, which chooses the pieces of ambiguous branches."""

    sign: float
    ambiguous_branches: Mapping[str, Array]


class DifferenceProbe:
    """Differences with respect to one tensor or node.

    Parameters
    ----------
    downstream
        Nodes downstream of the moving name.
    colouring
        Colours of its elements.
    method
        Method of the differences.
    meter
        Meter of the noise at the same point.
    generator
        Source of all that is random.
    """

    def __init__(
        self,
        downstream: DownstreamGraph,
        colouring: Colouring,
        method: DifferenceMethod,
        meter: NoiseMeter,
        generator: np.random.Generator,
    ) -> None:
        self.downstream = downstream
        self.colouring = colouring
        self.method = method
        self._noise_meter = meter
        self._generator = generator
        self._values = downstream.point.values[downstream.name][0]
        self._joint_reaches: dict[bool, float] = {}
        self._noise_downstream = downstream
        self._extended_noise_ratio = 1.0

    def without_noise(self) -> "DifferenceProbe":
        """Return what the tables of steps need: these draw no random numbers, and measure no noise."""
        lean_probe = copy(self)
        del lean_probe._noise_meter, lean_probe._noise_downstream, lean_probe._generator
        return lean_probe

    def with_extended_precision(self, point: BasePoint) -> "DifferenceProbe":
        """Return the probe with evaluations in extended precision.

        Parameters
        ----------
        point
            The model at the point in that precision.
        """
        extended_probe = copy(self)
        extended_probe.downstream = self.downstream.move_to_point(point)
        extended_probe._values = point.values[self.downstream.name][0]
        extended_probe.__dict__.pop("base_terms", None)
        extended_probe._extended_noise_ratio = EXTENDED_ROUNDOFF / UNIT_ROUNDOFF
        return extended_probe

    @property
    def element_count(self) -> int:
        """Return the number of elements."""
        return self._values.size

    @cached_attribute
    def _element_magnitudes(self) -> Array:
        return measure_element_magnitudes(self._values)

    @cached_attribute
    def base_terms(self) -> Array:
        """Return the terms where nothing moves, (terms,)."""
        return self.downstream.evaluate_terms_at_moves(
            {self.downstream.name: np.zeros((1, *self.downstream.shape))}, np.zeros(1)
        )[0][0, 0]

    def get_element_steps(self, by_element: bool) -> Array | None:
        """Return the move of each element in units of the step; None for 1."""
        return self._element_magnitudes if by_element else None

    def get_joint_reach(self, by_element: bool) -> float:
        """Return the reach of all elements together, in units of their parts."""
        if by_element not in self._joint_reaches:
            self._joint_reaches[by_element] = find_step_scale(
                self.downstream, self._generator, self.get_element_steps(by_element)
            )
        return self._joint_reaches[by_element]

    def get_single_reach(self, by_element: bool) -> float:
        """Return the reach of one element.

        The joint reach is of all elements. Their moves add up in a unit as random ones do.
        """
        # An element by itself moves by a fraction of its own size at most.
        felt_together = 1 if by_element else self.colouring.felt_together
        return self.get_joint_reach(by_element) * 2.0 ** math.floor(math.log2(felt_together) / 2)

    def get_steps(self, level: StepLevel) -> Array:
        """Return the steps of a table, (levels,), in units of the parts."""
        first_step = (
            self.get_single_reach(level.scales_by_element) if self.method.given_step is None else self.method.given_step
        )
        return first_step * level.stride_fraction * 2.0 ** -np.arange(self.method.step_count)

    def split_colours(self, colours: Array) -> Iterator[Array]:
        """Yield blocks of colours whose evaluations fit into one tile."""
        length = max(1, MAX_TILE_ELEMENTS // (self.method.evaluations_per_colour * self.downstream.widest_array))
        return (colours[start : start + length] for start in range(0, colours.size, length))

    def make_step_table(self, level: StepLevel, side: OneSidedMove | None = None) -> "StepTable":
        """Return a table of steps, with its noise."""
        steps, element_steps = self.get_steps(level), self.get_element_steps(level.scales_by_element)
        if np.isnan(steps[0]):
            noise: Array | float = np.nan
        else:
            noise = self._noise_meter.measure_noise(
                self._noise_downstream, self.method.offsets, float(steps[0]), element_steps
            )
        return StepTable(self, level, steps, noise * self._noise_meter.noise_unit * self._extended_noise_ratio, side)

    def step_widths(self, steps: Array, element_steps: Array | None) -> Array:
        """Return the represented distances between the two points of each element.

        The shape is (levels, elements), or (levels, 1) if all elements share them. NaN stands for no distance.
        """
        moves = np.multiply.outer(steps, self.method.offsets)[:, :, None]
        if element_steps is not None:
            moves = moves * element_steps.ravel()
        if self.downstream.moves_exactly:
            return moves[:, 0] - moves[:, 1]
        moved_points = self._values.ravel() + moves
        widths = (moved_points[:, 0] - moved_points[:, 1]).astype(np.float64, copy=False)
        return np.where(np.abs(widths) >= 2 * np.spacing(np.abs(moved_points).max(axis=1)), widths, np.nan)


class StepTable:
    """Quotients of one table of steps."""

    def __init__(
        self, probe: DifferenceProbe, level: StepLevel, steps: Array, noise: Array | float, side: OneSidedMove | None
    ) -> None:
        self._probe = probe
        self._steps = steps
        self._element_steps = probe.get_element_steps(level.scales_by_element)
        self._noise = noise
        self._by_element = level.scales_by_element
        self._side = side
        self._widths = probe.step_widths(steps, self._element_steps)
        # In saturation the quotients shrink with the step as those of a smooth function do with h^2.
        if not steps[0] <= _MAX_STEP_OVER_REACH * probe.get_joint_reach(level.scales_by_element):
            self._noise = np.inf
        # The noise is that of the first step, or less, if all steps are as represented.
        self._effective_steps = (np.abs(self._widths) * 2.0 ** np.arange(len(steps))[:, None]).min(axis=0)

    def __getstate__(self) -> Mapping[str, object]:
        """Return the table for another process, without what only its making takes."""
        return {**self.__dict__, "_probe": self._probe.without_noise()}

    @property
    def first_steps(self) -> Array | float:
        """Return the first step of each element."""
        return float(self._steps[0]) * (1.0 if self._element_steps is None else self._element_steps.ravel())

    def compute_quotients(self, colours: Array) -> DifferenceQuotients:
        """Return the quotients of the elements of some colours, 0 at the others."""
        return self._compute_quotients(colours, self._probe.colouring.find_felt_elements(colours))

    def make_unmoved_quotients(self) -> DifferenceQuotients:
        """Return the quotients where no colour moves: 0, with the loss by underflow."""
        terms, count = self._probe.colouring.lowest_felt.shape[1], self._probe.element_count
        return DifferenceQuotients(
            np.zeros((len(self._steps), count)) / self._widths,
            np.zeros(count) + UNDERFLOW_LOSS * terms / self._effective_steps,
            np.zeros(count) / self._effective_steps + UNDERFLOW_LOSS,
        )

    def compute_columns(self, colours: Array) -> QuotientColumns:
        """Return the quotients of the elements of some colours that a term feels."""
        felt_elements = self._probe.colouring.find_felt_elements(colours)
        is_felt = np.zeros(self._probe.element_count + 1, np.bool_)
        is_felt[felt_elements] = True
        elements = np.flatnonzero(is_felt[:-1])
        return QuotientColumns(elements, self._compute_quotients(colours, felt_elements).select_columns(elements))

    def _compute_quotients(self, colours: Array, felt_elements: Array) -> DifferenceQuotients:
        count = self._probe.element_count
        differences, over_pole = self._difference_terms(colours)
        terms = differences.shape[-1]
        sums = sum_by_felt_element(felt_elements, _arrange_rows_by_step(differences), count)
        noise = sum_squares_by_felt_element(felt_elements, np.broadcast_to(self._noise, felt_elements.shape), count)
        noise = (noise + UNDERFLOW_LOSS * terms) / self._effective_steps
        if over_pole is not None:
            noise[np.setdiff1d(np.broadcast_to(felt_elements, over_pole.shape)[over_pole], count)] = np.inf
        rounding = estimate_sum_rounding(terms) * sums[-1] / self._effective_steps + UNDERFLOW_LOSS
        return DifferenceQuotients(sums[:-1] / self._widths, noise, rounding)

    def _difference_terms(self, colours: Array) -> tuple[Array, Array | None]:
        """Return differences of the terms, and whether terms lie over poles, or None.

        The differences are (colours, levels, terms). Poles are those of `find_terms_over_poles`.
        """
        probe, downstream = self._probe, self._probe.downstream
        directions = probe.colouring.colour_directions(colours).reshape(-1, *downstream.shape)
        responses = downstream.compute_linear_responses(
            directions if self._element_steps is None else directions * self._element_steps
        )
        branches = None
        if self._side is not None:
            side_move = self._side.sign * probe.get_single_reach(self._by_element) * _ONE_SIDED_MOVE
            branches = downstream.select_branches(responses, side_move, self._side.ambiguous_branches)
        moves = np.multiply.outer(self._steps, probe.method.offsets)
        steps_per_pass = max(1, MAX_TILE_ELEMENTS // (len(colours) * moves.shape[1] * downstream.widest_array))
        passes = [
            downstream.evaluate_terms_at_moves(responses, moves[start : start + steps_per_pass].ravel(), branches)
            for start in range(0, len(moves), steps_per_pass)
        ]
        terms = passes[0][0] if len(passes) == 1 else np.concatenate([pass_terms for pass_terms, _ in passes], axis=1)
        terms = terms.reshape(len(colours), *moves.shape, -1)
        differences, coefficients = terms[:, :, 0] - terms[:, :, 1], passes[0][1]
        if coefficients is not None:
            differences *= coefficients
        differences = differences.astype(np.float64, copy=False)
        if self._side is not None or probe.method.offsets[0] != -probe.method.offsets[1]:
            return differences, None
        slack = CURVATURE_NOISE * self._noise + CURVATURE_ROUNDING * np.abs(differences[:, 0])
        return differences, find_terms_over_poles(terms, probe.base_terms, coefficients, slack)


def _arrange_rows_by_step(differences: Array) -> Array:
    """Return the differences by level, and the sizes of the first level's."""
    by_level = differences.swapaxes(0, 1)
    return np.concatenate([by_level, np.abs(by_level[:1])])


def find_terms_over_poles(terms: Array, at_rest: Array, coefficients: Array | None, slack: Array) -> Array | None:
    """Return the terms without a series at these steps, (colours, terms), or None.

    The quotients alone may not show it.

    Parameters
    ----------
    terms
        Terms at both ends of each step, (colours, levels, 2, terms).
    at_rest
        Terms at the point, (terms,).
    coefficients
        Factor of each term in the loss, (terms,); None for 1.
    slack
        Largest effect of noise and rounding, (colours, terms).

    Notes
    -----
    Even the smallest step may reach over something that is about the same on both sides, such as a pole of x^-2 or of
    log(x^2) at a distance d far below the step, or the summit of norm(x^-2) there. Then D(h) is of the order of d,
    which the noise hides, at every step, and so is the change of it. The sums T(h) = f(x + h) + f(x - h) show it. Those
    of a series have

        T(h) - 2 f(x) = h^2 f'' + O(h^4)        T(2h) - T(h) = 3 h^2 f'' + O(h^4)

    so the former is a third of the latter. If it is more than twice any change of T, noise and rounding aside, T does
    not lead to f(x).
    """
    # Both ends stay apart: their sum would round, and terms that do not change would seem to. The factors come
    # afterwards, since products of terms that do not change would round as well.
    weights = 1.0 if coefficients is None else np.abs(coefficients)
    last_change = weights * _measure_second_difference(terms[:, -1] - at_rest)
    over_pole = last_change > slack
    if not over_pole.any():
        return None
    over_pole &= (
        last_change > 2 * weights * _measure_second_difference(terms[:, :-1] - terms[:, 1:]).max(axis=1) + slack
    )
    return over_pole if over_pole.any() else None


def _measure_second_difference(changes: Array) -> Array:
    """Return the size of the change of both ends together, (..., terms).

    Parameters
    ----------
    changes
        Change of each end, (..., 2, terms).
    """
    return np.abs(changes[..., 0, :] + changes[..., 1, :]).astype(np.float64, copy=False)


CURVATURE_NOISE = 4
CURVATURE_ROUNDING = 2.0**-20
"""Effect of the rounding of the moved point, as a part of the difference.

Steps are no smaller than that beside the point.
"""
