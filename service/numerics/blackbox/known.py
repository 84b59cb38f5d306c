"""Losses of which some are missing: a function need not have a value everywhere around its base."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from service.numerics.blackbox.noise import Format, Noise, measured
from service.numerics.tiles import Array

_LEAST = 4
"""Near points that follow each other without which noise is not told from what is smooth."""


def noise_of(repeats: Array, lines: Array, form: Format) -> Noise:
    """Estimate the noise from what is known; of any size where near points do not tell.

    Parameters
    ----------
    repeats
        The loss at the base, each time, (r,).
    lines
        The loss at the near points, (lines, m); NaN where it has no value.
    form
        Of all losses.
    """
    known = runs(lines)
    found = measured(repeats, known, form)
    return found if known else replace(found, deviation=np.nan, most=np.inf)


def runs(lines: Array) -> Sequence[Array]:
    """The longest run of values of each line, where it is long enough."""
    found: list[Array] = []
    for line in lines:
        gaps = np.flatnonzero(np.concatenate([[True], ~np.isfinite(line), [True]]))
        longest = int(np.diff(gaps).argmax())
        run = line[gaps[longest] : gaps[longest + 1] - 1]
        if len(run) >= _LEAST:
            found.append(run)
    return found
