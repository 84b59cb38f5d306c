"""From the losses of one tensor to its directional derivatives."""

from dataclasses import dataclass

import numpy as np

from service.numerics.blackbox.extrapolation import extrapolated
from service.numerics.blackbox.kinks import kinked
from service.numerics.blackbox.layout import Layout
from service.numerics.blackbox.noise import Noise
from service.numerics.tiles import Array

_DISPLACED = 8.0


@dataclass(frozen=True)
class Along:
    """Derivatives of the loss along the directions of one tensor.

    Attributes
    ----------
    value, bound, deviation
        Derivative, its bound, and the deviation of the noise in it, (k,).
    constant
        Along which directions the loss was the same at every point, to the last bit, (k,).
    kinked, suspected
        Along which directions it has a kink near the base, as second differences tell, and where it may have one, (k,).
    """

    value: Array
    bound: Array
    deviation: Array
    constant: Array
    kinked: Array
    suspected: Array


def along(layout: Layout, name: str, losses: Array, base: float, noise: Noise) -> Along:
    """Difference the loss along the directions of a tensor.

    The differences are central about X, not x (lattice.py), which puts v . H (X - x) into the derivative. Where one
    element is moved that is v . H v |X - x| / |v|. Of random v the root mean square of v . H v is sqrt(2) |H| or more
    (Frobenius' norm, in units of the scale), and that of v . H (X - x) no more than |H| |X - x| / |v|, as X - x is a
    rounding that knows of neither: eight times the largest that was seen is allowed for.

    Parameters
    ----------
    losses
        Of the tensor, (k, levels, 2).
    base
        The loss at the base.
    """
    steps, lines = layout.points[name].schedule.steps, layout.lines[name]
    deviations = noise.at(losses)
    plus, minus = losses[..., 0], losses[..., 1]
    quotients = (plus - minus) / (2 * steps)
    seconds = (plus - base) + (minus - base)
    off = _DISPLACED * lines.moves.displaced
    kinks = kinked(seconds, steps, deviations, off * np.abs(quotients).max(axis=1))
    found = extrapolated(quotients, steps, deviations, kinks.added)
    bound = found.bound + np.where(off == 0, 0, off * _curvature(seconds, steps, alike=lines.elements is None))
    units = np.abs(lines.units)
    return Along(
        found.value / lines.units,
        bound / units,
        found.deviation / units,
        (losses == base).all(axis=(1, 2)),
        kinks.told,
        kinks.suspected | found.contested,
    )


def _curvature(seconds: Array, steps: Array, *, alike: bool) -> Array:
    """v . H v, largest over the steps, and over all directions where these are alike; the base's error drops out."""
    found: Array = (np.abs(seconds[:, :1] - seconds[:, 1:]) / (steps[0] ** 2 - steps[1:] ** 2)).max(axis=1)
    return np.full(found.shape, found.max()) if alike else found
