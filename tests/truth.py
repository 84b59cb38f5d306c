"""The reference model in 50 digits, with its gradient: the truth that float64 is tested against."""

from collections.abc import Mapping
from typing import Any

import mpmath
import numpy as np

from service.numerics.tiles import Array

DIGITS = 50


def _exact(array: Array) -> Any:
    return np.vectorize(mpmath.mpf, otypes=[object])(array)


def gradients(leaves: Mapping[str, Array]) -> dict[str, Array]:
    """Gradient of the reference model's loss with respect to w1, w2 and x, each rounded to float64 at the end.

    The chain rule written out for this one model, apart from the code that is tested.
    """
    with mpmath.workdps(DIGITS):
        x, w1, w2, y = (_exact(leaves[name][0]) for name in ("x", "w1", "w2", "y"))
        rows, columns = x.shape[0] - w1.shape[0] + 1, x.shape[1] - w1.shape[1] + 1
        patches = [x[p : p + w1.shape[0], q : q + w1.shape[1]] for p in range(rows) for q in range(columns)]
        by_w1, by_x, by_w2 = w1 * 0, x * 0, w2 * 0
        for k, patch in enumerate(patches):
            t = mpmath.tanh((patch * w1).sum())
            s = 1 / (1 + mpmath.exp(-t * w2[k]))
            by_l2 = (s - y[k]) * s * (1 - s)
            by_w2[k] = by_l2 * t
            by_l1 = by_l2 * w2[k] * (1 - t * t)
            by_w1 = by_w1 + by_l1 * patch
            p, q = divmod(k, columns)
            by_x[p : p + w1.shape[0], q : q + w1.shape[1]] += by_l1 * w1
        return {name: each.astype(np.float64) for name, each in (("w1", by_w1), ("w2", by_w2), ("x", by_x))}
