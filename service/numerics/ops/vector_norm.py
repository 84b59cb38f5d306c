"""The p-norm of vectors as a function of pieces.

On a piece each element has a sign, and the vector a size. A norm is smooth, but only within its own size: a vector of
about 1e-6, such as the difference of two nearly equal ones, turns round within a step of 1e-6. Beside another, larger
part of a loss a difference across it looks as if it had settled. So the piece of a vector ends where its largest
element would be several times as large.
"""

import math
from typing import Any, Literal

import numpy as np

from service.numerics.core.batching import Array

_MAX_GROWTH_ON_BRANCH = 4.0
"""Largest factor by which the largest element may outgrow its size on the piece."""
_PIECE_FROM_ZERO = 5e-324
"""Size, on its piece, of an element that is 0 at the point: the smallest number stands for a limit."""
_ROUNDING_OFFSET = 0.37
"""Offset before rounding a logarithm down: exact numbers lie away from the ends of the pieces."""

AxisIndices = int | tuple[int, ...]
NormOrder = float | Literal["inf", "-inf", "Infinity", "-Infinity"]
"""Order of a norm: a number, or the text of one that JSON has not."""


def select_norm_branch(x: Array, axes: AxisIndices) -> Array:
    """Return the sign of each element times the size of its vector along some axes.

    The size is infinite where all others of the vector are 0. Such a vector has no turn, but a kink at 0, for which the
    sign is enough.
    """
    absolute = np.abs(x)
    largest = absolute.max(axis=axes, keepdims=True)
    positive_sizes = np.where(largest > 0, largest, 1).astype(np.float64)
    has_several = (absolute > 0).sum(axis=axes, keepdims=True) > 1
    sizes = np.where(has_several, np.exp2(np.floor(np.log2(positive_sizes) + _ROUNDING_OFFSET)), np.inf)
    return np.where(x == 0, 0, np.copysign(sizes, x))


def choose_piece_beside(branch: Array, x: Array, axes: AxisIndices) -> Array:
    """Return the piece of a norm with p < 0 to which a small move to x leads.

    An element that leaves 0 is marked apart from a small one: the norm grows from 0 as the norm of those elements
    alone, which the others only bend.

    Parameters
    ----------
    branch
        Piece before the move.
    x
        Elements after the move.
    axes
        Axes of a vector.
    """
    return np.where((branch == 0) & (x != 0), np.sign(x) * _PIECE_FROM_ZERO, select_norm_branch(x, axes))


def _continue_from_zero(p: float, branch: Array, x: Array, axes: AxisIndices) -> Array:
    """Return the norm with p < 0 as it grows from 0 where some elements leave it.

    It grows as the norm of those elements alone, and continues so beyond 0. While one of them stays 0, so does the
    norm.
    """
    is_leaving = np.abs(branch) == _PIECE_FROM_ZERO
    norm_of_leaving = compute_p_norm(p, np.where(is_leaving, np.abs(x), np.inf), axes)
    is_forward = np.all(np.where(is_leaving, np.sign(branch) * x >= 0, True), axis=axes, keepdims=True)
    stays_zero = np.any(branch == 0, axis=axes, keepdims=True)
    return np.where(stays_zero, 0, np.where(is_forward, norm_of_leaving, -norm_of_leaving))


def continue_absolute(p: float, branch: Array, x: Array, axes: AxisIndices) -> Array:
    """Return abs(x) on the pieces of `branch`, NaN beyond their ends.

    Beyond 0 it is -abs(x) if that has a p-th power, else NaN.
    """
    sizes = np.abs(branch).max(axis=axes, keepdims=True)
    absolute = np.abs(x)
    is_within = absolute.max(axis=axes, keepdims=True) <= _MAX_GROWTH_ON_BRANCH * np.where(sizes > 0, sizes, np.inf)
    if p < 0 or p % 2 != 0:
        is_beyond_zero = np.sign(branch) * x < 0
        absolute = np.where(is_beyond_zero, -absolute if p > 0 and p % 2 == 1 else np.nan, absolute)
    return np.where(is_within, absolute, np.nan).astype(x.dtype, copy=False)


def compute_p_norm(p: float, absolute: Array, axes: AxisIndices) -> Array:
    """Return (sum a^p)^(1/p), 0 for p < 0 where an a is 0.

    The axes stay with length 1. The powers are taken relative to the dominant element, so that they stay in range.
    """
    unit, scaled_norm = _compute_norm_in_units(p, absolute, axes)
    return unit * scaled_norm


def differentiate_norm(p: float, absolute: Array, axes: AxisIndices) -> Array:
    """Return (a / norm)^(p-1), the derivative of the norm by each element.

    It is 0 where an element or the norm is 0. The numbers are in units of their own, so that a norm below the normal
    numbers costs no digits.
    """
    unit, scaled_norm = _compute_norm_in_units(p, absolute, axes)
    unity = absolute.dtype.type(1)
    is_nonzero = (absolute > 0) & (scaled_norm > 0)
    with np.errstate(over="ignore", divide="ignore"):
        ratio = np.where(is_nonzero, absolute / unit / np.where(scaled_norm > 0, scaled_norm, unity), unity)
        return np.where(is_nonzero, np.power(ratio, absolute.dtype.type(p - 1)), 0).astype(absolute.dtype, copy=False)


def _compute_norm_in_units(p: float, absolute: Array, axes: AxisIndices) -> tuple[Array, Array]:
    """Return a unit that is not 0, and the norm in it."""
    extreme = absolute.max(axis=axes, keepdims=True) if p > 0 else absolute.min(axis=axes, keepdims=True)
    unit = np.where(extreme > 0, extreme, 1).astype(absolute.dtype, copy=False)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):
        power_sum = np.power(absolute / unit, absolute.dtype.type(p)).sum(axis=axes, keepdims=True)
        return unit, np.power(power_sum, absolute.dtype.type(1 / p))


def choose_torch_scaling_unit(torch: Any, x: Any, p: float, axes: tuple[int, ...]) -> Any:
    """Return the powers of two by which PyTorch has to divide vectors, 1 for most.

    Without them the p-th powers would leave its range: it takes powers as they are, and its gradient is 0 or NaN where
    they overflow or underflow. A dtype that accumulates in a wider one, as float16 does, gains nothing.
    """
    limit = _MAX_UNIT_EXPONENTS.get(str(x.dtype).removeprefix("torch."))
    absolute = x.detach().abs()
    if limit is None or not absolute.numel():
        return torch.ones_like(absolute.sum(axes, keepdim=True))
    extreme = absolute.amax(axes, keepdim=True) if p > 0 else absolute.amin(axes, keepdim=True)
    exponent = torch.frexp(extreme).exponent
    needs_scaling = (extreme > 0) & torch.isfinite(extreme) & (exponent.abs() * max(1.0, abs(p)) > _SAFE_POWER_EXPONENT)
    return torch.ldexp(torch.ones_like(extreme), torch.where(needs_scaling, exponent.clamp(-limit, limit), 0))


_MAX_UNIT_EXPONENTS = {"float64": 1000, "float32": 110, "bfloat16": 110}
"""Exponents of units that leave room for the products with them."""
_SAFE_POWER_EXPONENT = 32
"""Exponent of a power up to which PyTorch loses no digits that count."""


def count_norm_rounding_terms(p: float, count: int) -> int:
    """Return the terms whose rounding stands for that of a norm of `count` elements.

    Notes
    -----
    The sum of N powers is off relatively by u sqrt(N), and its root of order p by a p-th of that.
    """
    return 4 + math.ceil(count / p**2)


def estimate_root_error(p: float, norm: Array) -> Array | float:
    """Return the relative error of the root of order p, in units of rounding.

    It comes beside that of its sum.

    Notes
    -----
    If 1/p is rounded by a part e, d = s^(1/p) is off by a part e log(s) / p = e log(d), however it is computed.
    """
    if p in (0.25, 0.5, 1, 2, 4):
        return 1.0
    return 1 + np.abs(np.log(np.where((norm > 0) & np.isfinite(norm), norm, 1)))


def get_power(p: float) -> float:
    """Return the largest power that a norm takes of a number: see `Op.largest_power`."""
    return max(3.0, abs(p)) if math.isfinite(p) else 3.0


def evaluate_norm_on_branch(p: float, branch: Array, x: Array, axes: AxisIndices) -> Array:
    """Return the norm on the pieces of `branch`; the axes stay with length 1."""
    linear: Array = (np.sign(branch).astype(x.dtype) * x).sum(axis=axes, keepdims=True)
    if p == 1:
        return linear
    # Every norm of a single element is its size, which continues through 0 as a line. With p < 0 it is 0 beside a 0.
    is_single = np.isinf(branch).any(axis=axes, keepdims=True) & ((x != 0).sum(axis=axes, keepdims=True) <= 1)
    is_single &= (p > 0) | (x != 0).all(axis=axes, keepdims=True)
    norm = np.where(is_single, linear, compute_p_norm(p, continue_absolute(p, branch, x, axes), axes))
    if p < 0:
        is_leaving = (np.abs(branch) == _PIECE_FROM_ZERO).any(axis=axes, keepdims=True)
        norm = np.where(is_leaving, _continue_from_zero(p, branch, x, axes), norm)
    return norm.astype(x.dtype, copy=False)
