"""Places of a sampling grid on the axes of an image: elements, weights and their derivatives.

Notes
-----
A coordinate g of the grid, -1 to 1 over the image, is the place u = (g + 1) (n - 1) / 2 on an axis of n elements with
align_corners, so that -1 and 1 are the middles of the outer elements, and u = ((g + 1) n - 1) / 2 otherwise. A padding
mode brings places outside back: v = a u + b with a in -1, 0, 1. On a piece of the function a, b and the cell k are
constants, and t = v - k is the place in the cell:

    nearest:   k the integer nearest to v, weight 1
    bilinear:  k = floor(v), weights 1 - t and t of k and k + 1
    bicubic:   k = floor(u), weights c(t + 1), c(t), c(1 - t), c(2 - t) of k - 1 to k + 2, which are brought back
               themselves, with Keys's kernel
                   c(d) = (A + 2) d^3 - (A + 3) d^2 + 1 for d <= 1,   A d^3 - 5 A d^2 + 8 A d - 4 A for d <= 2
               and A = -3/4

Elements outside have the weight 0 with the padding mode "zeros".

References
----------
Keys, Cubic convolution interpolation for digital image processing (1981), for c.
"""

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from service.numerics.core.batching import Array, Shape

InterpolationMode = Literal["bilinear", "nearest", "bicubic"]
PaddingMode = Literal["zeros", "border", "reflection"]
_A = -0.75
_LARGEST_SECOND_DERIVATIVE = 6.0
"""Bound of the second derivative of the weights of bicubic interpolation; the others have none."""


class GridTables(NamedTuple):
    """The elements of the image that each place reads, by axis in the order of the grid's coordinates.

    Attributes
    ----------
    indices
        Indices of the elements along their axis, (K, N, P, axes, m).
    weights
        Weights of the elements.
    slopes
        Derivatives of the weights by the coordinate of the grid.
    is_inside
        Mask of the elements that the image has; the others are 0.
    """

    indices: Array
    weights: Array
    slopes: Array
    is_inside: Array


@dataclass(frozen=True)
class GridGeometry:
    """The axes of an image, and the way in which a grid samples them.

    Attributes
    ----------
    lengths
        Lengths of the axes, the last axis first, as the coordinates of the grid have it.
    """

    lengths: Shape
    mode: InterpolationMode
    padding_mode: PaddingMode
    align_corners: bool

    @property
    def element_count(self) -> int:
        """Return the number of elements of one axis that a place reads."""
        return {"nearest": 1, "bilinear": 2, "bicubic": 4}[self.mode]

    def get_scales(self, dtype: np.dtype) -> Array:
        """Return du/dg of each axis."""
        return (np.array(self.lengths, dtype) - self.align_corners) / dtype.type(2)

    def find_places(self, grid: Array) -> Array:
        """Return u of each coordinate."""
        lengths = np.array(self.lengths, grid.dtype)
        if self.align_corners:
            return (grid + 1) / 2 * (lengths - 1)
        return ((grid + 1) * lengths - 1) / 2

    def select_pieces(self, grid: Array) -> Array:
        """Return a, b and k of each coordinate, (..., axes, 3)."""
        u = self.find_places(grid)
        a, b = np.ones_like(u), np.zeros_like(u)
        if self.mode != "bicubic":
            a, b = self._bring_back(u)
        v = a * u + b
        if self.mode == "nearest":
            v = np.rint(v)
            return np.stack([np.zeros_like(v), v, v], axis=-1)
        return np.stack([a, b, np.floor(v)], axis=-1)

    def _bring_back(self, u: Array) -> tuple[Array, Array]:
        """Return a and b of the padding mode."""
        lengths = np.array(self.lengths, u.dtype)
        a, b = np.ones_like(u), np.zeros_like(u)
        if self.padding_mode == "zeros":
            return a, b
        if self.padding_mode == "reflection":
            a, b = self._reflect(u)
        v = a * u + b
        is_low, is_high = v <= 0, v >= lengths - 1
        a = _choose(is_low | is_high, u.dtype.type(0), a)
        return a, _choose(is_low, u.dtype.type(0), _choose(is_high, lengths - 1, b))

    def _reflect(self, u: Array) -> tuple[Array, Array]:
        """Return a and b of the reflection at the middles, or at the outer edges, of the outer elements."""
        lengths = np.array(self.lengths, u.dtype)
        low = u.dtype.type(0 if self.align_corners else -0.5)
        span = lengths - self.align_corners
        sign = _choose(np.less(u, low), u.dtype.type(-1), u.dtype.type(1))
        with np.errstate(divide="ignore", invalid="ignore"):
            flips = np.floor(np.abs(u - low) / span)
        is_even = np.remainder(flips, 2) == 0
        a = _choose(is_even, sign, np.negative(sign))
        b = _choose(is_even, low - sign * low - flips * span, low + sign * low + (flips + 1) * span)
        # An axis of one element has one place.
        return _choose(span == 0, u.dtype.type(0), a), _choose(span == 0, u.dtype.type(0), b)

    def make_tables(self, pieces: Array, grid: Array) -> GridTables:
        """Return the tables on pieces, continued beyond their ends.

        Parameters
        ----------
        pieces
            Pieces that `select_pieces` returns, (K, N, P, axes, 3).
        grid
            Coordinates, (K, N, P, axes).
        """
        a, b, k = (np.asarray(pieces[..., number], grid.dtype) for number in range(3))
        t = (a * self.find_places(grid) + b - k)[..., None]
        weights, slopes = self._weigh(t)
        slopes = slopes * (a * self.get_scales(grid.dtype))[..., None]
        lengths = np.array(self.lengths)[:, None]
        first = -1 if self.mode == "bicubic" else 0
        numbers = np.nan_to_num(k, nan=-8.0)[..., None] + np.arange(first, first + self.element_count)
        if self.mode == "bicubic" and self.padding_mode != "zeros":
            of_axis = np.moveaxis(numbers, -1, -2)
            back, offset = self._bring_back(of_axis)
            numbers = np.moveaxis(back * of_axis + offset, -2, -1)
        is_inside = (numbers >= 0) & (numbers <= lengths - 1)
        indices = np.clip(numbers, 0, lengths - 1).astype(np.int64)
        return GridTables(indices, weights, slopes, is_inside)

    def _weigh(self, t: Array) -> tuple[Array, Array]:
        """Return the weights of the elements of a cell, and their derivatives by t."""
        if self.mode == "nearest":
            return np.ones_like(t), np.zeros_like(t)
        if self.mode == "bilinear":
            return np.concatenate([1 - t, t], axis=-1), np.concatenate([-np.ones_like(t), np.ones_like(t)], axis=-1)
        far, near = (t + 1, 2 - t), (t, 1 - t)
        weights = [_weigh_far(far[0]), _weigh_near(near[0]), _weigh_near(near[1]), _weigh_far(far[1])]
        slopes = [_slope_far(far[0]), _slope_near(near[0]), -_slope_near(near[1]), -_slope_far(far[1])]
        return np.concatenate(weights, axis=-1), np.concatenate(slopes, axis=-1)

    def bound_errors(self, tables: GridTables, grid: Array) -> GridTables:
        """Return the tables with bounds of the weights and slopes in units of their rounding.

        A place u is off by some u of (abs(g) + 1) n / 2, and a weight by as much as that moves it.
        """
        scales = self.get_scales(grid.dtype)
        sizes = ((np.abs(grid) + 1) + 1 / np.maximum(scales, 0.5))[..., None]
        is_cubic = self.mode == "bicubic"
        weights = np.abs(tables.weights) + 2 * sizes * np.abs(tables.slopes) + 4 * is_cubic
        curvatures = _LARGEST_SECOND_DERIVATIVE * is_cubic * np.square(scales)[:, None]
        slopes = np.abs(tables.slopes) + 2 * sizes * curvatures + 4 * is_cubic * scales[:, None]
        return tables._replace(weights=weights, slopes=slopes)


def _choose(condition: Array, chosen: Any, other: Any) -> Array:
    return np.where(condition, np.asarray(chosen), np.asarray(other))


def _weigh_near(d: Array) -> Array:
    return ((_A + 2) * d - (_A + 3)) * d * d + 1


def _weigh_far(d: Array) -> Array:
    return ((_A * d - 5 * _A) * d + 8 * _A) * d - 4 * _A


def _slope_near(d: Array) -> Array:
    return (3 * (_A + 2) * d - 2 * (_A + 3)) * d


def _slope_far(d: Array) -> Array:
    return (3 * _A * d - 10 * _A) * d + 8 * _A
