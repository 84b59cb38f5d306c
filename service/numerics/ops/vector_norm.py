"""The p-norm of vectors as a function of pieces: where each element has a sign, and the vector a size.

A norm is smooth, but only within its own size: a vector of about 1e-6, as the difference of two that are nearly equal
is one, turns round within a step of 1e-6. Beside another, larger part of a loss a difference that is taken across it
looks as if it had settled. So the piece of a vector ends where its largest element would be several times as large.
"""

import math
from typing import Any

import numpy as np

from service.numerics.core.batching import Array

_MAX_GROWTH_ON_BRANCH = 4.0
"""How much larger than its size on the piece the largest element may become."""
_PIECE_FROM_ZERO = 5e-324
"""Size, on its piece, of an element that is 0 at the point: the smallest number, which stands for a limit."""
_ROUNDING_OFFSET = 0.37
"""Sizes are rounded down to powers of two, but not where exact numbers lie: there nothing should be ambiguous."""

AxisIndices = int | tuple[int, ...]


def select_norm_branch(x: Array, axes: AxisIndices) -> Array:
    """Sign of each element times the size of its vector along some axes: infinite where all others of it are 0.

    Such a vector has no turn, but a kink at 0, of which the sign is enough.
    """
    absolute = np.abs(x)
    largest = absolute.max(axis=axes, keepdims=True)
    positive = np.where(largest > 0, largest, 1).astype(np.float64)
    several = (absolute > 0).sum(axis=axes, keepdims=True) > 1
    sizes = np.where(several, np.exp2(np.floor(np.log2(positive) + _ROUNDING_OFFSET)), np.inf)
    return np.where(x == 0, 0, np.copysign(sizes, x))


def choose_piece_beside(own: Array, x: Array, over: AxisIndices) -> Array:
    """Piece of a norm of p < 0 that a small move to x leads to, from `own`.

    An element that leaves 0 is told from one that is small: the norm grows from 0 as the norm of those
    elements alone, which the others only bend.
    """
    return np.where((own == 0) & (x != 0), np.sign(x) * _PIECE_FROM_ZERO, select_norm_branch(x, over))


def _is_from_zero(p: float, branch: Array, x: Array, over: AxisIndices) -> Array:
    """The norm, p < 0, as it grows from 0 where some elements leave it: as theirs alone, and beyond 0 as it would.

    While one of them stays 0, so does the norm.
    """
    leaving = np.abs(branch) == _PIECE_FROM_ZERO
    of_these = p_norm(p, np.where(leaving, np.abs(x), np.inf), over)
    ahead = np.all(np.where(leaving, np.sign(branch) * x >= 0, True), axis=over, keepdims=True)
    staying = np.any(branch == 0, axis=over, keepdims=True)
    return np.where(staying, 0, np.where(ahead, of_these, -of_these))


def continue_absolute(p: float, branch: Array, x: Array, axes: AxisIndices) -> Array:
    """abs(x) on the piece that `branch` names, NaN beyond where it ends.

    Beyond 0 it is -abs(x) where there is a power of that, else NaN.
    """
    sizes = np.abs(branch).max(axis=axes, keepdims=True)
    absolute = np.abs(x)
    within = absolute.max(axis=axes, keepdims=True) <= _MAX_GROWTH_ON_BRANCH * np.where(sizes > 0, sizes, np.inf)
    if p < 0 or p % 2 != 0:
        beyond = np.sign(branch) * x < 0
        absolute = np.where(beyond, -absolute if p > 0 and p % 2 == 1 else np.nan, absolute)
    return np.where(within, absolute, np.nan).astype(x.dtype, copy=False)


def p_norm(p: float, absolute: Array, axes: AxisIndices) -> Array:
    """(sum a^p)^(1/p), 0 for p < 0 where an a is 0; the axes stay with length 1.

    The powers are taken over the element that makes up most of it, so that they stay in range.
    """
    unit, total = _compute_norm_in_units(p, absolute, axes)
    return unit * total


def differentiate_norm(p: float, absolute: Array, axes: AxisIndices) -> Array:
    """(a / norm)^(p-1), by which the norm grows with each element that is not 0; 0 where an element or the norm is.

    From numbers in units of their own, so that a norm that is hardly a number any more costs no digits.
    """
    unit, total = _compute_norm_in_units(p, absolute, axes)
    one = absolute.dtype.type(1)
    some = (absolute > 0) & (total > 0)
    with np.errstate(over="ignore", divide="ignore"):
        ratio = np.where(some, absolute / unit / np.where(total > 0, total, one), one)
        return np.where(some, np.power(ratio, absolute.dtype.type(p - 1)), 0).astype(absolute.dtype, copy=False)


def _compute_norm_in_units(p: float, absolute: Array, axes: AxisIndices) -> tuple[Array, Array]:
    """A unit that is not 0, and the norm in it."""
    extreme = absolute.max(axis=axes, keepdims=True) if p > 0 else absolute.min(axis=axes, keepdims=True)
    unit = np.where(extreme > 0, extreme, 1).astype(absolute.dtype, copy=False)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        total = np.power(absolute / unit, absolute.dtype.type(p)).sum(axis=axes, keepdims=True)
        return unit, np.power(total, absolute.dtype.type(1 / p))


def choose_torch_scaling_unit(torch: Any, x: Any, p: float, axes: tuple[int, ...]) -> Any:
    """Powers of two by which PyTorch is to divide vectors whose p-th powers would leave its range; 1 elsewhere.

    It takes powers as they are, and its gradient is 0 or NaN where they overflow or underflow. In what accumulates in
    a wider dtype, as float16 does, nothing is gained.
    """
    limit = _MAX_UNIT_EXPONENTS.get(str(x.dtype).removeprefix("torch."))
    absolute = x.detach().abs()
    if limit is None or not absolute.numel():
        return torch.ones_like(absolute.sum(axes, keepdim=True))
    extreme = absolute.amax(axes, keepdim=True) if p > 0 else absolute.amin(axes, keepdim=True)
    exponent = torch.frexp(extreme).exponent
    far = (extreme > 0) & torch.isfinite(extreme) & (exponent.abs() * max(1.0, abs(p)) > _SAFE_POWER_EXPONENT)
    return torch.ldexp(torch.ones_like(extreme), torch.where(far, exponent.clamp(-limit, limit), 0))


_MAX_UNIT_EXPONENTS = {"float64": 1000, "float32": 110, "bfloat16": 110}
"""Exponents of units that leave room for what they are multiplied by."""
_SAFE_POWER_EXPONENT = 32
"""Exponent of a power up to which it costs PyTorch no digits that count."""


def count_norm_rounding_terms(p: float, count: int) -> int:
    """Terms whose rounding stands for that of a norm of so many elements.

    The sum of N powers is off relatively by u sqrt(N), and its root of order p by a p-th of that.
    """
    return 4 + math.ceil(count / p**2)


def estimate_root_error(p: float, norm: Array) -> Array | float:
    """Units of rounding by which the root of order p may be off relatively, about, beside those of its sum.

    Where 1/p is rounded by a part e, d = s^(1/p) is off by a part e log(s) / p = e log(d), however it is computed.
    """
    if p in (0.25, 0.5, 1, 2, 4):
        return 1.0
    return 1 + np.abs(np.log(np.where((norm > 0) & np.isfinite(norm), norm, 1)))


def get_power(p: float) -> float:
    """Largest power that is taken of a number in units of no other; see `Op.power`."""
    return max(3.0, abs(p)) if math.isfinite(p) else 3.0


def evaluate_norm_on_branch(p: float, branch: Array, x: Array, axes: AxisIndices) -> Array:
    """The norm on the piece that `branch` names; the axes stay with length 1."""
    linear: Array = (np.sign(branch).astype(x.dtype) * x).sum(axis=axes, keepdims=True)
    if p == 1:
        return linear
    # Of one element alone every norm is its size, which goes on through 0 as a line; with p < 0 that is 0 beside a 0.
    alone = np.isinf(branch).any(axis=axes, keepdims=True) & ((x != 0).sum(axis=axes, keepdims=True) <= 1)
    alone &= (p > 0) | (x != 0).all(axis=axes, keepdims=True)
    found = np.where(alone, linear, p_norm(p, continue_absolute(p, branch, x, axes), axes))
    if p < 0:
        leaving = (np.abs(branch) == _PIECE_FROM_ZERO).any(axis=axes, keepdims=True)
        found = np.where(leaving, _is_from_zero(p, branch, x, axes), found)
    return found.astype(x.dtype, copy=False)
