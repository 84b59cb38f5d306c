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

from service.numerics.gradients.finite_difference.colouring import Colouring
from service.numerics.gradients.finite_difference.method import Method, Start
from service.numerics.gradients.finite_difference.noise import NoiseMeter
from service.numerics.gradients.finite_difference.point import Point
from service.numerics.gradients.finite_difference.quotients import (
    UNIT_ROUNDOFF,
    Quotients,
    root_sums_of_squares,
    rounding_of_sum,
    sums,
)
from service.numerics.gradients.finite_difference.step import scale, sizes
from service.numerics.gradients.finite_difference.suffix import Suffix
from service.numerics.kept import kept
from service.numerics.tiles import Array

TILE_ELEMENTS = 2**15
_SPACING_OF_ZERO = 2.0**-1072
"""Four times the smallest number: what a difference of two terms, or its quotient, may lose below the normal ones."""
EXTENDED_ROUNDOFF = float(np.finfo(np.longdouble).eps) / 2
"""Largest relative error of rounding to nearest in extended precision, where there is one."""
_ASIDE = 2.0**-20
"""Move, as a part of the stride, that leads to one side of a kink."""
_MOST_OF_REACH = 4.0
"""Largest step from which a bound may follow: the reach is found for all elements moving at once, a step moves one."""


@dataclass(frozen=True)
class Side:
    """A small move to one side, which chooses the pieces of what is open."""

    sign: float
    open_at: Mapping[str, Array]


class Probe:
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
        self, suffix: Suffix, colouring: Colouring, method: Method, meter: NoiseMeter, generator: np.random.Generator
    ) -> None:
        self.suffix = suffix
        self.colouring = colouring
        self.method = method
        self._meter = meter
        self._generator = generator
        self._point = suffix.point.values[suffix.name][0]
        self._reaches: dict[bool, float] = {}
        self._measured_on = suffix
        self._noise_of_extended = 1.0

    def extended(self, point: Point) -> "Probe":
        """The same with the loss evaluated in extended precision, at the point in that precision."""
        finer = copy(self)
        finer.suffix = self.suffix.at(point)
        finer._point = point.values[self.suffix.name][0]
        finer.__dict__.pop("at_rest", None)
        finer._noise_of_extended = EXTENDED_ROUNDOFF / UNIT_ROUNDOFF
        return finer

    @property
    def size(self) -> int:
        """Number of elements."""
        return self._point.size

    @kept
    def _sizes(self) -> Array:
        return sizes(self._point)

    @kept
    def at_rest(self) -> Array:
        """Terms where nothing moves, (terms,)."""
        return self.suffix.terms({self.suffix.name: np.zeros((1, *self.suffix.shape))}, np.zeros(1))[0][0, 0]

    def parts(self, own: bool) -> Array | None:
        """What each element moves by, in units of the step; None for 1."""
        return self._sizes if own else None

    def reach(self, own: bool) -> float:
        """How far all elements may move at once, in units of their parts."""
        if own not in self._reaches:
            self._reaches[own] = scale(self.suffix, self._generator, self.parts(own))
        return self._reaches[own]

    def stride(self, own: bool) -> float:
        """How far one element may move: the reach is of all, whose moves add up in a unit as random ones do."""
        # An element by itself moves by a fraction of its own size at most.
        together = 1 if own else self.colouring.together
        return self.reach(own) * 2.0 ** math.floor(math.log2(together) / 2)

    def steps(self, start: Start) -> Array:
        """Steps of a table, (levels,), in units of the parts."""
        first = self.stride(start.own) if self.method.step is None else self.method.step
        return first * start.fraction * 2.0 ** -np.arange(self.method.levels)

    def blocks(self, colours: Array) -> Iterator[Array]:
        """Colours whose evaluations fit into one tile."""
        length = max(1, TILE_ELEMENTS // (self.method.evaluations * self.suffix.widest))
        return (colours[start : start + length] for start in range(0, colours.size, length))

    def rung(self, start: Start, side: Side | None = None) -> "Rung":
        """Prepare a table of differences."""
        steps, parts = self.steps(start), self.parts(start.own)
        if np.isnan(steps[0]):
            noise: Array | float = np.nan
        else:
            noise = self._meter.measure(self._measured_on, self.method.offsets, float(steps[0]), parts)
        return Rung(self, start, steps, noise * self._meter.scale * self._noise_of_extended, side)

    def widths(self, steps: Array, parts: Array | None) -> Array:
        """Distances between the two points of each element, as represented; NaN if none is left.

        (levels, elements), or (levels, 1) where they are the same for all.
        """
        moves = np.multiply.outer(steps, self.method.offsets)[:, :, None]
        if parts is not None:
            moves = moves * parts.ravel()
        if self.suffix.exact:
            return moves[:, 0] - moves[:, 1]
        moved = self._point.ravel() + moves
        widths = (moved[:, 0] - moved[:, 1]).astype(np.float64, copy=False)
        return np.where(np.abs(widths) >= 2 * np.spacing(np.abs(moved).max(axis=1)), widths, np.nan)


class Rung:
    """Quotients of one table of steps."""

    def __init__(self, probe: Probe, start: Start, steps: Array, noise: Array | float, side: Side | None) -> None:
        self._probe = probe
        self._steps = steps
        self._parts = probe.parts(start.own)
        self._noise = noise
        self._own = start.own
        self._side = side
        self._widths = probe.widths(steps, self._parts)
        # Where everything saturates, the quotients shrink with the step as those of a smooth function do with h^2.
        if not steps[0] <= _MOST_OF_REACH * probe.reach(start.own):
            self._noise = np.inf
        # That of the first step, or less, if all are as represented.
        self._lengths = (np.abs(self._widths) * 2.0 ** np.arange(len(steps))[:, None]).min(axis=0)

    @property
    def first_steps(self) -> Array | float:
        """First step of each element."""
        return float(self._steps[0]) * (1.0 if self._parts is None else self._parts.ravel())

    def quotients(self, colours: Array) -> Quotients:
        """Quotients of the elements of some colours, 0 at the others."""
        felt, count = self._probe.colouring.felt(colours), self._probe.size
        differences, leaping = self._differences(colours)
        terms = differences.shape[-1]
        found = sums(felt, _rows(differences), count)
        noise = root_sums_of_squares(felt, np.broadcast_to(self._noise, felt.shape), count)
        noise = (noise + _SPACING_OF_ZERO * terms) / self._lengths
        if leaping is not None:
            noise[np.setdiff1d(np.broadcast_to(felt, leaping.shape)[leaping], count)] = np.inf
        rounding = rounding_of_sum(terms) * found[-1] / self._lengths + _SPACING_OF_ZERO
        return Quotients(found[:-1] / self._widths, noise, rounding)

    def _differences(self, colours: Array) -> tuple[Array, Array | None]:
        """Differences of the terms, (colours, levels, terms), and which of the terms leap over something; see there."""
        probe, suffix = self._probe, self._probe.suffix
        directions = probe.colouring.directions(colours).reshape(-1, *suffix.shape)
        responses = suffix.responses(directions if self._parts is None else directions * self._parts)
        branches = None
        if self._side is not None:
            aside = self._side.sign * probe.stride(self._own) * _ASIDE
            branches = suffix.branches(responses, aside, self._side.open_at)
        moves = np.multiply.outer(self._steps, probe.method.offsets)
        fitting = max(1, TILE_ELEMENTS // (len(colours) * moves.shape[1] * suffix.widest))
        found = [
            suffix.terms(responses, moves[start : start + fitting].ravel(), branches)
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
        slack = _NOISE_OF_TURN * self._noise + _ROUNDING_OF_TURN * np.abs(differences[:, 0])
        return differences, _leaping(terms, probe.at_rest, coefficients, slack)


def _rows(differences: Array) -> Array:
    """Differences level by level, and the sizes of the first, (levels + 1, colours, terms)."""
    by_level = differences.swapaxes(0, 1)
    return np.concatenate([by_level, np.abs(by_level[:1])])


def _leaping(terms: Array, at_rest: Array, coefficients: Array | None, slack: Array) -> Array | None:
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
    last = weights * _turn(terms[:, -1] - at_rest)
    leaping = last > slack
    if not leaping.any():
        return None
    leaping &= last > 2 * weights * _turn(terms[:, :-1] - terms[:, 1:]).max(axis=1) + slack
    return leaping if leaping.any() else None


def _turn(changes: Array) -> Array:
    """Size of the change of both ends together, (..., terms), from that of each, (..., 2, terms)."""
    return np.abs(changes[..., 0, :] + changes[..., 1, :]).astype(np.float64, copy=False)


_NOISE_OF_TURN = 4
_ROUNDING_OF_TURN = 2.0**-20
"""What the rounding of the moved point may do, as a part of the difference: steps are no smaller beside the point."""
