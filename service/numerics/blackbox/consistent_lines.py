"""Differences that agree with the near points and with the quiet of their own lines.

The differences of a line know nothing of a singularity far nearer to the base than the smallest step but for the value
at the base: those of sqrt|t + d| vanish, and its second difference S(h) = f(h) + f(-h) - 2 f(0) falls as of a kink,
down to 2 sqrt(d). For this to be seen it must be more than noise. But there the noise is too large: it is told by near
points (noise.py), which lie on the slopes of the singularity, and it is that of all elements of the tensor, although
one of them alone is beside a singularity. Two observations tell how much of it there is.

**The quiet of the lines.** Noise of the deviation s leaves S(h) of each step off by sqrt(2) s beside what the base adds
to all of them alike. A singularity leaves a power of h far away, its logarithm or a constant: nearly a straight line of
log h over five steps. So with R the residual of such a line and three degrees of freedom,

    s <= |R| / sqrt(6),                                                                                              (1)

the smallest over the windows of five steps, the median over the lines, twice that for safety. A loss whose lines are
much more quiet than its near points has structure there, and no noise.

**The slope between near points.** With x_k the near points of a line of which only this tensor was moved, at the
distances t_k, and D_i the derivatives by its elements, all of them,

    r(t_k) = f(x_k) - f(x) - sum_i D_i (x_k - x)_i                                                                   (2)

is smooth where f is, and its slope at t = 0 is 0 but for the errors b_i of the D_i. A polynomial of the degree m
through the r(t_k), with a constant that makes it independent of the value at the base, has the slope c_m, and the
derivatives are contradicted where, for m = 3 and for m = 4,

    |c_m| > |c_m - c_(m-1)| + sum_i b_i |v_i| + 6 |w| s + 8 sqrt(n) |q| d,                                           (3)

v the direction, w the weights of the values in c_m, and s the noise of this line alone, times five, as eight points
tell little of it, but no less than the noise that the lines confirm by (1). The line lies beside the base by a
rounding, a part d of its length, of which its curvature q makes a slope; of n elements the curvature along that
rounding may be sqrt(n) times that along the line. A slope as t^-p beside a singularity raises c with each degree, so
that (3) holds. In a smooth loss each degree takes one more term away, so that it may hold for one degree by chance,
where a term is small beside the next one. Near points whose slope is less than half of that of the D_i do not
contradict them: so are those of a loss that is rounded within, on one stair.

A function with one of both is differenced again, with the noise by (1) or, if it is contradicted, some line has no
bound or the noise is a good part of the loss, with the smallest noise of any line of near points. Each line keeps the
larger bound. If the near points still contradict them, none has a bound. For several tensors (2) and (3) hold for all
of them together too, along the near points to which all are moved: those are the nearest.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import lru_cache

import numpy as np

from service.numerics.blackbox.central_derivatives import DirectionalDerivatives
from service.numerics.blackbox.extrapolation import CERTAIN_DEVIATIONS
from service.numerics.blackbox.layout import SHARED_NEAR_LINES, EvaluationLayout, count_separate_near_lines
from service.numerics.blackbox.line_derivatives import difference_lines
from service.numerics.blackbox.lines import place_near_points
from service.numerics.blackbox.noise import LossNoise, estimate_line_noise
from service.numerics.blackbox.schedule import NEAR_POINT_COUNT
from service.numerics.core.batching import Array
from service.numerics.core.interrupts import iterate_interruptibly
from service.numerics.core.medians import compute_medians

_QUIET_RATIO = 16.0
"""Ratio of the noise to that of quieter lines from which it is none."""
_LARGE_NOISE_RATIO = 2.0**-10
"""Part of a loss as which noise that is the same each time is structure if other near points have less of it."""
_QUIET_WINDOW = 5
_SCATTER_SAFETY = 2.0
_LINE_NOISE_SAFETY = 5.0
_DISPLACEMENT_FACTOR = 8.0
_MIN_FIT_POINTS = 6
"""Near points without which a cubic leaves no noise to speak of."""


def difference_consistently(
    layout: EvaluationLayout, name: str, losses: Array, near_losses: Array, base: Array, noise: LossNoise
) -> DirectionalDerivatives:
    """Difference the loss along the directions of a tensor, with bounds that its other values do not contradict.

    Parameters
    ----------
    losses
        Losses of the tensor, (..., k, levels, 2); NaN at points without a value, for all functions alike.
    near_losses
        Losses at the near points, (lines, points, ...).
    base
        The loss at the base, (...).
    """
    derivatives = difference_lines(layout, name, losses, base, noise)
    is_contradicted = _find_contradicted(layout, name, losses, near_losses, base, derivatives, noise)
    is_suspect = is_contradicted | np.isinf(derivatives.bound).any(axis=-1)
    derivatives, has_changed = _widen_bounds(
        layout, name, losses, near_losses, base, noise, derivatives, is_suspect=is_suspect
    )
    if has_changed:
        is_contradicted = _find_contradicted(layout, name, losses, near_losses, base, derivatives, noise)
    return _drop_bounds(derivatives, is_contradicted) if is_contradicted.any() else derivatives


def reconcile_tensors(
    layout: EvaluationLayout,
    losses: Array,
    noise_by_name: Mapping[str, LossNoise],
    derivatives_by_name: Mapping[str, DirectionalDerivatives],
) -> Mapping[str, DirectionalDerivatives]:
    """Return derivatives of several tensors that the near points of all of them together do not contradict.

    Parameters
    ----------
    losses
        Losses of one function, (evaluations,).
    noise_by_name, derivatives_by_name
        Noise with each tensor moved, and its derivatives.
    """
    if len(layout.points) == 1:
        return derivatives_by_name
    is_contradicted = _are_tensors_contradicted(layout, losses, noise_by_name, derivatives_by_name)
    has_unknown = any(np.isinf(derivatives.bound).any() for derivatives in derivatives_by_name.values())
    if not (is_contradicted or has_unknown):
        return derivatives_by_name
    widened: dict[str, DirectionalDerivatives] = {}
    for name in iterate_interruptibly(layout.points):
        widened[name], _ = _widen_bounds(
            layout,
            name,
            layout.select_tensor_losses(name, losses),
            layout.select_near_losses(name, losses),
            losses[0],
            noise_by_name[name],
            derivatives_by_name[name],
            is_suspect=np.array(True),
        )
    if not is_contradicted or not _are_tensors_contradicted(layout, losses, noise_by_name, widened):
        return widened
    return {name: _drop_bounds(derivatives, np.array(True)) for name, derivatives in widened.items()}


def _drop_bounds(derivatives: DirectionalDerivatives, functions: Array) -> DirectionalDerivatives:
    return replace(derivatives, bound=np.where(functions[..., None], np.inf, derivatives.bound))


def _widen_bounds(
    layout: EvaluationLayout,
    name: str,
    losses: Array,
    near_losses: Array,
    base: Array,
    noise: LossNoise,
    derivatives: DirectionalDerivatives,
    *,
    is_suspect: Array,
) -> tuple[DirectionalDerivatives, bool]:
    """Difference functions again with the noise that their lines show; return the wider bounds, and if there are any.

    Suspect functions have the noise of the most quiet line of near points. So have those whose noise is a good part of
    the loss.
    """
    quiet_noise = noise.largest_deviation / _QUIET_RATIO
    if not (noise.is_deterministic & (noise.rounding_deviation < quiet_noise)).any():
        # No line has less noise than its rounding leaves.
        return derivatives, False
    is_suspect = is_suspect | (noise.largest_deviation > _LARGE_NOISE_RATIO * noise.loss_magnitude)
    least = _find_least_noise(layout, name, losses, noise)
    if is_suspect.any():
        line_noise = np.fmin.reduce(_estimate_moving_noise(np.moveaxis(near_losses, 0, 1)))
        least = np.where(is_suspect, np.maximum(np.fmin(line_noise, least), noise.rounding_deviation), least)
    is_quieter = noise.is_deterministic & (least < quiet_noise)
    if not is_quieter.any():
        return derivatives, False
    sharper = difference_lines(layout, name, losses, base, replace(noise, largest_deviation=least))
    bound = np.where(is_quieter[..., None], np.maximum(derivatives.bound, sharper.bound), derivatives.bound)
    return replace(derivatives, bound=bound), True


def _find_least_noise(layout: EvaluationLayout, name: str, losses: Array, noise: LossNoise) -> Array:
    """Return the noise that the lines of a tensor confirm, (...): that of its near points, or less by (1)."""
    scatter = _measure_scatter(losses, layout.points[name].schedule.steps)
    return np.maximum(np.fmin(scatter, noise.largest_deviation), noise.rounding_deviation)


def _estimate_moving_noise(values: Array) -> Array:
    """Return the noise of lines of near points, (points, ...); infinite if neighbours are the same to the last bit."""
    is_flat = (values[1:] - values[:-1] == 0).any(axis=0)
    return np.where(is_flat, np.inf, estimate_line_noise(values))


def _measure_scatter(losses: Array, steps: Array) -> Array:
    """Return the noise that the lines show at most, (1), (...); NaN or infinite if they show none."""
    sums = losses[..., 0] + losses[..., 1]
    scatter = np.full(sums.shape[:-1], np.inf)
    for first in range(len(steps) - _QUIET_WINDOW + 1):
        window = slice(first, first + _QUIET_WINDOW)
        basis = _find_trend_basis(tuple(steps[window].tolist()))
        # The first is taken away beforehand: it may be far larger than what the sums differ by.
        changes = sums[..., window] - sums[..., first : first + 1]
        residuals = changes - (changes @ basis) @ basis.T
        scatter = np.fmin(scatter, np.sqrt(np.square(residuals).sum(axis=-1) / (2 * (_QUIET_WINDOW - 2))))
    return _SCATTER_SAFETY * compute_medians(scatter)


@lru_cache(maxsize=64)
def _find_trend_basis(steps: tuple[float, ...]) -> Array:
    """Return an orthonormal basis of what is linear in the logarithm of steps, (steps, 2)."""
    return np.linalg.qr(np.stack([np.ones(len(steps)), np.log2(steps)], axis=1))[0]


def _find_contradicted(
    layout: EvaluationLayout,
    name: str,
    losses: Array,
    near_losses: Array,
    base: Array,
    derivatives: DirectionalDerivatives,
    noise: LossNoise,
) -> Array:
    """Return the functions whose derivatives a line of near points contradicts, (...)."""
    is_contradicted = np.zeros(np.shape(base), bool)
    if _is_every_element_moved(layout, name):
        least_noise = _find_least_noise(layout, name, losses, noise)
        for line, row in list_lines_alone(len(layout.points)):
            is_contradicted |= _is_line_contradicted(
                near_losses[row],
                base,
                derivatives,
                _place_moves(layout, name, line),
                _list_distances(layout, name, line),
                least_noise,
            )
    return is_contradicted


def _are_tensors_contradicted(
    layout: EvaluationLayout,
    losses: Array,
    noise_by_name: Mapping[str, LossNoise],
    derivatives_by_name: Mapping[str, DirectionalDerivatives],
) -> bool:
    """Return whether a line of near points of all tensors contradicts their derivatives."""
    names = list(layout.points)
    if not all(_is_every_element_moved(layout, name) for name in names):
        return False
    least_noise = np.max(
        [
            _find_least_noise(layout, name, layout.select_tensor_losses(name, losses), noise_by_name[name])
            for name in names
        ]
    )
    first = derivatives_by_name[names[0]]
    together = replace(
        first,
        **{
            field: np.concatenate([getattr(derivatives_by_name[name], field) for name in names])
            for field in ("value", "bound")
        },
    )
    for line in range(SHARED_NEAR_LINES):
        is_contradicted = _is_line_contradicted(
            layout.select_near_losses(names[0], losses)[line],
            losses[0],
            together,
            np.concatenate([_place_moves(layout, name, line) for name in names], axis=1),
            # Tensors of other datatypes have other distances, in the same proportions.
            _list_distances(layout, names[0], line),
            least_noise,
        )
        if is_contradicted.any():
            return True
    return False


def _is_every_element_moved(layout: EvaluationLayout, name: str) -> bool:
    lines = layout.lines[name]
    return lines.moved_elements is not None and len(lines) == layout.points[name].values.size


def _place_moves(layout: EvaluationLayout, name: str, line: int) -> Array:
    """Return the moves of the near points of a line by the lines of a tensor, (points, k)."""
    point, lines = layout.points[name], layout.lines[name]
    moves = place_near_points(point, layout.seed, name, line, random=False) - point.values.ravel()
    return moves[:, lines.moved_elements]


def _list_distances(layout: EvaluationLayout, name: str, line: int) -> Array:
    """Return the distances of the near points of a line in moves, (points,)."""
    return np.arange(1, NEAR_POINT_COUNT + 1) * 2.0 ** -layout.points[name].schedule.near_exponents[line]


def list_lines_alone(tensor_count: int) -> Iterator[tuple[int, int]]:
    """Yield the kind and the row of each line of near points of which a tensor is moved alone."""
    if tensor_count == 1:
        yield from ((line, line) for line in range(SHARED_NEAR_LINES))
    elif count_separate_near_lines(tensor_count) == tensor_count:
        yield 0, SHARED_NEAR_LINES


def _is_line_contradicted(
    values: Array, base: Array, derivatives: DirectionalDerivatives, moves: Array, distances: Array, rounding: Array
) -> Array:
    """Return where (3) holds, (...), for the values of a line, (points, ...).

    Parameters
    ----------
    moves, distances
        Moves of the elements to the points, (points, k), and the distances of the points, (points,).
    rounding
        Least deviation of the noise, (...).
    """
    values = np.moveaxis(values, 0, -1)
    is_known: Array = np.logical_and.reduce(np.isfinite(values), axis=tuple(range(values.ndim - 1)))
    if np.count_nonzero(is_known) < _MIN_FIT_POINTS:
        return np.zeros(np.shape(base), bool)
    values, moves, units = values[..., is_known], moves[is_known], distances[is_known] / distances[is_known][-1]
    changes = values - np.asarray(base)[..., None]
    noise = np.maximum(_LINE_NOISE_SAFETY * estimate_line_noise(np.moveaxis(values, -1, 0)), rounding)
    predicted = derivatives.value @ moves.T
    remainders = changes - predicted
    product_rounding = np.finfo(np.float64).eps * (np.abs(derivatives.value) @ np.abs(moves[-1]))
    fits = _fit_polynomials(tuple(units))
    curvature_error = _DISPLACEMENT_FACTOR * np.sqrt(moves.shape[1]) * _measure_displacement(moves, units)
    certain_errors = derivatives.bound @ np.abs(moves[-1]) + curvature_error * np.abs(remainders @ fits[3][2])
    is_contradicted = np.abs(changes @ fits[3][1]) >= np.abs(predicted @ fits[3][1]) / 2
    for degree in (3, 4):
        weights, change = fits[degree][1], fits[degree][1] - fits[degree - 1][1]
        certain_noise = CERTAIN_DEVIATIONS * np.linalg.norm(weights) * (noise + product_rounding)
        is_contradicted &= np.abs(remainders @ weights) > np.abs(remainders @ change) + certain_errors + certain_noise
    return is_contradicted


@lru_cache(maxsize=64)
def _fit_polynomials(units: tuple[float, ...]) -> dict[int, Array]:
    """Return the weights of values at some distances in each coefficient of a polynomial, by its degree.

    Most lines of near points have the same distances.
    """
    return {degree: np.linalg.pinv(np.vander(units, degree + 1, increasing=True)) for degree in (2, 3, 4)}


def _measure_displacement(moves: Array, units: Array) -> float:
    """Return how far the line of the moves lies beside the base, in units of its length, for the farthest element."""
    directions = (moves[-1] - moves[0]) / (1 - units[0])
    offsets = np.abs(moves[0] - units[0] * directions)
    return float(np.divide(offsets, np.abs(directions), out=np.zeros(len(offsets)), where=directions != 0).max())
