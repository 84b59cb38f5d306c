"""Differences of the loss with respect to what moves a suffix, term by term.

The difference is taken of the terms whose sum the loss is, and summed after: the rounding of the sum never enters.
Steps are powers of two, divided by as represented. Elements of one colour share an evaluation; the evaluations of a
tile run in one pass behind its tile axis, from what moves on.
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
    estimate_sum_rounding,
    sum_by_felt_element,
    sum_squares_by_felt_element,
)
from service.numerics.gradients.finite_difference.step_scale import find_step_scale, measure_element_magnitudes

_UNDERFLOW_LOSS = 2.0**-1072
"""Four times the smallest number: what a difference of two terms, or its quotient, may lose below the normal ones."""
EXTENDED_ROUNDOFF = float(np.finfo(np.longdouble).eps) / 2
"""Largest relative error of rounding to nearest in extended precision, where there is one."""
_ONE_SIDED_MOVE = 2.0**-20
"""Move, as a part of the stride, that leads to one side of a kink."""
_MAX_STEP_OVER_REACH = 4.0
"""Largest step from which a bound may follow: the reach is found for all elements moving at once, a step moves one."""


@dataclass(frozen=True)
class OneSidedMove:
    """A small move to one side, which chooses the pieces of what is open."""

    sign: float
    ambiguous_branches: Mapping[str, Array]


class DifferenceProbe:
    """Differences with respect to one tensor or node.

    Parameters
    ----------
    suffix, colouring
        What moves, and the colours of its elements.
    method
        Where the loss is evaluated.
    meter
        Of the noise at the same point.
    generator
        All that is random comes from it.
    """

    def __init__(
        self,
        suffix: DownstreamGraph,
        colouring: Colouring,
        method: DifferenceMethod,
        meter: NoiseMeter,
        generator: np.random.Generator,
    ) -> None:
        self.downstream = suffix
        self.colouring = colouring
        self.method = method
        self._noise_meter = meter
        self._generator = generator
        self._values = suffix.point.values[suffix.name][0]
        self._joint_reaches: dict[bool, float] = {}
        self._noise_downstream = suffix
        self._extended_noise_ratio = 1.0

    def with_extended_precision(self, point: BasePoint) -> "DifferenceProbe":
        """The same with the loss evaluated in extended precision, at the point in that precision."""
        finer = copy(self)
        finer.downstream = self.downstream.at_point(point)
        finer._values = point.values[self.downstream.name][0]
        finer.__dict__.pop("base_terms", None)
        finer._extended_noise_ratio = EXTENDED_ROUNDOFF / UNIT_ROUNDOFF
        return finer

    @property
    def element_count(self) -> int:
        """Number of elements."""
        return self._values.size

    @cached_attribute
    def _element_magnitudes(self) -> Array:
        return measure_element_magnitudes(self._values)

    @cached_attribute
    def base_terms(self) -> Array:
        """Terms where nothing moves, (terms,)."""
        return self.downstream.evaluate_terms_at_moves(
            {self.downstream.name: np.zeros((1, *self.downstream.shape))}, np.zeros(1)
        )[0][0, 0]

    def element_steps(self, by_element: bool) -> Array | None:
        """What each element moves by, in units of the step; None for 1."""
        return self._element_magnitudes if by_element else None

    def joint_reach(self, by_element: bool) -> float:
        """How far all elements may move at once, in units of their parts."""
        if by_element not in self._joint_reaches:
            self._joint_reaches[by_element] = find_step_scale(
                self.downstream, self._generator, self.element_steps(by_element)
            )
        return self._joint_reaches[by_element]

    def single_reach(self, by_element: bool) -> float:
        """How far one element may move: the reach is of all, whose moves add up in a unit as random ones do."""
        # An element by itself moves by a fraction of its own size at most.
        together = 1 if by_element else self.colouring.felt_together
        return self.joint_reach(by_element) * 2.0 ** math.floor(math.log2(together) / 2)

    def steps_at(self, level: StepLevel) -> Array:
        """Steps of a table, (levels,), in units of the parts."""
        first = self.single_reach(level.scales_by_element) if self.method.given_step is None else self.method.given_step
        return first * level.stride_fraction * 2.0 ** -np.arange(self.method.step_count)

    def split_colours(self, colours: Array) -> Iterator[Array]:
        """Colours whose evaluations fit into one tile."""
        length = max(1, MAX_TILE_ELEMENTS // (self.method.evaluations_per_colour * self.downstream.widest_array))
        return (colours[start : start + length] for start in range(0, colours.size, length))

    def make_step_table(self, level: StepLevel, side: OneSidedMove | None = None) -> "StepTable":
        """Prepare a table of differences."""
        steps, parts = self.steps_at(level), self.element_steps(level.scales_by_element)
        if np.isnan(steps[0]):
            noise: Array | float = np.nan
        else:
            noise = self._noise_meter.measure_noise(self._noise_downstream, self.method.offsets, float(steps[0]), parts)
        return StepTable(self, level, steps, noise * self._noise_meter.noise_unit * self._extended_noise_ratio, side)

    def step_widths(self, steps: Array, element_steps: Array | None) -> Array:
        """Distances between the two points of each element, as represented; NaN if none is left.

        (levels, elements), or (levels, 1) where they are the same for all.
        """
        moves = np.multiply.outer(steps, self.method.offsets)[:, :, None]
        if element_steps is not None:
            moves = moves * element_steps.ravel()
        if self.downstream.moves_exactly:
            return moves[:, 0] - moves[:, 1]
        moved = self._values.ravel() + moves
        widths = (moved[:, 0] - moved[:, 1]).astype(np.float64, copy=False)
        return np.where(np.abs(widths) >= 2 * np.spacing(np.abs(moved).max(axis=1)), widths, np.nan)


class StepTable:
    """Quotients of one table of steps."""

    def __init__(
        self, probe: DifferenceProbe, level: StepLevel, steps: Array, noise: Array | float, side: OneSidedMove | None
    ) -> None:
        self._probe = probe
        self._steps = steps
        self._element_steps = probe.element_steps(level.scales_by_element)
        self._noise = noise
        self._by_element = level.scales_by_element
        self._side = side
        self._widths = probe.step_widths(steps, self._element_steps)
        # Where everything saturates, the quotients shrink with the step as those of a smooth function do with h^2.
        if not steps[0] <= _MAX_STEP_OVER_REACH * probe.joint_reach(level.scales_by_element):
            self._noise = np.inf
        # That of the first step, or less, if all are as represented.
        self._effective_steps = (np.abs(self._widths) * 2.0 ** np.arange(len(steps))[:, None]).min(axis=0)

    @property
    def first_steps(self) -> Array | float:
        """First step of each element."""
        return float(self._steps[0]) * (1.0 if self._element_steps is None else self._element_steps.ravel())

    def compute_quotients(self, colours: Array) -> DifferenceQuotients:
        """Quotients of the elements of some colours, 0 at the others."""
        felt, count = self._probe.colouring.felt_elements(colours), self._probe.element_count
        differences, leaping = self._difference_terms(colours)
        terms = differences.shape[-1]
        found = sum_by_felt_element(felt, _arrange_rows_by_step(differences), count)
        noise = sum_squares_by_felt_element(felt, np.broadcast_to(self._noise, felt.shape), count)
        noise = (noise + _UNDERFLOW_LOSS * terms) / self._effective_steps
        if leaping is not None:
            noise[np.setdiff1d(np.broadcast_to(felt, leaping.shape)[leaping], count)] = np.inf
        rounding = estimate_sum_rounding(terms) * found[-1] / self._effective_steps + _UNDERFLOW_LOSS
        return DifferenceQuotients(found[:-1] / self._widths, noise, rounding)

    def _difference_terms(self, colours: Array) -> tuple[Array, Array | None]:
        """Differences of the terms, (colours, levels, terms), and which of the terms leap over something; see there."""
        probe, suffix = self._probe, self._probe.downstream
        directions = probe.colouring.colour_directions(colours).reshape(-1, *suffix.shape)
        responses = suffix.linear_responses(
            directions if self._element_steps is None else directions * self._element_steps
        )
        branches = None
        if self._side is not None:
            aside = self._side.sign * probe.single_reach(self._by_element) * _ONE_SIDED_MOVE
            branches = suffix.select_branches(responses, aside, self._side.ambiguous_branches)
        moves = np.multiply.outer(self._steps, probe.method.offsets)
        fitting = max(1, MAX_TILE_ELEMENTS // (len(colours) * moves.shape[1] * suffix.widest_array))
        found = [
            suffix.evaluate_terms_at_moves(responses, moves[start : start + fitting].ravel(), branches)
            for start in range(0, len(moves), fitting)
        ]
        terms = found[0][0] if len(found) == 1 else np.concatenate([each for each, _ in found], axis=1)
        terms = terms.reshape(len(colours), *moves.shape, -1)
        differences, coefficients = terms[:, :, 0] - terms[:, :, 1], found[0][1]
        if coefficients is not None:
            differences *= coefficients
        differences = differences.astype(np.float64, copy=False)
        if self._side is not None or probe.method.offsets[0] != -probe.method.offsets[1]:
            return differences, None
        slack = _CURVATURE_NOISE * self._noise + _CURVATURE_ROUNDING * np.abs(differences[:, 0])
        return differences, _find_terms_over_poles(terms, probe.base_terms, coefficients, slack)


def _arrange_rows_by_step(differences: Array) -> Array:
    """Differences level by level, and the sizes of the first, (levels + 1, colours, terms)."""
    by_level = differences.swapaxes(0, 1)
    return np.concatenate([by_level, np.abs(by_level[:1])])


def _find_terms_over_poles(terms: Array, at_rest: Array, coefficients: Array | None, slack: Array) -> Array | None:
    """Which terms, (colours, terms), have no series at these steps, though their quotients may not show it.

    Where even the smallest step reaches over something that is about the same on both sides, as a pole of x^-2 or of
    log(x^2) at a distance d far below the step, or the summit of norm(x^-2) there, D(h) is of the order of d, which the
    noise hides, at every step, and so is the change of it. The sums T(h) = f(x + h) + f(x - h) tell. Of a series

        T(h) - 2 f(x) = h^2 f'' + O(h^4)        T(2h) - T(h) = 3 h^2 f'' + O(h^4)

    the former is a third of the latter. Where it is more than twice any change of T, noise and rounding aside, T does
    not lead to f(x).

    Parameters
    ----------
    terms
        At both ends of each step, (colours, levels, 2, terms).
    at_rest
        At the point, (terms,).
    coefficients
        What each term counts in the loss, (terms,); None for 1.
    slack
        What noise and rounding may do, (colours, terms).
    """
    # End by end, since a sum of both ends would round, and the terms that do not change would seem to.
    # Multiplied afterwards: products of terms that do not change would round as well.
    weights = 1.0 if coefficients is None else np.abs(coefficients)
    last = weights * _measure_second_difference(terms[:, -1] - at_rest)
    leaping = last > slack
    if not leaping.any():
        return None
    leaping &= last > 2 * weights * _measure_second_difference(terms[:, :-1] - terms[:, 1:]).max(axis=1) + slack
    return leaping if leaping.any() else None


def _measure_second_difference(changes: Array) -> Array:
    """Size of the change of both ends together, (..., terms), from that of each, (..., 2, terms)."""
    return np.abs(changes[..., 0, :] + changes[..., 1, :]).astype(np.float64, copy=False)


_CURVATURE_NOISE = 4
_CURVATURE_ROUNDING = 2.0**-20
"""What the rounding of the moved point may do, as a part of the difference: steps are no smaller beside the point."""
