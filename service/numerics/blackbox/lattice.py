"""Moves that a datatype can represent, so that each step is taken as planned.

The points x + h v are numbers of the tensor's datatype. Rounding each of them by itself would make the direction
another one at every step: in float32, by 2^-24 / h of it, which no extrapolation takes away. So all of them are put on
one lattice. With q the distance of the datatype's numbers at the farthest point that an element reaches,

    X = q round(x / q),    h_min v = q round(h_min v / q),    x -> X +- h v  for h = h_min 2^m, m = 0, 1, ...        (1)

is exact for every step and on both sides: differences are central about X, along v itself, whatever the datatype. X is
x but for elements smaller than their move, where |X - x| <= q / 2, a rounding of what they move by; |X - x| < q of an
element that moves to one side alone, and is rounded to that side. The distance q is
a part of h_min s, s the scale, the `coarseness`: a random direction is one rounded to multiples of that.
"""

from dataclasses import dataclass

import numpy as np

from service.numerics.core.batching import Array
from service.numerics.core.precision import Precision

_REACH_MARGIN = 1 + 2.0**-4
"""An element reaches farther by the rounding of its move: by 2^-6 of it in bfloat16 at most."""


@dataclass(frozen=True)
class LatticeMoves:
    """Lines X + h v, of one element each or of whole tensors.

    Attributes
    ----------
    starts, directions
        X and v, (k,) or (k, elements).
    displacement
        Norm of X - x over that of v, (k,).
    coarseness
        Largest distance of neighbours on the lattice over what the smallest step moves by.
    """

    starts: Array
    directions: Array
    displacement: Array
    coarseness: float


def round_to_lattice(
    point: Array,
    moves: Array,
    scale: Array,
    largest_step: float,
    smallest_step: float,
    precision: Precision,
    inward: Array | float = 0.0,
) -> LatticeMoves:
    """Put lines on a lattice, as (1) has it.

    Parameters
    ----------
    point
        x, float64, (k,) or (elements,).
    moves
        v as it is wanted, (k,) or (k, elements); an element that does not move keeps its place.
    scale
        Sizes of the moves, broadcasting to them.
    largest_step, smallest_step
        Largest and smallest step, powers of two.
    inward
        1 or -1 where X is not to be less, or not more, than x, and 0 where it is the nearest; broadcasts to x.
    """
    starts, rounded_moves, spacing = round_moves(point, moves, largest_step, smallest_step, precision, inward)
    with np.errstate(over="ignore"):
        coarsenesses = np.divide(spacing, smallest_step * scale, out=np.zeros(np.shape(moves)), where=moves != 0)
    return LatticeMoves(
        starts, rounded_moves, _measure_relative_displacement(starts - point, rounded_moves), float(coarsenesses.max())
    )


def round_moves(
    point: Array,
    moves: Array,
    largest_step: float,
    smallest_step: float,
    precision: Precision,
    inward: Array | float = 0.0,
) -> tuple[Array, Array, Array]:
    """Return X, v and q of (1); parameters are those of `round_to_lattice`."""
    spacing = compute_lattice_spacing(np.abs(point) + largest_step * np.abs(moves), precision)
    with np.errstate(over="ignore"):
        units = point / spacing
        inward_units = np.rint(units)
        if np.any(inward):
            further_units = np.where(np.greater(inward, 0), np.ceil(units), np.floor(units))
            inward_units = np.where(inward == 0, inward_units, further_units)
        starts = np.where(moves == 0, point, spacing * inward_units)
        return starts, spacing * np.rint(smallest_step * moves / spacing) / smallest_step, spacing


def compute_lattice_spacing(reach: Array, precision: Precision) -> Array:
    """Return the distance of numbers at the farthest point that an element reaches.

    That point counts as one rounding farther from 0.
    """
    _, exponent = np.frexp(reach * _REACH_MARGIN)
    min_unit_exponent = precision.min_exponent - precision.significand_bits + 1
    return np.ldexp(1.0, np.maximum(exponent - precision.significand_bits, min_unit_exponent))


def _measure_relative_displacement(displacement: Array, moves: Array) -> Array:
    displacement, moves = (np.abs(vectors.reshape(len(moves), -1)) for vectors in (displacement, moves))
    largest_moves = np.maximum(moves.max(axis=1), 5e-324)[:, None]
    with np.errstate(over="ignore"):
        norms = [np.sqrt(np.square(vectors / largest_moves).sum(axis=1)) for vectors in (displacement, moves)]
    return norms[0] / np.maximum(norms[1], 2.0**-60)
