"""Whether a gradient is 0, or something that rounding hides.

No arithmetic tells 0 from what is smaller than its rounding. Two kinds of gradients are 0 all the same:

- Those that are 0 wherever the model is evaluated, since all that they are the sum of cancels: of what shifts the input
  of a softmax, of the bias of an attention's keys, of a bias before a normalisation. At other points near by they are
  0 within rounding too, but made of other rounding: what stays the same is a gradient that is small and known, and
  rounding is then allowed too much. What is 0 at one point only, as the sum of 1e20, 0.01 and -1e20 seems to be, is
  2^-20 of its terms at a point that is 2^-20 away.
- Those that both of our routes find to be 0 exactly. They may have cancelled at this point alone, so that nothing but
  0 itself, within rounding of float64, passes as 0.

All of it is asked in float64, at the point that was rounded to the dtype: what a narrower dtype hides is known there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from service.numerics.gradients import analytic, autograd
from service.numerics.gradients.finite_difference import Difference
from service.numerics.graph import Graph, Values
from service.numerics.kept import kept
from service.numerics.precision import PRECISIONS
from service.numerics.projection import norm
from service.numerics.rounding import allowances
from service.numerics.tiles import Array

_CANCELLED = 1e6
"""Bound over what rounding leaves, up to which a difference of 0 is one."""
_VANISHES = 2.0**-960
"""What rounding leaves of terms that are 0 themselves, each for want of something that multiplies it."""
_AGREE = 1e-3
"""Relative difference up to which routes agree, as they hardly do on what rounding made, unless they round alike."""
_ALIKE = 64
"""Units of rounding up to which they may do that."""
_POINTS = 4
"""Other points at which a gradient is looked at: rounding makes the same of all of them once in hundreds of times."""
_AWAY = 2.0**-20
"""How far these are, as a part of each number: far beyond rounding, and near enough to be of the same branch."""
_SAME = 1e-2
"""Relative difference up to which the gradient at another point is the same."""

Gradients = tuple[Array, Array]


@dataclass(frozen=True)
class Known:
    """What is known of a gradient beside its difference.

    Attributes
    ----------
    size
        Its largest element; 0 where rounding alone may have made all of it.
    elsewhere
        Where it is 0 at other points too; None where the size is not 0.
    exactly
        Where both routes find 0 exactly; None where the size is not 0.
    """

    size: float
    elsewhere: Array | None = None
    exactly: Array | None = None


class InFloat64:
    """A model in float64, at one point and at others near by.

    Parameters
    ----------
    graph
        The model.
    leaves
        Every tensor and weight in float64, (1, ...).
    names
        What is asked for.
    seed
        All that is random follows from it.
    """

    def __init__(self, graph: Graph, leaves: Mapping[str, Array], names: Sequence[str], seed: int) -> None:
        self._graph = graph
        self._leaves = leaves
        self._names = names
        self._seed = seed

    @kept
    def _routes(self) -> tuple[Values, Values]:
        with np.errstate(all="ignore"):
            by_hand = analytic.differentiate(self._graph, self._leaves).gradients
            return by_hand, autograd.differentiate(self._graph, self._leaves, self._names).gradients

    def gradients(self, name: str) -> Gradients:
        """The analytic and the autograd gradient."""
        by_hand, by_torch = self._routes
        return by_hand[name], by_torch[name]

    @kept
    def _rounding(self) -> Values:
        with np.errstate(all="ignore"):
            return allowances(self._graph, self._leaves, PRECISIONS["FP64"], self._seed, self._names)

    def rounding(self, name: str) -> Array:
        """What each element of a correct gradient may be off by."""
        return self._rounding[name]

    def known(self, name: str) -> Known:
        """What is known of a gradient whose difference says that it may be 0."""
        gradients, rounding = self.gradients(name), self.rounding(name)
        size = float(sizes_of(gradients, rounding, PRECISIONS["FP64"].unit_roundoff).max(initial=0))
        if size > 0 or not all(np.isfinite(each).all() for each in gradients):
            return Known(size)
        return Known(0.0, self._is_nothing_elsewhere(name), (gradients[0] == 0) & (gradients[1] == 0))

    def _is_nothing_elsewhere(self, name: str) -> Array:
        """Where a gradient is 0 within rounding at other points too, and is not the same number at all of them."""
        found, rounding = (each[name] for each in self._elsewhere)
        if not np.isfinite(found).all():
            return np.zeros(rounding.shape, np.bool_)
        here = self.gradients(name)[0]
        same = all(norm(each - here) <= _SAME * norm(here) for each in found) and bool(here.any())
        return np.asarray((np.abs(found) <= rounding).all(axis=0) & (not same))

    @kept
    def _elsewhere(self) -> tuple[Values, Values]:
        """Gradients at other points, (_POINTS, ...), and what rounding may do to them."""
        generator = np.random.default_rng([self._seed, 0x0E])
        leaves: Values = {}
        for name, leaf in self._leaves.items():
            away = generator.uniform(-_AWAY, _AWAY, (_POINTS, *leaf.shape[1:])) if leaf.dtype.kind == "f" else 0
            leaves[name] = leaf if leaf.dtype.kind != "f" else leaf * (1 + away)
        first = {name: leaf[:1] for name, leaf in leaves.items()}
        with np.errstate(all="ignore"):
            gradients = self._graph.reverse(self._graph.forward(leaves))
            rounding = allowances(self._graph, first, PRECISIONS["FP64"], self._seed, self._names)
        return {name: gradients[name] for name in self._names}, rounding


def within(known: Known, difference: Difference, rounding: Array) -> Array | None:
    """How far from 0 a number may be to pass as 0, of the shape of the difference; see `Reference.nothing`.

    Parameters
    ----------
    known
        Of the gradient; all of it counts where directions were looked at.
    difference
        By element, or along directions. Where it is not known well, it does not tell nothing from what is hidden.
    rounding
        What the number may be off by in float64.
    """
    if known.elsewhere is None or known.exactly is None:
        return None
    elsewhere, exactly = known.elsewhere, known.exactly
    if elsewhere.shape != difference.value.shape:
        elsewhere, exactly = elsewhere.all(), (exactly | elsewhere).all()
    cancels = difference.error_bound <= _CANCELLED * np.fmax(difference.rounding, rounding)
    here = np.where(exactly & (rounding < _VANISHES), rounding, -np.inf)
    here = np.where(exactly & cancels, difference.error_bound + rounding, here)
    return np.where(elsewhere & cancels, np.inf, here)


def sizes_of(gradients: Sequence[Array], rounding: Array, unit_roundoff: float) -> Array:
    """Sizes of a gradient that several routes have found, 0 where rounding alone may have made them.

    What cancels leaves a fair part of what rounding may be. Where all of a tensor is far below that and yet not 0, it
    has not cancelled but is small, as behind a saturated softmax: its elements have their sizes, and there is nothing
    that could tell them from 0. How far below depends on whether the routes say the same.
    """
    each = np.array([np.where(np.isfinite(gradient), gradient, 0) for gradient in gradients])
    least, most = np.abs(each).min(axis=0), np.abs(each).max(axis=0)
    apart = np.ptp(each, axis=0).max(initial=0) / (most.max(initial=0) or 1)
    small = most.any() and (most <= _part_of_rounding(apart, unit_roundoff) * rounding).all()
    return most if small else np.where(least > rounding, least, 0)


def _part_of_rounding(apart: float, unit_roundoff: float) -> float:
    """Part of what rounding may be up to which a tensor is small, on which routes are that far apart."""
    if apart > _AGREE:
        return 1e-6
    return 1e-3 if apart <= _ALIKE * unit_roundoff else 1
