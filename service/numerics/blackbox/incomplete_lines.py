"""Lines with missing losses: a function need not have a value at every point."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from service.numerics.blackbox.noise import LossFormat, LossNoise, estimate_noise
from service.numerics.core.batching import Array

MIN_NEAR_POINTS = 4
"""Near points that follow each other without which noise is not told from what is smooth."""


def estimate_partial_noise(repeats: Array, lines: Array, loss_format: LossFormat) -> LossNoise:
    """Estimate the noise from the finite values; infinite if near points lack them.

    Parameters
    ----------
    repeats
        The loss at the base, each time, (r, ...).
    lines
        The loss at the near points, (lines, m, ...); NaN where it has no value, for all functions alike.
    loss_format
        Number format of all losses.
    """
    known = find_longest_finite_runs(lines)
    noise = estimate_noise(repeats, known, loss_format)
    if known:
        return noise
    unknown = np.ones(noise.deviation.shape)
    return replace(noise, deviation=np.nan * unknown, largest_deviation=np.inf * unknown)


def find_longest_finite_runs(lines: Array) -> Sequence[Array]:
    """Return the longest run of finite values of each line, (lines, m, ...), if it is long enough.

    A line whose values end before its last point runs over the edge of a domain, beside which a function may be far
    from smooth. That is no noise: such lines do not count if another one has all values.
    """
    if np.isfinite(lines).all():
        return list(lines) if lines.ndim > 1 and lines.shape[1] >= MIN_NEAR_POINTS else []
    runs: list[Array] = []
    is_finite: Array = np.logical_and.reduce(np.isfinite(lines), axis=tuple(range(2, lines.ndim)))
    if is_finite.all(axis=1).any():
        is_counted = is_finite.all(axis=1) | (np.diff(is_finite.astype(int), axis=1) > 0).any(axis=1)
        lines, is_finite = lines[is_counted], is_finite[is_counted]
    for line, finite in zip(lines, is_finite, strict=True):
        if finite.all():
            runs += [line] if len(line) >= MIN_NEAR_POINTS else []
            continue
        if not finite.any():
            continue
        gaps = np.flatnonzero(np.concatenate([[True], ~finite, [True]]))
        longest_run = int(np.diff(gaps).argmax())
        run = line[gaps[longest_run] : gaps[longest_run + 1] - 1]
        if len(run) >= MIN_NEAR_POINTS:
            runs.append(run)
    return runs
