"""Kinks at the base, from second differences.

Central differences do not see a kink at the base: they agree at every step on the mean of both sides. The second
difference S(h) = f(x + h v) + f(x - h v) - 2 f(x) does: a jump J of the derivative leaves J h in it, where a smooth
loss leaves c_2 h^2 + c_4 h^4 + ... Of two steps h and h / r,

    J = |S(h) - r^2 S(h / r)| / (h (r - 1))                                                                          (1)

is free of c_2, and what a smooth loss leaves falls as h^3, while a jump stays. So a pair tells of one where J is beyond
its noise and the next coarser pair's is not larger by at least the root of what a smooth loss would make it.
"""

import numpy as np

from service.numerics.blackbox.extrapolation import SURE
from service.numerics.tiles import Array


def kinked(seconds: Array, steps: Array, noise: Array, base: Array) -> Array:
    """What a kink adds to the bound of an entry whose largest step is that of each level, (k, levels).

    Parameters
    ----------
    seconds
        S(h), (k, levels).
    steps
        h, falling, (levels,).
    noise
        Deviation of the loss at each step, (k, levels).
    base
        What the loss at the base may be off by beside, (k,).
    """
    ratio = steps[:-1] / steps[1:]
    span = steps[:-1] * (ratio - 1)
    jumps = np.abs(seconds[:, :-1] - ratio**2 * seconds[:, 1:]) / span
    of_base = SURE * noise[:, -1:] + base[:, None]
    sides = SURE * np.sqrt(2 * np.square(noise[:, :-1]) + 2 * ratio**4 * np.square(noise[:, 1:]))
    sure = (sides + 2 * (ratio**2 - 1) * of_base) / span
    smooth = np.sqrt(steps[:-1] ** 3 * (1 - ratio**-2) / (ratio - 1))
    told = jumps > sure
    told[:, 0] = False
    told[:, 1:] &= jumps[:, :-1] / smooth[:-1] < jumps[:, 1:] / smooth[1:]
    halves = np.where(told, jumps / 2, 0.0)
    # A pair counts for every entry that reaches as far as its larger step; the last one for the last step alone too.
    added = np.maximum.accumulate(halves[:, ::-1], axis=1)[:, ::-1]
    return np.concatenate([added, halves[:, -1:]], axis=1)
