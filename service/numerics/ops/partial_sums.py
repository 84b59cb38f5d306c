"""Running error bounds of sums, from the sizes of their partial sums.

Notes
-----
Such a bound is not that of the sum of absolute values. A sum of n terms is rounded after each addition, by u of the
partial sum s_k that stands there:
    error of the sum = sum_k d_k s_k,  abs(d_k) <= u,  so of about u sqrt(sum_k s_k^2).
Terms of both signs have partial sums far below sum abs(t), and terms of one sign have sqrt(sum_k s_k^2) = sqrt(n / 3) s
instead of sqrt(n) s. The last term is in no partial sum before, and a term far below the sum rounds no more than itself
away: fl(a + b) is the number nearest to a + b, so that its error is min(abs(a), abs(b)) at most.

References
----------
Higham, Accuracy and Stability of Numerical Algorithms (2002), sections 3.3 and 4.2 (running error analysis).
"""

from itertools import pairwise

import numpy as np

from service.numerics.core.batching import Array

_PIECE_COUNT = 4
"""Pieces of a sum at whose ends the partial sums are computed."""


def bound_sum(terms: Array) -> Array:
    """Return the root of the sum of squared partial sums along the last axis.

    The shape (..., n) becomes (..., 1). The order is that of the terms, or a random one, whichever gives more:
    libraries sum in lanes, too.
    """
    count = terms.shape[-1]
    in_order = np.square(np.cumsum(terms, axis=-1)).sum(axis=-1, keepdims=True)
    total = terms.sum(axis=-1, keepdims=True)
    in_random_order = count / 3 * np.square(total) + count / 6 * np.square(terms).sum(axis=-1, keepdims=True)
    return np.sqrt(np.maximum(in_order, in_random_order))


def bound_product(a: Array, b: Array) -> Array:
    """Return the root of the sum of squared partial sums, and products, in a @ b.

    The shapes (..., l, n) and (..., n, m) become (..., l, m).

    Notes
    -----
    Libraries take these sums in the order of n. The partial sums are computed at the ends of some pieces of n. Between
    them, from s to s' over c terms t, they are those of a random order: on average
        sum_k s_k^2 = c (s^2 + s s' + s'^2) / 3 + (c / 6) sum t^2
    """
    total = np.zeros((1,) * max(a.ndim, b.ndim))
    squares = total
    for start, stop in pairwise(_list_piece_ends(a.shape[-1])):
        piece, count = slice(start, stop), stop - start
        left_factor, right_factor = a[..., piece], b[..., piece, :]
        next_total = total + left_factor @ right_factor
        squared_terms = np.square(left_factor) @ np.square(right_factor)
        squares = squares + count / 3 * (total * total + total * next_total + next_total * next_total)
        squares = squares + (1 + count / 6) * squared_terms
        total = next_total
    return np.sqrt(np.maximum(squares, 0))


def _list_piece_ends(count: int) -> list[int]:
    """Return the starts of the pieces of a sum, and the end of the last."""
    pieces = max(1, min(_PIECE_COUNT, count))
    return [count * piece // pieces for piece in range(pieces + 1)]
