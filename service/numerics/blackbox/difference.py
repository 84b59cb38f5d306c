"""From the losses of one tensor to its directional derivatives."""

from dataclasses import dataclass, fields

import numpy as np

from service.numerics.blackbox.extrapolation import extrapolated
from service.numerics.blackbox.kinks import Shape, kinked
from service.numerics.blackbox.layout import Layout
from service.numerics.blackbox.noise import Noise
from service.numerics.pausing import pausing
from service.numerics.tiles import Array

_DISPLACED = 8.0
_MUCH, _DROWNED = 2.0**-10, 12.0
_ROUNDED = 16.0
_COARSE = 4
_LEAST = 3
"""Levels without which nothing is said of a line: an entry of the table needs neighbours."""


@dataclass(frozen=True)
class Along:
    """Derivatives of the loss along the directions of one tensor.

    Attributes
    ----------
    value, bound, deviation
        Derivative, its bound, and the deviation of the noise in it, (k,).
    bend
        Second derivative along each, times the size of the move: by how much the derivative changes over it, (k,).
    base
        Size of the loss at the base, (k,).
    size
        Of the losses at the base or, if that is larger, of what they change by as the bend has it, (k,).
    resolution
        Of that, what rounding to the format of the losses is, (k,).
    constant
        Along which directions the loss was the same at every point, to the last bit, (k,).
    shape
        What keeps the loss from being smooth near the base, as second differences tell: positions in `Shape`, (k,).
    suspected
        Where there may be a kink, (k,).
    """

    value: Array
    bound: Array
    deviation: Array
    bend: Array
    base: Array
    size: Array
    resolution: Array
    constant: Array
    shape: Array
    suspected: Array


def along(layout: Layout, name: str, losses: Array, base: float, noise: Noise) -> Along:
    """Difference the loss along the directions of a tensor.

    A level of a line counts where the loss has a finite value on both sides. Lines that have the same levels are
    differenced together; of those that have too few nothing is known.

    Parameters
    ----------
    losses
        Of the tensor, (k, levels, 2).
    base
        The loss at the base.
    """
    usable = np.isfinite(losses).all(axis=2)
    sets, group = np.unique(usable, axis=0, return_inverse=True)
    found = _unknown(len(losses))
    for number, levels in enumerate(pausing(sets)):
        which = np.flatnonzero(group.ravel() == number)
        if np.count_nonzero(levels) >= _LEAST:
            _put(found, which, _differenced(layout, name, losses, base, noise, which, levels))
    return found


def _unknown(count: int) -> Along:
    def filled(value: float) -> Array:
        return np.full(count, value)

    return Along(
        value=filled(np.nan),
        bound=filled(np.inf),
        deviation=filled(np.inf),
        bend=filled(np.nan),
        base=filled(0.0),
        size=filled(0.0),
        resolution=filled(0.0),
        constant=np.zeros(count, bool),
        shape=np.zeros(count, int),
        suspected=np.zeros(count, bool),
    )


def _put(found: Along, which: Array, some: Along) -> None:
    for field in fields(Along):
        getattr(found, field.name)[which] = getattr(some, field.name)


def _differenced(
    layout: Layout, name: str, losses: Array, base: float, noise: Noise, which: Array, levels: Array
) -> Along:
    """Difference some lines at some levels.

    The differences are central about X, not x (lattice.py), which puts v . H (X - x) into the derivative. Where one
    element is moved that is v . H v |X - x| / |v|. Of random v the root mean square of v . H v is sqrt(2) |H| or more
    (Frobenius' norm, in units of the scale), and that of v . H (X - x) no more than |H| |X - x| / |v|, as X - x is a
    rounding that knows of neither: eight times the largest that was seen is allowed for. So is what the loss at x is
    off from that at X.

    What seems to be noise may be a loss that turns many times within the distance of near points. Where it is a good
    part of the loss, the same each time, and all that is seen along a line, nothing is known of that; but where the
    loss is the same at every point: of a loss of 1 alone the format is not known, and may be the coarsest.

    Near points may all have the same loss by chance, where the others differ by several roundings. Where a whole line
    differs by no more than 16 of them, that is noise: the derivative, of 64 of them at most over the move, is not seen
    through a noise of half a one either.
    """
    steps, lines = layout.points[name].schedule.steps[levels], layout.lines[name]
    losses = losses[which][:, levels]
    deviations, spread = noise.at(losses, steps, base), np.ptp(losses, axis=(1, 2))
    rounded = spread <= _ROUNDED * noise.rounding * noise.size
    deviations = np.maximum(deviations, np.where(rounded, spread, 0.0)[:, None])
    plus, minus = losses[..., 0], losses[..., 1]
    quotients = (plus - minus) / (2 * steps)
    seconds = (plus - base) + (minus - base)
    off = _DISPLACED * lines.moves.displaced[which]
    slopes, bends = np.abs(quotients).max(axis=1), _curvature(seconds, steps)
    steepest, most = (_largest(each, lines.elements is None) for each in (slopes, bends))
    kinks = kinked(seconds, steps, deviations, off * steepest)
    found = extrapolated(quotients, steps, deviations, kinks.added)
    bound = found.bound + np.where(off == 0, 0, off * most)
    lost = noise.exact & (noise.most > _MUCH * noise.size) & (spread <= _DROWNED * noise.most)
    lost &= spread > 0
    bound[lost] = np.inf
    units, size = np.abs(lines.units[which]), np.maximum(_least_curvature(seconds, steps), noise.size)
    return Along(
        found.value / lines.units[which],
        bound / units,
        found.deviation / units,
        bends / units,
        np.full(len(which), noise.size),
        size,
        noise.rounding * size,
        (losses == base).all(axis=(1, 2)),
        np.where(lost, Shape.ROUGH, kinks.shape),
        kinks.suspected | found.contested,
    )


def _largest(values: Array, alike: bool) -> Array:
    """Of each line or, where directions differ by chance alone, of all."""
    return np.full(values.shape, values.max()) if alike else values


def _least_curvature(seconds: Array, steps: Array) -> Array:
    """v . H v, smallest over the coarse steps: a loss that grows by many orders over the move is not 0 at the base."""
    coarse = slice(0, _COARSE)
    found: Array = np.abs(np.diff(seconds[:, coarse], axis=1) / np.diff(np.square(steps[coarse])))
    return found.min(axis=1)


def _curvature(seconds: Array, steps: Array) -> Array:
    """v . H v, largest over the steps; the base's error drops out."""
    found: Array = np.abs(seconds[:, :1] - seconds[:, 1:]) / (steps[0] ** 2 - steps[1:] ** 2)
    return found.max(axis=1)
