"""Derivatives along lines of every kind: of both sides, of one side, and of which some points have no value.

Central differences are taken where a line has points on both sides (difference.py), those of one side where a bound
leaves no room on the other (onesided.py). Where the loss has no value at some points, a line has the central difference
of the levels at which both sides have one, and what each side has by itself; of these the one with the smallest bound
is taken. A line with too few points of any kind has no derivative.
"""

from collections.abc import Iterator
from dataclasses import fields

import numpy as np

from service.numerics.blackbox import difference
from service.numerics.blackbox.difference import Along
from service.numerics.blackbox.kinks import Shape
from service.numerics.blackbox.layout import Layout
from service.numerics.blackbox.noise import Noise
from service.numerics.blackbox.onesided import LEAST_NODES, Samples, one_sided
from service.numerics.pausing import pausing
from service.numerics.tiles import Array

_DISPLACED = 8.0


def along(layout: Layout, name: str, losses: Array, base: float, noise: Noise) -> Along:
    """Difference the loss along the directions of a tensor.

    Parameters
    ----------
    losses
        Of the tensor, (k, levels, 2); NaN where it has no value.
    base
        The loss at the base.
    """
    sides = layout.lines[name].sides
    there = np.isfinite(losses)
    found = difference.along(layout, name, np.where((sides == 0)[:, None, None], losses, np.nan), base, noise)
    wanted = (sides != 0) | ~there.all(axis=(1, 2))
    if not wanted.any():
        return found
    offsets = layout.offsets(name).reshape(len(losses), -1)
    there = there.reshape(offsets.shape) & wanted[:, None]
    for side in (1, -1):
        for lines, points in _alike(there & (np.sign(offsets) == side)):
            order = points[np.argsort(-np.abs(offsets[lines[0], points]), kind="stable")]
            order = order[np.unique(-np.abs(offsets[lines[0], order]), return_index=True)[1]]
            if len(order) >= LEAST_NODES:
                values = losses.reshape(offsets.shape)[np.ix_(lines, order)]
                _take(found, lines, _one(layout, name, lines, offsets[lines][:, order], values, base, noise))
    return found


def _alike(there: Array) -> Iterator[tuple[Array, Array]]:
    """Lines that have the same points, and these: both by their positions; but for lines that have none."""
    sets, group = np.unique(there, axis=0, return_inverse=True)
    for number, points in enumerate(pausing(sets)):
        if points.any():
            yield np.flatnonzero(group.ravel() == number), np.flatnonzero(points)


def _take(found: Along, lines: Array, other: Along) -> None:
    """Put what is known better."""
    better = ~(found.bound[lines] <= other.bound)
    for each in fields(Along):
        getattr(found, each.name)[lines[better]] = getattr(other, each.name)[better]


def _one(layout: Layout, name: str, lines: Array, offsets: Array, losses: Array, base: float, noise: Noise) -> Along:
    """Difference lines on one side, at signed steps that are alike, (k, m).

    The line X + t v of a single element passes through the base at t = (x - X) / v: steps are counted from there, and
    nothing is off. Of random v the base lies beside the line by X - x, a rounding, of which the loss takes its part:
    eight times |X - x| / |v| of the largest difference is allowed for at the base, and, as the derivative is that at X
    and not at x, of the curvature.
    """
    of = layout.lines[name]
    if of.elements is None:
        nodes, off = offsets, _DISPLACED * of.moves.displaced[lines]
    else:
        values = layout.points[name].values.ravel()[of.elements[lines]]
        nodes, off = (
            offsets + ((of.moves.starts[lines] - values) / of.moves.moves[lines])[:, None],
            np.zeros(len(lines)),
        )
    deviations = noise.grown(np.abs(losses))
    largest = np.abs((losses - base) / nodes).max(axis=1)
    samples = Samples(nodes, losses, deviations, base, noise.most, off * largest)
    result = one_sided(samples)
    bends = _bends(samples)
    curved = np.full(bends.shape, bends.max()) if of.elements is None else bends
    units = np.abs(of.units[lines])
    return Along(
        value=result.value / of.units[lines],
        bound=(result.bound + np.where(off == 0, 0, off * curved)) / units,
        deviation=result.deviation / units,
        bend=bends / units,
        base=np.full(len(lines), noise.size),
        size=np.maximum(bends, noise.size),
        resolution=noise.rounding * np.maximum(bends, noise.size),
        constant=(losses == base).all(axis=1),
        shape=np.full(len(lines), Shape.SMOOTH),
        suspected=result.contested,
    )


def _bends(samples: Samples) -> Array:
    """Second derivatives along the lines, (k,): largest over the steps."""
    quotients, nodes = samples.quotients, samples.nodes
    found: Array = 2 * np.abs((quotients[:, :1] - quotients[:, 1:]) / (nodes[:, :1] - nodes[:, 1:]))
    return found.max(axis=1)
