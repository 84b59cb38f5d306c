"""The p-norm of vectors as a function of pieces: where each element has a sign, and the vector a size.

A norm is smooth, but only within its own size: a vector of about 1e-6, as the difference of two that are nearly equal
is one, turns round within a step of 1e-6. Beside another, larger part of a loss a difference that is taken across it
looks as if it had settled. So the piece of a vector ends where its largest element would be several times as large.
"""

import numpy as np

from service.numerics.tiles import Array

_ROOM = 4.0
"""How much larger than its size on the piece the largest element may become."""
_OFFSET = 0.37
"""Sizes are rounded down to powers of two, but not where exact numbers lie: there nothing should be ambiguous."""

Axes = int | tuple[int, ...]


def piece(x: Array, over: Axes) -> Array:
    """Sign of each element times the size of its vector along some axes: infinite where all others of it are 0.

    Such a vector has no turn, but a kink at 0, of which the sign is enough.
    """
    absolute = np.abs(x)
    largest = absolute.max(axis=over, keepdims=True)
    positive = np.where(largest > 0, largest, 1).astype(np.float64)
    several = (absolute > 0).sum(axis=over, keepdims=True) > 1
    sizes = np.where(several, np.exp2(np.floor(np.log2(positive) + _OFFSET)), np.inf)
    return np.where(x == 0, 0, np.copysign(sizes, x))


def continued(p: float, branch: Array, x: Array, over: Axes) -> Array:
    """abs(x) on the piece that `branch` names, NaN beyond where it ends.

    Beyond 0 it is -abs(x) where there is a power of that, else NaN.
    """
    sizes = np.abs(branch).max(axis=over, keepdims=True)
    absolute = np.abs(x)
    within = absolute.max(axis=over, keepdims=True) <= _ROOM * np.where(sizes > 0, sizes, np.inf)
    if p < 0 or p % 2 != 0:
        beyond = np.sign(branch) * x < 0
        absolute = np.where(beyond, -absolute if p > 0 and p % 2 == 1 else np.nan, absolute)
    return np.where(within, absolute, np.nan).astype(x.dtype, copy=False)


def norm(p: float, absolute: Array, over: Axes) -> Array:
    """(sum a^p)^(1/p), over the largest so that the powers stay in range; the axes stay with length 1."""
    largest = np.abs(absolute).max(axis=over, keepdims=True)
    unit = np.where(largest > 0, largest, 1).astype(absolute.dtype, copy=False)
    total = np.power(absolute / unit, absolute.dtype.type(p)).sum(axis=over, keepdims=True)
    return unit * np.power(total, absolute.dtype.type(1 / p))


def norm_along(p: float, branch: Array, x: Array, over: Axes) -> Array:
    """The norm on the piece that `branch` names; the axes stay with length 1."""
    linear: Array = (np.sign(branch).astype(x.dtype) * x).sum(axis=over, keepdims=True)
    if p == 1:
        return linear
    # Of one element alone every norm is its size, which goes on through 0 as a line.
    alone = np.isinf(branch).any(axis=over, keepdims=True) & ((x != 0).sum(axis=over, keepdims=True) <= 1)
    return np.where(alone, linear, norm(p, continued(p, branch, x, over), over)).astype(x.dtype, copy=False)
